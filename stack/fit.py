"""The stacking job: arrays of a run to boosters, a comparison and a verdict."""

import dataclasses
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embed.arrays import open_rows, read_rows, to_float16
from embed.errors import ConfigError
from embed.machine import prepare_machine
from embed.manifest import (
    MANIFEST_NAME,
    content_key,
    environment,
    read_json,
    require_same_key,
    require_stage,
    write_json,
)
from embed.sample import best_reachable_prices
from stack.alignment import align, fit_alignment
from stack.blend import blend_out_of_fold
from stack.config import BlockName, StackConfig
from stack.evaluate import evaluate_predictions
from stack.features import BlockMatrix
from stack.residual import ResidualFit, fit_out_of_fold, save_boosters

logger = logging.getLogger(__name__)

FORMAT = 3  # raise it when the same inputs give other results than before
RAW_BLOCKS: tuple[BlockName, ...] = ("text", "image", "attributes")
RAW_DIR = "lightgbm"
REPORT_NAME = "report.json"
_PREDICTIONS = {
    "lightgbm": "stack/lightgbm_log_price.npy",
    "network": "finetune/oof_log_price.npy",
    "blend": "stack/blend_log_price.npy",
    "stacker": "stack/oof_log_price.npy",
}


@dataclass(frozen=True, kw_only=True)
class Run:
    """The finished stages that stacking reads."""

    run_dir: Path
    embed: dict[str, Any]  # manifest
    finetune: dict[str, Any]  # manifest

    def array(self, name: str) -> NDArray[Any]:
        """Memory-map an array, named as `stage/name`."""
        return read_rows(self.run_dir / f"{name}.npy")


def open_run(run_dir: Path) -> Run:
    """Open a run whose networks are trained.

    Raises
    ------
    CacheError
        If a stage has not finished, or was made from another one's inputs.
    """
    embed = require_stage(run_dir, "embed")
    finetune = require_stage(run_dir, "finetune")
    require_same_key(run_dir, "finetune", finetune["embed_key"], embed["key"])
    return Run(run_dir=run_dir, embed=embed, finetune=finetune)


def fit_stack(run_dir: Path, *, config: StackConfig) -> dict[str, Any]:
    """Write `run_dir/stack`: boosters, out-of-fold prices and the report.

    Parameters
    ----------
    run_dir : Path
        With finished embedding and fine-tuning stages.
    config : StackConfig

    Returns
    -------
    dict
        The report, as in report.json.

    Raises
    ------
    CacheError
        With one line that says where, what and what to do.
    """
    prepare_machine(config.n_threads)
    run = open_run(run_dir)
    stage_dir = run_dir / "stack"
    key = _stack_key(run, config)
    finished = read_json(stage_dir / MANIFEST_NAME)
    if finished is not None and finished.get("key") == key:
        logger.info("%s: up to date", stage_dir)
        return evaluate_run(run_dir)
    (stage_dir / RAW_DIR).mkdir(parents=True, exist_ok=True)
    (stage_dir / MANIFEST_NAME).unlink(missing_ok=True)
    started = time.monotonic()
    alignment = _align(run, stage_dir)
    rounds = _fit_predictors(run, stage_dir, config)
    report = _evaluate(run, config)
    manifest = {
        "stage": "stack",
        "key": key,
        "finetune_key": run.finetune["key"],
        "config": dataclasses.asdict(config),
        "chosen": report["verdict"]["chosen"],
        "rounds": rounds,
        "alignment": alignment,
        "environment": environment(),
        "seconds": round(time.monotonic() - started, 2),
    }
    write_json(stage_dir / REPORT_NAME, report)
    write_json(stage_dir / MANIFEST_NAME, manifest)
    return report


def evaluate_run(run_dir: Path, *, n_folds: int | None = None) -> dict[str, Any]:
    """Judge a finished run again from its arrays, and rewrite report.json.

    Parameters
    ----------
    run_dir : Path
    n_folds : int, optional
        What the caller takes the run's number of folds to be.

    Raises
    ------
    ConfigError
        If the run has another number of folds.
    CacheError
        If a stage is missing or does not fit the others.
    """
    run = open_run(run_dir)
    stack = require_stage(run_dir, "stack")
    require_same_key(run_dir, "stack", stack["finetune_key"], run.finetune["key"])
    found = int(run.finetune["config"]["n_folds"])
    if n_folds is not None and n_folds != found:
        raise ConfigError(
            f"--folds {n_folds}: the run {run_dir} has {found} folds, and each needs "
            f"networks of its own. Evaluate with --folds {found}, or run `make "
            f"finetune stack RUN={run_dir} FOLDS={n_folds}` first."
        )
    report = _evaluate(run, config_of(stack))
    write_json(run_dir / "stack" / REPORT_NAME, report)
    return report


def config_of(manifest: dict[str, Any]) -> StackConfig:
    """Return the configuration that a stacking manifest holds."""
    settings = dict(manifest["config"])
    settings["blocks"] = tuple(settings["blocks"])
    return StackConfig(**settings)


def block_matrix(
    blocks: dict[str, NDArray[Any]], *, attribute_names: list[str]
) -> BlockMatrix:
    """Put blocks side by side, attributes under their own names."""
    names = {"attributes": attribute_names} if "attributes" in blocks else {}
    return BlockMatrix(blocks, column_names=names)


def _stack_key(run: Run, config: StackConfig) -> str:
    settings = dataclasses.asdict(config)
    del settings["n_threads"]
    return content_key(
        {"format": FORMAT, "finetune": run.finetune["key"], "settings": settings}
    )


def _align(run: Run, stage_dir: Path) -> list[dict[str, Any]]:
    """Write the fused embeddings in one space, and the way into it."""
    fused, image_ok = run.array("finetune/fused"), run.array("embed/image_ok")
    folds = np.asarray(run.array("finetune/folds"))
    anchor_rows = np.asarray(run.array("finetune/anchor_rows"))
    alignment, residuals = fit_alignment(
        run.array("finetune/anchors"),
        anchor_folds=folds[anchor_rows],
        anchor_image_ok=np.asarray(image_ok[anchor_rows]),
    )
    np.save(stage_dir / "alignment.npy", alignment.astype(np.float32))
    path = stage_dir / "fused.npy"
    aligned = open_rows(path, shape=fused.shape, dtype="float16", resume=False)
    embedded_by = np.maximum(folds, 0)  # unpriced products by the first network
    for fold, way in enumerate(alignment):
        rows = np.flatnonzero(embedded_by == fold)
        aligned[rows] = to_float16(
            align(fused[rows], image_ok[rows], way), name="fused"
        )
    aligned.flush()  # type: ignore[attr-defined]
    return residuals


def _fit_predictors(
    run: Run, stage_dir: Path, config: StackConfig
) -> dict[str, list[int]]:
    """Fit the raw LightGBM, the blend and the stacker; write what each predicts."""
    log_price = np.log1p(run.array("finetune/price"))
    network = np.asarray(run.array("finetune/oof_log_price"))
    folds = np.asarray(run.array("finetune/folds"))
    groups = np.asarray(run.array("finetune/groups"))
    blocks: dict[str, NDArray[Any]] = {
        "text": run.array("embed/text"),
        "image": run.array("embed/image"),
        "fused": read_rows(stage_dir / "fused.npy"),
        "attributes": run.array("embed/attributes"),
        "network": network,
    }
    names = run.embed["attribute_names"]

    def fit(chosen: Sequence[str], init: NDArray[np.floating] | None) -> ResidualFit:
        matrix = block_matrix({b: blocks[b] for b in chosen}, attribute_names=names)
        return fit_out_of_fold(
            matrix,
            log_price,
            init_log_price=init,
            folds=folds,
            groups=groups,
            config=config,
        )

    logger.info("lightgbm: on %s", ", ".join(RAW_BLOCKS))
    raw = fit(RAW_BLOCKS, None)
    blocks["lightgbm"] = raw.out_of_fold
    logger.info("stacker: on %s", ", ".join(config.blocks))
    stacker = fit(config.blocks, network)
    blend, _ = blend_out_of_fold(
        log_price, network=network, lightgbm=raw.out_of_fold, folds=folds
    )
    np.save(stage_dir / "lightgbm_log_price.npy", raw.out_of_fold)
    np.save(stage_dir / "blend_log_price.npy", blend)
    np.save(stage_dir / "oof_log_price.npy", stacker.out_of_fold)
    np.save(stage_dir / RAW_DIR / "starts.npy", np.array(raw.starts))
    save_boosters(raw.boosters, stage_dir / RAW_DIR)
    save_boosters(stacker.boosters, stage_dir)
    return {"lightgbm": raw.rounds, "stacker": stacker.rounds}


def _evaluate(run: Run, config: StackConfig) -> dict[str, Any]:
    return evaluate_predictions(
        np.asarray(run.array("finetune/price")),
        np.asarray(run.array("finetune/folds")),
        predictions={
            name: np.asarray(read_rows(run.run_dir / path))
            for name, path in _PREDICTIONS.items()
        },
        image_ok=np.asarray(run.array("embed/image_ok")),
        config=config,
        best_price=_best_prices(run),
    )


def _best_prices(run: Run) -> NDArray[np.float64] | None:
    """Return the best predictable prices if the catalog is a sample of ours."""
    best = best_reachable_prices(Path(run.embed["inputs"]["catalog_path"]))
    if best is None:
        return None
    sample_ids = run.array("embed/sample_id")
    return np.array([best.get(str(sample_id), np.nan) for sample_id in sample_ids])
