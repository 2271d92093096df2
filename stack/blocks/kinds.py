"""The kinds of terms into which linear and kernel models split a product's text."""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from stack.blocks.head import read_head
from stack.blocks.terms import Terms, count_terms

_KINDS: tuple[tuple[Literal["word", "char_wb"], tuple[int, int]], ...] = (
    ("word", (1, 2)),  # of the whole text, as in `neighbours`
    ("word", (1, 2)),  # of its head
    ("char_wb", (3, 5)),  # of its head: the whole text has too many letters
)


def fit_kinds(texts: Sequence[str]) -> tuple[Terms, ...]:
    """Count for each term of each kind the texts that contain it."""
    return tuple(
        Terms.fit(part, analyzer=analyzer, lengths=lengths)
        for part, (analyzer, lengths) in zip(_parts(texts), _KINDS, strict=True)
    )


def kinds_of(idf: NDArray[np.float32]) -> tuple[Terms, ...]:
    """Rebuild the kinds from their frequencies, shape (3, N_COLUMNS)."""
    return tuple(
        Terms(analyzer=analyzer, lengths=lengths, idf=np.array(frequencies))
        for (analyzer, lengths), frequencies in zip(_KINDS, idf, strict=True)
    )


def count_kinds(texts: Sequence[str]) -> tuple[csr_array, ...]:
    """Count the terms of each kind, shape (n_texts, N_COLUMNS), float32."""
    return tuple(
        count_terms(part, analyzer=analyzer, lengths=lengths)
        for part, (analyzer, lengths) in zip(_parts(texts), _KINDS, strict=True)
    )


def weigh_kinds(
    kinds: Sequence[Terms], counts: Sequence[csr_array]
) -> Iterator[csr_array]:
    """Yield rows of length 1 for each kind, shape (n_texts, N_COLUMNS)."""
    for kind, kind_counts in zip(kinds, counts, strict=True):
        yield kind.weigh_counts(kind_counts)


def _parts(texts: Sequence[str]) -> tuple[Sequence[str], list[str], list[str]]:
    """Return the texts that the terms of each kind come from."""
    heads = [f"{head.amount} {head.name}" for head in map(read_head, texts)]
    return texts, heads, heads
