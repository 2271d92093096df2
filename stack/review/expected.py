"""Expected prices of a run's own products, each with an interval, out of fold.

The width of an interval depends on how well similar products are priced.

References
----------
Lei et al. (2018), "Distribution-Free Predictive Inference for Regression",
arXiv:1604.04173, section 5.2: locally weighted conformal intervals.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finetune.price_unit import to_price
from stack.blocks.nearest import DenseReferences
from stack.run import FinishedRun, Run

N_SIMILAR = 30
"""Similar products whose errors tell how wide an interval is."""

_MAX_ERROR = 2.0  # in ln price; a wrong price is no reason to doubt its neighbours
_MAX_REFERENCES = 20_000  # a sample of a large catalog is enough for a mean
_LEAST_PRODUCTS = 200  # to fit trees on; below, all intervals are alike
_LEAST_SHARE = 0.3  # of the mean error, so that no interval is nearly a point
_N_TREES = 150
_TREES = {
    "objective": "l2",
    "learning_rate": 0.04,
    "num_leaves": 15,
    "min_data_in_leaf": 40,
    "feature_fraction": 0.6,
    "seed": 0,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}


@dataclass(frozen=True, kw_only=True)
class Expected:
    """Products that have a price and were held out by a fold; arrays of shape (n,)."""

    rows: NDArray[np.intp]
    """Catalog rows, ascending."""

    price: NDArray[np.float64]
    """Present price, catalog currency, as are all prices here."""

    expected: NDArray[np.float64]
    """Price by the models of the other folds."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    """Ends of the interval that should contain `level` percent of the prices."""

    level: int

    @property
    def is_outside(self) -> NDArray[np.bool_]:
        """True where the present price lies outside its interval."""
        return (self.price < self.low) | (self.price > self.high)

    def prices(self, place: int) -> dict[str, float]:
        """Return a product's prices by the names of these fields."""
        names = ("price", "expected", "low", "high")
        return {name: float(getattr(self, name)[place]) for name in names}

    @property
    def log_factor(self) -> NDArray[np.float64]:
        """Return ln(present / expected price)."""
        return np.log(self.price / self.expected)


def read_expected(finished: FinishedRun, *, level: int) -> Expected:
    """Read the present and the expected prices of a run's products.

    Parameters
    ----------
    finished : FinishedRun
    level : int
        Level of the intervals, percent.

    Raises
    ------
    CacheError
        If an array is missing or damaged.
    """
    run, targets = finished.run, finished.run.targets()
    rows = np.flatnonzero(targets.folds >= 0)
    price = targets.price[rows]
    log_price = run.out_of_fold(finished.chosen)[rows]
    expected = to_price(log_price, run.price_unit)
    error = np.log(price / expected)
    spread = _spread(run, rows, np.abs(error))
    rank = min(len(rows) - 1, int(np.ceil((len(rows) + 1) * level / 100)) - 1)
    width = np.sort(np.abs(error) / spread)[rank] * spread
    return Expected(
        rows=rows,
        price=price,
        expected=expected,
        low=expected * np.exp(-width),
        high=expected * np.exp(width),
        level=level,
    )


def _spread(
    run: Run, rows: NDArray[np.intp], error: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the error to expect of each product, fitted on those of other folds."""
    import lightgbm as lgb  # late: it takes a second

    error = np.minimum(error, _MAX_ERROR)
    network, raw = (run.out_of_fold(name)[rows] for name in ("network", "lightgbm"))
    features = np.column_stack(
        [
            np.asarray(run.array("embed/attributes"))[rows],
            network,
            raw,
            network - raw,
            _similar_error(run.array("stack/fused"), rows, error),
        ]
    )
    folds = np.asarray(run.array("finetune/folds"))[rows]
    spread = np.full(len(rows), error.mean())
    for fold in np.unique(folds):
        others = folds != fold
        if others.sum() >= _LEAST_PRODUCTS:
            data = lgb.Dataset(features[others], error[others])
            booster = lgb.train(_TREES, data, num_boost_round=_N_TREES)
            spread[~others] = np.asarray(booster.predict(features[~others]))
    return np.asarray(np.maximum(spread, _LEAST_SHARE * error.mean()) + 1e-6)


def _similar_error(
    fused: NDArray[np.float16], rows: NDArray[np.intp], error: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the mean error of each product's similar products, its own left out."""
    places = np.arange(len(rows))
    if len(rows) > _MAX_REFERENCES:
        order = np.random.default_rng(0).permutation(len(rows))
        places = np.sort(order[:_MAX_REFERENCES])
    references = DenseReferences(fused, rows[places])
    nearest, _ = references.nearest(fused[rows], N_SIMILAR + 1)
    is_other = places[nearest] != np.arange(len(rows))[:, None]
    sums = (error[places[nearest]] * is_other).sum(axis=1)
    return np.asarray(sums / np.maximum(is_other.sum(axis=1), 1))
