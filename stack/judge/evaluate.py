"""Compare each predictor's prices with the true ones.

Every prediction here is out of fold.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetune.price_unit import to_log_price, to_price
from finetune.score import smape, smape_half, smape_log1p
from stack.config import StackConfig
from stack.judge.doubts import find_doubts
from stack.judge.verdict import checked_smape_rows, decide, standard_error

PREDICTOR_LABELS = {
    "median": "Constant median",
    "lightgbm": "LightGBM on raw features",
    "network": "Network",
    "blend": "Blend (control)",
    "stacker": "Stacker",
    "chosen": "Chosen",
}
"""Rows of the comparison, in order."""

_GIVEN = ("lightgbm", "network", "blend", "stacker")
_N_BANDS = 5


@dataclass(frozen=True, kw_only=True)
class Scores:
    """How far predicted prices lie from true ones."""

    smape: float
    """Official SMAPE, percent, 0 to 200."""

    smape_se: float
    """Standard error of `smape` over products, duplicates taken together."""

    smape_half: float
    """SMAPE in the 0 to 100 convention."""

    smape_log1p: float
    """SMAPE (0 to 200) of log1p prices in catalog currency. Not comparable to the
    other two, nor between currencies."""

    mae: float
    """Mean absolute error, catalog currency."""

    median_ape: float
    """Median absolute percentage error, percent of the true price."""

    r2_log: float
    """R² of log1p prices in units of the run; NaN if all true prices are equal."""


def score(
    price: NDArray[np.floating],
    predicted: NDArray[np.floating],
    groups: NDArray[np.integer] | None = None,
    *,
    price_unit: float = 1.0,
) -> Scores:
    """Score predicted prices.

    Parameters
    ----------
    price, predicted : ndarray of shape (n_products,)
        True and predicted prices in catalog currency, not log prices.
    groups : ndarray of shape (n_products,), int, optional
        Duplicates share a number; they count once in the standard error.
    price_unit : float
        Unit of the run, catalog currency.

    Returns
    -------
    Scores

    Raises
    ------
    ValueError
        If the shapes differ or there is no row.
    """
    rows = checked_smape_rows(price, predicted, where="score")
    error = np.abs(price - predicted)
    return Scores(
        smape=smape(price, predicted),
        smape_se=standard_error(rows, groups),
        smape_half=smape_half(price, predicted),
        smape_log1p=smape_log1p(price, predicted),
        mae=float(error.mean()),
        median_ape=float(100 * np.median(error / price)),
        r2_log=_r2(
            to_log_price(price, price_unit), to_log_price(predicted, price_unit)
        ),
    )


def score_by_band(
    price: NDArray[np.floating], predicteds: Mapping[str, NDArray[np.floating]]
) -> list[dict[str, object]]:
    """Return the SMAPE of each predictor in each fifth of the true prices.

    Parameters
    ----------
    price : ndarray of shape (n_products,)
        True prices, catalog currency.
    predicteds : mapping of str to ndarray of shape (n_products,)
        Predicted prices.

    Returns
    -------
    list of dict
        Cheapest first: `low` and `high` (least and greatest price in it), `n`, `smape`
        by predictor. Equal prices share a band, so there may be fewer than five.
    """
    return [
        {
            "low": float(price[inside].min()),
            "high": float(price[inside].max()),
            **score_part(price, predicteds, inside),
        }
        for inside in price_bands(price)
    ]


def price_bands(price: NDArray[np.floating]) -> list[NDArray[np.bool_]]:
    """Divide products into fifths of the true prices, cheapest first.

    Parameters
    ----------
    price : ndarray of shape (n_products,)
        True prices.

    Returns
    -------
    list of ndarray of bool, shape (n_products,)
        Equal prices share a band, so there may be fewer than five; none is empty.
    """
    _, index, n_equal = np.unique(price, return_inverse=True, return_counts=True)
    middle_rank = np.cumsum(n_equal) - n_equal / 2
    band = (_N_BANDS * middle_rank / len(price)).astype(int)[index]
    return [band == b for b in np.unique(band)]


def calibration_slope(
    price: NDArray[np.floating], predicted: NDArray[np.floating]
) -> float:
    """Return the slope a of the least-squares line ln price = a·ln predicted + b.

    A diagnostic: below 1 the predictions spread too far (an over-trained network),
    above 1 they shrink towards the middle (boosters). NaN if all predictions are equal.

    Parameters
    ----------
    price, predicted : ndarray of shape (n_products,)
        Prices in catalog currency, above 0.
    """
    true = np.log(price, dtype=np.float64)
    log_predicted = np.log(predicted, dtype=np.float64)
    spread = log_predicted - log_predicted.mean()
    return _ratio(float(spread @ (true - true.mean())), float(spread @ spread))


def evaluate_predictions(
    price: NDArray[np.floating],
    folds: NDArray[np.integer],
    *,
    predictions: Mapping[str, NDArray[np.floating]],
    image_ok: NDArray[np.bool_],
    config: StackConfig,
    groups: NDArray[np.integer] | None = None,
    best_price: NDArray[np.floating] | None = None,
    price_unit: float = 1.0,
    by_network: NDArray[np.floating] | None = None,
) -> dict[str, Any]:
    """Compare all predictors and decide which one serves.

    Parameters
    ----------
    price : ndarray of shape (n_products,)
        True prices, catalog currency; NaN only where unpriced.
    folds : ndarray of shape (n_products,), int
        Fold of each product; -1 where unpriced. Such rows are left out and counted.
    predictions : mapping of str to ndarray of shape (n_products,)
        Out-of-fold log1p prices of `lightgbm` (on raw features), `network`, `blend`
        (the control) and `stacker`.
    image_ok : ndarray of shape (n_products,), bool
        Whether the product's photo was read.
    config : StackConfig
        Resamples and seed of the intervals.
    groups : ndarray of shape (n_products,), int, optional
        Duplicates share a number; they count once in standard errors and intervals.
    best_price : ndarray of shape (n_products,), optional
        The best predictable price, for catalogs made by a known rule; NaN elsewhere.
    price_unit : float
        Unit of the log prices, catalog currency.
    by_network : ndarray of shape (n_folds, m), optional
        Prices of a sample of products by the network of each fold, catalog currency.

    Returns
    -------
    dict
        Ready for JSON, not-a-number as None: `n_products`, `n_unpriced`, `n_folds`,
        `predictors` (in the order of `PREDICTOR_LABELS`), `bands` and `image` (SMAPE of
        each), `calibration_slope`, `verdict`, `doubts` (from `find_doubts`), `best`.

    Raises
    ------
    ValueError
        If a prediction is missing, or an array has another length or a value that is
        not finite in a fold.
    """
    _check_arrays(folds, {"price": price, "image_ok": image_ok, **predictions})
    in_fold = folds >= 0
    fold_groups = None if groups is None else groups[in_fold]
    true = np.asarray(price[in_fold], dtype=np.float64)
    prices = {name: to_price(predictions[name][in_fold], price_unit) for name in _GIVEN}
    verdict = decide(
        true,
        network=prices["network"],
        stacker=prices["stacker"],
        blend=prices["blend"],
        n_bootstrap=config.n_bootstrap,
        seed=config.seed,
        groups=fold_groups,
    )
    prices["median"] = median_of_other_folds(true, folds[in_fold])
    prices["chosen"] = prices[verdict.chosen]
    prices = {name: prices[name] for name in PREDICTOR_LABELS}
    report: dict[str, object] = {
        "n_products": int(in_fold.sum()),
        "n_unpriced": int((~in_fold).sum()),
        "n_folds": len(np.unique(folds[in_fold])),
        "predictors": _score_all(true, prices, fold_groups, price_unit=price_unit),
        "bands": score_by_band(true, prices),
        "image": {
            "present": score_part(true, prices, image_ok[in_fold]),
            "absent": score_part(true, prices, ~image_ok[in_fold]),
        },
        "calibration_slope": {
            name: calibration_slope(true, prices[name])
            for name in ("network", "chosen")
        },
        "verdict": verdict.as_json(),
        "doubts": asdict(
            find_doubts(
                true, folds[in_fold], prices, fold_groups, by_network=by_network
            )
        ),
        "best": None,
    }
    if best_price is not None and (known := np.isfinite(best_price[in_fold])).any():
        both = {"best": best_price[in_fold], "chosen": prices["chosen"]}
        report["best"] = score_part(true, both, known)
    as_json: dict[str, Any] = json.loads(
        json.dumps(report), parse_constant=lambda _: None
    )
    return as_json


def _score_all(
    price: NDArray[np.floating],
    prices: Mapping[str, NDArray[np.floating]],
    groups: NDArray[np.integer] | None,
    *,
    price_unit: float,
) -> list[dict[str, object]]:
    """Return the rows of the comparison, in order."""
    return [
        {
            "name": name,
            "label": label,
            **asdict(score(price, prices[name], groups, price_unit=price_unit)),
        }
        for name, label in PREDICTOR_LABELS.items()
    ]


def median_of_other_folds(
    price: NDArray[np.float64], folds: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Predict the median price of the other folds for each product: the baseline."""
    predicted = np.empty(len(price))
    for fold in np.unique(folds):
        predicted[folds == fold] = np.median(price[folds != fold])
    return predicted


def score_part(
    price: NDArray[np.floating],
    predicteds: Mapping[str, NDArray[np.floating]],
    inside: NDArray[np.bool_],
) -> dict[str, object]:
    """Return the number of some products, and the SMAPE of each predictor on them.

    Parameters
    ----------
    price : ndarray of shape (n_products,)
        True prices.
    predicteds : mapping of str to ndarray of shape (n_products,)
        Predicted prices by predictor.
    inside : ndarray of shape (n_products,), bool

    Returns
    -------
    dict
        `n` and `smape`, by predictor; None without products.
    """
    n = int(inside.sum())
    return {
        "n": n,
        "smape": {
            name: smape(price[inside], predicted[inside]) if n else None
            for name, predicted in predicteds.items()
        },
    }


def _check_arrays(
    folds: NDArray[np.integer], arrays: Mapping[str, NDArray[np.generic]]
) -> None:
    where = "evaluate_predictions"
    if missing := [name for name in _GIVEN if name not in arrays]:
        raise ValueError(
            f"{where}: predictions must have {', '.join(_GIVEN)}; "
            f"missing: {', '.join(missing)}"
        )
    if len(np.unique(folds[folds >= 0])) < 2:
        raise ValueError(
            f"{where}: needs at least 2 folds, for the constant median is that of the "
            f"other folds"
        )
    for name, array in arrays.items():
        if array.shape != folds.shape:
            raise ValueError(
                f"{where}: {name} must have the shape of folds, {folds.shape}, got "
                f"{array.shape}"
            )
        if bad := np.flatnonzero((folds >= 0) & ~np.isfinite(array)).tolist():
            raise ValueError(
                f"{where}: {name} must be finite in every fold, row {bad[0]} (of "
                f"{len(bad)} such) is {array[bad[0]]}. Give unpriced rows fold -1; "
                f"else run the stage again that wrote it."
            )


def _r2(true: NDArray[np.floating], predicted: NDArray[np.floating]) -> float:
    residual = float(np.square(true - predicted).sum())
    return 1 - _ratio(residual, float(np.square(true - true.mean()).sum()))


def _ratio(numerator: float, denominator: float) -> float:
    # Rounding leaves a constant a spread near 1e-28, not 0.
    return numerator / denominator if denominator > 1e-20 else float("nan")
