"""Parts of a price: the networks' price, the boosters' start and their corrections.

References
----------
Lundberg et al. (2020), "From local explanations to global understanding with
explainable AI for trees", Nature Machine Intelligence 2: TreeSHAP, as in LightGBM.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from stack.blocks.registry import BLOCKS
from stack.price.engine import Predicted
from stack.price.predictor import Predictor
from stack.trees.matrix import BlockMatrix

NETWORK = "network"
START = "blended with kernel ridge"
ALL_ALIKE = "all products alike"


@dataclass(frozen=True, kw_only=True)
class Part:
    """One summand of a log price."""

    name: str

    log_price: float
    """In log1p price, units of the run; all parts add up to the prediction."""

    factor: float
    """Exponential of `log_price`; all factors multiply to 1 + price in units."""


@dataclass(frozen=True, kw_only=True)
class Feature:
    """Effect of one column of the boosters' features on a log price."""

    name: str
    block: str
    log_price: float


def build_up(
    predictor: Predictor, predicted: Predicted, *, n_features: int = 10
) -> tuple[list[Part], list[Feature]]:
    """Split the price of the first product into its parts.

    Parameters
    ----------
    predictor : Predictor
    predicted : Predicted
        Prediction of that predictor.
    n_features : int
        Largest number of features, largest effect first.

    Returns
    -------
    parts : list of Part
        The networks' price. If boosters correct it: the step to the price that they
        start from (with the block `start`), the constant that they add to all products,
        and their effect for each block of features.
    features : list of Feature
        Empty without boosters.
    """
    network = part(NETWORK, float(predicted.network_log_price[0]))
    if not predictor.is_stacked:
        return [network], []
    first = {name: block[:1] for name, block in predicted.blocks.items()}
    matrix = predictor.matrix(first)
    added = contributions(predictor.boosters, matrix)
    parts = [network]
    if "start" in matrix.block_slices:
        parts.append(part(START, float(first["start"][0]) - network.log_price))
    parts.append(part(ALL_ALIKE, float(added[-1])))
    parts += [
        part(BLOCKS[block].label, float(added[columns].sum()))
        for block, columns in matrix.block_slices.items()
    ]
    return parts, _largest(matrix, added, n_features)


def part(name: str, log_price: float) -> Part:
    """Return a part with its factor."""
    return Part(name=name, log_price=log_price, factor=math.exp(log_price))


def contributions(
    boosters: Sequence[lgb.Booster], matrix: BlockMatrix
) -> NDArray[np.float64]:
    """Average the effects of boosters on the first product, by feature.

    Parameters
    ----------
    boosters : sequence of lightgbm.Booster
        One or more; those without trees add nothing.
    matrix : BlockMatrix of shape (n_products, d)

    Returns
    -------
    ndarray of shape (d + 1,), float64
        In log1p price; the last is the constant added to all products.
    """
    features = matrix.rows(slice(0, 1))
    added = np.zeros(matrix.shape[1] + 1)
    for booster in boosters:
        if booster.num_trees():
            effects = booster.predict(features, pred_contrib=True, num_threads=1)
            added += np.asarray(effects)[0] / len(boosters)
    return added


def _largest(
    matrix: BlockMatrix, added: NDArray[np.float64], n_features: int
) -> list[Feature]:
    block_of = {
        column: block
        for block, columns in matrix.block_slices.items()
        for column in range(columns.start, columns.stop)
    }
    order = np.argsort(-np.abs(added[:-1]), kind="stable")[: max(n_features, 0)]
    return [
        Feature(
            name=matrix.feature_names[column],
            block=block_of[int(column)],
            log_price=float(added[column]),
        )
        for column in order
        if added[column] != 0
    ]
