"""The export job: write a finished run as a folder that prices products alone."""

import dataclasses
import logging
import shutil
from collections.abc import Sequence
from importlib import metadata
from itertools import product
from pathlib import Path
from types import ModuleType

import numpy as np

import embed
import finetune
import stack
from embed.encoders.towers import load_image_backbone, load_text_backbone
from embed.encoders.weights import weights_of_run
from embed.errors import CacheError
from embed.photos.stand_ins import known_stand_ins
from embed.records import EmbedManifest
from embed.store.manifest import (
    MANIFEST_NAME,
    environment,
    read_json,
    sha256_file,
    write_json,
)
from embed.terminal.options import require_packages
from finetune.config import FinetuneConfig
from finetune.network.saved import load_network, network_folder
from stack.blocks.registry import BLOCKS, PRICE_BLOCKS
from stack.export.card import model_card
from stack.export.check import check_export
from stack.export.graphs import write_head, write_image_tower, write_text_tower
from stack.export.licence import LICENCE_NAME, licence_text
from stack.export.price_blocks import copy_parts, write_price_blocks
from stack.export.target import (
    KIND,
    PACKAGES,
    require_free,
    whole_folder,
)
from stack.price.confidence import CONFIDENCE_DIR
from stack.run import (
    RAW_DIR,
    REPORT_NAME,
    FinishedRun,
    open_finished_run,
    report_remedy,
)

logger = logging.getLogger(__name__)

FORMAT = 6
CARD_NAME = "MODEL_CARD.md"
TOKENIZER_NAME = "tokenizer.json"
# The code that predict.py needs, unchanged. It is imported without PyTorch.
_CODE: dict[ModuleType, tuple[str, ...]] = {
    embed: (
        "__init__.py",
        "attributes.py",
        "errors.py",
        "text.py",
        "catalog",
        "cleaning",
        "photos",
        "sizes",
        "store",
        "table",
    ),
    finetune: ("__init__.py", "averaging.py", "price_unit.py"),
    stack: ("blocks", "price"),
}


def export_run(run_dir: Path, out_dir: Path, *, check: bool = True) -> float | None:
    """Write a run's export, whole or not at all.

    Parameters
    ----------
    run_dir : Path
        Run folder with all three stages finished.
    out_dir : Path
        New or empty folder, or an earlier export with nothing else, to replace.
    check : bool
        Price some of the run's products with both, and raise if they differ.

    Returns
    -------
    float or None
        The largest difference in log1p price; None without a check.

    Raises
    ------
    ConfigError
        If `out_dir` contains anything else, or a package is missing.
    CacheError, WeightsError
        If the run is incomplete, or its encoders cannot be found.
    """
    require_packages("export", {name: name for name in PACKAGES})
    require_free(out_dir)
    finished = open_finished_run(run_dir, verify=("stack", "finetune"))
    with whole_folder(out_dir) as folder:
        write_export(finished, folder)
        return check_export(finished.run, folder) if check else None


def write_export(finished: FinishedRun, folder: Path) -> None:
    """Write an export's files, the manifest last.

    Parameters
    ----------
    finished : FinishedRun
    folder : Path
        Empty folder.
    """
    _write_towers(finished, folder)
    _copy_boosters(finished, folder)
    shutil.copytree(
        finished.run.run_dir / "stack" / CONFIDENCE_DIR,
        folder / CONFIDENCE_DIR,
        ignore=shutil.ignore_patterns("sizes.npy", "unlike.npy", "*.crc32"),
    )
    _copy_code(folder, packages=_required_packages(finished))
    if _price_blocks(finished):
        write_price_blocks(finished.run, _price_blocks(finished), folder)
    text, _ = weights_of_run(finished.run.embed)
    if text is not None:
        shutil.copyfile(text / TOKENIZER_NAME, folder / TOKENIZER_NAME)
    stage_dir = finished.run.run_dir / "stack"
    report = read_json(stage_dir / REPORT_NAME)
    if report is None:
        raise CacheError(
            f"{stage_dir / REPORT_NAME}: is missing. "
            f"{report_remedy(finished.run.run_dir)}"
        )
    card = model_card(
        embed=finished.run.embed.as_json(),
        finetune=finished.run.finetune.as_json(),
        stack=finished.stack.as_json(),
        report=report,
        n_photos=int(np.asarray(finished.run.array("embed/image_ok")).sum()),
        has_prices=bool(_price_blocks(finished)),
    )
    (folder / CARD_NAME).write_text(card, encoding="utf-8")
    write_json(folder / MANIFEST_NAME, _manifest(finished, folder))


def _write_towers(finished: FinishedRun, folder: Path) -> None:
    run, config = finished.run, finished.finetune_config
    alignment = run.array("stack/alignment")
    n_attributes = len(run.embed.attribute_names)
    for fold, seed_index in product(range(config.n_folds), range(config.n_seeds)):
        logger.info("fold %d of %d: network to ONNX", fold + 1, config.n_folds)
        network_dir = network_folder(folder, fold, seed_index)
        network_dir.mkdir()
        network = load_network(
            run.run_dir / "finetune", fold, seed_index, embed=run.embed, config=config
        )
        write_head(
            network,
            alignment[fold],
            network_dir / "head.onnx",
            n_attributes=n_attributes,
        )
        if network.text_backbone is not None:
            path = network_dir / "text.onnx"
            write_text_tower(network.text_backbone, path, network.pooling)
        if network.image_backbone is not None and network.image_spec is not None:
            write_image_tower(
                network.image_backbone,
                network_dir / "image.onnx",
                size=config.photo_size,
                spec=network.image_spec,
            )
    _write_frozen(finished, folder / "frozen")


def _write_frozen(finished: FinishedRun, folder: Path) -> None:
    """Write the frozen encoders that boosters or networks with frozen photos need."""
    config, inputs = finished.run.embed.config, finished.run.embed.inputs
    text, image = weights_of_run(finished.run.embed)
    if finished.is_stacked and text is not None and inputs.text_spec is not None:
        folder.mkdir()
        backbone = load_text_backbone(text)
        write_text_tower(backbone, folder / "text.onnx", inputs.text_spec.pooling)
    image_is_used = finished.is_stacked or finished.finetune_config.freeze_image
    if image_is_used and inputs.image_spec is not None:
        folder.mkdir(exist_ok=True)
        backbone = load_image_backbone(image, inputs.image_spec, seed=config.seed)
        write_image_tower(
            backbone,
            folder / "image.onnx",
            size=config.photo_size,
            spec=inputs.image_spec,
        )


def _boosters(finished: FinishedRun) -> dict[str, list[str]]:
    """Return the files of the chosen boosters, relative to their stage's folder."""
    if not finished.is_stacked:
        return {}
    folds = range(finished.finetune_config.n_folds)
    names = {"stacker": [f"booster-{fold}.txt" for fold in folds]}
    if "lightgbm" in finished.stack_config.blocks:
        names["lightgbm"] = [f"{RAW_DIR}/{name}" for name in names["stacker"]]
    return names


def _price_blocks(finished: FinishedRun) -> list[str]:
    """Return the blocks of the chosen boosters that are fitted on prices."""
    blocks = finished.stack_config.blocks if finished.is_stacked else ()
    return [name for name in blocks if name in PRICE_BLOCKS]


def _required_packages(finished: FinishedRun) -> list[str]:
    """Return the packages that an export needs, by their names for pip."""
    packages = ["numpy", "pillow", "onnxruntime"]
    packages += ["tokenizers"] * (finished.run.embed.inputs.text_spec is not None)
    has_trees = finished.is_stacked or finished.stack.confidence.has_boosters
    packages += ["lightgbm"] * has_trees
    packages += ["scikit-learn", "pydantic"] * bool(_price_blocks(finished))
    n_priced = int((finished.run.targets().folds >= 0).sum())
    is_indexed = n_priced > finished.stack_config.exact_up_to
    return packages + ["faiss-cpu"] * (bool(_price_blocks(finished)) and is_indexed)


def _copy_boosters(finished: FinishedRun, folder: Path) -> None:
    for names in _boosters(finished).values():
        for name in names:
            target = folder / "boosters" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(finished.run.run_dir / "stack" / name, target)


def _copy_code(folder: Path, *, packages: Sequence[str]) -> None:
    for package, parts in _CODE.items():
        copy_parts(package, parts, folder / package.__name__)
    (folder / "stack" / "__init__.py").touch()  # the original one is for notebooks
    script = Path(__file__).with_name("predict_file.py")
    shutil.copyfile(script, folder / "predict.py")
    requirements = "\n".join(packages) + "\n"
    (folder / "requirements.txt").write_text(requirements, encoding="utf-8")
    (folder / LICENCE_NAME).write_text(licence_text(), encoding="utf-8")


def _manifest(finished: FinishedRun, folder: Path) -> dict[str, object]:
    return {
        "kind": KIND,
        "format": FORMAT,
        "made_from": {
            "embed_key": finished.run.embed.key,
            "finetune_key": finished.run.finetune.key,
            "stack_key": finished.stack.key,
        },
        "chosen": finished.chosen,
        "target": "log1p of price / price_unit, in the catalog's currency, which is "
        "not recorded",
        "price_unit": finished.run.price_unit,
        "trained": finished.run.price_range(),
        **_inputs(finished.run.embed),
        **_networks(finished.finetune_config, folder),
        **_predictors(finished),
        "versions": {**environment(), **{p: metadata.version(p) for p in PACKAGES}},
        "files": {
            path.relative_to(folder).as_posix(): sha256_file(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        },
    }


def _inputs(embed: EmbedManifest) -> dict[str, object]:
    """Return what the model reads of a product, and how."""
    text_spec = embed.inputs.text_spec
    return {
        "columns": dataclasses.asdict(embed.inputs.columns),
        "max_tokens": embed.config.max_tokens,
        "text_dim": embed.text_dim,
        "text_prefix": text_spec.prefix if text_spec else "",
        "image_size": embed.config.photo_size,
        "decimal": embed.config.decimal,
        "image_dim": embed.image_dim,
        "stand_ins": sorted(known_stand_ins(embed)),
        "attributes": embed.attribute_names,
        "n_categories": len(embed.category_sizes),
        "table": [dataclasses.asdict(column) for column in embed.table],
    }


def _networks(config: FinetuneConfig, folder: Path) -> dict[str, object]:
    """Return the folders of the networks and the inputs that they use."""
    return {
        "folds": [
            [
                network_folder(folder, fold, seed_index).relative_to(folder).as_posix()
                for seed_index in range(config.n_seeds)
            ]
            for fold in range(config.n_folds)
        ],
        "fold_max_tokens": config.n_tokens,
        "fold_sees_photos": config.sees_photos,
        "fold_image_size": config.photo_size,
    }


def _predictors(finished: FinishedRun) -> dict[str, object]:
    """Return the blocks and boosters that make a price of the networks' outputs."""
    run, boosters = finished.run, _boosters(finished)
    blocks = list(finished.stack_config.blocks)
    settings: dict[str, object] = {
        "confidence": finished.stack.confidence.as_json(),
        "blocks": blocks,
        "price_blocks": _price_blocks(finished),
        "log_price_columns": {
            name: columns
            for name, block in BLOCKS.items()
            if (columns := block.log_prices_of(run.embed))
        },
        "boosters": {
            kind: [f"boosters/{name}" for name in names]
            for kind, names in boosters.items()
        },
    }
    if "lightgbm" in boosters:
        settings["lightgbm_start"] = float(run.array("stack/lightgbm/starts").mean())
    if finished.is_stacked and "start" in blocks:
        weights = run.array("stack/start_weights")
        settings["start_weights"] = weights.mean(axis=0).tolist()
    return settings
