"""The audited run that the checks share, and the result of a check."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from embed.catalog.reader import Catalog
from embed.store.arrays import RaggedRows
from embed.store.manifest import sha256_strings
from finetune.price_unit import to_price
from stack.run import FinishedRun, Run

SAMPLE_ROWS = 1000
"""Rows that rank correlations and nearest neighbours are computed for."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """The result of one check."""

    name: str
    passed: bool | None
    """None where there are too few products to check."""

    detail: str
    """The figures behind the result, in one line."""


@dataclass(frozen=True, kw_only=True)
class AuditedRun:
    """A finished run, with the arrays that the checks share."""

    opened: FinishedRun
    catalog: Catalog
    price: NDArray[np.float64]  # (n_products,), NaN: unpriced
    folds: NDArray[np.int8]
    groups: NDArray[np.integer]
    n_threads: int
    seed: int

    @property
    def run(self) -> Run:
        """The stages that stacking reads."""
        return self.opened.run

    @property
    def priced(self) -> NDArray[np.intp]:
        """Rows that have a price."""
        return np.flatnonzero(self.folds >= 0)

    def predicted(self, predictor: str) -> NDArray[np.float64]:
        """Return a predictor's out-of-fold prices, catalog currency."""
        return to_price(self.run.out_of_fold(predictor), self.run.price_unit)

    def sample(self, n: int) -> NDArray[np.intp]:
        """Draw priced rows, in order; all if there are no more than `n`."""
        order = np.random.default_rng(self.seed).permutation(self.priced)
        return np.sort(order[:n])

    @cached_property
    def thumbnails(self) -> RaggedRows:
        """Compressed photos, by row."""
        return self.run.thumbnails()

    @cached_property
    def photo_hashes(self) -> list[str]:
        """Hash of each product's photo, "" where there is no usable photo."""
        image_ok = self.run.array("embed/image_ok")
        return [
            _hash(self.thumbnails[row]) if ok else "" for row, ok in enumerate(image_ok)
        ]


def _hash(photo: NDArray[np.uint8]) -> str:
    return sha256_strings([photo.tobytes().hex()]) if len(photo) else ""
