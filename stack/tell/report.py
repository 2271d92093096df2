"""The comparison as plain text, at most 100 columns wide."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from embed.catalog.amounts import short_amount
from stack.price.flags import DISAGREEMENT
from stack.tell.held_out import format_held_out
from stack.tell.lines import DASH, LABEL, difference, table, wrap
from stack.tell.numbers import block_names, count, score, short_range
from stack.tell.ratios import format_ratios
from stack.tell.sureness import format_intervals, format_sureness

_MAX_FOLDS = 10  # shown one by one
_BLOCKS_WIDER = 18  # columns that names of blocks need beyond a usual label


def format_report(report: Mapping[str, Any]) -> str:
    """Lay out a report for the terminal.

    Parameters
    ----------
    report : mapping
        Result of `stack.judge.evaluate.evaluate_predictions`, or its JSON.

    Returns
    -------
    str
        Lines of at most 100 columns, ending in a line break.
    """
    labels = {row["name"]: row["label"] for row in report["predictors"]}
    labels["chosen"] = f"Chosen ({report['verdict']['chosen']})"
    parts = [
        _title(report),
        _score_table(report["predictors"], labels),
        wrap(
            "SMAPE is the official convention, 0 to 200; 0-100 is half of it; log1p is "
            "SMAPE of log1p prices. Published figures mix the three: never compare "
            "across conventions."
        ),
        _smape_table(
            "SMAPE by true price", _ranges(report["bands"]), report["bands"], labels
        ),
        _smape_table(
            "SMAPE by photo", report["image"], report["image"].values(), labels
        ),
        _calibration(report["calibration_slope"], labels["chosen"]),
        format_intervals(report["intervals"]),
        *_sureness(report.get("confidence")),  # runs of older versions have none
        *_doubts(report.get("doubts")),  # runs of older versions have none
        _verdict(report["verdict"]),
    ]
    if ratios := report.get("ratios"):  # runs of older versions have none
        parts.append(format_ratios(ratios))
    parts += format_held_out(report, labels["chosen"])
    if ablation := report.get("ablation"):  # runs of older versions have none
        parts.append(_ablation(ablation))
    if report["best"] is not None:
        parts.append(_best_reachable(report["best"]))
    return "\n\n".join(parts) + "\n"


def _title(report: Mapping[str, Any]) -> str:
    title = f"Out-of-fold scores, {report['n_products']:,} products"
    title += f", {report['n_folds']} folds"
    if report["n_unpriced"]:
        title += f" ({report['n_unpriced']:,} without a price left out)"
    if held_out := report.get("held_out"):
        title += f"; {held_out['n']:,} more are held out, see below"
    return title


def _score_table(
    predictors: Iterable[Mapping[str, Any]], labels: Mapping[str, str]
) -> str:
    lines = [
        f"{'':{LABEL}}{'SMAPE ± s.e.':>15}{'0-100':>8}{'log1p':>8}{'MAE':>13}"
        f"{'median APE':>13}{'R² log':>9}",
        "-" * 92,
    ]
    for row in predictors:
        r2 = DASH if row["r2_log"] is None else f"{row['r2_log']:.3f}"
        lines.append(
            f"{labels[row['name']]:{LABEL}}"
            f"{row['smape']:8.2f} ± {row['smape_se']:4.2f}"
            f"{row['smape_half']:8.2f}{row['smape_log1p']:8.2f}"
            f"{short_amount(row['mae']):>13}{_percent(row['median_ape']):>13}{r2:>9}"
        )
    return "\n".join(lines)


def _smape_table(
    title: str,
    headings: Iterable[str],
    parts: Collection[Mapping[str, Any]],
    labels: Mapping[str, str],
) -> str:
    rows = [
        (title, [*headings]),
        ("  products", [count(part["n"]) for part in parts]),
    ]
    rows += [
        (label, [score(part["smape"][name], DASH) for part in parts])
        for name, label in labels.items()
    ]
    return table(rows, n_headings=2)


def _calibration(slopes: Mapping[str, float | None], chosen: str) -> str:
    names = {"network": "network", "chosen": chosen[0].lower() + chosen[1:]}
    slope_list = ", ".join(
        f"{names[name]} {DASH if slope is None else f'{slope:.3f}'}"
        for name, slope in slopes.items()
    )
    return wrap(
        f"Calibration slope of ln price on ln predicted: {slope_list}. "
        f"1 is calibrated; below 1 predictions spread too far, above 1 too little."
    )


def _sureness(sureness: Mapping[str, Any] | None) -> list[str]:
    return [format_sureness(sureness)] if sureness else []


def _doubts(doubts: Mapping[str, Any] | None) -> list[str]:
    """Return scores by fold, prices outside the range of true ones, and doubts."""
    if not doubts:
        return []
    lines = [
        wrap(f"SMAPE by fold: {name} {_by_fold(doubts['folds'], name)}.")
        for name in ("network", "chosen")
    ]
    outside = doubts["outside"]["chosen"]
    lines.append(
        wrap(
            f"Of the chosen prices, {outside['above']:,} are above the dearest true "
            f"one, {outside['below']:,} below the cheapest."
        )
    )
    if networks := doubts.get("networks"):
        lines.append(
            wrap(
                f"On {networks['n']:,} products the networks of the folds agree to a "
                f"factor of {networks['median_factor']:.2f} (median), and differ by "
                f"more than {DISAGREEMENT:g} on {networks['n_apart']:,}."
            )
        )
    return ["\n".join(lines), *(wrap(f"DOUBT: {s}") for s in doubts["sentences"])]


def _by_fold(folds: list[Mapping[str, Any]], name: str) -> str:
    scores = [fold["smape"][name] for fold in folds]
    if len(scores) > _MAX_FOLDS:
        return f"{min(scores):.1f} to {max(scores):.1f} on {len(scores)} folds"
    return ", ".join(f"{smape:.1f}" for smape in scores)


def _verdict(verdict: Mapping[str, Any]) -> str:
    lines = ["Difference in SMAPE, paired bootstrap over products, 95 % interval"]
    for name in ("network", "blend"):
        lines.append(difference(f"stacker - {name}", verdict[f"interval_{name}"]))
    return "\n".join([*lines, "", wrap(f"Verdict: {verdict['sentence']}")])


def _ablation(parts: Iterable[Mapping[str, Any]]) -> str:
    title = "What each block adds to the stacker (boosters of one seed, without it)"
    width = LABEL + _BLOCKS_WIDER
    lines = [title, f"{'':{width}}{'SMAPE':>8}{'difference ± s.e.':>22}"]
    for part in parts:
        label = block_names(part["left_out"])
        line = f"  {f'without {label}' if label else 'all':{width - 2}}"
        line += f"{part['smape']:8.2f}"
        if label:
            line += f"{part['adds']:+15.2f} ± {part['adds_se']:4.2f}"
        lines.append(line)
    return "\n".join(lines)


def _best_reachable(best: Mapping[str, Any]) -> str:
    return wrap(
        f"Best reachable: SMAPE {best['smape']['best']:.2f} by the law the prices were "
        f"made from, on {best['n']:,} products; chosen on the same products: "
        f"{best['smape']['chosen']:.2f}."
    )


def _ranges(bands: Iterable[Mapping[str, Any]]) -> list[str]:
    return [short_range(band["low"], band["high"]) for band in bands]


def _percent(value: float) -> str:
    return f"{short_amount(value)} %"
