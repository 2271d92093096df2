"""The ratio study in words and as plain text, at most 100 columns wide."""

from collections.abc import Mapping
from typing import Any

from stack.tell.lines import DASH, LABEL, wrap
from stack.tell.numbers import short_range

_LONGEST_NAME = LABEL - 2


def ratio_sentence(study: Mapping[str, Any]) -> str:
    """Say what a ratio study means: the usual error, and whether it depends on price.

    Parameters
    ----------
    study : mapping
        As `stack.records.RatioStudy`.
    """
    ratios = study["all"]
    sentences = [
        f"The median ratio of predicted to true price is "
        f"{ratios['median']['value']:.2f}; ratios differ from it by "
        f"{ratios['cod']['value']:.0f} % on average."
    ]
    if ratios["prb"]["low"] is not None:
        sentences.append(_by_level(ratios["prb"]))
    if ratios["prb_predicted"]["low"] is not None:
        sentences.append(_by_predicted(ratios["prb_predicted"]))
    return " ".join(sentences)


def format_ratios(study: Mapping[str, Any]) -> str:
    """Lay out a ratio study: overall, by price and by category.

    Parameters
    ----------
    study : mapping
        As `stack.records.RatioStudy`.
    """
    title = f"{'Predicted / true price':{LABEL}}{'products':>10}{'median':>9}"
    title += f"{'95 % interval':>17}{'COD':>8}{'PRD':>8}{'PRB':>9}"
    rows = [_row(_short(label), part) for label, part in ratio_parts(study)]
    return "\n".join([title, "-" * len(title), *rows, "", wrap(ratio_sentence(study))])


def ratio_parts(study: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the parts of a ratio study with their labels.

    A band of prices has no PRB: within it, a slope by price means nothing.

    Parameters
    ----------
    study : mapping
        As `stack.records.RatioStudy`.
    """
    no_slope = {"prb": {"value": None}}
    return [
        ("all", study["all"]),
        *(
            (short_range(band["low"], band["high"]), {**band, **no_slope})
            for band in study["bands"]
        ),
        *(
            (f"{column}: {part['category']}", part)
            for column, parts in study["categories"].items()
            for part in parts
        ),
    ]


def _by_level(slope: Mapping[str, float]) -> str:
    value = slope["value"]
    if slope["low"] <= 0 <= slope["high"]:
        return (
            f"The ratio does not depend on the price beyond the noise ({value:+.2f})."
        )
    cheap, dear, verb = (
        ("low", "high", "rises") if value > 0 else ("high", "low", "falls")
    )
    return (
        f"Cheap products are priced too {cheap} and dear ones too {dear}: the ratio "
        f"{verb} by {100 * abs(value):.0f} % with each doubling of the price "
        f"(PRB {value:+.2f})."
    )


def _by_predicted(slope: Mapping[str, float]) -> str:
    value = slope["value"]
    if slope["low"] <= 0 <= slope["high"]:
        return f"By predicted price there is no bias beyond the noise ({value:+.2f})."
    verb = "falls" if value < 0 else "rises"
    return (
        f"The ratio also {verb} with the predicted price ({value:+.2f} per doubling)."
    )


def _row(label: str, part: Mapping[str, Any]) -> str:
    median, prb = part["median"], part["prb"]["value"]
    interval = DASH
    if median["low"] is not None:
        interval = f"{median['low']:.2f} to {median['high']:.2f}"
    return (
        f"{label:{LABEL}}{part['n']:>10,}{median['value']:>9.2f}{interval:>17}"
        f"{part['cod']['value']:>8.1f}{part['prd']['value']:>8.2f}"
        f"{DASH if prb is None else f'{prb:+.2f}':>9}"
    )


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
