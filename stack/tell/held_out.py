"""Held-out products and periods as plain text, at most 100 columns wide."""

from collections.abc import Mapping, Sequence
from typing import Any

from stack.tell.lines import DASH, LABEL, wrap
from stack.tell.numbers import percent, score
from stack.tell.sureness import curve_sentence


def format_held_out(report: Mapping[str, Any], chosen: str) -> list[str]:
    """Return paragraphs about held-out products and about periods, if there are any.

    Parameters
    ----------
    report : mapping
        As `stack.records.Report`.
    chosen : str
        Label of the chosen predictor.
    """
    paragraphs = []
    if held_out := report.get("held_out"):
        paragraphs += [
            _title(held_out),
            _score_table(held_out["predictors"], chosen),
            wrap(" ".join(_sentences(held_out))),
        ]
    if periods := report.get("periods"):
        paragraphs.append(_period_table(periods))
    return paragraphs


def _title(held_out: Mapping[str, Any]) -> str:
    date = held_out["test_from"]
    which = f"dated {date} or later" if date else "drawn at random"
    return wrap(
        f"Held-out products: {held_out['n']:,} {which}. No stage was trained on them, "
        f"and they have no part in the verdict."
    )


def _score_table(predictors: Sequence[Mapping[str, Any]], chosen: str) -> str:
    lines = [
        f"{'':{LABEL}}{'SMAPE ± s.e.':>15}   chosen minus this, 95 % interval",
        "-" * 76,
    ]
    for row in predictors:
        label = chosen if row["name"] == "chosen" else row["label"]
        line = f"{label:{LABEL}}{row['smape']:8.2f} ± {row['smape_se']:4.2f}"
        if (gap := row["difference"]) is not None:
            line += f"{gap['mean']:+13.2f}   [{gap['low']:+.2f}, {gap['high']:+.2f}]"
        lines.append(line)
    return "\n".join(lines)


def _sentences(held_out: Mapping[str, Any]) -> list[str]:
    known, new, bias = held_out["known"], held_out["new"], held_out["bias"]
    sentences = [
        f"{known['n']:,} of them share a text, photo or group with a product that was "
        f"trained on: SMAPE {_chosen(known)} by the chosen predictor; the other "
        f"{new['n']:,}: {_chosen(new)}.",
        f"Mean of ln(predicted / true price) and its 95 % interval: {_bias(bias)}.",
        "; ".join(
            f"{level} % intervals contain {percent(share)} of the prices"
            for level, share in held_out["coverage"].items()
        )
        + ".",
    ]
    if sureness := held_out.get("confidence"):  # runs of older versions have none
        sentences.append(curve_sentence(sureness))
    if held_out["n_undated"]:
        sentences.append(
            f"{held_out['n_undated']:,} products without a date are neither trained on "
            f"nor held out."
        )
    return sentences


def _chosen(part: Mapping[str, Any]) -> str:
    return score(part["smape"]["chosen"], DASH)


def _bias(bias: Mapping[str, float | None]) -> str:
    mean, low, high = (
        DASH if bias[name] is None else f"{bias[name]:+.3f}"
        for name in ("mean", "low", "high")
    )
    return f"{mean} [{low}, {high}]"


def _period_table(periods: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        f"{'SMAPE by period':{LABEL}}{'products':>10}{'network':>9}{'chosen':>9}"
        f"   ln(predicted / true), 95 % interval",
        "-" * 92,
    ]
    for row in periods:
        lines.append(
            f"  {row['period']:{LABEL - 2}}{row['n']:10,}"
            f"{score(row['smape']['network']):>9}{score(row['smape']['chosen']):>9}"
            f"      {_bias(row['bias'])}"
        )
    return "\n".join(lines)
