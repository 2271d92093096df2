"""Write frozen features of texts or photos; equal content is encoded once."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from embed.store.arrays import to_float16, write_rows

Content = TypeVar("Content")


class FeatureWriter(Generic[Content]):
    """The array of features of one encoder, written chunk by chunk.

    Parameters
    ----------
    name : str
        Name of the array in messages.
    array : memmap of float16, shape (n_products, dim)
    contents : sequence, length n_products
        Hashable content of each row: rows with equal content get equal features.
    has_features : ndarray of bool, shape (n_products,)
        Rows to encode; other rows get zeros. Fill in a chunk's rows before you write
        the chunk.
    encode : callable
        Turns n inputs into features, float32 of shape (n, dim).
    """

    def __init__(
        self,
        name: str,
        array: NDArray[Any],
        *,
        contents: Sequence[object],
        has_features: NDArray[np.bool_],
        encode: Callable[[Sequence[Content]], NDArray[np.float32]],
    ) -> None:
        self.name, self.array, self.encode = name, array, encode
        self.first_rows = _first_rows(contents)
        self.has_features = has_features

    def write(self, rows: range, inputs: Mapping[int, Content]) -> None:
        """Write the features of a chunk's rows.

        Parameters
        ----------
        rows : range
            Rows of the chunk; all rows before it are written already.
        inputs : mapping of int to Content
            The encoder's input of each row that has features.

        Raises
        ------
        InputError
            If a feature does not fit float16.
        """
        sources = self._sources(rows)
        new = [row for row, source in sources.items() if row == source]
        features = self.encode([inputs[row] for row in new])
        values = np.zeros((len(rows), self.array.shape[1]), self.array.dtype)
        values[[row - rows.start for row in new]] = to_float16(features, name=self.name)
        for row, source in sources.items():
            is_earlier = source < rows.start
            values[row - rows.start] = (
                self.array[source] if is_earlier else values[source - rows.start]
            )
        write_rows(self.array, rows.start, values)

    def _sources(self, rows: range) -> dict[int, int]:
        """Map each row with features to the row that it copies, itself if encoded."""
        return {
            row: first if self.has_features[first := self.first_rows[row]] else row
            for row in rows
            if self.has_features[row]
        }


def _first_rows(contents: Sequence[object]) -> list[int]:
    """Return the first row with the same content for each row."""
    first: dict[object, int] = {}
    return [first.setdefault(content, row) for row, content in enumerate(contents)]
