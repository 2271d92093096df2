"""Compute the gradient of a large batch in the memory of a small one.

Gao et al., 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited
Setup", arXiv:2101.06983.
"""

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import nn

from finetune.batches import Batch
from finetune.network.arithmetic import Arithmetic
from finetune.network.model import PriceNetwork

Criterion = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def accumulate_gradients(
    network: PriceNetwork,
    batch: Batch,
    target: torch.Tensor,
    *,
    criterion: Criterion,
    arithmetic: Arithmetic,
    scaler: torch.amp.GradScaler,
    micro_batch_size: int,
) -> tuple[float, torch.Tensor]:
    """Add the gradient of a batch's mean loss; run the towers in micro-batches.

    The head normalises over the batch, so averaging the gradients of micro-batches
    would not give the update of the whole. Instead the towers embed the micro-batches
    without a graph and the head runs on the whole batch. The gradient at its input then
    goes through the towers one micro-batch at a time.

    Returns
    -------
    loss : float
    predicted : Tensor of shape (batch,), log1p prices, detached
    """
    if len(batch.tokens) <= micro_batch_size:
        with arithmetic.autocast():
            fused = fuse_batch(network, batch)
            predicted = price_batch(network, batch, fused)
        loss = criterion(predicted, target)
        scaler.scale(loss).backward()
        return float(loss.detach()), predicted.detach()
    parts = list(batch.split(micro_batch_size))
    states, embedded = [], []
    with torch.no_grad(), arithmetic.autocast():
        for part in parts:
            states.append(_random_state(arithmetic.device))
            embedded.append(fuse_batch(network, part))
    fused = torch.cat(embedded).requires_grad_()
    with arithmetic.autocast():
        predicted = price_batch(network, batch, fused)
    loss = criterion(predicted, target)
    scaler.scale(loss).backward()
    assert fused.grad is not None
    after = _random_state(arithmetic.device)
    with _frozen_batch_statistics(network.image_backbone):
        for part, state, gradient in zip(
            parts, states, fused.grad.split(micro_batch_size), strict=True
        ):
            _set_random_state(arithmetic.device, state)
            with arithmetic.autocast():
                embedding = fuse_batch(network, part)
            embedding.backward(gradient)
    _set_random_state(arithmetic.device, after)
    return float(loss.detach()), predicted.detach()


def fuse_batch(network: PriceNetwork, batch: Batch) -> torch.Tensor:
    """Return the fused embeddings of a batch, shape (batch, 512)."""
    return network.fuse(
        batch.tokens,
        batch.mask,
        batch.photos,
        batch.image_rows,
        hidden=batch.hidden,
    )


def price_batch(
    network: PriceNetwork, batch: Batch, fused: torch.Tensor
) -> torch.Tensor:
    """Return the log1p prices of an embedded batch, shape (batch,)."""
    wide = batch.wide
    if wide is None:
        wide = network.price_wide(batch.tokens, batch.mask, batch.attributes)
    return network.price(fused, batch.attributes, wide)


def _random_state(device: torch.device) -> torch.Tensor:
    if device.type == "cuda":
        return torch.cuda.get_rng_state(device)
    return torch.get_rng_state()


def _set_random_state(device: torch.device, state: torch.Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)


@contextlib.contextmanager
def _frozen_batch_statistics(backbone: nn.Module | None) -> Iterator[None]:
    """Freeze the running averages: the first pass has already updated them."""
    modules = backbone.modules() if backbone is not None else ()
    norms = [m for m in modules if isinstance(m, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    yield
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
