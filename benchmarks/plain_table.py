"""Compare a run on table columns with a plain LightGBM on the same columns and folds.

`python -m benchmarks.plain_table RUN` prints the out-of-fold RMSE of the log price.
"""

import argparse
from pathlib import Path

import lightgbm as lgb
import numpy as np
import pandas as pd

from stack.run import Run, open_run

PREDICTORS = ("network", "lightgbm", "stacker")


def main() -> None:
    """Print the RMSE of the run's predictors and of two plain LightGBM models."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("run", type=Path)
    run = open_run(options.parse_args().run)
    targets = run.targets()
    rows = targets.folds >= 0
    predictions = {name: run.out_of_fold(name).astype(float) for name in PREDICTORS}
    predictions |= {
        "plain LightGBM, 100 trees": plain_lightgbm(run),
        "plain LightGBM, 500 trees": plain_lightgbm(
            run, n_estimators=500, learning_rate=0.03
        ),
    }
    for name, log_price in predictions.items():
        error = (log_price - targets.log_price)[rows]
        print(f"{name:<26} {np.sqrt(np.mean(error**2)):.4f}")


def plain_lightgbm(run: Run, **settings: float) -> np.ndarray:
    """Return out-of-fold log1p prices, from the table columns alone."""
    targets, catalog = run.targets(), run.catalog()
    table = pd.DataFrame(catalog.table)
    for name, kind in catalog.columns.kinds.items():
        if kind == "category":
            table[name] = table[name].astype("category")
        else:
            table[name] = pd.to_numeric(table[name], errors="coerce")
    log_price = np.full(len(table), np.nan)
    for fold in range(targets.folds.max() + 1):
        train, held_out = targets.folds >= 0, targets.folds == fold
        train &= ~held_out
        model = lgb.LGBMRegressor(num_threads=1, verbose=-1, random_state=0, **settings)
        model.fit(table[train], targets.log_price[train])
        log_price[held_out] = model.predict(table[held_out])
    return log_price


if __name__ == "__main__":
    main()
