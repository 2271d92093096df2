"""Intervals and probabilities as text: how far they come true."""

from collections.abc import Collection, Mapping
from typing import Any

from stack.tell.lines import DASH, table, wrap
from stack.tell.numbers import percent, short_range

_FIFTHS = ("least sure", "", "", "", "surest")
WHY_BY_TRUE_PRICE = (
    "By true price, coverage is low at both ends for any model: the dearest products "
    "are mostly those that were priced too low, the cheapest those priced too high."
)


def format_intervals(intervals: Collection[Mapping[str, Any]]) -> str:
    """Write the coverage of the intervals, of all products and of parts."""
    coverages = "; ".join(
        f"{part['level']} % intervals contain {percent(part['coverage'])} of the "
        f"true prices (their high end is {part['width_ratio']:.1f} times the low one)"
        for part in intervals
    )
    parts = [
        wrap(f"Prediction intervals, their ends from the other folds: {coverages}.")
    ]
    first = next(iter(intervals))
    if "score" in first:
        gains = "; ".join(
            f"{100 * (1 - part['score'] / part['score_constant']):+.1f} % at "
            f"{part['level']} %"
            for part in intervals
        )
        parts.append(
            wrap(f"Better mean interval score than by intervals of one width: {gains}.")
        )
    for title, name in (
        ("Coverage by predicted price", "by_predicted"),
        ("Coverage by true price", "bands"),
    ):
        if name in first:
            bands = [short_range(band["low"], band["high"]) for band in first[name]]
            parts.append(_coverage(title, bands, intervals, name))
    if "by_confidence" in first:
        fifths = _FIFTHS if len(first["by_confidence"]) == len(_FIFTHS) else ()
        parts += [
            _coverage("Coverage by confidence", fifths, intervals, "by_confidence"),
            _by_photo(intervals),
            wrap(WHY_BY_TRUE_PRICE),
        ]
    return "\n\n".join(parts)


def format_sureness(sureness: Mapping[str, Any]) -> str:
    """Write the errors of the surest prices, and how far probabilities come true."""
    curve = sureness["curve"]
    rows = [
        ("The surest", [f"{100 * part['share']:.0f} %" for part in curve]),
        ("  median error", [f"{part['median_ape']:.1f} %" for part in curve]),
        ("  within 20 %", [percent(part["within_20"]) for part in curve]),
        ("  probability at least", [percent(part["least"]) for part in curve]),
    ]
    parts = [wrap(curve_sentence(sureness)), table(rows, n_headings=1)]
    for share, tenths in sureness["reliability"].items():
        rows = [
            (f"Within {share} %, by tenth", [str(i + 1) for i in range(len(tenths))]),
            ("  probability", [percent(part["predicted"]) for part in tenths]),
            ("  found", [percent(part["found"]) for part in tenths]),
        ]
        parts.append(_narrow(rows))
    error = sureness["median_ape_unlike"]
    parts.append(
        wrap(
            f"{sureness['n_unlike']:,} products are unlike the others"
            + (f"; their median error is {error:.1f} %." if error is not None else ".")
        )
    )
    return "\n\n".join(parts)


def curve_sentence(sureness: Mapping[str, Any]) -> str:
    """Return a sentence on the median errors of the surest prices."""
    error = {part["share"]: part["median_ape"] for part in sureness["curve"]}
    parts = [
        f"{error[share]:.1f} % for the surest {100 * share:.0f} %"
        for share in (0.3, 0.5)
        if share in error
    ]
    return (
        f"Median error of the prices: {', '.join(parts)}, {error[1.0]:.1f} % for all."
    )


def _coverage(
    title: str,
    headings: Collection[str],
    intervals: Collection[Mapping[str, Any]],
    name: str,
) -> str:
    rows = [(title, [*headings])] if headings else [(title, [])]
    rows += [
        (
            f"{part['level']} % intervals",
            [percent(band["coverage"]) for band in part[name]],
        )
        for part in intervals
    ]
    return table(rows, n_headings=1)


def _by_photo(intervals: Collection[Mapping[str, Any]]) -> str:
    rows = [("Coverage by photo", ["present", "absent"])]
    rows += [
        (
            f"{part['level']} % intervals",
            [
                DASH if (share := of_part["coverage"]) is None else percent(share)
                for of_part in (part["by_photo"]["present"], part["by_photo"]["absent"])
            ],
        )
        for part in intervals
    ]
    return table(rows, n_headings=1)


def _narrow(rows: Collection[tuple[str, list[str]]]) -> str:
    """Write a table of ten narrow columns."""
    return "\n".join(
        f"{label:24}" + "".join(f"{cell.removesuffix(' %'):>7}" for cell in cells)
        for label, cells in rows
    )
