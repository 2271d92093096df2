"""Charts whose size does not grow with the number of products."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator, PercentFormatter
from numpy.typing import NDArray

from stack.html_report.svg import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    VERMILION,
    drawing,
    new_axes,
    price_axis,
    short_price,
    to_svg,
)
from stack.judge.evaluate import price_bands
from stack.records import Band, Coverage, VerdictRecord

N_CALIBRATION_BINS = 12
_HEXAGONS = 34  # along an axis
_PREDICTOR_STYLES = {
    "lightgbm": (GREEN, "^"),
    "network": (BLUE, "o"),
    "blend": (PURPLE, "D"),
    "stacker": (VERMILION, "s"),
}
_BOX_ENDS = (5, 25, 50, 75, 95)  # percentiles
_DASHES = (0, (4, 3))


def forest_chart(verdict: VerdictRecord) -> str:
    """Draw the two paired intervals of a verdict, as SVG."""
    parts = (
        ("Stacker \N{MINUS SIGN} network", verdict.interval_network),
        ("Stacker \N{MINUS SIGN} blend", verdict.interval_blend),
    )
    with drawing("forest"):
        figure, axes = new_axes(1.5)
        axes.axvline(0, color=BLACK, linewidth=1.0)
        for row, (_, interval) in enumerate(parts):
            color = BLUE if interval.high < 0 else ORANGE
            ends = [interval.low, interval.high]
            axes.plot(ends, [row, row], color=color, linewidth=2.4)
            axes.plot(interval.mean, row, "s", color=color, markersize=7)
        axes.set_yticks(range(len(parts)), [label for label, _ in parts])
        axes.set_ylim(len(parts) - 0.4, -0.6)
        axes.grid(False, axis="y")
        axes.set_xlabel("Difference in SMAPE (below 0: stacker better)")
        axes.margins(x=0.08)
        return to_svg(
            figure,
            name="forest",
            title="Paired differences in SMAPE with 95 % intervals",
            description="; ".join(
                f"{label}: {interval.mean:+.2f}, {interval.low:+.2f} to "
                f"{interval.high:+.2f}"
                for label, interval in parts
            ),
        )


def density_chart(price: NDArray[np.floating], predicted: NDArray[np.floating]) -> str:
    """Draw how many products lie at each pair of true and predicted price, as SVG.

    Parameters
    ----------
    price, predicted : ndarray of shape (n,)
        Catalog currency, above 0.
    """
    log_price, log_predicted = np.log10(price), np.log10(predicted)
    low, high = _limits(log_price, log_predicted)
    with drawing("density"):
        figure, axes = new_axes(3.5, is_square=True)
        cells = axes.hexbin(
            log_price,
            log_predicted,
            gridsize=(_HEXAGONS, round(_HEXAGONS / 3**0.5)),
            extent=(low, high, low, high),
            mincnt=1,
            norm=LogNorm(),
            cmap="viridis_r",
            linewidths=0.2,
        )
        most = max(2, int(np.asarray(cells.get_array()).max()))
        cells.set_clim(1, most)
        axes.plot([low, high], [low, high], color=BLACK, linewidth=1.0)
        axes.set_xlim(low, high)
        axes.set_ylim(low, high)
        _price_label(axes, "x", "True price", low, high)
        _price_label(axes, "y", "Predicted price", low, high)
        bar = figure.colorbar(cells, ax=axes, shrink=0.7, label="Products in a cell")
        bar.ax.yaxis.set_major_locator(FixedLocator(_round_counts(most)))
        bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda n, _: short_price(n)))
        bar.ax.yaxis.set_minor_locator(NullLocator())
        return to_svg(
            figure,
            name="density",
            title="Predicted against true price",
            description=f"Density of {len(price):,} products on logarithmic axes. "
            f"Correlation of the log prices: {_correlation(log_price, log_predicted)}. "
            f"The line marks equal prices.",
        )


def residual_chart(price: NDArray[np.floating], predicted: NDArray[np.floating]) -> str:
    """Draw the spread of predicted over true price in each price band, as SVG."""
    ratio = np.log2(predicted / price)
    bands = price_bands(price)
    boxes = [np.percentile(ratio[band], _BOX_ENDS).tolist() for band in bands]
    labels = [_band_label(price[band].min(), price[band].max()) for band in bands]
    with drawing("residuals"):
        figure, axes = new_axes(3.2)
        axes.axhline(0, color=BLACK, linewidth=1.0)
        axes.bxp(
            [
                dict(zip(("whislo", "q1", "med", "q3", "whishi"), box, strict=True))
                for box in boxes
            ],
            showfliers=False,
            widths=0.5,
            patch_artist=True,
            boxprops={"facecolor": "#cfe3f1", "edgecolor": BLUE},
            medianprops={"color": BLUE, "linewidth": 2},
            whiskerprops={"color": BLUE},
            capprops={"color": BLUE},
        )
        axes.yaxis.set_major_locator(FixedLocator(_round_factors(boxes)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: _times(v)))
        axes.grid(False, axis="x")
        axes.set_ylabel("Predicted over true price")
        _band_axis(axes, labels)
        return to_svg(
            figure,
            name="residuals",
            title="Residuals by band of true price",
            description="Median of predicted over true price: "
            + "; ".join(
                f"{label}: {2 ** box[2]:.2f}"
                for label, box in zip(labels, boxes, strict=True)
            ),
        )


def band_chart(bands: Sequence[Band], labels: Mapping[str, str]) -> str:
    """Draw the SMAPE of each predictor in each price band, as SVG.

    Parameters
    ----------
    bands : sequence of Band
    labels : mapping of str to str
        Displayed name of each predictor.
    """
    names = [_band_label(band.low, band.high) for band in bands]
    places = np.arange(1, len(bands) + 1)
    with drawing("bands"):
        figure, axes = new_axes(3.2)
        for predictor, (color, marker) in _PREDICTOR_STYLES.items():
            scores = np.array([band.smape[predictor] for band in bands], dtype=float)
            axes.plot(
                places,
                scores,
                color=color,
                marker=marker,
                markersize=5,
                linewidth=1.4,
                label=labels[predictor],
            )
        axes.set_ylim(bottom=0)
        axes.set_ylabel("SMAPE, 0 to 200")
        axes.grid(False, axis="x")
        _band_axis(axes, names)
        _legend_above(axes)
        return to_svg(
            figure,
            name="bands",
            title="SMAPE by band of true price",
            description="The numbers are in the table below.",
        )


def calibration_chart(
    price: NDArray[np.floating], predicted: NDArray[np.floating]
) -> str:
    """Draw mean true against mean predicted log price in bins of equal size, as SVG."""
    order = np.argsort(predicted, kind="stable")
    bins = np.array_split(order, min(N_CALIBRATION_BINS, len(order)))
    log_price, log_predicted = np.log10(price), np.log10(predicted)
    x = np.array([log_predicted[part].mean() for part in bins])
    y = np.array([log_price[part].mean() for part in bins])
    error = np.array([1.96 * log_price[part].std() / len(part) ** 0.5 for part in bins])
    low, high = _limits(x, y - error, y + error)
    with drawing("calibration"):
        figure, axes = new_axes(3.6, is_square=True)
        axes.plot([low, high], [low, high], color=GREY, linewidth=1, linestyle=_DASHES)
        axes.errorbar(
            x,
            y,
            yerr=error,
            fmt="o",
            color=BLUE,
            markersize=5,
            elinewidth=1.4,
            capsize=2,
        )
        axes.set_xlim(low, high)
        axes.set_ylim(low, high)
        _price_label(axes, "x", "Predicted price", low, high)
        _price_label(axes, "y", "True price", low, high)
        return to_svg(
            figure,
            name="calibration",
            title="Calibration",
            description=f"{len(bins)} bins of predicted price; largest gap between "
            f"mean true and mean predicted price: a factor of "
            f"{10 ** np.abs(y - x).max():.2f}.",
        )


def coverage_chart(intervals: Sequence[Coverage]) -> str:
    """Draw the share of true prices inside the intervals by price band, as SVG.

    Parameters
    ----------
    intervals : sequence of Coverage
    """
    styles = ((BLUE, "o"), (VERMILION, "s"), (GREEN, "^"))
    labels = [_band_label(b.low, b.high) for b in intervals[0].bands]
    with drawing("coverage"):
        figure, axes = new_axes(3.6)
        for part, (color, marker) in zip(intervals, styles, strict=False):
            level = part.level / 100
            axes.axhline(level, color=color, linewidth=1.0, linestyle=_DASHES)
            axes.plot(
                range(1, len(part.bands) + 1),
                [band.coverage for band in part.bands],
                color=color,
                marker=marker,
                markersize=6,
                linewidth=1.4,
                label=f"{part.level} % interval",
            )
        axes.set_ylim(top=1.02)
        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
        axes.set_ylabel("True prices inside")
        axes.grid(False, axis="x")
        _band_axis(axes, labels)
        _legend_above(axes)
        return to_svg(
            figure,
            name="coverage",
            title="Coverage of the prediction intervals by band of true price",
            description="The numbers are in the table below.",
        )


def _price_label(axes: Axes, which: str, label: str, low: float, high: float) -> None:
    price_axis(axes.xaxis if which == "x" else axes.yaxis, low, high)
    axes.set(**{f"{which}label": f"{label}, catalog currency"})


def _band_axis(axes: Axes, labels: list[str]) -> None:
    axes.set_xticks(range(1, len(labels) + 1), labels)
    axes.set_xlabel("Band of true price, catalog currency")
    axes.set_xlim(0.5, len(labels) + 0.5)


def _legend_above(axes: Axes) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2)


def _band_label(low: float, high: float) -> str:
    return f"{short_price(low)}\N{EN DASH}{short_price(high)}"


def _limits(*log_prices: NDArray[np.floating]) -> tuple[float, float]:
    low = min(float(part.min()) for part in log_prices)
    high = max(float(part.max()) for part in log_prices)
    margin = max(0.05, 0.03 * (high - low))
    return low - margin, high + margin


def _correlation(
    log_price: NDArray[np.floating], log_predicted: NDArray[np.floating]
) -> str:
    if log_price.std() < 1e-12 or log_predicted.std() < 1e-12:
        return "none, for one of them is constant"
    return f"{np.corrcoef(log_price, log_predicted)[0, 1]:.3f}"


def _round_counts(most: int) -> list[int]:
    counts = [s * 10**d for d in range(10) for s in (1, 2, 5) if s * 10**d <= most]
    return counts if len(counts) <= 7 else [n for n in counts if str(n)[0] == "1"]


def _round_factors(boxes: Sequence[Sequence[float]]) -> list[float]:
    """Return log2 of round factors between the ends of all boxes, 1 among them."""
    low = min(0.0, *(box[0] for box in boxes))
    high = max(0.0, *(box[-1] for box in boxes))
    if high - low > 4:
        first, last = math.floor(low), math.ceil(high)
        return [float(p) for p in range(first, last + 1, 1 + (last - first) // 8)]
    factors = (1, 1.25, 1.5, 2, 3, 4, 6, 8)
    ticks = {sign * math.log2(factor) for factor in factors for sign in (1, -1)}
    return sorted(tick for tick in ticks if low - 0.1 <= tick <= high + 0.1)


def _times(log2: float) -> str:
    factor = f"{2 ** abs(log2):.3g}"
    return f"{factor}\N{MULTIPLICATION SIGN}" if log2 >= 0 else f"1/{factor}"
