"""SVG figures for an HTML page: the same in every run, without outside references."""

import io
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from html import escape
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter

# Okabe & Ito (2008), "Color Universal Design": distinct with any colour vision.
BLACK, GREY = "#1a1a1a", "#767676"
BLUE, SKY, GREEN = "#0072B2", "#56B4E9", "#009E73"
ORANGE, VERMILION, PURPLE = "#E69F00", "#D55E00", "#CC79A7"

_STYLE: Mapping[Any, object] = {
    "svg.fonttype": "none",  # text stays text: small, sharp, readable aloud
    "text.parse_math": False,
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "axes.labelcolor": BLACK,
    "axes.edgecolor": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.6,
    "xtick.color": GREY,
    "xtick.labelcolor": BLACK,
    "ytick.color": GREY,
    "ytick.labelcolor": BLACK,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}
_ELEMENT = re.compile(r'<svg [^>]*viewBox="([^"]+)"[^>]*>(.*)</svg>', re.DOTALL)
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


@contextmanager
def drawing(name: str) -> Iterator[None]:
    """Set the style in which a figure is drawn; `name` fixes its ids."""
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        yield


def new_axes(
    height: float, *, width: float = 4.3, is_square: bool = False
) -> tuple[Figure, Axes]:
    """Make a figure with one pair of axes, inches.

    At this width, letters are about 10 px high on a phone of 390 px and 15 px on a
    desk.
    """
    # For axes of a fixed shape, only "compressed" leaves their labels enough room.
    layout: Literal["compressed", "constrained"]
    layout = "compressed" if is_square else "constrained"
    figure = Figure(figsize=(width, height), layout=layout)
    axes = figure.add_subplot()
    if is_square:
        axes.set_aspect("equal")
    return figure, axes


def to_svg(figure: Figure, *, name: str, title: str, description: str) -> str:
    """Write a figure as an `<svg>` element.

    Parameters
    ----------
    figure : Figure
    name : str
        Unique in the page; prefix of all ids.
    title, description : str
        Text for screen readers.

    Returns
    -------
    str
        Element as wide as its box; the same for the same figure.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=_NO_METADATA)
    svg = _ELEMENT.search(buffer.getvalue())
    assert svg is not None
    body = re.sub(r"<metadata>.*?</metadata>\s*", "", svg[2], flags=re.DOTALL)
    body = re.sub(r'(\bid="|url\(#|xlink:href="#)', rf"\g<1>{name}-", body)
    body = re.sub(r"\n\s*", "\n", body)
    return (
        f'<svg viewBox="{svg[1]}" role="img" aria-labelledby="{name}-t {name}-d">'
        f'<title id="{name}-t">{escape(title)}</title>'
        f'<desc id="{name}-d">{escape(description)}</desc>{body}</svg>'
    )


def price_axis(axis: Axis, low: float, high: float) -> None:
    """Label an axis of log10 prices with round prices from `low` to `high`."""
    steps = (1, 2, 5) if high - low < 2.5 else (1,)
    decades = range(math.floor(low), math.ceil(high) + 1)
    every = max(1, len(decades) // 8)
    ticks = [d + math.log10(s) for d in decades[::every] for s in steps]
    axis.set_major_locator(FixedLocator([t for t in ticks if low <= t <= high]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: short_price(10**value)))


def short_price(value: float) -> str:
    """Write a price in few characters: 0.05, 2.5, 123, 1.5k, 3M."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * limit:
            part = value / limit
            return f"{part:.2g}{unit}" if part < 9.95 else f"{part:.0f}{unit}"
    return f"{value:.3g}"
