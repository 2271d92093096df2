"""Records of the stages: substituted inputs, settings, versions, times."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

from embed.problems import Problem, read_problems

N_PROBLEMS = 20
_MOST_REASONS = 15
_BULKY = ("files", "folds", "alignment", "config", "environment", "inputs")


@dataclass(frozen=True, kw_only=True)
class Problems:
    """Contents of problems.csv."""

    n: int
    reasons: list[tuple[str, str, int]]
    """Field, reason and products, most frequent first."""

    n_other_reasons: int
    """Number of reasons that are not in `reasons`."""

    first: list[Problem]
    """The first rows."""


@dataclass(frozen=True, kw_only=True)
class StageRecord:
    """A stage's manifest as names and values."""

    name: str
    seconds: float
    parts: list[tuple[str, list[tuple[str, str]]]]
    """Title and rows of each table."""


def count_problems(path: Path) -> Problems:
    """Count the substituted inputs of a run, in one pass over its problems.csv."""
    counts: Counter[tuple[str, str]] = Counter()
    first: list[Problem] = []
    for problem in read_problems(path):
        counts[problem.field, problem.reason] += 1
        if len(first) < N_PROBLEMS:
            first.append(problem)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return Problems(
        n=counts.total(),
        reasons=[(field, why, n) for (field, why), n in ordered[:_MOST_REASONS]],
        n_other_reasons=len(ordered[_MOST_REASONS:]),
        first=first,
    )


def stage_record(manifest: Mapping[str, Any]) -> StageRecord:
    """Lay out a manifest as tables, with only the last part of each path.

    A page is shared more freely than a run folder, so it does not show local folders.
    """
    result = {name: v for name, v in manifest.items() if name not in _BULKY}
    tables = {
        "Settings": manifest.get("config", {}),
        "Inputs": manifest.get("inputs", {}),
        "Versions": manifest.get("environment", {}),
        "Result": result,
    }
    return StageRecord(
        name=str(manifest["stage"]),
        seconds=float(manifest["seconds"]),
        parts=[(title, list(_rows(part))) for title, part in tables.items() if part],
    )


def _rows(record: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from _rows(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", _written(value)


def _written(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_written, value))
    if isinstance(value, float):
        return f"{value:.6g}"
    if value is None:
        return "none"
    text = str(value)
    path = PureWindowsPath(text) if "\\" in text else Path(text)
    return path.name if path.is_absolute() and path.name else text
