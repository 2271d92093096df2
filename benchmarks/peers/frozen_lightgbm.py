"""Frozen MiniLM and EfficientNet-B0 features into LightGBM: the notebook way."""

import argparse

import lightgbm as lgb
import numpy as np
import pandas as pd
import torch
from peer import out_of_fold, parse, read_products
from PIL import Image
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from torchvision import models


def embed(products: pd.DataFrame, given: argparse.Namespace) -> np.ndarray:
    model = SentenceTransformer(str(given.text_encoder), device="cpu").float()
    text = model.encode(list(products["text"]), batch_size=64)
    network = models.efficientnet_b0()
    network.classifier = torch.nn.Identity()
    found = network.load_state_dict(load_file(given.image_encoder), strict=False)
    assert all(name.endswith("num_batches_tracked") for name in found.missing_keys)
    network.eval()
    prepare = models.EfficientNet_B0_Weights.IMAGENET1K_V1.transforms()
    image = np.full((len(products), 1280), np.nan, np.float32)
    for row in np.flatnonzero(products["image"] != ""):
        photo = Image.open(products["image"].iloc[row]).convert("RGB")
        with torch.no_grad():
            image[row] = network(prepare(photo)[None])[0].numpy()
    return np.concatenate([text, image], axis=1)


def fit(
    train: pd.DataFrame, held_out: pd.DataFrame, given: argparse.Namespace
) -> np.ndarray:
    rows = np.random.default_rng(0).permutation(len(train))
    valid, rest = np.split(rows, [len(rows) // 5])
    x, y = np.stack(train["features"]), train["log_price"].to_numpy()
    model = lgb.LGBMRegressor(
        objective="regression_l1",
        n_estimators=2000,
        learning_rate=0.05,
        colsample_bytree=0.3,
        n_jobs=2,
        verbosity=-1,
    )
    model.fit(
        x[rest],
        y[rest],
        eval_set=[(x[valid], y[valid])],
        callbacks=[lgb.early_stopping(50, verbose=False)],
    )
    return model.predict(np.stack(held_out["features"]))


if __name__ == "__main__":
    torch.set_num_threads(2)
    options = parse()
    products = read_products(options)
    products["features"] = list(embed(products, options))
    out_of_fold(products, options, fit)
