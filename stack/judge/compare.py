"""Compare two runs on the products that both have priced out of fold."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from embed.errors import CacheError
from embed.store.checksums import verify_files
from embed.store.manifest import require_same_key, require_stage
from finetune.price_unit import to_price
from finetune.score import smape_rows
from stack.config import StackConfig
from stack.judge.evaluate import score, score_by_band
from stack.judge.verdict import paired_bootstrap
from stack.records import IntervalRecord, StackManifest
from stack.run import PREDICTIONS, open_run

Predictor = Literal["chosen", "network", "stacker", "lightgbm", "blend"]
_SAME_PRICE = 1e-6  # relative; float32 rounding stays below it
_NAMED = 5


class CompareError(CacheError):
    """Two runs that cannot be compared."""


@dataclass(frozen=True, kw_only=True)
class PricedRun:
    """Out-of-fold prices of one run, unpriced products left out."""

    run_dir: Path
    predictor: str
    """Name of the predictor itself, never "chosen"."""

    recipe: str
    n_folds: int
    catalog_sha256: str
    sample_id: NDArray[np.str_]  # (n,)
    price: NDArray[np.float64]  # (n,), true
    predicted: NDArray[np.float64]  # (n,)
    folds: NDArray[np.int8]  # (n,)
    groups: NDArray[np.int64]  # (n,), duplicates share a number
    image_ok: NDArray[np.bool_]  # (n,)

    def rows(self, at: NDArray[np.intp]) -> "PricedRun":
        """Return the run with only the products in rows `at`."""
        names = ("sample_id", "price", "predicted", "folds", "groups", "image_ok")
        arrays = {name: getattr(self, name)[at] for name in names}
        return PricedRun(**{**vars(self), **arrays})


def compare_runs(
    run_a: Path,
    run_b: Path,
    *,
    predictor: Predictor = "chosen",
    n_bootstrap: int = StackConfig.n_bootstrap,
    seed: int = StackConfig.seed,
) -> dict[str, object]:
    """Compare two runs, paired over the products that they have in common.

    Parameters
    ----------
    run_a, run_b : Path
        Run folders; with `predictor="network"` stacking need not have finished.
    predictor : str
        Predictor whose out-of-fold prices are compared; "chosen" is each run's own
        verdict.
    n_bootstrap, seed : int
        Resamples and seed of the interval.

    Returns
    -------
    dict
        Ready for JSON: `a`, `b` (descriptions), `n_common`, `price_mismatch` (products
        left out because their prices differ between the runs), `scores`, `difference`
        (SMAPE of A minus that of B with its 95 % interval), `closer` (shares of
        products), `bands`, `image`, `notes`, `sentence`.

    Raises
    ------
    CacheError
        If a stage is missing or damaged, or the runs have no product in common.
    """
    whole_a, whole_b = (open_priced(run, predictor) for run in (run_a, run_b))
    a, b, mismatch = _pair(whole_a, whole_b)
    difference = paired_bootstrap(
        a.price,
        a.predicted,
        b.predicted,
        n_bootstrap=n_bootstrap,
        seed=seed,
        groups=a.groups,
    )
    prices = {"a": a.predicted, "b": b.predicted}
    error_a, error_b = (smape_rows(a.price, prices[side]) for side in ("a", "b"))
    return {
        "a": _about(whole_a),
        "b": _about(whole_b),
        "n_common": len(a.price),
        "price_mismatch": mismatch,
        "scores": {side: _scores(a.price, prices[side], a.groups) for side in prices},
        "difference": difference.as_json(),
        "closer": {
            "a": float((error_a < error_b).mean()),
            "b": float((error_b < error_a).mean()),
            "same": float((error_a == error_b).mean()),
        },
        "bands": score_by_band(a.price, prices),
        "image": {
            "present": _part(error_a, error_b, a.image_ok),
            "absent": _part(error_a, error_b, ~a.image_ok),
        },
        "notes": _notes(whole_a, whole_b, a, b),
        "sentence": _sentence(difference, len(a.price)),
    }


def open_priced(run_dir: Path, predictor: Predictor) -> PricedRun:
    """Read the out-of-fold prices of a run, checked against their checksums.

    Raises
    ------
    CacheError
        If a stage that is needed is missing, stale or damaged.
    """
    run = open_run(run_dir)
    name: str = predictor
    if predictor != "network":
        stack = require_stage(run_dir, StackManifest)
        require_same_key(run_dir, "stack", stack.finetune_key, run.finetune.key)
        name = stack.chosen if predictor == "chosen" else predictor
        stage, _, array_name = PREDICTIONS[name].partition("/")
        if stage == "stack":
            verify_files(run_dir / stage, stack.files, [f"{array_name}.npy"])

    def array(name: str) -> NDArray[Any]:
        rows = run.array(name)
        _require_shape(rows, run_dir / f"{name}.npy", run.embed.n_products)
        return rows

    folds = np.asarray(array("finetune/folds"))
    priced_rows = np.flatnonzero(folds >= 0)
    config = run.finetune.config
    return PricedRun(
        run_dir=run_dir,
        predictor=name,
        recipe=config.recipe,
        n_folds=config.n_folds,
        catalog_sha256=run.embed.inputs.catalog_sha256,
        sample_id=array("embed/sample_id")[priced_rows],
        price=array("finetune/price")[priced_rows],
        predicted=to_price(array(PREDICTIONS[name])[priced_rows], run.price_unit),
        folds=folds[priced_rows],
        groups=array("finetune/groups")[priced_rows],
        image_ok=array("embed/image_ok")[priced_rows],
    )


def _require_shape(rows: NDArray[Any], path: Path, n_products: int) -> None:
    if rows.shape != (n_products,):
        raise CacheError(
            f"{path}: must have the shape ({n_products},), as the run has that many "
            f"products, found {rows.shape}. Delete the folder {path.parent} and run "
            f"the stage again."
        )


def _pair(a: PricedRun, b: PricedRun) -> tuple[PricedRun, PricedRun, dict[str, object]]:
    """Restrict both runs to their common products, in the order of A."""
    _, in_a, in_b = np.intersect1d(
        a.sample_id, b.sample_id, assume_unique=True, return_indices=True
    )
    if not len(in_a):
        raise CompareError(
            f"{a.run_dir} and {b.run_dir}: no priced product has the same sample_id in "
            f"both ({a.sample_id[0]!s} … against {b.sample_id[0]!s} …). Compare runs "
            f"on the same catalog, or on parts of it."
        )
    order = np.argsort(in_a)
    a, b = a.rows(in_a[order]), b.rows(in_b[order])
    same = np.isclose(a.price, b.price, rtol=_SAME_PRICE, atol=0)
    differing = [str(sample_id) for sample_id in a.sample_id[~same]]
    if not same.any():
        raise CompareError(
            f"{a.run_dir} and {b.run_dir}: all {len(differing)} common products have "
            f"different prices ({differing[0]}: {a.price[0]:g} against "
            f"{b.price[0]:g}). Compare runs on prices of one currency and one time."
        )
    same_rows = np.flatnonzero(same)
    return (
        a.rows(same_rows),
        b.rows(same_rows),
        {
            "n": len(differing),
            "first_sample_ids": differing[:_NAMED],
        },
    )


def _about(run: PricedRun) -> dict[str, object]:
    return {
        "run": str(run.run_dir),
        "predictor": run.predictor,
        "recipe": run.recipe,
        "n_folds": run.n_folds,
        "n_priced": len(run.price),
    }


def _scores(
    price: NDArray[np.float64],
    predicted: NDArray[np.float64],
    groups: NDArray[np.integer],
) -> dict[str, float]:
    scores = score(price, predicted, groups)
    return {"smape": scores.smape, "smape_se": scores.smape_se}


def _part(
    error_a: NDArray[np.float64],
    error_b: NDArray[np.float64],
    inside: NDArray[np.bool_],
) -> dict[str, object]:
    n = int(inside.sum())
    means = {
        side: float(error[inside].mean()) if n else None
        for side, error in (("a", error_a), ("b", error_b))
    }
    return {"n": n, "smape": means}


def _notes(
    whole_a: PricedRun, whole_b: PricedRun, a: PricedRun, b: PricedRun
) -> list[str]:
    """Describe what differs between two runs besides the model."""
    notes = [
        "The interval covers the random choice of products, not the randomness of "
        "training: the same recipe with another seed may differ as well. Train both "
        "with other seeds before choosing a recipe by a small difference."
    ]
    if whole_a.catalog_sha256 != whole_b.catalog_sha256:
        notes.append(
            f"The catalogs differ: A has {len(whole_a.price):,} priced products, B "
            f"{len(whole_b.price):,}. Both are judged on the common products only, but "
            f"each was trained on all of its own."
        )
    if whole_a.n_folds != whole_b.n_folds:
        share_a, share_b = (100 * (1 - 1 / run.n_folds) for run in (whole_a, whole_b))
        notes.append(
            f"The numbers of folds differ: A has {whole_a.n_folds}, so that a network "
            f"learns from {share_a:.0f} % of the products, B {whole_b.n_folds} and "
            f"{share_b:.0f} %. Every price is out of fold in its own run, so the "
            f"comparison is paired and fair to both, but part of the difference comes "
            f"from more training products."
        )
    elif not np.array_equal(a.folds, b.folds):
        notes.append(
            "The folds differ: which products a network learned from is part of the "
            "difference. Every price is out of fold in its own run, so the comparison "
            "is still paired."
        )
    return notes


def _sentence(difference: IntervalRecord, n: int) -> str:
    finding = f"SMAPE of A minus B on {n:,} common products: {difference}"
    if difference.high < 0:
        return f"A is better. {finding}, wholly below zero."
    if difference.low > 0:
        return f"B is better. {finding}, wholly above zero."
    return f"The difference is within the noise. {finding}, which includes zero."
