"""Resolve a run folder and a configuration into the inputs of training."""

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embed.catalog.own_copy import read_run_catalog
from embed.catalog.price_checks import describe_unpriced, require_prices
from embed.catalog.reader import Catalog
from embed.encoders.specs import NONE
from embed.errors import ConfigError
from embed.machine import pick_device
from embed.records import EmbedManifest, require_embedded
from embed.store.manifest import content_key, sha256_strings
from embed.verify import verify_embedding
from finetune.batches import ProductCache
from finetune.config import FinetuneConfig
from finetune.folds import assign_folds
from finetune.held_out import Split, split_products
from finetune.network.arithmetic import Arithmetic, choose_arithmetic
from finetune.network.model import FUSED_DIM
from finetune.network.saved import network_folder
from finetune.price_unit import choose_price_unit, to_log_price
from finetune.products import choose_anchors, group_products, product_keys
from finetune.seen import ProductKeys, tie_products
from finetune.start import Start, open_start, settle_start
from finetune.training.tracking import Tracking

logger = logging.getLogger(__name__)

FORMAT = 13  # raise it when the same inputs give different arrays or records


@dataclass(frozen=True, kw_only=True)
class Job:
    """Inputs of training."""

    stage_dir: Path
    embed: EmbedManifest
    config: FinetuneConfig
    arithmetic: Arithmetic
    cache: ProductCache
    price: NDArray[np.float64]  # (n_products,), catalog currency, NaN: not trained on
    price_unit: float  # catalog currency
    n_unpriced: int
    split: Split
    folds: NDArray[np.int8]  # (n_products,), -1: not trained on
    groups: NDArray[np.int64]  # (n_products,), duplicates share one
    sample_ids: NDArray[np.str_]
    anchor_rows: NDArray[np.int64]
    tracking: Tracking
    start: Start | None  # the former run whose networks go on
    key: str
    networks_key: str  # the same for any number of seeds

    @property
    def log_price(self) -> NDArray[np.float64]:
        """log1p price in units of the run, shape (n_products,)."""
        return to_log_price(self.price, self.price_unit)


def prepare_job(
    run_dir: Path, config: FinetuneConfig, drop_unpriced: bool, tracking: Tracking
) -> Job:
    """Resolve a run and a configuration.

    Raises
    ------
    CatalogError, CacheError, ConfigError
        If the embedding stage is incomplete, or too few products have a price.
    """
    embed = require_embedded(run_dir)
    config = _settle(config, embed)
    embed_dir = run_dir / "embed"
    cache = _open_cache(embed_dir, embed, config)
    catalog = read_run_catalog(run_dir, embed)
    price = _prices(catalog, drop_unpriced)
    dealt = _deal(run_dir, embed, catalog, price, config)
    arithmetic = choose_arithmetic(config.precision, pick_device())
    settings = _key_settings(config)
    n_seeds = {"n_seeds": settings.pop("n_seeds")}
    key_parts = _key_parts(embed, config, arithmetic, dealt)
    if catalog.groups:  # the embedding stage does not depend on them
        key_parts["groups"] = sha256_strings(map(str, dealt.groups.tolist()))
    if dealt.start is not None:
        config = dataclasses.replace(config, start_from=dealt.start.record.name)
    return Job(
        stage_dir=run_dir / "finetune",
        embed=embed,
        config=config,
        arithmetic=arithmetic,
        cache=cache,
        price=dealt.split.price,
        price_unit=dealt.price_unit,
        n_unpriced=int(np.isnan(price).sum()),
        split=dealt.split,
        folds=dealt.folds,
        groups=dealt.groups,
        sample_ids=catalog.sample_id,
        anchor_rows=choose_anchors(cache, config.seed),
        tracking=tracking,
        start=dealt.start,
        key=content_key({**key_parts, "settings": settings | n_seeds}),
        networks_key=content_key({**key_parts, "settings": settings}),
    )


@dataclass(frozen=True, kw_only=True)
class _Dealt:
    """Products dealt to folds, or held out."""

    split: Split
    groups: NDArray[np.int64]
    price_unit: float
    folds: NDArray[np.int8]
    start: Start | None


def _deal(
    run_dir: Path,
    embed: EmbedManifest,
    catalog: Catalog,
    price: NDArray[np.float64],
    config: FinetuneConfig,
) -> _Dealt:
    """Deal the products to folds; with a former run, those that stay keep their own."""
    keep_shared = embed.config.keep_shared_photos
    keys = product_keys(catalog, run_dir / "embed", keep_shared=keep_shared)
    groups = group_products(catalog, keys, keep_shared=keep_shared)
    start, ties = open_start(run_dir, config, embed), None
    if start is not None:
        ids = catalog.sample_id.tolist()
        ties = tie_products(ProductKeys.of_catalog(ids, keys), start.seen)
        groups = ties.groups
    split = split_products(catalog, price, groups, config, ties)
    price_unit, allowed = _price_unit(split.price, config), None
    if start is not None and ties is not None:
        price_unit = start.manifest.price_unit
        start, allowed = settle_start(start, ties, split)
    folds = assign_folds(
        split.price / price_unit,
        groups,
        n_folds=config.n_folds,
        seed=config.seed,
        order_keys=[str(sample_id) for sample_id in catalog.sample_id],
        allowed=allowed,
    )
    _require_enough(folds, config.n_folds)
    return _Dealt(
        split=split, groups=groups, price_unit=price_unit, folds=folds, start=start
    )


def _prices(catalog: Catalog, drop_unpriced: bool) -> NDArray[np.float64]:
    """Return the prices, NaN where unpriced; mention how many products are."""
    price = require_prices(catalog, drop_unpriced=drop_unpriced)
    if n_unpriced := int(np.isnan(price).sum()):
        logger.warning(
            "%d products have no usable price and are not trained on: %s",
            n_unpriced,
            describe_unpriced(catalog),
        )
    return price


def _open_cache(
    embed_dir: Path, embed: EmbedManifest, config: FinetuneConfig
) -> ProductCache:
    """Return the checked inputs of the networks."""
    needed = ("tokens", "thumbnails", "attributes", "image_ok")
    frozen = ("image",) if config.freeze_image else ()
    verify_embedding(embed_dir, embed, needed + frozen)
    return ProductCache(
        embed_dir,
        max_tokens=config.n_tokens,
        image_size=config.photo_size,
        frozen_photos=config.freeze_image,
        use_photos=config.sees_photos,
        pad_id=embed.inputs.text_spec.pad_id if embed.inputs.text_spec else 0,
    )


def _key_settings(config: FinetuneConfig) -> dict[str, object]:
    """Return the settings that the arrays depend on."""
    settings = dataclasses.asdict(config)
    for name in ("n_threads", "hold_out", "test_from", "start_from"):
        del settings[name]
    if config.inputs == "both":  # keeps the key of runs without this setting
        del settings["inputs"]
    return settings


def _key_parts(
    embed: EmbedManifest,
    config: FinetuneConfig,
    arithmetic: Arithmetic,
    dealt: _Dealt,
) -> dict[str, object]:
    """Return what the arrays depend on besides settings and groups."""
    split = dealt.split
    parts: dict[str, object] = {
        "format": FORMAT,
        "embed": embed.key,
        # With another number of threads, features have the same key but other bytes.
        "image_features": embed.as_json()["files"] if config.freeze_image else None,
        "autocast": str(arithmetic.autocast_dtype),
        "device": arithmetic.device.type,
        "price_sha256": sha256_strings(map(repr, split.price.tolist())),
    }
    if split.held_out.any():
        parts["held_out"] = sha256_strings(map(str, split.held_out.tolist()))
    if dealt.start is not None:
        parts["start"] = dealt.start.manifest_sha256
    if dealt.price_unit != 1:  # keeps the key of runs without a unit
        parts["price_unit"] = dealt.price_unit
    return parts


def _settle(config: FinetuneConfig, embed: EmbedManifest) -> FinetuneConfig:
    """Return the settings that suit the run's encoders.

    Raises
    ------
    ConfigError
        If the networks are to have one input alone, which the run does without.
    """
    dims = {"text": embed.text_dim, "image": embed.image_dim}
    if dims.get(config.inputs, 1) == 0:
        raise ConfigError(
            f"--inputs {config.inputs}: the run was embedded with --{config.inputs}"
            f"-encoder {NONE}. Leave --inputs out, or embed with an encoder."
        )
    image = embed.inputs.image_spec
    if config.image_size is None and image is not None and not image.takes_any_size:
        return dataclasses.replace(config, image_size=image.size)
    return dataclasses.replace(config, image_size=config.photo_size)


def _price_unit(price: NDArray[np.float64], config: FinetuneConfig) -> float:
    """Return the unit of prices; in the recipe `paper` it is always 1."""
    if config.recipe != "paper":
        return choose_price_unit(price)
    if np.nanmedian(price) < 1:
        logger.warning(
            "Recipe paper takes log(1 + price) of prices as they are, which separates "
            "small prices badly: the median is %.3g. Expect poor scores; recipe "
            "default counts prices in a unit that suits them.",
            float(np.nanmedian(price)),
        )
    return 1.0


def _require_enough(folds: NDArray[np.integer], n_folds: int) -> None:
    """Refuse folds that leave too few products to train on: a batch needs two."""
    n_priced = int((folds >= 0).sum())
    for fold in range(n_folds):
        n_train = n_priced - int((folds == fold).sum())
        if n_train < 3:
            raise ConfigError(
                f"finetune: fold {fold + 1} of {n_folds} leaves {n_train} of "
                f"{n_priced} priced products to train on, at least 3 are needed. Use "
                f"more products; those with the same text or photo share a fold."
            )


def stage_arrays(job: Job) -> list[tuple[str, tuple[int, ...], str]]:
    """Return name, shape and dtype of the arrays that the networks write."""
    n, k, m = len(job.price), job.config.n_folds, len(job.anchor_rows)
    n_unpriced = max(1, int((job.folds < 0).sum()))
    return [
        ("oof_log_price.npy", (n,), "float32"),
        ("seed_log_price.npy", (n, job.config.n_seeds), "float32"),
        ("fused.npy", (n, FUSED_DIM), "float16"),
        ("anchors.npy", (k, m, FUSED_DIM), "float16"),
        ("anchor_log_price.npy", (k, m), "float32"),
        ("unpriced_log_price.npy", (k, job.config.n_seeds, n_unpriced), "float32"),
        *(
            [("held_out_fused.npy", (k, n_held_out, FUSED_DIM), "float16")]
            if (n_held_out := int(job.split.held_out.sum()))
            else []
        ),
    ]


def network_folders(job: Job, fold: int) -> list[Path]:
    """Return the folders of a fold's networks, in the order of their seeds."""
    seeds = range(job.config.n_seeds)
    return [network_folder(job.stage_dir, fold, seed_at) for seed_at in seeds]
