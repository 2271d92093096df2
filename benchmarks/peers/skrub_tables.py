"""skrub's TextEncoder into HistGradientBoosting."""

import argparse
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from peer import out_of_fold, parse, read_products
from safetensors.torch import load_file, save_file
from sklearn.ensemble import HistGradientBoostingRegressor
from skrub import TextEncoder


def copy_encoder(source: Path, to: Path) -> str:
    """Write the encoder in float32: in float16 a CPU may take many times as long."""
    shutil.copytree(source, to, copy_function=shutil.copy)
    path = to / "model.safetensors"
    weights = {name: weight.float() for name, weight in load_file(path).items()}
    path.unlink()
    save_file(weights, path, {"format": "pt"})
    return str(to)


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
    with tempfile.TemporaryDirectory(dir=options.out.parent) as folder:
        encoder = TextEncoder(
            model_name=copy_encoder(options.text_encoder, Path(folder) / "encoder"),
            n_components=None,
            batch_size=64,
        )
        features = encoder.fit_transform(products["text"])
    products["features"] = list(np.asarray(features, np.float32))
    out_of_fold(products, options, fit)
