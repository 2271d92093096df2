"""Write frozen features of texts or photos; equal content is encoded once."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from embed.store.arrays import to_float16, write_rows


class Sized(Protocol):
    """An input of an encoder: token ids or pixels."""

    def __len__(self) -> int:
        """Return 0 for an input that was not read, because its features are known."""


Content = TypeVar("Content", bound=Sized)

N_TRIALS = 4
"""Number of inputs with known features that are encoded all the same, to compare."""


class OtherFeatures(Exception):
    """Known features are not those that this machine computes."""


class FeatureWriter(Generic[Content]):
    """The array of features of one encoder, written chunk by chunk.

    Parameters
    ----------
    name : str
        Name of the array in messages.
    array : memmap of float16, shape (n_products, dim)
    sha256 : memmap of uint8, shape (n_products, 32)
        sha256 of each row's content: rows with equal content get equal features. Fill
        in a chunk's rows before you write the chunk.
    encode : callable
        Turns n inputs into features, float32 of shape (n, dim).
    known : mapping of bytes to ndarray of float16, shape (dim,)
        Features that need not be computed, by the sha256 of their content.
    written : sequence of int
        Rows with features that a stopped run has written.
    """

    def __init__(
        self,
        name: str,
        array: NDArray[Any],
        *,
        sha256: NDArray[np.uint8],
        encode: Callable[[Sequence[Content]], NDArray[np.float32]],
        known: Mapping[bytes, NDArray[np.float16]],
        written: Sequence[int],
    ) -> None:
        self.name, self.array, self.encode = name, array, encode
        first = next(iter(known), None)
        if first is not None and known[first].shape != array.shape[1:]:
            raise OtherFeatures(name)
        self.sha256, self.known = sha256, known
        self.first_rows: dict[bytes, int] = {}
        for row in written:
            self.first_rows.setdefault(sha256[row].tobytes(), row)
        self.n_trials, self.n_encoded = N_TRIALS, 0

    def write(self, rows: range, inputs: Mapping[int, Content]) -> None:
        """Write the features of a chunk's rows.

        Parameters
        ----------
        rows : range
            Rows of the chunk; all rows before it are written already.
        inputs : mapping of int to Content
            The encoder's input of each row that has features; other rows get zeros.

        Raises
        ------
        InputError
            If a feature does not fit float16.
        OtherFeatures
            If the known features of an input are not those that are computed here.
        """
        contents = {row: self.sha256[row].tobytes() for row in inputs}
        sources = {
            row: self.first_rows.setdefault(content, row)
            for row, content in contents.items()
        }
        first = [row for row, source in sources.items() if row == source]
        known = {
            row: self.known[content]
            for row in first
            if (content := contents[row]) in self.known
        }
        tried = [row for row in known if len(inputs[row])][: self.n_trials]
        new = [row for row in first if row not in known]
        features = self._encode([inputs[row] for row in (*new, *tried)])
        for row, feature in zip(tried, features[len(new) :], strict=True):
            if not np.array_equal(feature, known[row]):
                raise OtherFeatures(self.name)
        self.n_trials -= len(tried)
        self.n_encoded += len(new)
        values = np.zeros((len(rows), self.array.shape[1]), self.array.dtype)
        values[[row - rows.start for row in new]] = features[: len(new)]
        for row, feature in known.items():
            values[row - rows.start] = feature
        for row, source in sources.items():
            is_earlier = source < rows.start
            values[row - rows.start] = (
                self.array[source] if is_earlier else values[source - rows.start]
            )
        write_rows(self.array, rows.start, values)

    def _encode(self, inputs: Sequence[Content]) -> NDArray[np.float16]:
        return to_float16(self.encode(inputs), name=self.name)
