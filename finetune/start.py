"""Begin the training of a run from the networks of a former one.

A network goes on from the weights and scales that it had: the head works in log prices
that are standardised by the former run's prices, so centre, spread and unit of prices
stay, as do the scales of sizes and table columns. Limits of prices, batch statistics
and the wide part, which takes seconds, are fitted to the new catalog.
"""

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from embed.catalog.own_copy import read_run_catalog
from embed.errors import CacheError, ConfigError
from embed.records import EmbedManifest, require_embedded
from embed.store.arrays import read_rows
from embed.store.checksums import verify_files
from embed.store.manifest import (
    MANIFEST_NAME,
    require_same_key,
    require_stage,
    sha256_file,
)
from embed.table.encode import RARE, TableColumn
from embed.verify import verify_embedding
from finetune.compatible import find_difference
from finetune.config import FinetuneConfig
from finetune.held_out import Split
from finetune.network.model import PriceNetwork
from finetune.network.saved import MODEL_NAME, network_folder
from finetune.products import product_keys
from finetune.records import FinetuneManifest, StartRecord
from finetune.seen import (
    KEYS_NAME,
    SEEN_NAME,
    ProductKeys,
    SeenProducts,
    Ties,
    allow_folds,
    join,
    read_seen,
)

logger = logging.getLogger(__name__)

SMOOTH_L1_EPOCHS, SMAPE_EPOCHS = 0, 1
"""Epochs from a former run's networks."""

RATE_SHARE = 0.1
"""Share of the learning rates of a network from nothing. At the full rates, networks of
1,049 products lost what they had learned, see docs/changes.md."""

_RATES = ("text_learning_rate", "image_learning_rate", "fusion_learning_rate")
_FROM_NOTHING = ("smooth_l1_epochs", "smape_epochs", *_RATES)


@dataclass(frozen=True, kw_only=True)
class Start:
    """A finished run, from whose networks the training of another begins."""

    stage_dir: Path
    manifest: FinetuneManifest
    manifest_sha256: str
    table: Sequence[TableColumn]
    seen: SeenProducts
    """Its products, and those that its networks were trained on before."""

    new_folds: tuple[int, ...] = ()
    """Folds whose networks begin from nothing all the same."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what a later run has to know of the networks' past."""
        trained = self.seen.without(self.new_folds).trained()
        return {KEYS_NAME: trained.keys.hashes, SEEN_NAME: trained.by}

    @property
    def record(self) -> StartRecord:
        """Describe the run for the manifest."""
        before, config = self.manifest.start, self.manifest.config
        return StartRecord(
            name=self.stage_dir.parent.resolve().name,
            manifest_sha256=self.manifest_sha256,
            key_kinds=list(self.seen.keys.kinds),
            new_folds=list(self.new_folds),
            from_nothing=before.from_nothing
            if before
            else {name: getattr(config, name) for name in _FROM_NOTHING},
        )

    def settings_of(self, fold: int, config: FinetuneConfig) -> FinetuneConfig:
        """Return the settings of a fold; a network from nothing learns for longer."""
        if fold not in self.new_folds:
            return config
        changes: dict[str, Any] = {**self.record.from_nothing}
        return dataclasses.replace(config, **changes)


def settings_from(run_dir: Path) -> FinetuneConfig:
    """Return the settings with which training goes on from the networks of a run.

    They are those of the run, with few epochs and low learning rates. A test by date
    keeps its date.

    Parameters
    ----------
    run_dir : Path
        Run with a finished fine-tuning stage.

    Raises
    ------
    ConfigError
        If it has none.
    """
    manifest = _require_finished(run_dir)
    config, dates = manifest.config, manifest.dates
    share = 1.0 if manifest.start else RATE_SHARE  # a former start has low ones
    rates: dict[str, Any] = {name: share * getattr(config, name) for name in _RATES}
    return dataclasses.replace(
        config,
        **rates,
        start_from=str(run_dir),
        smooth_l1_epochs=SMOOTH_L1_EPOCHS,
        smape_epochs=max(SMAPE_EPOCHS, config.smape_cycle_epochs),
        test_from=config.test_from or (dates.test_from if dates else None),
    )


def open_start(
    run_dir: Path, config: FinetuneConfig, embed: EmbedManifest
) -> Start | None:
    """Open the run from whose networks a run's training begins, None without one.

    Parameters
    ----------
    run_dir : Path
        The run to train.
    config : FinetuneConfig
        Its settings; `start_from` names the former run.
    embed : EmbedManifest
        Its embedding stage.

    Raises
    ------
    CacheError, ConfigError
        If the former run is unfinished, damaged or incompatible.
    """
    if config.start_from is None:
        return None
    former_dir = Path(config.start_from)
    if former_dir.resolve() == run_dir.resolve():
        raise ConfigError(
            f"--start-from {former_dir}: must be another run than --run. Embed the "
            f"changed catalog into a new run with --reuse, then train that one."
        )
    manifest = _require_finished(former_dir)
    former = require_embedded(former_dir)
    require_same_key(former_dir, "finetune", manifest.embed_key, former.key)
    stage_dir = former_dir / "finetune"
    verify_files(stage_dir, manifest.files)
    verify_embedding(former_dir / "embed", former, ("thumbnails", "image_ok"))
    if difference := find_difference(manifest.config, former, config, embed):
        raise ConfigError(
            f"--start-from {former_dir}: its networks do not fit this run: "
            f"{difference}. Use the same, or leave --start-from out."
        )
    return Start(
        stage_dir=stage_dir,
        manifest=manifest,
        manifest_sha256=sha256_file(stage_dir / MANIFEST_NAME),
        table=former.table,
        seen=_seen_by_networks(former_dir, former, manifest),
    )


def settle_start(
    start: Start, ties: Ties, split: Split
) -> tuple[Start, NDArray[np.bool_]]:
    """Choose the folds that each product may be in, and those that begin from nothing.

    Parameters
    ----------
    start : Start
    ties : Ties
        What the products share with those of the former run.
    split : Split

    Returns
    -------
    start : Start
        With its `new_folds`.
    allowed : ndarray of bool, shape (n_products, n_folds)

    Raises
    ------
    ConfigError
        If the former networks were trained on a product that is held out now.
    """
    _require_unseen(start, ties, split)
    priced = ~np.isnan(split.price)
    allowed, new_folds = allow_folds(ties, priced)
    where = start.stage_dir.parent
    logger.info(
        "%s: %d of %d products to train on were trained on there, and stay in their "
        "folds.",
        where,
        (priced & ties.seen_by.any(axis=1)).sum(),
        priced.sum(),
    )
    if new_folds:
        logger.warning(
            "%s: %d products share an id, text, photo, link or group with products of "
            "several folds there, so all its networks were trained on them. They share "
            "fold %s, whose networks begin from nothing.",
            where,
            (priced & ties.seen_by.all(axis=1)).sum(),
            ", ".join(str(fold + 1) for fold in new_folds),
        )
    return dataclasses.replace(start, new_folds=tuple(new_folds)), allowed


def _require_unseen(start: Start, ties: Ties, split: Split) -> None:
    """Refuse to test the networks on products that they were trained on."""
    where = f"--start-from {start.stage_dir.parent}"
    trained = start.manifest.dates
    test_from = split.dates.test_from if split.dates else None
    if test_from and trained and trained.last_trained >= test_from:
        raise ConfigError(
            f"{where}: its networks were trained on products dated until "
            f"{trained.last_trained}, the test begins on {test_from}. Give "
            f"--test-from a later date, or leave --start-from out."
        )
    if n_known := int((split.held_out & ties.same_id).sum()):
        raise ConfigError(
            f"{where}: its networks were trained on {n_known} of the "
            f"{int(split.held_out.sum())} products that are held out now. Hold out "
            f"others, or leave --start-from out."
        )


def load_start(
    network: PriceNetwork,
    start: Start,
    *,
    fold: int,
    seed_at: int,
    table: Sequence[TableColumn],
) -> None:
    """Load the weights of a former network into a new one.

    Parameters
    ----------
    network : PriceNetwork
    start : Start
    fold, seed_at : int
        Number of the fold and of the seed, as in `network_folder`.
    table : sequence of TableColumn
        Table columns of the new run. A category keeps its vector, whatever code it has
        now; that of a new category begins with 0.

    Raises
    ------
    CacheError
        If the weights are missing or have changed.
    """
    path = network_folder(start.stage_dir, fold, seed_at) / MODEL_NAME
    expected = start.manifest.folds[fold].models_sha256[seed_at]
    if not path.is_file() or sha256_file(path) != expected:
        raise CacheError(
            f"{path}: is not the network that --start-from names, as it was when the "
            f"training began. Name that run where it is now, or leave --start-from out."
        )
    weights = load_file(path)
    pairs = zip(_categories(start.table), _categories(table), strict=True)
    for number, (old, new) in enumerate(pairs):
        name = f"category_vectors.{number}.weight"
        weights[name] = _recode(weights[name], old, new)
    network.load_state_dict(weights)


def _require_finished(run_dir: Path) -> FinetuneManifest:
    if not (run_dir / "finetune" / MANIFEST_NAME).is_file():
        raise ConfigError(
            f"--start-from {run_dir}: must be a run with a finished finetune stage, "
            f"has no {Path('finetune', MANIFEST_NAME)}. Name the run where it is now, "
            f"or leave --start-from out to train from nothing."
        )
    return require_stage(run_dir, FinetuneManifest)


def _seen_by_networks(
    run_dir: Path, embed: EmbedManifest, manifest: FinetuneManifest
) -> SeenProducts:
    """Return the products that the networks of a run were ever trained on."""
    catalog = read_run_catalog(run_dir, embed)
    keys = product_keys(
        catalog, run_dir / "embed", keep_shared=embed.config.keep_shared_photos
    )
    stage_dir = run_dir / "finetune"
    folds = np.array(read_rows(stage_dir / "folds.npy"))
    numbers = np.arange(manifest.config.n_folds)
    held_out = np.zeros(len(folds), bool)
    if "held_out.npy" in manifest.files:
        held_out = np.array(read_rows(stage_dir / "held_out.npy"))
    seen = SeenProducts(
        keys=ProductKeys.of_catalog(catalog.sample_id.tolist(), keys),
        by=(folds >= 0)[:, None] & (folds[:, None] != numbers),
        held_out=held_out,
    )
    if manifest.start is None:
        return seen
    assert {KEYS_NAME, SEEN_NAME} <= manifest.files.keys(), "written with the record"
    return join(seen, read_seen(stage_dir, manifest.start.key_kinds))


def _categories(table: Sequence[TableColumn]) -> list[TableColumn]:
    return [column for column in table if column.kind == "category"]


def _recode(vectors: torch.Tensor, old: TableColumn, new: TableColumn) -> torch.Tensor:
    """Return the vectors of a category's old codes in the order of its new codes."""
    recoded = vectors.new_zeros(new.n_codes, vectors.shape[1])
    recoded[: RARE + 1] = vectors[: RARE + 1]
    for name, code in new.code_of.items():
        if name in old.code_of:
            recoded[code] = vectors[old.code_of[name]]
    return recoded
