"""The job: a finished run to a folder that prices products on its own."""

import logging
import shutil
from dataclasses import dataclass
from importlib import metadata
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

import embed
from embed.checksums import verify_files
from embed.commands import require_packages
from embed.config import EmbedConfig
from embed.encoders import IMAGE_DIM, load_image_backbone, load_text_backbone
from embed.errors import CacheError
from embed.manifest import (
    MANIFEST_NAME,
    environment,
    read_json,
    require_same_key,
    require_stage,
    sha256_file,
    write_json,
)
from embed.schema import config_from
from embed.stand_ins import known_stand_ins
from embed.weights import weights_of_run
from finetune.config import FinetuneConfig
from finetune.networks import load_network, network_folder
from stack.blocks.fitted import LOG_PRICE_COLUMNS, PRICE_BLOCKS
from stack.config import StackConfig
from stack.export.card import model_card, required_packages
from stack.export.check import check_export
from stack.export.graphs import write_head, write_image_tower, write_text_tower
from stack.export.licence import LICENCE_NAME, licence_text
from stack.export.price_blocks import write_price_blocks
from stack.export.target import (
    KIND,
    PACKAGES,
    require_free,
    whole_folder,
)
from stack.fit import RAW_DIR, REPORT_NAME, config_of
from stack.run import Run, open_run, report_remedy

logger = logging.getLogger(__name__)

FORMAT = 2
CARD_NAME = "MODEL_CARD.md"
# What predict.py imports of `embed`: nothing of it needs more than numpy and pillow.
EMBED_MODULES = (
    "__init__",
    "amounts",
    "attributes",
    "catalog",
    "catalog_csv",
    "catalog_parquet",
    "catalog_xlsx",
    "catalog_xml",
    "columns",
    "currencies",
    "encodings",
    "errors",
    "export_cells",
    "export_rows",
    "exports",
    "images",
    "markup",
    "photo_files",
    "photo_index",
    "photo_limits",
    "photo_links",
    "photo_log",
    "pixels",
    "prices",
    "size_grammar",
    "size_numbers",
    "size_phrases",
    "size_tokens",
    "size_units",
    "sizes",
    "stray_code",
    "text",
    "unicode_forms",
)


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """A run of which every stage is whole."""

    run: Run
    stack: dict[str, Any]  # manifest
    finetune_config: FinetuneConfig
    stack_config: StackConfig

    @property
    def is_stacked(self) -> bool:
        """Whether boosters correct the networks."""
        return bool(self.stack["chosen"] == "stacker")

    @property
    def boosters(self) -> dict[str, list[str]]:
        """Files of the boosters that serve, relative to the stacking stage's folder."""
        if not self.is_stacked:
            return {}
        folds = range(self.finetune_config.n_folds)
        found = {"stacker": [f"booster-{fold}.txt" for fold in folds]}
        if "lightgbm" in self.stack_config.blocks:
            found["lightgbm"] = [f"{RAW_DIR}/{name}" for name in found["stacker"]]
        return found

    @property
    def price_blocks(self) -> list[str]:
        """Blocks that the serving boosters see and that are fitted on prices."""
        blocks = self.stack_config.blocks if self.is_stacked else ()
        return [name for name in blocks if name in PRICE_BLOCKS]


def open_finished(run_dir: Path) -> FinishedRun:
    """Open a run with all three stages, and refuse a damaged one.

    Raises
    ------
    CacheError
        If a stage has not finished, does not fit the others or has damaged files.
    """
    run = open_run(run_dir)
    stack = require_stage(run_dir, "stack")
    require_same_key(run_dir, "stack", stack["finetune_key"], run.finetune["key"])
    verify_files(run_dir / "stack", stack["files"])
    verify_files(run_dir / "finetune", run.finetune["files"])
    path = run_dir / "finetune" / MANIFEST_NAME
    return FinishedRun(
        run=run,
        stack=stack,
        finetune_config=config_from(run.finetune["config"], FinetuneConfig, path),
        stack_config=config_of(stack, run_dir / "stack" / MANIFEST_NAME),
    )


def export_run(run_dir: Path, out_dir: Path, *, check: bool = True) -> float | None:
    """Write a run's export, whole or not at all.

    Parameters
    ----------
    run_dir : Path
        With all three stages finished.
    out_dir : Path
        New, empty or an earlier export with nothing else in it, which is replaced.
    check : bool
        Price some of the run's products by both, and refuse a difference.

    Returns
    -------
    float or None
        The greatest difference in log1p price; None without a check.

    Raises
    ------
    ConfigError
        If `out_dir` holds anything else, or a package is missing.
    CacheError, WeightsError
        If the run is not whole, or its encoders are not to be found any more.
    """
    require_packages("export", {name: name for name in PACKAGES})
    require_free(out_dir)
    finished = open_finished(run_dir)
    with whole_folder(out_dir) as folder:
        write_export(finished, folder)
        return check_export(finished.run, folder) if check else None


def write_export(finished: FinishedRun, folder: Path) -> None:
    """Write an export's files, the manifest last.

    Parameters
    ----------
    finished : FinishedRun
    folder : Path
        Empty.
    """
    _write_towers(finished, folder)
    _copy_boosters(finished, folder)
    _copy_code(folder, packages=required_packages(finished.stack))
    if finished.price_blocks:
        write_price_blocks(finished.run, finished.price_blocks, folder)
    tokenizer = weights_of_run(finished.run.embed)[0] / "tokenizer.json"
    shutil.copyfile(tokenizer, folder / tokenizer.name)
    stage_dir = finished.run.run_dir / "stack"
    report = read_json(stage_dir / REPORT_NAME)
    if report is None:
        raise CacheError(
            f"{stage_dir / REPORT_NAME}: is missing. "
            f"{report_remedy(finished.run.run_dir)}"
        )
    card = model_card(
        embed=finished.run.embed,
        finetune=finished.run.finetune,
        stack=finished.stack,
        report=report,
        n_photos=int(np.asarray(finished.run.array("embed/image_ok")).sum()),
    )
    (folder / CARD_NAME).write_text(card, encoding="utf-8")
    write_json(folder / MANIFEST_NAME, _manifest(finished, folder))


def _write_towers(finished: FinishedRun, folder: Path) -> None:
    run, config = finished.run, finished.finetune_config
    alignment = run.array("stack/alignment")
    n_attributes = len(run.embed["attribute_names"])
    for fold, seed_at in product(range(config.n_folds), range(config.n_seeds)):
        logger.info("fold %d of %d: network to ONNX", fold + 1, config.n_folds)
        own = network_folder(folder, fold, seed_at)
        own.mkdir()
        network = load_network(
            run.run_dir / "finetune", fold, seed_at, embed=run.embed, config=config
        )
        write_head(
            network,
            alignment[fold],
            own / "head.onnx",
            n_attributes=n_attributes,
        )
        write_text_tower(network.text_backbone, own / "text.onnx")
        if network.image_backbone is not None:
            path = own / "image.onnx"
            write_image_tower(network.image_backbone, path, size=config.image_size)
    _write_frozen(finished, folder / "frozen")


def _write_frozen(finished: FinishedRun, folder: Path) -> None:
    """Write the frozen encoders that boosters, or networks without one, need."""
    config = finished.run.embed["config"]
    text, image = weights_of_run(finished.run.embed)
    if finished.is_stacked:
        folder.mkdir()
        backbone = load_text_backbone(text)
        write_text_tower(backbone, folder / "text.onnx")
    if finished.is_stacked or finished.finetune_config.freeze_image:
        folder.mkdir(exist_ok=True)
        backbone = load_image_backbone(image, seed=config["seed"])
        path = folder / "image.onnx"
        write_image_tower(backbone, path, size=config["image_size"])


def _copy_boosters(finished: FinishedRun, folder: Path) -> None:
    for names in finished.boosters.values():
        for name in names:
            target = folder / "boosters" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(finished.run.run_dir / "stack" / name, target)


def _copy_code(folder: Path, *, packages: str) -> None:
    (folder / "embed").mkdir()
    ours = Path(str(embed.__file__)).parent
    for name in EMBED_MODULES:
        shutil.copyfile(ours / f"{name}.py", folder / "embed" / f"{name}.py")
    shutil.copyfile(Path(__file__).with_name("pricing.py"), folder / "pricing.py")
    text = Path(__file__).with_name("predict_file.py").read_text(encoding="utf-8")
    text = text.replace("from stack.export.pricing import", "from pricing import")
    text = text.replace("numpy pillow onnxruntime tokenizers", packages, 1)
    (folder / "predict.py").write_text(text, encoding="utf-8")
    (folder / LICENCE_NAME).write_text(licence_text(), encoding="utf-8")


def _manifest(finished: FinishedRun, folder: Path) -> dict[str, Any]:
    run, inputs = finished.run, finished.run.embed["inputs"]
    config = finished.finetune_config
    path = run.run_dir / "embed" / MANIFEST_NAME
    embed_config = config_from(run.embed["config"], EmbedConfig, path)
    settings: dict[str, Any] = {
        "kind": KIND,
        "format": FORMAT,
        "made_from": {
            "embed_key": run.embed["key"],
            "finetune_key": run.finetune["key"],
            "stack_key": finished.stack["key"],
        },
        "chosen": finished.stack["chosen"],
        "target": "log1p of price / price_unit, in the catalog's currency, which is "
        "not recorded",
        "price_unit": run.price_unit,
        "columns": inputs["columns"],
        "max_tokens": run.embed["config"]["max_tokens"],
        "image_size": run.embed["config"]["image_size"],
        "decimal": embed_config.decimal,
        "image_dim": IMAGE_DIM,
        "stand_ins": sorted(known_stand_ins(run.embed)),
        "folds": [
            [
                network_folder(folder, fold, seed_at).relative_to(folder).as_posix()
                for seed_at in range(config.n_seeds)
            ]
            for fold in range(config.n_folds)
        ],
        "fold_max_tokens": config.n_tokens,
        "fold_sees_photos": config.sees_photos,
        "fold_image_size": config.image_size,
        "attributes": run.embed["attribute_names"],
        "intervals": finished.stack["intervals"],
        "blocks": list(finished.stack_config.blocks),
        "price_blocks": finished.price_blocks,
        "log_price_columns": {
            name: list(columns) for name, columns in LOG_PRICE_COLUMNS.items()
        },
        "boosters": {
            kind: [f"boosters/{name}" for name in names]
            for kind, names in finished.boosters.items()
        },
    }
    if "lightgbm" in finished.boosters:
        settings["lightgbm_start"] = float(run.array("stack/lightgbm/starts").mean())
    if finished.is_stacked and "start" in settings["blocks"]:
        weights = run.array("stack/start_weights")
        settings["start_weights"] = weights.mean(axis=0).tolist()
    return {
        **settings,
        "versions": {**environment(), **{p: metadata.version(p) for p in PACKAGES}},
        "files": {
            path.relative_to(folder).as_posix(): sha256_file(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        },
    }
