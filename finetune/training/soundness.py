"""Keep weights that price as well in service as in training.

Training normalises by the batch, drops inputs and augments photos; service does not. A
network may score well in training and diverge in service, and its loss does not show
it. So the finished network prices its own training products as in service.
"""

import logging
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from finetune.batches import ProductCache, sorted_batches
from finetune.network.arithmetic import Arithmetic
from finetune.network.model import PriceNetwork
from finetune.score import smape_rows, to_price
from finetune.training.accumulate import fuse_batch, price_batch
from finetune.training.batch_statistics import MAX_PRODUCTS, estimate_batch_statistics
from finetune.training.guards import TrainingError

logger = logging.getLogger(__name__)

Weights = dict[str, torch.Tensor]

_LEAST_TOLERANCE, _TOLERANCE_SHARE, _N_ERRORS = 2.0, 0.1, 2
_BATCH_PRODUCTS = 64


@dataclass(frozen=True, kw_only=True)
class TrainingRows:
    """The products that a network was trained on."""

    cache: ProductCache
    rows: NDArray[np.integer]
    """Catalog rows, shape (n_train,)."""
    log_price: NDArray[np.float64]
    """log1p price of all catalog rows, shape (n_products,)."""
    wide: NDArray[np.float32] | None
    """Nested log price of the wide part, shape (n_products,); None without it."""


def keep_sound_weights(
    network: PriceNetwork,
    candidates: dict[str, Weights],
    training: TrainingRows,
    *,
    train_smape: float,
    arithmetic: Arithmetic,
    seed: list[int],
    name: str,
) -> None:
    """Load the first weights that are sound in service, with new statistics.

    Parameters
    ----------
    network : PriceNetwork
        Network on the device; it ends in evaluation mode.
    candidates : dict of str to dict
        State dicts by description, the preferred first.
    training : TrainingRows
    train_smape : float
        SMAPE of the last epoch of training, percent.
    arithmetic : Arithmetic
    seed : list of int
        Seed of the products for estimating statistics.
    name : str
        Name of the network, for messages.

    Raises
    ------
    TrainingError
        If none of them is sound.
    """
    faults: list[str] = []
    for description, weights in candidates.items():
        prepare_to_serve(network, weights, training, arithmetic=arithmetic, seed=seed)
        fault = _find_fault(network, training, train_smape, arithmetic)
        if fault is None:
            if faults:
                logger.warning(
                    "%s: %s; %s are kept instead", name, faults[-1], description
                )
            return
        faults.append(f"with {description} {fault}")
    raise TrainingError(
        f"{name}: the finished network does not price its own training products as it "
        f"did in training: {'; '.join(faults)}. Give a lower --set image_learning_rate "
        f"or --freeze-image; if there are only a few dozen products, add more."
    )


def prepare_to_serve(
    network: PriceNetwork,
    weights: Weights,
    training: TrainingRows,
    *,
    arithmetic: Arithmetic,
    seed: list[int],
) -> None:
    """Load weights into a network and estimate their batch-norm statistics.

    The parameters are those of `keep_sound_weights`.
    """
    network.load_state_dict(weights)
    estimate_batch_statistics(
        network,
        training.cache,
        training.rows,
        wide=training.wide,
        arithmetic=arithmetic,
        rng=np.random.default_rng(seed),
    )


def _find_fault(
    network: PriceNetwork,
    training: TrainingRows,
    train_smape: float,
    arithmetic: Arithmetic,
) -> str | None:
    """Return the fault in the prices of training products, or None."""
    rows = training.rows[:: -(-len(training.rows) // MAX_PRODUCTS)]
    log_price = _price_rows(network, training, rows, arithmetic)
    if not np.isfinite(log_price).all():
        return "prices are not finite"
    errors = smape_rows(to_price(training.log_price[rows]), to_price(log_price))
    served, standard_error = errors.mean(), errors.std() / np.sqrt(len(errors))
    tolerance = max(_LEAST_TOLERANCE, _TOLERANCE_SHARE * train_smape)
    if served > train_smape + tolerance + _N_ERRORS * standard_error:
        return f"SMAPE is {served:.1f}, in training it was {train_smape:.1f}"
    return None


@torch.no_grad()
def _price_rows(
    network: PriceNetwork,
    training: TrainingRows,
    rows: NDArray[np.integer],
    arithmetic: Arithmetic,
) -> NDArray[np.float32]:
    """Return log1p prices as in service, except that wide prices stay nested."""
    log_price = np.zeros(len(rows), np.float32)
    places, lengths = np.arange(len(rows)), training.cache.lengths[rows]
    for chunk in sorted_batches(places, lengths, batch_size=_BATCH_PRODUCTS):
        batch = training.cache.batch(rows[chunk], wide=training.wide)
        batch = batch.to(arithmetic.device)
        with arithmetic.autocast():
            predicted = price_batch(network, batch, fuse_batch(network, batch))
        log_price[chunk] = predicted.float().cpu().numpy()
    return log_price
