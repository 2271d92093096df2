"""What the peers' scripts share; it needs numpy and pandas alone."""

import argparse
import json
import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

Fit = Callable[[pd.DataFrame, pd.DataFrame, argparse.Namespace], np.ndarray]


def parse() -> argparse.Namespace:
    """Read the options that each peer is started with."""
    options = argparse.ArgumentParser()
    for name in ("products", "out", "text-encoder", "image-encoder"):
        options.add_argument(f"--{name}", type=Path, required=True)
    options.add_argument("--minutes", type=float, required=True)
    return options.parse_args()


def read_products(given: argparse.Namespace) -> pd.DataFrame:
    """Read the products; an empty image is none."""
    return pd.read_csv(
        given.products,
        dtype={"sample_id": str, "text": str, "image": str},
        keep_default_na=False,
    ).astype({"price": float, "fold": int})


def out_of_fold(products: pd.DataFrame, given: argparse.Namespace, fit: Fit) -> None:
    """Price each fold by a model of the others, and write prices and what it took.

    Parameters
    ----------
    products : DataFrame
        With `log_price` and `fold`.
    given : Namespace
    fit : callable
        Of training rows, held-out rows (without prices) and the options; returns
        log1p prices of the held-out rows.
    """
    predicted = np.full(len(products), np.nan)
    products = products.assign(log_price=np.log1p(products["price"]))
    for fold in sorted(products["fold"].unique()):
        inside = (products["fold"] == fold).to_numpy()
        held_out = products[inside].drop(columns=["price", "log_price"])
        predicted[inside] = fit(products[~inside], held_out, given)
    prices = np.maximum(np.expm1(predicted), 0.01)
    pd.DataFrame({"sample_id": products["sample_id"], "price": prices}).to_csv(
        given.out, index=False
    )
    usage = [
        resource.getrusage(of).ru_maxrss
        for of in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ]
    # Of the largest process; workers beside it are not counted.
    print(json.dumps({"peak_mib": max(usage) / 1024}))
