"""The priced products of a run that are most similar to a given one.

Similarity is the cosine of aligned fused embeddings, computed for all products. A pass
over 75,000 products of 512 numbers takes about a tenth of a second and needs no index.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from embed.text import parse_fields
from stack.blocks.nearest import DenseReferences
from stack.run import Run

_READ_CHARS = 2000  # of each text; the name is among them


@dataclass(frozen=True, kw_only=True)
class SimilarProduct:
    """A priced product and its similarity to the given one."""

    sample_id: str

    text: str
    """Name of the product, or its description without a name."""

    price: float
    """Price in the catalog, catalog currency."""

    similarity: float
    """Cosine of the fused embeddings, -1 to 1 (the same)."""


class PricedProducts:
    """The priced products of a run, for repeated searches.

    Parameters
    ----------
    run : Run
        Run with a finished stacking stage.

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
        """Find the products most similar to an embedding.

        Parameters
        ----------
        fused : ndarray of shape (512,)
            Aligned fused embedding, of any fold or of all.
        n : int
            Number of products; fewer if the run has no more.
        exclude_group_of : int, optional
            Catalog row of a product that is left out with its duplicates.

        Returns
        -------
        list of SimilarProduct
            Most similar first; ties in catalog order.
        """
        allowed = np.isfinite(self._price)
        if exclude_group_of is not None:
            allowed &= self._groups != self._groups[exclude_group_of]
        rows = np.flatnonzero(allowed)
        references = DenseReferences(self._fused, rows, hold=False)
        places, cosines = references.nearest(np.asarray(fused)[None], max(n, 0))
        return [
            SimilarProduct(
                sample_id=str(self._sample_id[row]),
                text=_name(self._texts[row]),
                price=float(self._price[row]),
                similarity=float(np.clip(cosine, -1, 1)),
            )
            for row, cosine in zip(rows[places[0]], cosines[0], strict=True)
        ]

    @cached_property
    def _texts(self) -> tuple[str, ...]:
        return tuple(text[:_READ_CHARS] for text in self._run.catalog().text)


def _name(text: str) -> str:
    product = parse_fields(text)
    return product.name or product.description
