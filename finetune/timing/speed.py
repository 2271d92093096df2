"""Measure how fast this machine trains the networks of a run, on a sample of products.

It runs the steps of the training itself. No network is kept. Without --time-limit, no
result depends on what is measured.
"""

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray

from embed.store.arrays import RaggedRows, RaggedWriter, read_rows
from embed.terminal.progress import hidden_progress
from finetune.batches import ProductCache, shuffled_batches
from finetune.config import FinetuneConfig
from finetune.job import Job
from finetune.network.layers import lower_layers
from finetune.network.model import PriceNetwork
from finetune.network.saved import network_of_run
from finetune.network.wide import WidePart
from finetune.training.checkpoint import TrainingState
from finetune.training.frozen_layers import n_skipped_layers, write_hidden_states
from finetune.training.guards import BatchPlace, product_names
from finetune.training.loop import apply_network, fresh_state, prepare_torch, take_step

_N_BATCHES, _LEAST_SAMPLE = 4, 128
_N_PRICED = 64
_N_WIDE = (256, 1024)  # a fit takes a constant and a time for each product
_N_FIRST = 8  # products of the first step, which takes longer and is not counted
_ENOUGH_SECONDS = 8.0  # of steps


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Seconds that the parts of a training take on this machine."""

    hidden: float
    """Output of the frozen layers, per product, once for all networks."""

    network: float
    """Build a network."""

    wide_start: float
    """Fit a network's wide part: the share that every fit takes."""

    wide: float
    """Fit a network's wide part, per training product."""

    step: float
    """Train on a product for an epoch."""

    epoch: float
    """Write a checkpoint, per epoch."""

    price: float
    """Price a product."""


class SpeedTest:
    """Measure how fast networks of several configurations are trained.

    Parameters
    ----------
    job : Job
    folder : Path
        Empty folder for a copy of some products.
    """

    def __init__(self, job: Job, folder: Path) -> None:
        self._job, self._folder = job, folder
        self._rows = _choose_rows(job)
        _copy_products(job.stage_dir.with_name("embed"), self._rows, folder)
        self._log_price = job.log_price[self._rows]
        self._wide: tuple[float, float] | None = None

    def measure(self, config: FinetuneConfig) -> Speed:
        """Measure a configuration, whose epochs and folds do not matter.

        It takes up to ten seconds or two steps, whichever is longer.
        """
        cache = self._cache(config)
        started = perf_counter()
        network = network_of_run(self._job.embed, config)
        built = perf_counter()
        self._begin_above_frozen_layers(network, cache, config)
        frozen = perf_counter()
        prepare_torch(network, config, self._job.arithmetic)
        network.fit_scales(self._log_price, cache.attributes[:])
        if self._wide is None:
            self._wide = self._fit_wide(network.wide)
        state = fresh_state(
            network.to(self._job.arithmetic.device), config, self._job.arithmetic
        )
        return Speed(
            hidden=(frozen - built) / len(self._rows),
            network=built - started,
            wide_start=self._wide[0],
            wide=self._wide[1],
            step=self._step_seconds(state, cache, config),
            epoch=self._save_seconds(state),
            price=self._price_seconds(network, cache),
        )

    def _cache(self, config: FinetuneConfig) -> ProductCache:
        return ProductCache(
            self._folder,
            max_tokens=config.n_tokens,
            image_size=config.photo_size,
            frozen_photos=config.freeze_image,
            use_photos=config.sees_photos,
            pad_id=self._job.cache.pad_id,
        )

    def _begin_above_frozen_layers(
        self, network: PriceNetwork, cache: ProductCache, config: FinetuneConfig
    ) -> None:
        backbone = network.text_backbone
        if backbone is None:
            return
        if n_layers := n_skipped_layers(backbone, config):
            path = self._folder / f"hidden-{n_layers}.npy"
            with hidden_progress():
                write_hidden_states(
                    lower_layers(backbone, n_layers), cache, path, self._job.arithmetic
                )
            cache.hidden = RaggedRows(path)
            network.begin_text_at(n_layers)

    def _fit_wide(self, wide: WidePart | None) -> tuple[float, float]:
        """Return the seconds of a fit as a constant and a time for each product."""
        if wide is None:
            return 0.0, 0.0
        job = self._job
        priced = np.flatnonzero(job.folds >= 0)
        share = min(1.0, len(priced) / _N_WIDE[1])
        sizes = [max(2, int(share * n)) for n in _N_WIDE]
        seconds = []
        for n in sizes:
            started = perf_counter()
            rng = np.random.default_rng(0)
            wide.fit(job.cache, job.log_price, priced[:n], job.groups, rng=rng)
            seconds.append(perf_counter() - started)
        slope = max(0.0, (seconds[1] - seconds[0]) / max(1, sizes[1] - sizes[0]))
        return max(0.0, seconds[0] - slope * sizes[0]), slope

    def _step_seconds(
        self, state: TrainingState, cache: ProductCache, config: FinetuneConfig
    ) -> float:
        for group in state.optimizer.param_groups:
            group["lr"] = 0.0
        state.network.train()
        rng = np.random.default_rng(0)
        rows = np.arange(len(self._rows))
        batches = shuffled_batches(
            rows, cache.lengths, batch_size=config.batch_size, rng=rng
        )
        self._take_step(state, cache, rows[:_N_FIRST], config, rng)
        n_products, started = 0, perf_counter()
        for batch_rows in batches[:_N_BATCHES]:
            self._take_step(state, cache, batch_rows, config, rng)
            n_products += len(batch_rows)
            seconds = perf_counter() - started
            if seconds > _ENOUGH_SECONDS:
                break
        return seconds / n_products

    def _take_step(
        self,
        state: TrainingState,
        cache: ProductCache,
        rows: NDArray[np.integer],
        config: FinetuneConfig,
        rng: np.random.Generator,
    ) -> None:
        arithmetic = self._job.arithmetic
        has_wide = state.network.wide is not None
        wide = np.zeros(len(self._rows), np.float32) if has_wide else None
        batch = cache.batch(
            rows,
            augment=rng,
            image_dropout=config.image_dropout,
            wide=wide,
        )
        target = torch.from_numpy(self._log_price[rows]).float()
        take_step(
            state,
            batch.to(arithmetic.device),
            target.to(arithmetic.device),
            BatchPlace(
                fold=0,
                epoch=0,
                at=0,
                n_batches=1,
                products=product_names(self._rows[rows], self._job.sample_ids),
            ),
            config=config,
            arithmetic=arithmetic,
        )

    def _save_seconds(self, state: TrainingState) -> float:
        state.epochs_done = 1  # a checkpoint has an epoch
        started = perf_counter()
        state.save(self._folder)
        return perf_counter() - started

    def _price_seconds(self, network: PriceNetwork, cache: ProductCache) -> float:
        rows = np.arange(len(self._rows))
        rows = rows[:: max(1, len(rows) // _N_PRICED)]
        started = perf_counter()
        apply_network(network, cache, rows, arithmetic=self._job.arithmetic)
        return (perf_counter() - started) / len(rows)


def _choose_rows(job: Job) -> NDArray[np.integer]:
    """Choose priced products evenly, by the length of the text and by photo."""
    priced = np.flatnonzero(job.folds >= 0)
    order = np.lexsort((job.cache.lengths[priced], job.cache.image_ok[priced]))
    n = max(_LEAST_SAMPLE, _N_BATCHES * job.config.batch_size)
    places = np.linspace(0, len(priced) - 1, min(n, len(priced))).astype(int)
    return np.sort(priced[order[places]])


def _copy_products(embed_dir: Path, rows: NDArray[np.integer], folder: Path) -> None:
    """Write the arrays of some products as the embedding stage writes them."""
    for name in ("attributes", "image", "image_ok", "text_ok"):
        np.save(folder / f"{name}.npy", read_rows(embed_dir / f"{name}.npy")[rows])
    for name in ("tokens", "thumbnails"):
        ragged = RaggedRows(embed_dir / f"{name}.npy")
        with RaggedWriter(
            folder / f"{name}.npy",
            n_rows=len(rows),
            dtype=ragged.flat.dtype,
            rows_done=0,
        ) as writer:
            writer.extend([ragged[int(row)] for row in rows])
