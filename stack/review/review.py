"""Review the prices of a run's own products: which may be wrong, and why.

Rows are ranked by suspicion in four classes, and within a class by money, because a
ranking by money alone is led by dear products whose prices are right.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stack.review.clues import collect_clues
from stack.review.expected import read_expected
from stack.review.reasons import Reasons
from stack.review.suspicion import weigh
from stack.review.words import WordEffects
from stack.run import FinishedRun

Suspected = Literal["high", "medium", "low", "very low"]
CLASSES: tuple[tuple[Suspected, float], ...] = (
    ("high", 0.5),
    ("medium", 0.1),
    ("low", 0.03),
    ("very low", 0.0),
)
"""Classes of suspicion, and the least probability of a wrong price in each."""


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """A product whose present price lies outside its interval; catalog currency."""

    row: int
    """Row of the catalog, from 0."""

    sample_id: str
    name: str
    price: float
    expected: float
    low: float
    high: float

    units: float | None
    """Units sold, 1 without a column of units; None if unknown."""

    probability: float
    """Probability that the price is wrong, a rough estimate."""

    kind: str
    """Likely reason, a key of `stack.review.reasons.LABELS`."""

    evidence: str

    @property
    def suspicion(self) -> Suspected:
        """Class of the probability."""
        return next(name for name, least in CLASSES if self.probability >= least)

    @property
    def factor(self) -> float:
        """Present over expected price."""
        return self.price / self.expected

    @property
    def difference(self) -> float:
        """Present minus expected price."""
        return self.price - self.expected

    @property
    def money(self) -> float | None:
        """Size of the difference times the units sold; None if these are unknown."""
        return None if self.units is None else abs(self.difference) * self.units


@dataclass(frozen=True, kw_only=True)
class Review:
    """The suspects of a run, the first to look at first."""

    suspects: list[Suspect]
    n_reviewed: int
    """Products with an expected price."""

    level: int
    """Level of the intervals, percent."""

    with_units: bool


def review_run(
    finished: FinishedRun, *, level: int, units: NDArray[np.float64] | None = None
) -> Review:
    """Find the products of a run whose prices may be wrong.

    Parameters
    ----------
    finished : FinishedRun
    level : int
        Level of the intervals, percent.
    units : ndarray of shape (n_products,), optional
        Units sold of each product, NaN where unknown.

    Raises
    ------
    CacheError
        If an array or the catalog is damaged.
    """
    run = finished.run
    expected = read_expected(finished, level=level)
    places = np.flatnonzero(expected.is_outside)
    findings = collect_clues(run, expected, places)
    suspicion = weigh(findings.clues)
    sample_id = run.array("embed/sample_id")
    reasons = Reasons(
        findings, suspicion, sample_id=sample_id, prices=run.targets().price
    )
    effects = WordEffects(
        [findings.names[row] for row in expected.rows], expected.log_factor
    )
    suspects = []
    for number, place in enumerate(places.tolist()):
        row = int(expected.rows[place])
        reason = reasons.of(number, effects.explain(place))
        suspects.append(
            Suspect(
                row=row,
                sample_id=str(sample_id[row]),
                name=findings.names[row],
                **expected.prices(place),
                units=1.0 if units is None else _known(units[row]),
                probability=float(suspicion.probability[number]),
                kind=reason.kind,
                evidence=reason.evidence,
            )
        )
    return Review(
        suspects=rank(suspects),
        n_reviewed=len(expected.rows),
        level=level,
        with_units=units is not None,
    )


def rank(suspects: list[Suspect]) -> list[Suspect]:
    """Sort suspects by class, then by money; unknown units last within a class."""
    order = [name for name, _ in CLASSES]
    return sorted(
        suspects,
        key=lambda suspect: (
            order.index(suspect.suspicion),
            suspect.money is None,
            -(suspect.money or 0.0),
            suspect.row,
        ),
    )


def _known(units: np.float64) -> float | None:
    return None if np.isnan(units) else float(units)
