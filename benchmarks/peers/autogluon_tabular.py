"""AutoGluon's TabularPredictor, which turns the text into n-grams, in a time limit."""

import argparse
import tempfile

import numpy as np
import pandas as pd
from autogluon.tabular import TabularPredictor
from peer import out_of_fold, parse, read_products


def fit(
    train: pd.DataFrame, held_out: pd.DataFrame, given: argparse.Namespace
) -> np.ndarray:
    columns = ["text", "log_price"]
    with tempfile.TemporaryDirectory(dir=given.out.parent) as folder:
        predictor = TabularPredictor(
            label="log_price",
            problem_type="regression",
            eval_metric="mean_absolute_error",
            path=folder,
            verbosity=1,
        ).fit(
            train[columns],
            time_limit=60 * given.minutes / given.n_folds,
            presets="medium_quality",  # better ones did not fit in some minutes a fold
            num_cpus=2,
        )
        return predictor.predict(held_out[["text"]]).to_numpy()


if __name__ == "__main__":
    options = parse()
    products = read_products(options)
    options.n_folds = products["fold"].nunique()
    out_of_fold(products, options, fit)
