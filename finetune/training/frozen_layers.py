"""Compute the frozen layers of the text tower once for all folds and epochs.

Their output for a text does not change while the layers above are trained, and is the
same in every fold's network. It takes 2 bytes for each token and dimension, with MiniLM
42 kB for a text of 55 tokens, until the stage has finished.
"""

import logging
import shutil
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from embed.errors import CacheError, ConfigError
from embed.store.arrays import RaggedRows, RaggedWriter, offsets_path, to_float16
from embed.store.checksums import record_files, verify_files
from embed.store.manifest import read_record, write_record
from embed.terminal.progress import track
from finetune.batches import ProductCache, sorted_batches
from finetune.config import FinetuneConfig
from finetune.network.arithmetic import Arithmetic
from finetune.network.build import n_frozen_layers
from finetune.network.layers import can_be_split, lower_layers
from finetune.network.model import PriceNetwork
from finetune.records import HiddenStatesRecord

logger = logging.getLogger(__name__)

HIDDEN_NAME = "hidden.npy"
_RECORD_NAME = "hidden.json"
_CHUNK_ROWS = 512
_BATCH = 64


def skip_frozen_layers(
    network: PriceNetwork,
    cache: ProductCache,
    *,
    config: FinetuneConfig,
    arithmetic: Arithmetic,
    stage_dir: Path,
    key: str,
) -> None:
    """Let batches carry the frozen layers' output, and the network start from it.

    Nothing changes if no layer is frozen, if dropout makes their output random, or if
    the encoder is of a kind that cannot be split.

    Parameters
    ----------
    network : PriceNetwork
        Untrained network on the CPU.
    cache : ProductCache
        Cache whose `hidden` is set, unless it is already.
    config : FinetuneConfig
    arithmetic : Arithmetic
    stage_dir : Path
        Its `hidden.npy` is used if it is whole and has the same key, else written.
    key : str
        Key of the inputs of the frozen layers.
    """
    backbone = network.text_backbone
    if backbone is None:
        return
    n_layers = n_skipped_layers(backbone, config)
    if not n_layers:
        return
    if cache.hidden is None:
        path = stage_dir / HIDDEN_NAME
        if not _is_whole(stage_dir, key):
            remove_hidden_states(stage_dir)
            n_bytes = _n_bytes(backbone, cache)
            _require_room(path, n_bytes)
            logger.info(
                "frozen layers of the text tower: computed once, for all folds (%.2f "
                "GB in %s until the stage has finished)",
                n_bytes / 1e9,
                path.name,
            )
            write_hidden_states(
                lower_layers(backbone, n_layers), cache, path, arithmetic
            )
            files = record_files(stage_dir, [path.name, offsets_path(path).name])
            record = HiddenStatesRecord(key=key, files=files)
            write_record(stage_dir / _RECORD_NAME, record)
        cache.hidden = RaggedRows(path)
    network.begin_text_at(n_layers)


def n_skipped_layers(backbone: nn.Module, config: FinetuneConfig) -> int:
    """Return the number of layers whose output `skip_frozen_layers` computes once."""
    if config.encoder_dropout or not can_be_split(backbone):
        return 0
    return n_frozen_layers(backbone, config.freeze_layers)


def remove_hidden_states(stage_dir: Path) -> None:
    """Delete the files of `skip_frozen_layers`."""
    path = stage_dir / HIDDEN_NAME
    for file in (stage_dir / _RECORD_NAME, path, offsets_path(path)):
        file.unlink(missing_ok=True)


def _n_bytes(backbone: nn.Module, cache: ProductCache) -> int:
    width: int = backbone.config.hidden_size  # type: ignore[union-attr, assignment]
    return int(cache.lengths.sum()) * width * np.dtype(np.float16).itemsize


def _require_room(path: Path, n_bytes: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if n_bytes > free:
        raise ConfigError(
            f"{path}: the outputs of the text tower's frozen layers take "
            f"{n_bytes / 1e9:.2f} GB, the disk has {free / 1e9:.2f} GB free. Make "
            f"room, lower --max-tokens, or store none with --freeze-layers 0."
        )


def _is_whole(stage_dir: Path, key: str) -> bool:
    try:
        record = read_record(stage_dir / _RECORD_NAME, HiddenStatesRecord, key=key)
        if record is None:
            return False
        verify_files(stage_dir, record.files)
    except CacheError as error:
        logger.warning("%s: %s So it is computed again.", stage_dir, error)
        return False
    return True


@torch.no_grad()
def write_hidden_states(
    lower: nn.Module, cache: ProductCache, path: Path, arithmetic: Arithmetic
) -> None:
    """Write the output of the frozen layers for all texts, as `RaggedRows`.

    Parameters
    ----------
    lower : nn.Module
        The frozen layers, as by `lower_layers`.
    cache : ProductCache
    path : Path
    arithmetic : Arithmetic
    """
    lower.to(arithmetic.device).eval()
    n = len(cache)
    chunks = [
        np.arange(start, min(start + _CHUNK_ROWS, n))
        for start in range(0, n, _CHUNK_ROWS)
    ]
    with RaggedWriter(path, n_rows=n, dtype="float16", rows_done=0) as writer:
        for rows in track(
            ((len(rows), rows) for rows in chunks),
            total=n,
            label="frozen layers",
            unit="products",
        ):
            writer.extend(_states(lower, cache, rows, arithmetic))
            writer.flush()


def _states(
    lower: nn.Module,
    cache: ProductCache,
    rows: NDArray[np.integer],
    arithmetic: Arithmetic,
) -> list[NDArray[np.float16]]:
    row_states: list[NDArray[np.float16]] = [np.zeros(0, np.float16)] * len(rows)
    places = np.arange(len(rows))
    for batch in sorted_batches(places, cache.lengths[rows], batch_size=_BATCH):
        tokens, mask = cache.text_batch(rows[batch])
        with arithmetic.autocast():
            hidden = lower(
                input_ids=tokens.to(arithmetic.device),
                attention_mask=mask.to(arithmetic.device),
            ).last_hidden_state
        states = to_float16(hidden.float().cpu().numpy(), name="hidden states")
        for place, state, length in zip(
            batch, states, mask.sum(1).tolist(), strict=True
        ):
            row_states[place] = state[:length].reshape(-1)
    return row_states
