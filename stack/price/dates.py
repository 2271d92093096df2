"""Find new products that are dated later than a run's prices can be trusted."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embed.catalog.reader import Catalog
from embed.catalog.split_columns import read_day, read_days
from finetune.records import DatesRecord


@dataclass(frozen=True, kw_only=True)
class Lateness:
    """How far new products are dated after the last product that was trained on."""

    last_trained: str
    """Date of that product, as 2024-03-31."""

    days: NDArray[np.float64]
    """Days after it, shape (n_products,); NaN without a readable date."""

    is_tested: bool
    """Whether the run was tested on later products."""

    known_days: int
    """Days after it that the run was tested on; without such a test, the days from the
    first product that was trained on to the last."""

    @property
    def is_late(self) -> NDArray[np.bool_]:
        """Whether each product is dated beyond `known_days`, shape (n_products,)."""
        return np.asarray(self.days > self.known_days)

    @property
    def flags(self) -> list[str]:
        """Reason to doubt the price of each product by its date, "" if none."""
        return [
            f"{days:.0f} days after the last trained product" if late else ""
            for days, late in zip(self.days, self.is_late, strict=True)
        ]

    def describe(self) -> str | None:
        """Describe dates after the last trained one in a line; None if none is."""
        if not (self.days > 0).any():
            return None
        line = (
            f"Dates: up to {np.nanmax(self.days):.0f} days after the last product that "
            f"the run was trained on ({self.last_trained})"
        )
        if n_late := int(self.is_late.sum()):
            reason = "the last date it was tested on"
            if not self.is_tested:
                reason = "longer than its training products span"
            line += (
                f"; {n_late} of {len(self.days)} products are more than "
                f"{self.known_days} days after it, {reason}"
            )
        return line


def measure_lateness(catalog: Catalog, dates: DatesRecord | None) -> Lateness | None:
    """Compare the dates of new products with those that a run was trained on.

    Parameters
    ----------
    catalog : Catalog
        New products.
    dates : DatesRecord or None
        Dates of the run.

    Returns
    -------
    Lateness or None
        None if the run or the catalog has no time column.
    """
    days = read_days(catalog)
    if days is None or dates is None:
        return None
    last = read_day(dates.last_trained)
    known_days = last - read_day(dates.first_trained)
    if dates.test_from and dates.last_held_out:
        known_days = read_day(dates.last_held_out) - last
    return Lateness(
        last_trained=dates.last_trained,
        days=days - last,
        is_tested=dates.test_from is not None,
        known_days=int(known_days),
    )
