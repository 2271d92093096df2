"""Tell which products the networks of a run have been trained on, by content.

A network that goes on from a former run keeps what it learned there. So a product may
only be in a fold whose network was never trained on it, nor on a duplicate of it. Folds
of a former run are not enough for this: that run may itself go on from another, and a
product that was removed may return. So each run that goes on from another writes the
keys of all products that its networks were trained on before.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embed.store.arrays import read_rows
from finetune.folds import duplicate_groups

KEYS_NAME, SEEN_NAME = "seen_keys.npy", "seen_by.npy"
_HASH_BYTES = 8


@dataclass(frozen=True, kw_only=True)
class ProductKeys:
    """Hashed keys that identify products: id, text, photo, link, group columns."""

    kinds: tuple[str, ...]
    hashes: NDArray[np.uint64]
    """Shape (n_products, n_kinds); 0: the product has no such key."""

    @classmethod
    def of_catalog(
        cls, sample_ids: Sequence[str], keys: Mapping[str, Sequence[str]]
    ) -> "ProductKeys":
        """Hash the ids of a catalog, and its keys from `product_keys`."""
        kinds = {"id": sample_ids, **keys}
        hashes = [[_hash(key) for key in column] for column in kinds.values()]
        return cls(kinds=tuple(kinds), hashes=np.array(hashes, np.uint64).T)

    def column(self, kind: str) -> NDArray[np.uint64]:
        """Return the hashes of a kind, 0 for a kind that is not among these."""
        if kind not in self.kinds:
            return np.zeros(len(self.hashes), np.uint64)
        return self.hashes[:, self.kinds.index(kind)]


@dataclass(frozen=True, kw_only=True)
class SeenProducts:
    """Products of former runs."""

    keys: ProductKeys
    by: NDArray[np.bool_]
    """Whether each network was trained on each, shape (n_products, n_folds)."""

    held_out: NDArray[np.bool_]
    """Products that the last run held out of all stages, shape (n_products,)."""

    def trained(self) -> "SeenProducts":
        """Return the products that a network was trained on, each once."""
        rows = np.unique(
            np.hstack([self.by.astype(np.uint64), self.keys.hashes]), axis=0
        )
        n_folds = self.by.shape[1]
        by = rows[:, :n_folds].astype(bool)
        keys = ProductKeys(kinds=self.keys.kinds, hashes=rows[:, n_folds:])
        return select(
            SeenProducts(keys=keys, by=by, held_out=np.zeros(len(by), bool)),
            np.asarray(by.any(axis=1)),
        )

    def without(self, folds: Sequence[int]) -> "SeenProducts":
        """Return what is left if the networks of some folds begin from nothing."""
        by = self.by.copy()
        by[:, list(folds)] = False
        return SeenProducts(keys=self.keys, by=by, held_out=self.held_out)


@dataclass(frozen=True, kw_only=True)
class Ties:
    """Products of a catalog that share something with those of former runs."""

    groups: NDArray[np.int64]
    """Shape (n_products,). Products of one group share a key, directly or through
    other products, former ones among them."""

    seen_by: NDArray[np.bool_]
    """Whether each network was trained on a product of the group, shape
    (n_products, n_folds)."""

    held_out: NDArray[np.bool_]
    """Whether the last run held a product of the group out, shape (n_products,)."""

    same_id: NDArray[np.bool_]
    """Whether a network was trained on a product of the same id."""


def select(seen: SeenProducts, rows: NDArray[np.bool_]) -> SeenProducts:
    """Return some of the products."""
    keys = ProductKeys(kinds=seen.keys.kinds, hashes=seen.keys.hashes[rows])
    return SeenProducts(keys=keys, by=seen.by[rows], held_out=seen.held_out[rows])


def join(first: SeenProducts, second: SeenProducts) -> SeenProducts:
    """Put the products of two runs together."""
    kinds = tuple(dict.fromkeys([*first.keys.kinds, *second.keys.kinds]))
    columns = [
        np.concatenate([first.keys.column(kind), second.keys.column(kind)])
        for kind in kinds
    ]
    return SeenProducts(
        keys=ProductKeys(kinds=kinds, hashes=np.stack(columns, axis=1)),
        by=np.concatenate([first.by, second.by]),
        held_out=np.concatenate([first.held_out, second.held_out]),
    )


def read_seen(stage_dir: Path, kinds: Sequence[str]) -> SeenProducts:
    """Read what a run wrote about the products of runs before it."""
    by = np.array(read_rows(stage_dir / SEEN_NAME))
    hashes = np.array(read_rows(stage_dir / KEYS_NAME))
    keys = ProductKeys(kinds=tuple(kinds), hashes=hashes)
    return SeenProducts(keys=keys, by=by, held_out=np.zeros(len(by), bool))


def tie_products(keys: ProductKeys, seen: SeenProducts) -> Ties:
    """Find what the products of a catalog share with those of former runs.

    Parameters
    ----------
    keys : ProductKeys
        Keys of the catalog.
    seen : SeenProducts
        Products of former runs.
    """
    n = len(keys.hashes)
    kinds = dict.fromkeys([*keys.kinds, *seen.keys.kinds])
    groups = duplicate_groups(
        *(
            np.concatenate([keys.column(kind), seen.keys.column(kind)]).tolist()
            for kind in kinds
        )
    )
    by_group = np.zeros((len(groups), seen.by.shape[1]), bool)
    np.logical_or.at(by_group, groups[n:], seen.by)
    held_out = np.zeros(len(groups), bool)
    held_out[groups[n:][seen.held_out]] = True
    trained = seen.keys.column("id")[seen.by.any(axis=1)]
    return Ties(
        groups=groups[:n],
        seen_by=by_group[groups[:n]],
        held_out=held_out[groups[:n]],
        same_id=np.isin(keys.column("id"), trained),
    )


def allow_folds(
    ties: Ties, priced: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], list[int]]:
    """Return the folds that each product may be in, and those that begin from nothing.

    A product may be in a fold whose network was not trained on its group. A group that
    ties products of different folds has no such fold. All those groups go to as few
    folds as hold them, whose networks begin from nothing: a network from nothing has
    not been trained on any product.

    Parameters
    ----------
    ties : Ties
    priced : ndarray of bool, shape (n_products,)
        Products to train on.

    Returns
    -------
    allowed : ndarray of bool, shape (n_products, n_folds)
    new_folds : list of int
        Folds whose networks begin from nothing.
    """
    allowed = ~ties.seen_by
    n_folds = allowed.shape[1]
    is_tied = np.asarray(~allowed.any(axis=1))
    n_tied = int((is_tied & priced).sum())
    n_new = min(n_folds, -(-n_tied * n_folds // max(1, int(priced.sum()))))
    bound = np.flatnonzero(priced & (allowed.sum(axis=1) == 1))
    n_kept = np.bincount(allowed[bound].argmax(axis=1), minlength=n_folds)
    new_folds = sorted(np.argsort(n_kept, kind="stable")[:n_new].tolist())
    allowed[:, new_folds] |= is_tied[:, None]
    return allowed, new_folds


def _hash(key: str) -> int:
    if not key:
        return 0
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:_HASH_BYTES], "little")
