"""The priced products of a run that are most like a given one.

Likeness is the cosine of aligned fused embeddings, found by looking at all of them: a
pass over 75,000 products of 512 numbers takes about a tenth of a second, and needs no
index that could be out of date.
"""

import logging
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from embed.store.arrays import release_rows
from embed.text import parse_fields
from stack.run import Run

logger = logging.getLogger(__name__)

_CHUNK_ROWS = 8192
_READ_CHARS = 2000  # of a text, kept to take its first words from


@dataclass(frozen=True, kw_only=True)
class SimilarProduct:
    """A priced product and its likeness to the one asked for."""

    sample_id: str

    text: str
    """Its name, else the first of its text."""

    price: float
    """Catalog currency, as the catalog has it."""

    similarity: float
    """Cosine of the fused embeddings, -1 to 1 (the same)."""


class PricedProducts:
    """The products of a run that have a price, to be searched many times.

    Parameters
    ----------
    run : Run
        With a finished stacking stage.

    Raises
    ------
    CacheError
        If an array is missing or damaged.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._fused = run.array("stack/fused")
        self._price = np.asarray(run.array("finetune/price"))
        self._groups = np.asarray(run.array("finetune/groups"))
        self._sample_id = run.array("embed/sample_id")

    def nearest(
        self,
        fused: NDArray[np.floating],
        *,
        n: int,
        exclude_group_of: int | None = None,
    ) -> list[SimilarProduct]:
        """Find the products most like one.

        Parameters
        ----------
        fused : ndarray of shape (512,)
            Aligned fused embedding, of any fold or of all.
        n : int
            At most so many; fewer if the run has no more.
        exclude_group_of : int, optional
            Catalog row; it and its duplicates are left out.

        Returns
        -------
        list of SimilarProduct
            The most similar first, in catalog order where equal.
        """
        similarity = self._cosines(fused)
        allowed = np.isfinite(self._price)
        if exclude_group_of is not None:
            allowed &= self._groups != self._groups[exclude_group_of]
        rows = np.flatnonzero(allowed)
        best = rows[np.argsort(-similarity[rows], kind="stable")[: max(n, 0)]]
        return [
            SimilarProduct(
                sample_id=str(self._sample_id[row]),
                text=_name(self._texts[row]),
                price=float(self._price[row]),
                similarity=float(similarity[row]),
            )
            for row in best
        ]

    def _cosines(self, fused: NDArray[np.floating]) -> NDArray[np.float32]:
        wanted = np.asarray(fused, dtype=np.float32)
        wanted = wanted / max(float(np.linalg.norm(wanted)), 1e-12)
        found = np.zeros(len(self._fused), dtype=np.float32)
        for start in range(0, len(found), _CHUNK_ROWS):
            rows = self._fused[start : start + _CHUNK_ROWS].astype(np.float32)
            length = np.maximum(np.linalg.norm(rows, axis=1), 1e-12)
            found[start : start + len(rows)] = np.clip(rows @ wanted / length, -1, 1)
        release_rows(self._fused)
        return found

    @cached_property
    def _texts(self) -> tuple[str, ...]:
        return tuple(text[:_READ_CHARS] for text in self._run.catalog().text)


def _name(text: str) -> str:
    product = parse_fields(text)
    return product.name or product.description
