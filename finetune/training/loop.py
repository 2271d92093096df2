"""Train one network: one loop, two phases, resumable after every epoch."""

import copy
import logging
import math
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from embed.terminal.progress import track
from finetune.batches import (
    Batch,
    ProductCache,
    shuffled_batches,
    sorted_batches,
)
from finetune.config import FinetuneConfig
from finetune.network.arithmetic import Arithmetic
from finetune.network.build import use_eager_attention
from finetune.network.losses import smape_loss, smooth_l1_loss
from finetune.network.model import FUSED_DIM, PriceNetwork
from finetune.score import smape, to_price
from finetune.training.accumulate import (
    Criterion,
    accumulate_gradients,
    fuse_batch,
    price_batch,
)
from finetune.training.checkpoint import TrainingState
from finetune.training.guards import (
    BatchPlace,
    TrainingError,
    product_names,
    require_finite_loss,
    require_finite_prices,
    require_finite_weights,
    require_live_scaler,
    require_sound_gradient,
    require_tame_embedding,
    require_updates,
)
from finetune.training.soundness import (
    TrainingRows,
    keep_sound_weights,
    prepare_to_serve,
)
from finetune.training.tensorboard import remove_events, update_events
from finetune.training.tracking import (
    HISTORY_NAME,
    UNTRACKED,
    EpochTally,
    Tracking,
    write_history,
)

logger = logging.getLogger(__name__)
_EVALUATION_BATCH = 64
# On a CPU, the backward pass of PyTorch's fused attention takes six times as long as
# its forward pass. Up to this number of tokens, plain matrix products are faster, but
# they store all attention weights.
_EAGER_ATTENTION_TOKENS = 128


def learning_rate_factor(epoch: float, config: FinetuneConfig) -> float:
    """Return the share of the peak learning rate at a point of training.

    Cosine annealing with warm restarts (Loshchilov and Hutter, 2017, "SGDR",
    arXiv:1608.03983), after a linear warm-up.

    Parameters
    ----------
    epoch : float
        Epochs done, 0 to `config.n_epochs`.
    """
    warmup = config.warmup_fraction * config.n_epochs
    if epoch < warmup:
        return epoch / warmup
    if not config.smooth_l1_cycle_epochs:
        position = (epoch - warmup) / (config.n_epochs - warmup)
    elif epoch < config.smooth_l1_epochs:
        cycle = config.smooth_l1_cycle_epochs
        position = epoch % cycle / cycle
    else:
        cycle = config.smape_cycle_epochs
        position = (epoch - config.smooth_l1_epochs) % cycle / cycle
    return 0.5 * (1 + math.cos(math.pi * position))


def train_network(
    network: PriceNetwork,
    cache: ProductCache,
    log_price: NDArray[np.float64],
    rows: NDArray[np.integer],
    *,
    config: FinetuneConfig,
    arithmetic: Arithmetic,
    fold_dir: Path,
    fold: int,
    groups: NDArray[np.integer] | None = None,
    sample_ids: NDArray[np.str_] | None = None,
    tracking: Tracking = UNTRACKED,
    keep_scales: bool = False,
) -> None:
    """Train a network, in place, on some rows of the catalog.

    It ends with its averaged weights. If these price the training rows clearly worse
    than in training, it ends with the weights of the last update, or raises.

    Parameters
    ----------
    network : PriceNetwork
        Network to train; its scales and its wide part are fitted here, on `rows`.
    cache : ProductCache
    log_price : ndarray of shape (n_products,)
        log1p price, NaN where unpriced; training reads only `rows`.
    rows : ndarray of shape (n_train,)
    config : FinetuneConfig
    arithmetic : Arithmetic
    fold_dir : Path
        Folder for history.csv and for the checkpoint after every epoch.
    fold : int
        Fold number, which is part of the seeds.
    groups : ndarray of shape (n_products,), optional
        Duplicates share a number; None: there are no duplicates.
    sample_ids : ndarray of shape (n_products,), optional
        Ids of products for error messages; without them, messages name rows.
    tracking : Tracking
        Records to write; they do not affect the weights.
    keep_scales : bool
        Whether to fit only the limits of prices, as the network is trained already.

    Raises
    ------
    TrainingError
        If training goes wrong, see `finetune.training.guards`. The checkpoint of the
        last whole epoch stays as it is.
    """
    prepare_torch(network, config, arithmetic)
    if keep_scales:
        network.fit_limits(log_price[rows])
    else:
        network.fit_scales(log_price[rows], cache.attributes[rows])
    wide, seed = None, [config.seed, fold, config.n_epochs]
    if network.wide is not None:
        rng = np.random.default_rng(seed)
        if groups is None:
            groups = np.arange(len(log_price))
        wide = network.wide.fit(cache, log_price, rows, groups, rng=rng)
    device = arithmetic.device
    network.to(device)
    training = TrainingRows(cache=cache, rows=rows, log_price=log_price, wide=wide)
    state = fresh_state(network, config, arithmetic)
    state.resume(fold_dir)
    if not state.epochs_done:
        remove_events(fold_dir)
    optimizer = state.optimizer
    peaks = [group["initial_lr"] for group in optimizer.param_groups]
    while state.epochs_done < config.n_epochs:
        tally, epoch = EpochTally(), state.epochs_done
        rng = np.random.default_rng([config.seed, fold, epoch])
        torch.manual_seed(int(rng.integers(2**63)))
        batches = shuffled_batches(
            rows, cache.lengths, batch_size=config.batch_size, rng=rng
        )
        network.train()
        for number, batch_rows in track(
            ((len(batch), (number, batch)) for number, batch in enumerate(batches)),
            total=len(rows),
            label=f"{_name(fold, config)}, epoch {epoch + 1} of {config.n_epochs}",
            unit="products",
        ):
            factor = learning_rate_factor(epoch + number / len(batches), config)
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * factor
            batch = cache.batch(
                batch_rows, augment=rng, image_dropout=config.image_dropout, wide=wide
            ).to(device)
            target = torch.from_numpy(log_price[batch_rows]).float().to(device)
            place = BatchPlace(
                fold=fold,
                epoch=epoch,
                at=number,
                n_batches=len(batches),
                products=product_names(batch_rows, sample_ids),
            )
            loss, batch_smape, norm = take_step(
                state, batch, target, place, config=config, arithmetic=arithmetic
            )
            tally.add(
                loss=loss,
                smape=batch_smape,
                size=len(batch_rows),
                factor=factor,
                norm=norm,
            )
        state.epochs_done += 1
        row = tally.history_row(epoch, config)
        require_finite_weights(
            (network.state_dict(), state.average), fold=fold, epoch=epoch
        )
        require_tame_embedding(network.head, fold=fold, epoch=epoch)
        if tracking.held_out:
            held_out_smape = _held_out_smape(
                state, training, arithmetic=arithmetic, seed=seed
            )
            row = row.model_copy(update={"held_out_smape": held_out_smape})
        state.history.append(row)
        _log_epoch(fold, state, config)
        # The checkpoint comes second: a run stopped between the two repeats the epoch.
        write_history(fold_dir / HISTORY_NAME, state.history)
        state.save(fold_dir)
        if tracking.tensorboard:
            update_events(fold_dir, state.history)
    require_updates(optimizer, fold=fold)
    last = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    keep_sound_weights(
        network,
        {"averaged weights": state.average, "the last weights": last},
        training,
        train_smape=state.history[-1].train_smape,
        arithmetic=arithmetic,
        seed=seed,
        name=_name(fold, config),
    )


def prepare_torch(
    network: PriceNetwork, config: FinetuneConfig, arithmetic: Arithmetic
) -> None:
    """Configure torch so that training and pricing give the same bytes each time."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    # By default, torch now fills each new tensor, which takes some percent of the time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    is_short = config.n_tokens <= _EAGER_ATTENTION_TOKENS
    text = network.text_backbone
    if text is not None and arithmetic.device.type == "cpu" and is_short:
        use_eager_attention(text)


def take_step(
    state: TrainingState,
    batch: Batch,
    target: torch.Tensor,
    place: BatchPlace,
    *,
    config: FinetuneConfig,
    arithmetic: Arithmetic,
) -> tuple[float, float, float]:
    """Update the network and the averaged weights by one batch.

    Parameters
    ----------
    state : TrainingState
        State before the step; its optimizer has the learning rates of this step.
    batch : Batch
    target : Tensor of shape (batch,), float32
        log1p price.
    place : BatchPlace
    config : FinetuneConfig
    arithmetic : Arithmetic

    Returns
    -------
    loss : float
    smape : float
        SMAPE of the batch before the update, percent.
    norm : float
        Norm of the gradient, before clipping.

    Raises
    ------
    TrainingError
        If training goes wrong, see `finetune.training.guards`.
    """
    network, optimizer, scaler = state.network, state.optimizer, state.scaler
    loss, predicted = accumulate_gradients(
        network,
        batch,
        target,
        criterion=_criterion(place.epoch, config),
        arithmetic=arithmetic,
        scaler=scaler,
        micro_batch_size=config.micro_batch_size,
    )
    require_finite_loss(loss, place)
    scaler.unscale_(optimizer)
    norm = float(nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm))
    require_sound_gradient(norm, place, scaler=scaler)
    scaler.step(optimizer)
    scaler.update()
    require_live_scaler(scaler, place)
    optimizer.zero_grad(set_to_none=True)
    state.update_average(
        decay=config.ema_decay, updates_done=place.epoch * place.n_batches + place.at
    )
    return loss, 100 * float(smape_loss(predicted, target)), norm


def fresh_state(
    network: PriceNetwork, config: FinetuneConfig, arithmetic: Arithmetic
) -> TrainingState:
    """Return the state of a network before its first step."""
    groups = network.parameter_groups(
        text=config.text_learning_rate,
        image=config.image_learning_rate,
        fusion=config.fusion_learning_rate,
        weight_decay=config.weight_decay,
    )
    return TrainingState(
        network=network,
        optimizer=torch.optim.AdamW(groups, eps=config.adam_epsilon, fused=True),
        scaler=arithmetic.scaler(),
        average={name: t.detach().clone() for name, t in network.state_dict().items()},
    )


@torch.no_grad()
def apply_network(
    network: PriceNetwork,
    cache: ProductCache,
    rows: NDArray[np.integer],
    *,
    arithmetic: Arithmetic,
    sample_ids: NDArray[np.str_] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Price and embed products with a trained network.

    Returns
    -------
    log_price : ndarray of shape (len(rows),), log1p price
    fused : ndarray of shape (len(rows), 512)

    Raises
    ------
    TrainingError
        If a price or embedding is not finite; the message names the products.
    """
    network.to(arithmetic.device).eval()
    log_price = np.zeros(len(rows), dtype=np.float32)
    fused = np.zeros((len(rows), FUSED_DIM), dtype=np.float32)
    places = np.arange(len(rows))
    lengths = cache.lengths[rows]
    for chunk in sorted_batches(places, lengths, batch_size=_EVALUATION_BATCH):
        batch = cache.batch(rows[chunk]).to(arithmetic.device)
        with arithmetic.autocast():
            embedded = fuse_batch(network, batch)
            predicted = price_batch(network, batch, embedded)
        fused[chunk] = embedded.float().cpu().numpy()
        log_price[chunk] = predicted.float().cpu().numpy()
    require_finite_prices(log_price, fused, rows=rows, sample_ids=sample_ids)
    return log_price, fused


def _criterion(epoch: int, config: FinetuneConfig) -> Criterion:
    if epoch < config.smooth_l1_epochs:
        return partial(smooth_l1_loss, beta=config.smooth_l1_beta)
    return smape_loss


def _held_out_smape(
    state: TrainingState,
    training: TrainingRows,
    *,
    arithmetic: Arithmetic,
    seed: list[int],
) -> float | None:
    """Score the averaged weights on the priced products outside the training rows."""
    log_price = training.log_price
    held_out = np.setdiff1d(np.flatnonzero(np.isfinite(log_price)), training.rows)
    if not len(held_out):
        return None
    # In a copy, because this changes weights, statistics and mode of the network.
    network = copy.deepcopy(state.network)
    prepare_to_serve(network, state.average, training, arithmetic=arithmetic, seed=seed)
    try:
        predicted, _ = apply_network(
            network, training.cache, held_out, arithmetic=arithmetic
        )
    except TrainingError as error:  # a record must not stop the training
        logger.warning("No held-out SMAPE of this epoch: %s", error)
        return None
    return round(smape(np.expm1(log_price[held_out]), to_price(predicted)), 4)


def _name(fold: int, config: FinetuneConfig) -> str:
    name = f"fold {fold + 1} of {config.n_folds}"
    return name + (f", seed {config.seed}" if config.n_seeds > 1 else "")


def _log_epoch(fold: int, state: TrainingState, config: FinetuneConfig) -> None:
    last = state.history[-1]
    held_out = last.held_out_smape
    logger.info(
        "%s, epoch %d of %d: loss %.4f, SMAPE on its training rows %.2f%s, %.0f s",
        _name(fold, config),
        state.epochs_done,
        config.n_epochs,
        last.loss,
        last.train_smape,
        "" if held_out is None else f", held out {held_out:.2f}",
        last.seconds,
    )
