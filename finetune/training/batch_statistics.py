"""Estimate batch-norm statistics again, for the final weights.

The running statistics of training belong to other weights: they lag behind the last
update, and averaged weights have never processed a batch. A network may then price well
in training and badly in service.

References
----------
Izmailov et al. (2018), "Averaging Weights Leads to Wider Optima and Better
Generalization", arXiv:1803.05407: one more pass over the training data after averaging.
Wu and Johnson (2021), "Rethinking 'Batch' in BatchNorm", arXiv:2105.07576: statistics
over many products instead of a running average.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from finetune.batches import ProductCache
from finetune.network.arithmetic import Arithmetic
from finetune.network.model import PriceNetwork
from finetune.training.accumulate import fuse_batch, price_batch

MAX_PRODUCTS = 10_000
"""Largest number of training products for the estimate."""

_BATCH_PRODUCTS = 128


@torch.no_grad()
def estimate_batch_statistics(
    network: PriceNetwork,
    cache: ProductCache,
    rows: NDArray[np.integer],
    *,
    wide: NDArray[np.float32] | None,
    arithmetic: Arithmetic,
    rng: np.random.Generator,
) -> None:
    """Estimate the statistics of all batch norms except frozen ones.

    Photos are whole and there is no dropout, as in service. The photo tower comes
    first: the head's statistics depend on its output.

    Parameters
    ----------
    network : PriceNetwork
        Network on the device, with its final weights; it ends in evaluation mode.
    cache : ProductCache
    rows : ndarray of shape (n_train,)
        Training rows; more than `MAX_PRODUCTS` are sampled.
    wide : ndarray of shape (n_products,), optional
        Log prices by the wide part, out of fold within the training rows.
    arithmetic : Arithmetic
    rng : Generator
        Draws the sample and the batches.
    """
    sample = rng.permutation(rows)[:MAX_PRODUCTS]
    with_photo = sample[cache.image_ok[sample]]
    backbone = network.image_backbone
    # One photo may give one value per channel, which has no variance.
    if (
        backbone is not None
        and not network.freeze_batch_norm
        and any(isinstance(module, nn.BatchNorm2d) for module in backbone.modules())
        and len(with_photo) > 1
    ):
        _begin(network, backbone)
        for batch_rows in _deal(with_photo):
            batch = cache.batch(batch_rows).to(arithmetic.device)
            with arithmetic.autocast():
                network.pool_images(batch.photos)
    _begin(network, network.head)
    for batch_rows in _deal(sample):
        batch = cache.batch(batch_rows, wide=wide).to(arithmetic.device)
        with arithmetic.autocast():
            price_batch(network, batch, fuse_batch(network, batch))
    network.eval()


def _begin(network: nn.Module, part: nn.Module) -> None:
    """Set the batch norms of a part to average the statistics of all coming batches."""
    network.eval()
    for module in part.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # the mean over batches, not a running one
            module.train()


def _deal(rows: NDArray[np.integer]) -> list[NDArray[np.integer]]:
    """Split rows into batches of nearly equal size, as each batch has equal weight."""
    return np.array_split(rows, max(1, round(len(rows) / _BATCH_PRODUCTS)))
