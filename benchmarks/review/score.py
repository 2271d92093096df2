"""Score a review by the planted errors among its first rows, for several rankings."""

import csv
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.review.plant import KINDS
from stack.review.review import CLASSES, Suspect

N_FIRST = 400
FACTORS = (6.0, 12.0, 30.0)

RANKINGS: dict[str, Callable[[Suspect], float] | None] = {
    "class, then money (used)": None,
    "probability": lambda suspect: suspect.probability,
    "probability x money": lambda suspect: (
        suspect.probability * abs(suspect.difference)
    ),
    "factor over the interval": lambda suspect: _excess(suspect),
    "factor": lambda suspect: max(suspect.factor, 1 / suspect.factor),
    "money": lambda suspect: abs(suspect.difference),
}
"""Rankings, by what is sorted in falling order; None: as the review sorts them."""


@dataclass(frozen=True, kw_only=True)
class Right:
    """A wrong price that was planted."""

    kind: str
    factor: float
    """Between the right and the wrong price, 1 or above."""


def read_planted(path: Path) -> dict[str, Right]:
    """Read planted.csv, by sample_id."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    planted = {}
    for row in rows:
        ratio = float(row["price"]) / float(row["right_price"])
        planted[row["sample_id"]] = Right(
            kind=row["kind"], factor=max(ratio, 1 / ratio)
        )
    return planted


def describe(suspects: Sequence[Suspect], planted: dict[str, Right]) -> str:
    """Return the scores as Markdown."""
    lines = ["| ranking | found in the first 400 | reason right |", "|---|---|---|"]
    for name, key in RANKINGS.items():
        order = suspects if key is None else sorted(suspects, key=key, reverse=True)
        found = _found(order, planted)
        right = sum(planted[s.sample_id].kind == s.kind for s in found)
        lines.append(
            f"| {name} | {_share(len(found), len(planted))} "
            f"| {_share(right, len(found))} |"
        )
    found = _found(suspects, planted)
    reasons = sorted({s.kind for s in found})
    header = ["planted", "n", "suspects", "found", "reason right", *reasons]
    lines += ["", f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    for kind in KINDS:
        of_kind = [s for s in found if planted[s.sample_id].kind == kind]
        n = sum(right.kind == kind for right in planted.values())
        outside = sum(
            s.sample_id in planted and planted[s.sample_id].kind == kind
            for s in suspects
        )
        named = [sum(s.kind == reason for s in of_kind) for reason in reasons]
        right = sum(s.kind == kind for s in of_kind)
        cells = [kind, n, outside, _share(len(of_kind), n), _share(right, len(of_kind))]
        lines.append(f"| {' | '.join(map(str, [*cells, *named]))} |")
    return "\n".join(
        [*lines, "", *_by_factor(found, planted), "", *_by_class(suspects, planted)]
    )


def _by_factor(found: Sequence[Suspect], planted: dict[str, Right]) -> list[str]:
    lines = ["| factor of the error | n | found |", "|---|---|---|"]
    bounds = (0.0, *FACTORS, float("inf"))
    for low, high in itertools.pairwise(bounds):
        ids = {name for name, right in planted.items() if low <= right.factor < high}
        n = sum(s.sample_id in ids for s in found)
        lines.append(f"| {low:g} to {high:g} | {len(ids)} | {_share(n, len(ids))} |")
    return lines


def _by_class(suspects: Sequence[Suspect], planted: dict[str, Right]) -> list[str]:
    lines = ["| suspicion | rows | planted |", "|---|---|---|"]
    for name, _ in CLASSES:
        of_class = [s for s in suspects if s.suspicion == name]
        n = sum(s.sample_id in planted for s in of_class)
        lines.append(f"| {name} | {len(of_class)} | {_share(n, len(of_class))} |")
    return lines


def _found(order: Sequence[Suspect], planted: dict[str, Right]) -> list[Suspect]:
    return [suspect for suspect in order[:N_FIRST] if suspect.sample_id in planted]


def _excess(suspect: Suspect) -> float:
    """Return the distance of the price in ln, over half the width of the interval."""
    end = suspect.high if suspect.factor > 1 else suspect.low
    return math.log(suspect.factor) / math.log(end / suspect.expected)


def _share(n: int, of: int) -> str:
    return f"{n} ({100 * n / of:.0f} %)" if of else "-"
