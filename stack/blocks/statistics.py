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
from typing import TYPE_CHECKING, Annotated, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from embed.errors import CacheError
from embed.store.arrays import read_rows
from embed.store.durable import save_array
from embed.store.manifest import read_record, remedy, write_json
from embed.store.rules import Requires, Text
from embed.table.encode import TABLE_PREFIX
from stack.blocks.block import EXACT_UP_TO, Column, PriceBlock, log_price
from stack.blocks.head import Head, read_head
from stack.blocks.inputs import BlockInputs, Known, Prices

if TYPE_CHECKING:
    from embed.records import EmbedManifest

SMOOTHING = 3.0
"""Weight of the overall mean in each mean, in products. On the Amazon catalog, 1, 3 and
10 score alike in trees, which use the count too."""


class _Key(NamedTuple):
    label: str
    read: Callable[[Head], str]


# The brand comes first in most names; sizes ("72 fl oz") as keys gained nothing.
_KEYS = {
    "first-word": _Key("first word", lambda head: " ".join(head.words[:1])),
    "two-words": _Key("first two words", lambda head: " ".join(head.words[:2])),
    "unit": _Key("unit", lambda head: head.unit),
}
_TABLE_KEY = "table"  # followed by the place of a category column
_STATISTICS = (
    log_price("mean", "mean price"),
    Column("count", "number of products"),
)


def _columns(kind: str, label: str) -> list[Column]:
    return [
        column._replace(
            name=f"statistics-{kind}-{column.name}",
            label=f"{column.label} of the same {label}",
        )
        for column in _STATISTICS
    ]


@dataclass(frozen=True, kw_only=True)
class Statistics(PriceBlock):
    """Means of log price and numbers of products, by key."""

    name = "statistics"
    label = "prices by brand and unit"
    columns = tuple(
        column for kind, key in _KEYS.items() for column in _columns(kind, key.label)
    )
    needs_prices = True

    overall: float
    """Mean log1p price of all products."""

    of_key: dict[str, dict[str, tuple[float, float]]]
    """By kind and key: shrunk mean log1p price, and log1p of the number of products."""

    path: Path
    """File of the keys, for errors."""

    @classmethod
    def columns_of(cls, embed: "EmbedManifest") -> tuple[Column, ...]:
        """Return two columns for each key: first words, unit, category columns."""
        sizes = embed.category_sizes
        names = embed.attribute_names[len(embed.attribute_names) - len(sizes) :]
        of_table = [
            column
            for name in names
            for column in _columns(name, name.removeprefix(TABLE_PREFIX))
        ]
        return (*cls.columns, *of_table)

    @classmethod
    def label_of(cls, column: str) -> str:
        """Return the label of a column, with the name of its category column if any."""
        kind = column.removeprefix("statistics-").rpartition("-")[0]
        of_table = _columns(kind, kind.removeprefix(TABLE_PREFIX))
        labels = {known.name: known.label for known in (*of_table, *cls.columns)}
        return labels.get(column, column)

    @classmethod
    def fit(
        cls,
        products: BlockInputs,
        prices: Prices,
        folder: Path,
        *,
        exact_up_to: int = EXACT_UP_TO,
    ) -> None:
        """Save the number of products and the sum of log prices by key and fold."""
        del exact_up_to
        rows = np.flatnonzero(prices.folds >= 0)
        names: dict[str, list[str]] = {}
        for kind, of_products in _keys_of(products).items():
            keys, key = np.unique(np.array(of_products)[rows], return_inverse=True)
            names[kind] = keys.tolist()
            sums = np.zeros((len(keys), prices.n_folds, 2))
            addends = np.stack([np.ones(len(rows)), prices.log_price[rows]], axis=1)
            np.add.at(sums, (key, prices.folds[rows]), addends)
            save_array(folder / f"{kind}.npy", sums)
        write_json(folder / "keys.json", names)

    @classmethod
    def load(cls, folder: Path, known: Known, folds: Collection[int]) -> Self:
        """Load the statistics of the prices on which the folds may be fitted."""
        prices = known.prices
        assert prices is not None
        rows = prices.known_to(folds)
        overall = float(np.mean(prices.log_price[rows], dtype=np.float64))
        # Never the total minus the own fold: rounding leaves a trace of its prices.
        used_folds = np.unique(prices.folds[rows])
        keys_path = folder / "keys.json"
        names = _read_keys(keys_path)
        of_key = {}
        for kind, keys in names.items():
            path = folder / f"{kind}.npy"
            sums, shape = read_rows(path), (len(keys), prices.n_folds, 2)
            if sums.shape != shape:
                raise CacheError(
                    f"{path}: has the shape {sums.shape}, its keys need {shape}. "
                    f"{remedy(path)}"
                )
            n, total = sums[:, used_folds].sum(axis=1).T
            mean = overall + (total - n * overall) / (n + SMOOTHING)
            pairs = zip(mean.tolist(), np.log1p(n).tolist(), strict=True)
            of_key[kind] = dict(zip(keys, pairs, strict=True))
        return cls(overall=overall, of_key=of_key, path=keys_path)

    def predict(self, products: BlockInputs) -> NDArray[np.float32]:
        """Look up the mean and count of each key, shape (n_products, 2 * n_keys).

        Raises
        ------
        CacheError
            If the keys of a category column are missing.
        """
        keys_of = _keys_of(products)
        if missing := keys_of.keys() - self.of_key.keys():
            raise CacheError(
                f"{self.path}: {min(missing)!r} is missing. {remedy(self.path)}"
            )
        unknown = (self.overall, 0.0)
        parts = [
            [self.of_key[kind].get(key, unknown) for key in keys]
            for kind, keys in keys_of.items()
        ]
        return np.concatenate(parts, axis=1, dtype=np.float32)


def _keys_of(products: BlockInputs) -> dict[str, list[str]]:
    """Return, by kind, the key of each product."""
    heads = [read_head(text) for text in products.texts]
    keys = {kind: [key.read(head) for head in heads] for kind, key in _KEYS.items()}
    for place, codes in enumerate(np.asarray(products.features.categories).T):
        keys[f"{_TABLE_KEY}{place}"] = [f"{code:.0f}" for code in codes.tolist()]
    return keys


def _read_keys(path: Path) -> dict[str, list[str]]:
    from pydantic import RootModel  # late: an export without this block has none

    kind = RootModel[Annotated[dict[Text, list[Text]], Requires(*_KEYS)]]
    names = read_record(path, kind)
    if names is None:
        raise CacheError(f"{path}: is missing. {remedy(path)}")
    return names.root
