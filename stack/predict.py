"""Price new products with a finished run, by whichever predictor it chose."""

import csv
import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embed.catalog import Catalog
from embed.config import EmbedConfig
from embed.extract import extract
from embed.machine import pick_device, prepare_machine
from embed.manifest import CacheError, require_same_key, require_stage
from finetune.arithmetic import choose_arithmetic
from finetune.batches import ProductCache
from finetune.config import FinetuneConfig
from finetune.model import FUSED_DIM
from finetune.networks import load_network
from finetune.smape import to_price
from finetune.train import apply_network
from stack.fit import Run, block_matrix, config_of, open_run
from stack.residual import load_boosters, predict_residual


def predict_prices(
    run_dir: Path, catalog: Catalog, *, images_dir: Path | None, n_threads: int = 2
) -> tuple[NDArray[np.float64], dict[str, int]]:
    """Price the products of a catalog.

    The networks of all folds are averaged in log space. If the run's verdict chose the
    stacker, its boosters see the average of the aligned fused embeddings.

    Parameters
    ----------
    run_dir : Path
        With all three stages finished.
    catalog : Catalog
        Prices in it are not read.
    images_dir : Path, optional
        Folder of the photos.
    n_threads : int
        Threads for arithmetic.

    Returns
    -------
    price : ndarray of shape (n_products,)
        Catalog currency, finite and at least one cent; row i is row i of the catalog.
    substituted : dict
        Products without usable text or photo, by field.

    Raises
    ------
    CacheError, WeightsError
        If the run is not whole, or its encoders are not to be found any more.
    """
    prepare_machine(n_threads)
    run = open_run(run_dir)
    stack = require_stage(run_dir, "stack")
    require_same_key(run_dir, "stack", stack["finetune_key"], run.finetune["key"])
    with tempfile.TemporaryDirectory(prefix="pricestack-") as folder:
        work_dir = Path(folder)
        manifest = extract(
            catalog,
            work_dir,
            images_dir=images_dir,
            config=_embed_config(run.embed, n_threads),
        )
        _require_same_encoders(run_dir, run.embed, manifest)
        log_price, fused = _average_networks(run, work_dir / "embed")
        if stack["chosen"] == "stacker":
            log_price += _residual(run, stack, work_dir / "embed", log_price, fused)
    return to_price(log_price), manifest["substituted"]


def write_prices(path: Path, catalog: Catalog, price: NDArray[np.float64]) -> None:
    """Write a CSV file of sample_id and price, whole or not at all."""
    partial = path.with_name(path.name + ".part")
    with partial.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(("sample_id", "price"))
        for sample_id, value in zip(catalog.sample_id, price, strict=True):
            lines.writerow((sample_id, f"{value:.4f}"))
    partial.replace(path)


def _embed_config(embed: dict[str, Any], n_threads: int) -> EmbedConfig:
    inputs = embed["inputs"]
    is_random = inputs["image_weights"] == "random"
    image_encoder = embed["config"]["image_encoder"]
    return dataclasses.replace(
        EmbedConfig(**embed["config"]),
        text_encoder=inputs["text_weights"],
        image_encoder=image_encoder if is_random else inputs["image_weights"],
        random_weights=is_random,
        n_threads=n_threads,
    )


def _require_same_encoders(
    run_dir: Path, embed: dict[str, Any], found: dict[str, Any]
) -> None:
    for name in ("text_weights_sha256", "image_weights_sha256"):
        if found["inputs"][name] != embed["inputs"][name]:
            raise CacheError(
                f"{run_dir / 'embed'}: made with other {name.split('_')[0]} encoder "
                f"weights ({embed['inputs'][name][:12]}) than are found now "
                f"({found['inputs'][name][:12]}). Put the former back."
            )


def _average_networks(
    run: Run, embed_dir: Path
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Average log price and aligned fused embedding over the networks of all folds."""
    config = FinetuneConfig(**run.finetune["config"])
    cache = ProductCache(
        embed_dir, max_tokens=config.max_tokens, image_size=config.image_size
    )
    arithmetic = choose_arithmetic(config.precision, pick_device())
    rotations = run.array("stack/rotations")
    rows = np.arange(len(cache))
    log_price = np.zeros(len(cache))
    fused = np.zeros((len(cache), FUSED_DIM), dtype=np.float32)
    for fold in range(config.n_folds):
        network = load_network(
            run.run_dir / "finetune", fold, embed=run.embed, config=config
        )
        from_fold, embedded = apply_network(network, cache, rows, arithmetic=arithmetic)
        log_price += from_fold / config.n_folds
        fused += embedded @ rotations[fold] / config.n_folds
    return log_price, fused


def _residual(
    run: Run,
    stack: dict[str, Any],
    embed_dir: Path,
    log_price: NDArray[np.float64],
    fused: NDArray[np.float32],
) -> NDArray[np.float64]:
    config = config_of(stack)
    every: dict[str, NDArray[Any]] = {
        "text": np.load(embed_dir / "text.npy", mmap_mode="r"),
        "image": np.load(embed_dir / "image.npy", mmap_mode="r"),
        "fused": fused,
        "attributes": np.load(embed_dir / "attributes.npy", mmap_mode="r"),
        "network": log_price.astype(np.float32),
    }
    matrix = block_matrix(
        {block: every[block] for block in config.blocks},
        attribute_names=run.embed["attribute_names"],
    )
    boosters = load_boosters(run.run_dir / "stack", feature_names=matrix.feature_names)
    rows = np.arange(len(matrix))
    return predict_residual(boosters, matrix, rows=rows, config=config)
