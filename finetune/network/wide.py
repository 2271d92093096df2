"""The wide part of the network: a shallow network's log price from tokens and sizes.

Wide and deep (Cheng et al., 2016, "Wide & Deep Learning for Recommender Systems",
arXiv:1606.07792): a model with a weight for each term learns which words are dear and
what a larger pack adds; a network trained on some thousand products learns this slowly.
The wide part is fitted first, on its own; the head gets its log price beside the fused
embedding. On its own training products it predicts too well, so the head is trained on
nested out-of-fold prices.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array, hstack, vstack
from torch import nn

from embed.attributes import ATTRIBUTE_NAMES
from embed.sizes.bins import BIN_WEIGHT, N_BINS, bin_columns, bin_edges
from embed.text import cut_tokens
from finetune.batches import ProductCache
from finetune.folds import duplicate_groups
from finetune.network.shallow import ShallowNetwork

N_COLUMNS = 2**18
"""Columns of hashed terms for each kind (Weinberger et al., 2009, arXiv:0902.2206)."""

_KINDS = ((512, 2), (24, 3))  # number of first tokens, longest term
_CROSSED = ("log_total_amount", "log_pack_count", "log_item_size")
_CROSSED_TOKENS = 24  # first tokens, each crossed with the bin of each attribute
_N_KINDS = len(_KINDS) + 1
# Hash constants; their products fit in 64 bits.
_FACTOR, _SECOND_FACTOR, _MODULUS = 40503, 1037449, 2**31 - 1
_N_NESTED = 5
_CHUNK_ROWS = 2048


class WidePart(nn.Module):
    """A network that predicts the log price from a text's terms and a product's sizes.

    A term is one to three tokens in a row, weighed by its inverse document frequency.
    There are three kinds: terms of the text, terms of its beginning, and tokens of the
    beginning crossed with the bin of a size, as a larger pack adds more to the price of
    saffron. Each kind is scaled to length 1. Each attribute has a vector for each of
    its bins and one for "unknown".

    Parameters
    ----------
    n_attributes : int
        Columns of the attribute array, one per `ATTRIBUTE_NAMES`; 0: tokens alone.

    Raises
    ------
    ValueError
        If there is another number: some columns are crossed with tokens, by position.
    """

    idf: torch.Tensor
    edges: torch.Tensor

    def __init__(self, n_attributes: int) -> None:
        super().__init__()
        if n_attributes not in (0, len(ATTRIBUTE_NAMES)):
            raise ValueError(
                f"WidePart.n_attributes must be 0 or {len(ATTRIBUTE_NAMES)}, got "
                f"{n_attributes}"
            )
        n_kinds = _N_KINDS if n_attributes else len(_KINDS)
        self.register_buffer("idf", torch.zeros(n_kinds, N_COLUMNS))
        self.register_buffer("edges", torch.zeros(n_attributes, N_BINS - 1))
        n_columns = n_kinds * N_COLUMNS + n_attributes * (N_BINS + 1)
        self.shallow = ShallowNetwork(n_columns)

    def forward(
        self, tokens: torch.Tensor, mask: torch.Tensor, attributes: torch.Tensor
    ) -> torch.Tensor:
        """Return log1p price, shape (batch,).

        Parameters
        ----------
        tokens, mask : int64 Tensors of shape (batch, length)
        attributes : float32 Tensor of shape (batch, n_attributes), NaN: unknown
        """
        bins = self._bins(attributes)
        parts = []
        for kind, (columns, known) in enumerate(_terms(tokens, mask, bins)):
            idf = self.idf[kind][columns] * known
            weights = idf / (idf * idf).sum(1, keepdim=True).clamp_min(1e-9).sqrt()
            vectors = self.shallow.look_up(columns + kind * N_COLUMNS)
            parts.append((weights[:, None] @ vectors)[:, 0])
        if bins is not None:
            starts = torch.arange(len(self.edges), device=bins.device) * (N_BINS + 1)
            vectors = self.shallow.look_up(bins + starts + self.idf.numel())
            parts.append(BIN_WEIGHT * vectors.sum(1))
        price: torch.Tensor = self.shallow(torch.stack(parts).sum(0))
        return price

    def _bins(self, attributes: torch.Tensor) -> torch.Tensor | None:
        """Return the bin of each attribute, the last where it is unknown."""
        if not len(self.edges):
            return None
        above = (attributes[:, :, None] > self.edges).sum(2)
        return torch.where(torch.isnan(attributes), N_BINS, above)

    def fit(
        self,
        cache: ProductCache,
        log_price: NDArray[np.float64],
        rows: NDArray[np.integer],
        groups: NDArray[np.integer],
        *,
        rng: np.random.Generator,
    ) -> NDArray[np.float32]:
        """Fit on `rows`, and price each fifth of them by a fit on the other fifths.

        Parameters
        ----------
        cache : ProductCache
        log_price : ndarray of shape (n_products,)
            log1p price; only `rows` are read.
        rows : ndarray of shape (n_train,)
        groups : ndarray of shape (n_products,)
            Duplicates share a number.
        rng : Generator
            Draws the seeds and the fifths. Duplicates, and texts that are equal after
            the cut, share a fifth.

        Returns
        -------
        ndarray of shape (n_products,), float32
            Log price of each of `rows` by a fit that did not use it; NaN elsewhere.
        """
        matrix = self._matrix(cache, rows)
        target = log_price[rows]
        seed = int(rng.integers(2**31))
        fifth = _deal(cache, rows, groups, rng)
        nested = np.full(len(log_price), np.nan, np.float32)
        for number in range(int(fifth.max()) + 1):
            inside, outside = (
                np.flatnonzero(fifth == number),
                np.flatnonzero(fifth != number),
            )
            if not len(outside):  # all are duplicates of one another
                nested[rows] = target.mean()
                break
            self.shallow.fit(matrix[outside], target[outside], seed=seed + number)
            nested[rows[inside]] = self.shallow.predict(matrix[inside])
        self.shallow.fit(matrix, target, seed=seed + _N_NESTED)
        return nested

    def _matrix(self, cache: ProductCache, rows: NDArray[np.integer]) -> csr_array:
        """Set the buffers that depend on inputs alone; return the training matrix."""
        parts = []
        if len(self.edges):
            self.edges.copy_(torch.from_numpy(bin_edges(self._sizes(cache, rows))))
        for kind, counts in enumerate(self._count_terms(cache, rows)):
            n_texts = np.bincount(counts.indices, minlength=N_COLUMNS)
            # An unknown term weighs as much as a term of one text, as it makes the text
            # longer.
            idf = np.log((1 + len(rows)) / (1 + np.maximum(n_texts, 1))) + 1
            self.idf[kind] = torch.from_numpy(idf)
            parts.append(_weigh(counts, idf.astype(np.float32)))
        if len(self.edges):
            parts.append(bin_columns(self._sizes(cache, rows), self.edges.numpy()))
        return csr_array(hstack(parts, format="csr"))

    def _sizes(
        self, cache: ProductCache, rows: NDArray[np.integer]
    ) -> NDArray[np.float32]:
        return np.asarray(cache.attributes[rows, : len(self.edges)])

    def _count_terms(
        self, cache: ProductCache, rows: NDArray[np.integer]
    ) -> list[csr_array]:
        """Count the terms of each kind, shape (len(rows), N_COLUMNS), float32."""
        parts_of_kind: list[list[csr_array]] = [[] for _ in self.idf]
        for start in range(0, len(rows), _CHUNK_ROWS):
            chunk = rows[start : start + _CHUNK_ROWS]
            tokens, mask = cache.text_batch(chunk)
            bins = self._bins(torch.from_numpy(self._sizes(cache, chunk)))
            for kind, (columns, known) in enumerate(_terms(tokens, mask, bins)):
                indices = columns[known.bool()].numpy().astype(np.int32)
                bounds = np.concatenate([[0], np.cumsum(known.sum(1).numpy())])
                ones = np.ones(len(indices), np.float32)
                entries = (ones, indices, bounds.astype(np.int32))
                part = csr_array(entries, shape=(len(tokens), N_COLUMNS))
                part.sum_duplicates()
                parts_of_kind[kind].append(part)
        return [csr_array(vstack(parts, format="csr")) for parts in parts_of_kind]


def _weigh(counts: csr_array, idf: NDArray[np.float32]) -> csr_array:
    """Weigh terms and scale each text to length 1."""
    weight = idf[counts.indices]
    row = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    squares = np.bincount(row, counts.data * weight * weight, minlength=counts.shape[0])
    length = np.sqrt(np.maximum(squares, 1e-9)).astype(np.float32)
    data = counts.data * weight / length[row]
    return csr_array((data, counts.indices, counts.indptr), shape=counts.shape)


def _terms(
    tokens: torch.Tensor, mask: torch.Tensor, bins: torch.Tensor | None
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield columns and mask (1 or 0), (batch, n_terms), of each kind of terms."""
    for n_tokens, longest in _KINDS:
        part, known = tokens[:, :n_tokens], mask[:, :n_tokens]
        key, key_known = part, known
        columns, columns_known = [key % N_COLUMNS], [known]
        for length in range(2, longest + 1):
            key = (key[:, :-1] * _FACTOR + part[:, length - 1 :]) % _MODULUS
            key_known = key_known[:, :-1] * known[:, length - 1 :]
            columns.append(key % N_COLUMNS)
            columns_known.append(key_known)
        yield torch.cat(columns, 1), torch.cat(columns_known, 1)
    if bins is not None:
        part, known = tokens[:, :_CROSSED_TOKENS], mask[:, :_CROSSED_TOKENS]
        columns = [
            (
                part * _FACTOR
                + (bins[:, attribute, None] + place * (N_BINS + 1)) * _SECOND_FACTOR
            )
            % _MODULUS
            % N_COLUMNS
            for place, attribute in enumerate(map(ATTRIBUTE_NAMES.index, _CROSSED))
        ]
        yield torch.cat(columns, 1), known.repeat(1, len(_CROSSED))


def _deal(
    cache: ProductCache,
    rows: NDArray[np.integer],
    groups: NDArray[np.integer],
    rng: np.random.Generator,
) -> NDArray[np.intp]:
    """Assign rows to fifths at random, similar rows to the same fifth."""
    texts = [
        cut_tokens(cache.tokens[int(row)], cache.max_tokens).tobytes().hex()
        for row in rows
    ]
    given = np.where(cache.text_ok[rows], texts, "").tolist()
    alike = duplicate_groups([str(group) for group in groups[rows]], given)
    names, group = np.unique(alike, return_inverse=True)
    fifth_of_group = rng.permutation(len(names)) % _N_NESTED
    return np.asarray(fifth_of_group[group])
