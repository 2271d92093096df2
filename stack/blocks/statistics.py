"""Block `statistics`: mean prices of products with equal first words or equal unit.

References
----------
Micci-Barreca (2001), "A preprocessing scheme for high-cardinality categorical
attributes in classification and prediction problems": means shrunk towards the overall
mean.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import RootModel

from embed.errors import CacheError
from embed.store.arrays import read_rows
from embed.store.durable import save_array
from embed.store.manifest import read_record, remedy, write_json
from embed.store.rules import Requires, Text
from stack.blocks.head import Head, read_head
from stack.blocks.products import Features, Prices, Products

SMOOTHING = 3.0
"""Weight of the overall mean in each mean, in products. On the Amazon catalog, 1, 3 and
10 score alike in trees, which use the count too."""

# The brand comes first in most names; sizes ("72 fl oz") as keys gained nothing.
_KEYS: dict[str, Callable[[Head], str]] = {
    "first-word": lambda head: " ".join(head.words[:1]),
    "two-words": lambda head: " ".join(head.words[:2]),
    "unit": lambda head: head.unit,
}
COLUMNS = tuple(
    f"statistics-{kind}-{name}" for kind in _KEYS for name in ("mean", "count")
)
LOG_PRICES = tuple(f"statistics-{kind}-mean" for kind in _KEYS)


class _Keys(RootModel[Annotated[dict[Text, list[Text]], Requires(*_KEYS)]]):
    """Keys of each kind."""


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Means of log price and numbers of products, by key."""

    overall: float
    """Mean log1p price of all products."""

    of_key: dict[str, dict[str, tuple[float, float]]]
    """By kind and key: shrunk mean log1p price, and log1p of the number of products."""

    def predict(self, products: Products) -> NDArray[np.float32]:
        """Return the columns of the block, shape (n_products, len(COLUMNS))."""
        unknown = (self.overall, 0.0)
        rows = []
        for head in map(read_head, products.texts):
            pairs = (
                self.of_key[kind].get(_KEYS[kind](head), unknown) for kind in _KEYS
            )
            rows.append([value for pair in pairs for value in pair])
        return np.array(rows, dtype=np.float32)


def fit(products: Products, prices: Prices, folder: Path) -> None:
    """Add up prices by key and fold.

    Parameters
    ----------
    products : Products
        Products of the run.
    prices : Prices
    folder : Path
        Folder for the sums.
    """
    rows = np.flatnonzero(prices.folds >= 0)
    heads = [read_head(products.texts[row]) for row in rows.tolist()]
    names: dict[str, list[str]] = {}
    for kind, key_of in _KEYS.items():
        keys, key = np.unique([key_of(head) for head in heads], return_inverse=True)
        names[kind] = keys.tolist()
        sums = np.zeros((len(keys), prices.n_folds, 2))
        counted = np.stack([np.ones(len(rows)), prices.log_price[rows]], axis=1)
        np.add.at(sums, (key, prices.folds[rows]), counted)
        save_array(folder / f"{kind}.npy", sums)
    write_json(folder / "keys.json", names)


def load(
    folder: Path, features: Features, prices: Prices, folds: Collection[int]
) -> Statistics:
    """Load the statistics of the prices on which the folds may be fitted.

    Parameters
    ----------
    folder : Path
        Folder that `fit` wrote to.
    features
        Not used.
    prices : Prices
        Prices of the run.
    folds : collection of int

    Raises
    ------
    CacheError
        If a file is missing or damaged.
    """
    del features
    known = prices.known_to(folds)
    overall = float(np.mean(prices.log_price[known], dtype=np.float64))
    # Never the total minus the own fold: rounding would leave a trace of its prices.
    counted = np.unique(prices.folds[known])
    names = _read_keys(folder / "keys.json")
    of_key = {}
    for kind, keys in names.items():
        sums = read_rows(folder / f"{kind}.npy")[:, counted].sum(axis=1)
        n, total = sums.T
        mean = overall + (total - n * overall) / (n + SMOOTHING)
        pairs = zip(mean.tolist(), np.log1p(n).tolist(), strict=True)
        of_key[kind] = dict(zip(keys, pairs, strict=True))
    return Statistics(overall=overall, of_key=of_key)


def _read_keys(path: Path) -> dict[str, list[str]]:
    names = read_record(path, _Keys)
    if names is None:
        raise CacheError(f"{path}: is missing. {remedy(path)}")
    return names.root
