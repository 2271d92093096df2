"""TF-IDF of words (1 to 2) and letters (3 to 5), and a ridge on log price."""

import argparse

import numpy as np
import pandas as pd
from peer import out_of_fold, parse, read_products
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import PredefinedSplit
from sklearn.pipeline import make_pipeline, make_union

WORD = r"\b\w+\b"  # of one letter too: the 6 of "Pack of 6"


def fit(
    train: pd.DataFrame, held_out: pd.DataFrame, given: argparse.Namespace
) -> np.ndarray:
    features = make_union(
        TfidfVectorizer(ngram_range=(1, 2), token_pattern=WORD, sublinear_tf=True),
        TfidfVectorizer(
            analyzer="char_wb", ngram_range=(3, 5), min_df=3, sublinear_tf=True
        ),
    )
    # The penalty is chosen on a fifth of the training rows.
    folds = np.where(np.random.default_rng(0).random(len(train)) < 0.2, 0, -1)
    ridge = RidgeCV(alphas=(0.5, 1, 2, 4), cv=PredefinedSplit(folds))
    model = make_pipeline(features, ridge).fit(train["text"], train["log_price"])
    return model.predict(held_out["text"])


if __name__ == "__main__":
    options = parse()
    out_of_fold(read_products(options), options, fit)
