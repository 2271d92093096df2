"""The interface of a block: a group of columns of the boosters' features.

Each block is a class that gives its columns, its files and its labels. Only
`stack.blocks.registry` lists all blocks.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from stack.blocks.inputs import BlockInputs, Known, Prices

if TYPE_CHECKING:
    from embed.records import EmbedManifest


EXACT_UP_TO = 10_000
"""Default of `StackConfig.exact_up_to`."""


class Column(NamedTuple):
    """A column of a block."""

    name: str

    label: str
    """Plain English name for explanations."""

    is_log_price: bool = False
    is_category: bool = False
    """Whether the values are codes without an order."""


def log_price(name: str, label: str) -> Column:
    """Return a column that is a log price."""
    return Column(name, label, is_log_price=True)


class Block:
    """A group of columns of the boosters' features."""

    name: ClassVar[str]

    label: ClassVar[str]
    """Plain English name for explanations."""

    columns: ClassVar[tuple[Column, ...]] = ()
    """Columns in order; if empty, they are numbered, as `NAME-0`."""

    array: ClassVar[str | None] = None
    """Array of the run that contains the block, as `stage/name`; None if the stacking
    stage computes it."""

    computed_from: ClassVar[tuple[str, ...]] = ()
    """Other blocks that the trees need too, because this one is computed from them."""

    is_default: ClassVar[bool] = True
    """Whether the trees use the block unless the settings list other blocks."""

    is_embedding: ClassVar[bool] = False
    """Whether `StackConfig.embedding_gain` applies to the columns."""

    @classmethod
    def columns_of(cls, embed: "EmbedManifest") -> tuple[Column, ...]:
        """Return the columns in a run.

        Parameters
        ----------
        embed : EmbedManifest
            Manifest of the embedding stage.
        """
        del embed
        return cls.columns

    @classmethod
    def log_prices_of(cls, embed: "EmbedManifest") -> list[int]:
        """Return the places in `columns_of` of the columns that are log prices."""
        columns = enumerate(cls.columns_of(embed))
        return [place for place, column in columns if column.is_log_price]

    @classmethod
    def label_of(cls, column: str) -> str:
        """Return the label of a column; without one, its name."""
        labels = {known.name: known.label for known in cls.columns}
        return labels.get(column, column)


class PriceBlock(Block, ABC):
    """A block that is fitted on prices; an instance is fitted and can predict."""

    needs_prices: ClassVar[bool] = False
    """Whether `load` reads the prices of the run's products."""

    needs_features: ClassVar[bool] = False
    """Whether `load` reads the features of the run's products."""

    @classmethod
    @abstractmethod
    def fit(
        cls,
        products: BlockInputs,
        prices: Prices,
        folder: Path,
        *,
        exact_up_to: int = EXACT_UP_TO,
    ) -> None:
        """Fit the block for each fold on the prices of the other folds, and save it.

        Parameters
        ----------
        products : BlockInputs
            Products of the run.
        prices : Prices
            Prices of the run.
        folder : Path
            Folder for the block's files; an export copies all of them.
        exact_up_to : int
            Number of priced products beyond which a block may approximate.
        """

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, known: Known, folds: Collection[int]) -> Self:
        """Load the block, fitted on the prices that the models of some folds may use.

        Parameters
        ----------
        folder : Path
            Folder that `fit` wrote to.
        known : Known
            The run's products, or its priced products alone.
        folds : collection of int
            Folds whose models predict. For a single fold, the prices of its own
            products are not used.

        Raises
        ------
        CacheError
            If a file is missing or damaged.
        """

    @abstractmethod
    def predict(self, products: BlockInputs) -> NDArray[np.float32]:
        """Return the block's columns, shape (n_products, d); NaN where unknown."""
