"""The kinds of terms that linear and kernel models read a product's words by."""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from stack.blocks.head import read_head
from stack.blocks.terms import Terms, count_terms

_KINDS: tuple[tuple[Literal["word", "char_wb"], tuple[int, int]], ...] = (
    ("word", (1, 2)),  # of the whole text, which `neighbours` compares too
    ("word", (1, 2)),  # of its head
    ("char_wb", (3, 5)),  # of its head: of the whole, letters are too many
)


def fit_kinds(texts: Sequence[str]) -> tuple[Terms, ...]:
    """Count in how many texts each term of each kind is."""
    return tuple(
        Terms.fit(part, analyzer=analyzer, lengths=lengths)
        for part, (analyzer, lengths) in zip(_parts(texts), _KINDS, strict=True)
    )


def kinds_of(idf: NDArray[np.float32]) -> tuple[Terms, ...]:
    """Return the kinds that `fit_kinds` found these frequencies for, (3, N_COLUMNS)."""
    return tuple(
        Terms(analyzer=analyzer, lengths=lengths, idf=np.array(of_kind))
        for (analyzer, lengths), of_kind in zip(_KINDS, idf, strict=True)
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
    for kind, of_kind in zip(kinds, counts, strict=True):
        yield kind.weigh_counts(of_kind)


def _parts(texts: Sequence[str]) -> tuple[Sequence[str], list[str], list[str]]:
    """Return what the kinds of terms are taken from."""
    heads = [f"{head.amount} {head.name}" for head in map(read_head, texts)]
    return texts, heads, heads
