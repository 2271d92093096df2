"""Stop training that goes wrong, before it damages the checkpoint."""

import logging
import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from embed.errors import InputError

logger = logging.getLogger(__name__)

EXPLODED_NORM = 1e6
"""Norm of a gradient above which training stops. The slope of both losses is at most
about 100 per unit of log price, so such a norm comes from a diverged network and not
from the prices. Ordinary batches stay below 100 (the largest of 135 was 17)."""

EXPLODED_VARIANCE = 1e6
"""Variance in the first layer of the head above which training stops; it is about 0.1
in networks that learn, and was 1e10 in one that diverged."""

LEAST_SCALE = 1.0
"""Scale of fp16 gradients below which even unscaled ones overflow. It starts at 65536
and halves at each overflow, which is normal in the first batches."""

_LARGEST_LOG_PRICE = math.log(sys.float_info.max)
_NAMED = 5  # products in a message; the log names all of the batch


class TrainingError(InputError):
    """Training that cannot continue."""


@dataclass(frozen=True, kw_only=True)
class BatchPlace:
    """Position of a batch in a fold's training, for error messages."""

    fold: int
    epoch: int  # counted from 0
    at: int  # counted from 0
    n_batches: int
    products: list[str]  # as `product_names` gives them


def product_names(
    rows: NDArray[np.integer], sample_ids: NDArray[np.str_] | None
) -> list[str]:
    """Name catalog rows by their sample_id, or by their number without ids."""
    if sample_ids is None:
        return [f"row {row}" for row in rows]
    return [repr(str(sample_ids[row])) for row in rows]


def require_finite_loss(loss: float, place: BatchPlace) -> None:
    """Stop if a batch's loss is NaN or infinite.

    Raises
    ------
    TrainingError
        If it does; the message names the batch and its products.
    """
    if not math.isfinite(loss):
        raise _stopped(
            place,
            f"the loss is {loss}",
            "Look at these products, lower the learning rates, or try --precision fp32",
        )


def require_sound_gradient(
    norm: float, place: BatchPlace, *, scaler: torch.amp.GradScaler
) -> None:
    """Stop before the optimizer's step if the gradient has exploded.

    Parameters
    ----------
    norm : float
        Norm of the gradient, unscaled and before clipping.
    place : BatchPlace
    scaler : GradScaler
        If enabled, it skips gradients that are not finite; see `require_live_scaler`.

    Raises
    ------
    TrainingError
        If it does; the message names the batch and its products.
    """
    if not math.isfinite(norm) and scaler.is_enabled():
        return
    if not norm <= EXPLODED_NORM:
        raise _stopped(
            place,
            f"the norm of the gradient is {norm:.3g}, above {EXPLODED_NORM:g}",
            "Look at these products, or lower the learning rates",
        )


def require_live_scaler(scaler: torch.amp.GradScaler, place: BatchPlace) -> None:
    """Stop if fp16 gradients overflow at any scale.

    Raises
    ------
    TrainingError
        If it does; the message names the batch and its products.
    """
    if scaler.is_enabled() and not scaler.get_scale() >= LEAST_SCALE:
        raise _stopped(
            place,
            f"the scale of fp16 gradients has fallen to {scaler.get_scale():g}, so "
            f"that they overflow in one batch after the other",
            "Try --precision fp32 or bf16, or lower the learning rates",
        )


def require_finite_weights(
    weights: Iterable[Mapping[str, torch.Tensor]], *, fold: int, epoch: int
) -> None:
    """Stop if an epoch left NaN or infinity in the weights or their average.

    Parameters
    ----------
    weights : iterable of dict
        State dicts.
    fold, epoch : int
        Counted from 0.

    Raises
    ------
    TrainingError
        If it does; the message names the first such tensor.
    """
    bad = [
        name
        for state in weights
        for name, tensor in state.items()
        if not bool(tensor.isfinite().all())
    ]
    if bad:
        raise TrainingError(
            f"fold {fold + 1}, epoch {epoch + 1}: {len(bad)} tensors of the network "
            f"are not finite after it, the first: {bad[0]}. {_kept(epoch)} Lower the "
            f"learning rates, or try --precision fp32."
        )


def require_tame_embedding(head: nn.Module, *, fold: int, epoch: int) -> None:
    """Stop if the fused embedding diverges; the loss may not show it.

    If the photo tower's activations grow without bound, the head, which normalises,
    cannot distinguish products, and clipping shrinks all other gradients.

    Parameters
    ----------
    head : nn.Module
        Head whose first batch norm records the variance.
    fold, epoch : int
        Counted from 0.

    Raises
    ------
    TrainingError
        If a variance is above `EXPLODED_VARIANCE`.
    """
    norm = next(m for m in head.modules() if isinstance(m, nn.BatchNorm1d))
    assert norm.running_var is not None
    variance = float(norm.running_var.max())
    if not variance <= EXPLODED_VARIANCE:
        raise TrainingError(
            f"fold {fold + 1}, epoch {epoch + 1}: the fused embedding has diverged, "
            f"its variance in the head is {variance:.3g}, above {EXPLODED_VARIANCE:g}. "
            f"{_kept(epoch)} Lower image_learning_rate and fusion_learning_rate by "
            f"--set NAME=VALUE; at their defaults, give --freeze-image."
        )


def require_updates(optimizer: torch.optim.Optimizer, *, fold: int) -> None:
    """Stop if the gradient scaler skipped every update of a fold.

    Raises
    ------
    TrainingError
        If the optimizer has not taken a step.
    """
    steps = [float(state["step"]) for state in optimizer.state.values()]
    if not max(steps, default=0.0) > 0:
        raise TrainingError(
            f"fold {fold + 1}: no batch could be learned from, the gradients of all "
            f"overflowed in fp16. Use --precision fp32 or bf16, or train on more "
            f"batches."
        )


def require_finite_prices(
    log_price: NDArray[np.floating],
    fused: NDArray[np.floating],
    *,
    rows: NDArray[np.integer],
    sample_ids: NDArray[np.str_] | None,
) -> None:
    """Stop if a network's prices or embeddings are not finite.

    Parameters
    ----------
    log_price : ndarray of shape (n,), log1p price
    fused : ndarray of shape (n, 512)
    rows : ndarray of shape (n,)
        Catalog rows of the products.
    sample_ids : ndarray of shape (n_products,), optional

    Raises
    ------
    TrainingError
        If a value is NaN or infinite; the message names the first products.
    """
    sound = np.isfinite(log_price) & (log_price < _LARGEST_LOG_PRICE)
    bad = np.flatnonzero(~(sound & np.isfinite(fused).all(axis=1)))
    if len(bad):
        named = ", ".join(product_names(rows[bad[:_NAMED]], sample_ids))
        raise TrainingError(
            f"the network's price or embedding is not finite for {len(bad)} of "
            f"{len(rows)} products, the first: {named}. Its weights are damaged or "
            f"training went wrong: lower the learning rates, or try --precision fp32."
        )


def _stopped(place: BatchPlace, fault: str, advice: str) -> TrainingError:
    where = (
        f"fold {place.fold + 1}, epoch {place.epoch + 1}, batch {place.at + 1} of "
        f"{place.n_batches}"
    )
    logger.error("%s holds %s", where, ", ".join(place.products))
    named = ", ".join(place.products[:_NAMED])
    rest = len(place.products) - _NAMED
    more = f" and {rest} more" if rest > 0 else ""
    return TrainingError(
        f"{where} ({named}{more}): {fault}. The batch was not learned from. "
        f"{_kept(place.epoch)} {advice}."
    )


def _kept(epoch: int) -> str:
    if not epoch:
        return "No epoch was finished before it."
    return f"Epoch {epoch} is kept, and training with the same options goes on from it."
