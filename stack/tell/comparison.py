"""The comparison of two runs as plain text, at most 100 columns wide."""

from collections.abc import Mapping
from typing import Any

from stack.tell.lines import DASH, LABEL, difference, table, wrap
from stack.tell.numbers import count, percent, score, short_range


def format_comparison(comparison: Mapping[str, Any]) -> str:
    """Lay out a comparison for the terminal.

    Parameters
    ----------
    comparison : mapping
        Result of `stack.judge.compare.compare_runs`, or its JSON.

    Returns
    -------
    str
        Lines of at most 100 columns, ending in a line break.
    """
    parts = [
        "\n".join(_side(comparison, side) for side in ("a", "b")),
        _scores(comparison),
        _parts("SMAPE by true price", _bands(comparison)),
        _parts("SMAPE by photo in A", list(comparison["image"].items())),
        wrap(_closer(comparison["closer"])),
        *(wrap(f"Note: {note}") for note in _notes(comparison)),
        wrap(comparison["sentence"]),
    ]
    return "\n\n".join(parts) + "\n"


def _side(comparison: Mapping[str, Any], side: str) -> str:
    facts = comparison[side]
    return wrap(
        f"{side.upper()}  {facts['run']}: {facts['predictor']}, recipe "
        f"{facts['recipe']}, {facts['n_folds']} folds, {facts['n_priced']:,} priced "
        f"products",
        hanging="   ",
    )


def _scores(comparison: Mapping[str, Any]) -> str:
    lines = [f"Out of fold, {comparison['n_common']:,} common products"]
    for side, row in comparison["scores"].items():
        name = f"  SMAPE of {side.upper()} ± s.e."
        lines.append(f"{name:{LABEL}}{row['smape']:9.2f} ± {row['smape_se']:.2f}")
    lines.append(difference("A - B, 95 % interval", comparison["difference"]))
    return "\n".join(lines)


def _bands(comparison: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return [
        (short_range(band["low"], band["high"]), band) for band in comparison["bands"]
    ]


def _parts(title: str, parts: list[tuple[str, Mapping[str, Any]]]) -> str:
    rows = [
        (title, [heading for heading, _ in parts]),
        ("  products", [count(part["n"]) for _, part in parts]),
        ("  A", [score(part["smape"]["a"], DASH) for _, part in parts]),
        ("  B", [score(part["smape"]["b"], DASH) for _, part in parts]),
        ("  A - B", [_gap(part["smape"]) for _, part in parts]),
    ]
    return table(rows)


def _closer(shares: Mapping[str, float]) -> str:
    return (
        f"A is closer to the true price on {percent(shares['a'])} of the products, "
        f"B on {percent(shares['b'])}; both are as close on {percent(shares['same'])}."
    )


def _notes(comparison: Mapping[str, Any]) -> list[str]:
    mismatch = comparison["price_mismatch"]
    if not mismatch["n"]:
        return list(comparison["notes"])
    sample_ids = ", ".join(mismatch["first_sample_ids"])
    more = mismatch["n"] - len(mismatch["first_sample_ids"])
    rest = f" and {more:,} more" if more else ""
    return [
        f"{mismatch['n']:,} common products are left out, because the runs contain "
        f"different prices for them: {sample_ids}{rest}.",
        *comparison["notes"],
    ]


def _gap(smape: Mapping[str, float | None]) -> str:
    if smape["a"] is None or smape["b"] is None:
        return DASH
    return f"{smape['a'] - smape['b']:+.2f}"
