"""List the runs below a folder, from their manifests and reports alone."""

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embed.errors import CacheError, ConfigError
from embed.records import require_embedded
from embed.store.manifest import (
    MANIFEST_NAME,
    read_record,
    require_same_key,
    require_stage,
)
from finetune.records import FinetuneManifest
from stack.records import ShortReport, StackManifest
from stack.run import REPORT_NAME, report_remedy
from stack.tell.lines import DASH, wrap
from stack.tell.numbers import count

_RECORDS = (MANIFEST_NAME, "plan.json", "progress.json")
_STAGES = ("embed", "finetune", "stack")
_COLUMNS = (
    ("run", 16),
    ("done", 5),
    ("products", 10),
    ("photos", 8),
    ("recipe", 9),
    ("folds", 6),
    ("network", 15),
    ("stacker", 15),
    ("min", 5),
    ("finished", 11),
)


@dataclass(frozen=True, kw_only=True)
class Score:
    """Out-of-fold SMAPE (percent, 0 to 200) of one predictor of a run."""

    smape: float
    smape_se: float | None
    """Standard error over products; None where only the network has been scored."""


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """A run as its JSON files describe it; None where they do not yet."""

    name: str
    """Path below the folder that was searched."""

    finished: tuple[str, ...]
    """Stages that are done."""

    problem: str | None
    """Why the run is not finished, or what is damaged; None if all is well."""

    n_products: int | None = None
    n_photos: int | None = None
    """Products with a usable photo."""

    recipe: str | None = None
    n_folds: int | None = None
    chosen: str | None = None
    """Name of the predictor that serves: network or stacker."""

    network: Score | None = None
    stacker: Score | None = None
    chosen_score: Score | None = None
    minutes: float | None = None
    """Duration of all finished stages together."""

    date: str | None = None
    """Day on which the last finished stage wrote its manifest, by the file's date."""


def list_runs(folder: Path) -> list[RunSummary]:
    """Find all runs below a folder.

    Parameters
    ----------
    folder : Path
        Folder to search, with all folders in it except hidden ones and links.

    Returns
    -------
    list of RunSummary
        By SMAPE of the predictor that serves, best first; then the runs without a
        score, by name.

    Raises
    ------
    ConfigError
        If the folder does not exist.
    """
    if not folder.is_dir():
        raise ConfigError(
            f"{folder}: is not a folder. Name the one that holds your run folders, as "
            f"in `pricestack runs runs`."
        )
    summaries = [
        summarise_run(run_dir, name=run_dir.relative_to(folder).as_posix())
        for run_dir in find_runs(folder)
    ]
    return sorted(summaries, key=_rank)


def find_runs(folder: Path) -> Iterator[Path]:
    """Yield the run folders at or below a folder: those where a stage has begun."""
    for path, folders, _ in os.walk(folder):
        run_dir = Path(path)
        begun = [
            stage
            for stage in _STAGES
            if any((run_dir / stage / name).exists() for name in _RECORDS)
        ]
        folders[:] = [
            name for name in folders if name not in begun and not name.startswith(".")
        ]
        if begun:
            yield run_dir


def summarise_run(run_dir: Path, *, name: str) -> RunSummary:
    """Read a run's JSON files; an error in them becomes its `problem`.

    Parameters
    ----------
    run_dir : Path
    name : str
        Name to show.
    """
    finished: dict[str, float] = {}
    facts: dict[str, Any] = {}
    problem = None
    try:
        embed = require_embedded(run_dir)
        finished["embed"] = embed.seconds
        facts["n_products"] = embed.n_products
        facts["n_photos"] = embed.n_products - embed.substituted.image
        finetune = require_stage(run_dir, FinetuneManifest)
        require_same_key(run_dir, "finetune", finetune.embed_key, embed.key)
        finished["finetune"] = finetune.seconds
        facts["recipe"] = finetune.config.recipe
        facts["n_folds"] = finetune.config.n_folds
        facts["network"] = Score(smape=finetune.smape, smape_se=None)
        stack = require_stage(run_dir, StackManifest)
        require_same_key(run_dir, "stack", stack.finetune_key, finetune.key)
        facts |= _scores(run_dir, stack)
        finished["stack"] = stack.seconds
    except CacheError as error:
        problem = str(error)
    if finished:
        facts["minutes"] = sum(finished.values()) / 60
        facts["date"] = _last_date(run_dir, finished)
    return RunSummary(name=name, finished=tuple(finished), problem=problem, **facts)


def format_runs(runs: Sequence[RunSummary]) -> str:
    """Lay runs out as a table of at most 100 columns, problems below it."""
    if not runs:
        return "No runs.\n"
    lines = [
        "".join(_cell(title, title, width) for title, width in _COLUMNS),
        "-" * sum(width for _, width in _COLUMNS),
        *(line for run in runs for line in _lines_of(run)),
        "",
        wrap(
            "done: E embed, F finetune, S stack. SMAPE (0 to 200) ± s.e., out of fold; "
            "* is the predictor that serves. Scores on different catalogs cannot be "
            "compared; `pricestack compare A B` judges on common products."
        ),
    ]
    problems = [run for run in runs if run.problem]
    if problems:
        lines += ["", "Not finished, or damaged:"]
        for run in problems:
            problem = f"{run.name}: {run.problem}"  # with a command to copy
            lines.append(wrap(problem, indent="  ", hanging="    ", whole_words=True))
    return "\n".join(lines) + "\n"


def _rank(run: RunSummary) -> tuple[float, str]:
    score = run.chosen_score
    return (float("inf") if score is None else score.smape, run.name)


def _scores(run_dir: Path, stack: StackManifest) -> dict[str, object]:
    path = run_dir / "stack" / REPORT_NAME
    report = read_record(path, ShortReport)
    if report is None:
        raise CacheError(f"{path}: is missing. {report_remedy(run_dir)}")
    scores = {
        row.name: Score(smape=row.smape, smape_se=row.smape_se)
        for row in report.predictors
    }
    if missing := {"network", "stacker"} - scores.keys():
        raise CacheError(
            f"{path}: has no scores of the {min(missing)}. {report_remedy(run_dir)}"
        )
    return {
        "chosen": stack.chosen,
        "network": scores["network"],
        "stacker": scores["stacker"],
        "chosen_score": scores[stack.chosen],
    }


def _last_date(run_dir: Path, stages: Iterable[str]) -> str:
    times = [(run_dir / stage / MANIFEST_NAME).stat().st_mtime for stage in stages]
    return time.strftime("%Y-%m-%d", time.localtime(max(times)))


def _lines_of(run: RunSummary) -> list[str]:
    done = "".join(s[0].upper() if s in run.finished else "-" for s in _STAGES)
    cells = {
        "run": run.name,
        "done": done,
        "products": count(run.n_products, DASH),
        "photos": count(run.n_photos, DASH),
        "recipe": run.recipe or DASH,
        "folds": count(run.n_folds, DASH),
        "network": _score(run.network, is_chosen=run.chosen == "network"),
        "stacker": _score(run.stacker, is_chosen=run.chosen == "stacker"),
        "min": DASH if run.minutes is None else f"{run.minutes:.0f}",
        "finished": run.date or DASH,
    }
    first = []
    if len(run.name) >= _COLUMNS[0][1]:  # on a line of its own, never cut short
        first, cells["run"] = [wrap(run.name)], ""
    return [*first, "".join(_cell(t, cells[t], width) for t, width in _COLUMNS)]


def _cell(title: str, text: str, width: int) -> str:
    return f"{text:<{width}}" if title == "run" else f"{text:>{width}}"


def _score(score: Score | None, *, is_chosen: bool) -> str:
    if score is None:
        return DASH
    star = "*" if is_chosen else ""
    error = "" if score.smape_se is None else f" ± {score.smape_se:.2f}"
    return f"{star}{score.smape:.2f}{error}"
