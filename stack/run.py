"""Open a run whose networks are trained, and check its records and arrays.

The module imports neither torch nor LightGBM.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embed.catalog.own_copy import read_best_prices, read_run_catalog
from embed.catalog.reader import Catalog
from embed.errors import CacheError
from embed.records import EmbedManifest, require_embedded
from embed.store.arrays import RaggedRows, read_rows
from embed.store.checksums import verify_files
from embed.store.manifest import require_same_key, require_stage
from embed.verify import CHECKED_ARRAYS, verify_embedding
from finetune.config import FinetuneConfig
from finetune.price_unit import to_log_price, to_price
from finetune.records import FinetuneManifest
from stack.config import StackConfig
from stack.records import Chosen, StackManifest

PREDICTIONS = {
    "lightgbm": "stack/lightgbm_log_price",
    "network": "finetune/oof_log_price",
    "blend": "stack/blend_log_price",
    "stacker": "stack/oof_log_price",
}
"""Arrays of out-of-fold log1p prices, by predictor."""

RAW_DIR = "lightgbm"
"""Folder of the boosters whose predictions are the block `lightgbm`."""

REPORT_NAME = "report.json"


def report_remedy(run_dir: Path) -> str:
    """Return the advice to write the report of a run again."""
    command = f"pricestack evaluate --run {shlex.quote(str(run_dir))}"
    return f"Run `{command}`, which writes it again."


@dataclass(frozen=True, kw_only=True)
class Targets:
    """True prices, folds and groups of the products, to fit and judge models."""

    price: NDArray[np.float64]
    """True prices, catalog currency, shape (n_products,); NaN where not trained on."""

    log_price: NDArray[np.float64]
    """log1p price in units of the run; shape and NaN as in `price`."""

    folds: NDArray[np.integer]
    """0 to n_folds - 1, shape (n_products,); -1 where not trained on."""

    groups: NDArray[np.integer]
    """Duplicates share a number, shape (n_products,)."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """The embedding and fine-tuning stages of a run, both finished."""

    run_dir: Path
    embed: EmbedManifest
    finetune: FinetuneManifest

    def array(self, name: str) -> NDArray[Any]:
        """Memory-map an array, named as `stage/name`.

        Raises
        ------
        CacheError
            If an array of `embed` or `finetune` is not as its stage wrote it. Those of
            `stack` are not checked here, see `open_finished_run`.
        """
        stage, _, array = name.partition("/")
        if stage == "embed":
            checked = (array,) if array in CHECKED_ARRAYS else ()
            verify_embedding(self.run_dir / stage, self.embed, checked)
        elif stage == "finetune":
            files = self.finetune.files
            verify_files(self.run_dir / stage, files, [f"{array}.npy"])
        return read_rows(self.run_dir / f"{name}.npy")

    def thumbnails(self) -> RaggedRows:
        """Memory-map the photos of the products as JPEG, by row.

        Raises
        ------
        CacheError
            If they are not as their stage wrote them.
        """
        self.array("embed/thumbnails")
        return RaggedRows(self.run_dir / "embed" / "thumbnails.npy")

    @property
    def price_unit(self) -> float:
        """Amount of catalog currency that the run counts as 1; 1.0 if not recorded."""
        return self.finetune.price_unit

    def catalog(self) -> Catalog:
        """Read the catalog as the embedding stage read it.

        Raises
        ------
        CacheError
            If it is missing or damaged.
        """
        return read_run_catalog(self.run_dir, self.embed)

    def best_prices(self) -> NDArray[np.float64] | None:
        """Return the best predictable prices, shape (n_products,).

        Only the bundled sample has them, as the law of its prices is known; else None.

        Raises
        ------
        CacheError
            If the catalog is missing or damaged.
        """
        return read_best_prices(self.run_dir, self.embed)

    def targets(self) -> Targets:
        """Read the prices, folds and groups of the products.

        Raises
        ------
        CacheError
            If an array is not as its stage wrote it.
        """
        price = np.asarray(self.array("finetune/price"))
        return Targets(
            price=price,
            folds=np.asarray(self.array("finetune/folds")),
            groups=np.asarray(self.array("finetune/groups")),
            log_price=to_log_price(price, self.price_unit),
        )

    def price_range(self) -> tuple[float, float]:
        """Return the lowest and the highest training price, catalog currency."""
        price = self.array("finetune/price")
        return float(np.nanmin(price)), float(np.nanmax(price))

    def held_out_rows(self) -> NDArray[np.intp]:
        """Return the rows whose prices no stage trains on; empty if there are none."""
        if "held_out.npy" not in self.finetune.files:
            return np.zeros(0, np.intp)
        return np.flatnonzero(self.array("finetune/held_out"))

    def held_out_prices(self) -> NDArray[np.float64]:
        """Return the true prices of `held_out_rows`, catalog currency.

        They come from the run's catalog; no stage stores them in an array.

        Raises
        ------
        CacheError
            If a price is not usable, because the catalog changed since fine-tuning.
        """
        catalog, rows = self.catalog(), self.held_out_rows()
        price = np.full(catalog.n_products, np.nan)
        if catalog.price is not None:
            price = catalog.price
        unusable = rows[np.isnan(price[rows])]
        if len(unusable):
            raise CacheError(
                f"{catalog.path}: {catalog.describe(int(unusable[0]))}: has no usable "
                f"price any more, but the run holds it out as a test. Correct the "
                f"price and run `pricestack embed` again."
            )
        return price[rows]

    def anchor_prices(self) -> NDArray[np.float64] | None:
        """Return the anchors' prices by the network of each fold.

        Shape (n_folds, m), catalog currency; None if the run has not recorded them.
        """
        name = "anchor_log_price"
        if f"{name}.npy" not in self.finetune.files:
            return None
        return to_price(self.array(f"finetune/{name}"), self.price_unit)

    def out_of_fold(self, predictor: str) -> NDArray[np.float32]:
        """Return a predictor's log1p prices in units of the run, shape (n_products,).

        Parameters
        ----------
        predictor : str
            A key of `PREDICTIONS`.
        """
        return np.asarray(self.array(PREDICTIONS[predictor]))


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """A run whose stages have all finished."""

    run: Run
    stack: StackManifest

    @property
    def chosen(self) -> Chosen:
        """The predictor that the verdict chose."""
        return self.stack.chosen

    @property
    def is_stacked(self) -> bool:
        """Whether boosters correct the networks."""
        return self.chosen == "stacker"

    @property
    def finetune_config(self) -> FinetuneConfig:
        """Settings of the networks."""
        return self.run.finetune.config

    @property
    def stack_config(self) -> StackConfig:
        """Settings of the boosters."""
        return self.stack.config


def open_run(run_dir: Path) -> Run:
    """Open a run whose networks are trained.

    Raises
    ------
    CacheError
        If a stage has not finished or was made from other inputs.
    """
    embed = require_embedded(run_dir)
    finetune = require_stage(run_dir, FinetuneManifest)
    require_same_key(run_dir, "finetune", finetune.embed_key, embed.key)
    return Run(run_dir=run_dir, embed=embed, finetune=finetune)


def open_finished_run(
    run_dir: Path, *, verify: Sequence[str] = ("stack",)
) -> FinishedRun:
    """Open a run whose stages have all finished.

    Parameters
    ----------
    run_dir : Path
    verify : sequence of str
        Stages whose files are all compared with their checksums now: `finetune`,
        `stack`. `Run.array` compares those of `embed` and `finetune` in any case.

    Raises
    ------
    CacheError
        If a stage has not finished, was made from other inputs or is damaged.
    """
    run = open_run(run_dir)
    stack = require_stage(run_dir, StackManifest)
    require_same_key(run_dir, "stack", stack.finetune_key, run.finetune.key)
    files = {"finetune": run.finetune.files, "stack": stack.files}
    for stage in verify:
        verify_files(run_dir / stage, files[stage])
    return FinishedRun(run=run, stack=stack)
