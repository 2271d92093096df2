"""What an export needs for the blocks that are fitted on prices.

Their own files, the code that reads them, and the products that they look at: log
prices, folds, and for `neighbours` the embeddings.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import embed
from embed.durable import save_array
from stack import blocks
from stack.blocks.fitted import ARRAY_NAME, BLOCKS_DIR, RECORD_NAME, features_of
from stack.run import Run

KNOWN_DIR = "known"
"""Holds what is known of the run's priced products."""

# Beside what predict.py imports in any case.
_EMBED_MODULES = ("arrays", "durable", "manifest", "schema")
_BLOCK_MODULES = (
    "__init__",
    "head",
    "lexical",
    "nearest",
    "neighbours",
    "products",
    "statistics",
    "terms",
)


def write_price_blocks(run: Run, names: Sequence[str], folder: Path) -> None:
    """Write blocks so that `stack.export.pricing` can compute them.

    Parameters
    ----------
    run : Run
        With a finished stacking stage.
    names : sequence of str
        Of blocks, each fitted by that stage.
    folder : Path
        Of the export.
    """
    for name in names:
        shutil.copytree(
            run.run_dir / "stack" / BLOCKS_DIR / name,
            folder / BLOCKS_DIR / name,
            ignore=shutil.ignore_patterns(ARRAY_NAME, RECORD_NAME),
        )
    _write_known(run, folder / KNOWN_DIR, with_features="neighbours" in names)
    _copy_code(folder)


def _write_known(run: Run, folder: Path, *, with_features: bool) -> None:
    folder.mkdir()
    folds = np.asarray(run.array("finetune/folds"))
    rows = np.flatnonzero(folds >= 0)
    known = {
        "log_price": np.log1p(run.array("finetune/price")[rows]),
        "folds": folds[rows],
    }
    if with_features:
        known |= {name: of[rows] for name, of in vars(features_of(run)).items()}
    for name, array in known.items():
        save_array(folder / f"{name}.npy", array)


def _copy_code(folder: Path) -> None:
    (folder / "stack" / "blocks").mkdir(parents=True)
    (folder / "stack" / "__init__.py").touch()
    for package, names, into in (
        (embed, _EMBED_MODULES, folder / "embed"),
        (blocks, _BLOCK_MODULES, folder / "stack" / "blocks"),
    ):
        ours = Path(str(package.__file__)).parent
        for name in names:
            shutil.copyfile(ours / f"{name}.py", into / f"{name}.py")
