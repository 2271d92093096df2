"""Judge how sure a price is, with NumPy and boosters.

Boosters predict the size of the error of a log price from the features behind it: how
far the predictors disagree, how far away the nearest priced products are, how much
their prices vary, whether there is a photo. `stack.price.calibration` turns the size
into intervals and probabilities. An exported folder contains this module.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embed.attributes import ATTRIBUTE_NAMES
from embed.errors import ConfigError
from embed.store.arrays import read_rows
from embed.text import MISSING_TEXT
from stack.blocks.registry import BLOCKS
from stack.price.calibration import Calibration

if TYPE_CHECKING:
    from stack.price.engine import Booster, Encoded, Predicted

CONFIDENCE_DIR = "confidence"
"""Folder of the files, in the stacking stage's folder and in an export."""

DISTANCES = (
    "neighbours-text-nearest",
    "neighbours-text-distance",
    "neighbours-words-distance",
)
"""Columns of blocks that tell how far away the nearest priced products are."""

LEAST_AUTOMATIC = 50
"""Fewest out-of-fold products that a share of right prices is measured on."""

_LEAST_SIZE = 0.01  # of an error in log price


@dataclass(frozen=True, kw_only=True)
class ErrorColumns:
    """Features that the size of an error is predicted from."""

    blocks: Sequence[str]
    """Blocks of the prices' features, without embeddings, in column order."""

    log_price_columns: Mapping[str, Sequence[int]]
    """Columns that are log prices, by block."""

    def __call__(
        self,
        blocks: Mapping[str, NDArray[Any]],
        log_price: NDArray[np.floating],
        has_photo: NDArray[np.bool_],
    ) -> NDArray[np.float32]:
        """Return the features of some products, shape (n_products, d).

        Parameters
        ----------
        blocks : mapping of str to ndarray of shape (n_products, d) or (n_products,)
        log_price : ndarray of shape (n_products,)
            Predicted log1p prices.
        has_photo : ndarray of shape (n_products,), bool
        """
        price = np.asarray(log_price, np.float32)[:, None]
        parts = []
        for name in self.blocks:
            block = np.array(blocks[name], np.float32).reshape(len(price), -1)
            columns = list(self.log_price_columns.get(name, ()))
            block[:, columns] -= price
            parts.append(block)
        photo = np.asarray(has_photo, np.float32)[:, None]
        return np.concatenate([*parts, photo, price], axis=1)


@dataclass(frozen=True, kw_only=True)
class Confidence:
    """What a run knows of the errors of its prices."""

    calibration: Calibration

    columns: ErrorColumns

    boosters: "Sequence[Booster]"
    """They predict the size of an error in log price; empty if it is always
    `usual_size`."""

    usual_size: float
    """Mean size of the errors of log prices, out of fold."""

    unknown_size: float
    """Mean distance of the log prices from their median: the size of the error for a
    product of which nothing is known."""

    limits: Mapping[str, float]
    """Distance by column of a block, beyond which a product is unlike the trained."""

    automatic: NDArray[np.float64]
    """Of each priced product, out of fold: the probability that the price is within
    20 % of the true one, and whether it is (0 or 1), the surest first; shape
    (n_products, 2)."""

    def size(
        self,
        encoded: "Encoded",
        blocks: Mapping[str, NDArray[Any]],
        log_price: NDArray[np.float64],
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Predict the size of the errors of log prices.

        Parameters
        ----------
        encoded : Encoded
        blocks : mapping of str to ndarray
            Features behind the prices.
        log_price : ndarray of shape (n_products,)

        Returns
        -------
        size : ndarray of shape (n_products,)
        unlike : ndarray of shape (n_products,), bool
            Whether the product is unlike all that the run was trained on.
        """
        size = np.full(len(log_price), self.usual_size)
        if self.boosters:
            features = self.columns(blocks, log_price, encoded.has_photo)
            size = mean_size(self.boosters, features)
        unlike = beyond_limits(blocks, self.limits) | _is_empty(encoded)
        return at_least_unknown(size, unlike, self.unknown_size), unlike

    def bounds(
        self, predicted: "Predicted", *, level: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return both ends of the intervals, as `Calibration.bounds`."""
        return self.calibration.bounds(
            predicted.log_price, predicted.error_size, level=level
        )

    def within(self, predicted: "Predicted", percent: int) -> NDArray[np.float64]:
        """Return the probability that each price is this near, in percent, to the true.

        The result has shape (n_products,).
        """
        return self.calibration.within(
            predicted.log_price, predicted.error_size, share=percent / 100
        )

    def automatic_from(self, rate: float) -> "Automatic":
        """Find the probability from which on prices are right at a wanted rate.

        Parameters
        ----------
        rate : float
            Wanted share of prices within 20 % of the true one.

        Raises
        ------
        ConfigError
            If no choice of products, out of fold, reaches it.
        """
        least, is_right = self.automatic.T
        n = np.arange(1, len(least) + 1)
        rates = np.cumsum(is_right) / n
        # Products of one probability are chosen together.
        last = np.append(least[1:] < least[:-1], True)
        usable = last & (n >= min(LEAST_AUTOMATIC, len(n)))
        reached = np.flatnonzero(usable & (rates >= rate))
        if not len(reached):
            best = math.floor(100 * rates[usable].max()) / 100
            remedy = f"Give {best:.2f} or less" if best else "Leave --auto-at out"
            raise ConfigError(
                f"--auto-at {rate:g}: out of fold, the surest prices of the run "
                f"({LEAST_AUTOMATIC} or more) are within 20 % of the true one at a "
                f"rate of at most {best:.2f}. {remedy}."
            )
        row = reached[-1]
        return Automatic(
            least=float(least[row]),
            rate=float(rates[row]),
            share=float(n[row] / len(n)),
            n=int(n[row]),
        )


@dataclass(frozen=True, kw_only=True)
class Automatic:
    """Which prices are sure enough to be used unseen."""

    least: float
    """Lowest probability that the price is within 20 % of the true one."""

    rate: float
    """Share of such prices, out of fold, within 20 % of the true one."""

    share: float
    """Share of the run's products with so sure a price, out of fold."""

    n: int
    """Number of these products."""


def mean_size(
    boosters: "Sequence[Booster]", features: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return the geometric mean of the sizes that boosters predict, (n_products,)."""
    logs = [
        np.log(np.maximum(booster.predict(features, num_threads=1), _LEAST_SIZE))
        for booster in boosters
    ]
    size: NDArray[np.float64] = np.exp(np.mean(logs, axis=0))
    return size


def at_least_unknown(
    size: NDArray[np.floating], unlike: NDArray[np.bool_], unknown_size: float
) -> NDArray[np.float64]:
    """Return the sizes of errors; for an unlike product, at least the unknown's."""
    return np.where(unlike, np.maximum(size, unknown_size), size)


def beyond_limits(
    blocks: Mapping[str, NDArray[Any]], limits: Mapping[str, float]
) -> NDArray[np.bool_]:
    """Mark the products that are farther away than a limit, or have no neighbour.

    A limit on a block that is not computed has no effect.
    """
    beyond = np.zeros(len(next(iter(blocks.values()))), dtype=bool)
    for column, limit in limits.items():
        if block_of(column) in blocks:
            beyond |= distance_of(blocks, column) > limit
    return beyond


def block_of(column: str) -> str:
    """Return the block of one of `DISTANCES`."""
    return column.partition("-")[0]


def distance_of(blocks: Mapping[str, NDArray[Any]], column: str) -> NDArray[np.float32]:
    """Return a column of distances, infinite without a neighbour; shape (n,)."""
    block = block_of(column)
    names = [known.name for known in BLOCKS[block].columns]
    distance = np.asarray(blocks[block][:, names.index(column)], np.float32)
    return np.where(np.isnan(distance), np.float32(np.inf), distance)


def load_confidence(
    folder: Path,
    record: Mapping[str, Any],
    *,
    boosters: "Sequence[Booster]",
    log_price_columns: Mapping[str, Sequence[int]],
    price_unit: float,
) -> Confidence:
    """Load what the stacking stage found out about errors.

    Parameters
    ----------
    folder : Path
        Folder `CONFIDENCE_DIR` of a run's stage or of an export.
    record : mapping
        As `stack.records.ConfidenceRecord`.
    boosters : sequence of Booster
    log_price_columns : mapping of str to sequence of int
    price_unit : float
    """
    columns = ErrorColumns(blocks=record["blocks"], log_price_columns=log_price_columns)
    return Confidence(
        calibration=Calibration.load(folder, price_unit=price_unit),
        columns=columns,
        boosters=boosters,
        usual_size=record["usual_size"],
        unknown_size=record["unknown_size"],
        limits=record["limits"],
        automatic=np.asarray(read_rows(folder / "automatic.npy")),
    )


def _is_empty(encoded: "Encoded") -> NDArray[np.bool_]:
    """Mark the products without usable text, photo and table cell."""
    no_text = np.array([text == MISSING_TEXT for text in encoded.texts])
    table = encoded.attributes[:, len(ATTRIBUTE_NAMES) :]
    return no_text & ~encoded.has_photo & np.isnan(table).all(axis=1)
