"""AutoGluon's MultiModalPredictor on the text, with MiniLM from a folder, in a limit.

Photos are left out: its image model comes from a hub that may not be there, and nine
of ten products of the Amazon catalog have none.
"""

import argparse
import tempfile

import numpy as np
import pandas as pd
from autogluon.multimodal import MultiModalPredictor
from peer import out_of_fold, parse, read_products


def fit(
    train: pd.DataFrame, held_out: pd.DataFrame, given: argparse.Namespace
) -> np.ndarray:
    with tempfile.TemporaryDirectory(dir=given.out.parent) as folder:
        predictor = MultiModalPredictor(
            label="log_price",
            problem_type="regression",
            eval_metric="mean_absolute_error",
            path=f"{folder}/model",
            verbosity=1,
        ).fit(
            train[["text", "log_price"]],
            time_limit=60 * given.minutes / given.n_folds,
            hyperparameters={
                "model.names": ["hf_text"],
                "model.hf_text.checkpoint_name": str(given.text_encoder),
                "model.hf_text.max_text_len": 64,
                "env.num_gpus": 0,
                "env.num_workers": 0,
                "env.precision": "32",
            },
        )
        return predictor.predict(held_out[["text"]]).to_numpy()


if __name__ == "__main__":
    options = parse()
    products = read_products(options)
    options.n_folds = products["fold"].nunique()
    out_of_fold(products, options, fit)
