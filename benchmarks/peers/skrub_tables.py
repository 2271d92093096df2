"""skrub's TextEncoder into HistGradientBoosting."""

import argparse

import numpy as np
import pandas as pd
from peer import out_of_fold, parse, read_products
from sklearn.ensemble import HistGradientBoostingRegressor
from skrub import TextEncoder


def fit(
    train: pd.DataFrame, held_out: pd.DataFrame, given: argparse.Namespace
) -> np.ndarray:
    x = np.stack(train["features"])
    model = HistGradientBoostingRegressor(
        loss="absolute_error", max_iter=1000, early_stopping=True, random_state=0
    )
    model.fit(x, train["log_price"])
    return model.predict(np.stack(held_out["features"]))


if __name__ == "__main__":
    options = parse()
    # Neither a price nor another row goes into what it says of a text.
    products = read_products(options)
    encoder = TextEncoder(
        model_name=str(options.text_encoder), n_components=None, batch_size=64
    )
    features = encoder.fit_transform(products["text"])
    products["features"] = list(np.asarray(features, np.float32))
    out_of_fold(products, options, fit)
