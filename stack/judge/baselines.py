"""Baselines for held-out products, fitted on all products that are trained on."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stack.blocks.fitted import block_matrix, inputs_of
from stack.blocks.registry import BLOCKS, RAW_BLOCKS
from stack.config import StackConfig
from stack.run import Run
from stack.trees.matrix import make_dataset
from stack.trees.residual import Forest, predict_residual

_ALPHAS = (0.5, 1.0, 2.0, 4.0)
_WORD = r"\b\w+\b"  # of one letter too: the 6 of "Pack of 6"


def price_by_lightgbm(run: Run, config: StackConfig) -> NDArray[np.float32]:
    """Price held-out products by a LightGBM on the frozen features.

    Its settings are those of the baseline `lightgbm`, which is fitted by fold.

    Returns
    -------
    ndarray of shape (n_held_out,), float32
        log1p prices in units of the run.
    """
    settings = dataclasses.replace(config, n_trials=0, n_seeds=1)
    arrays = {name: run.array(str(BLOCKS[name].array)) for name in RAW_BLOCKS}
    matrix = block_matrix(arrays, embed=run.embed)
    targets = run.targets()
    log_price, rows = targets.log_price, np.flatnonzero(targets.folds >= 0)
    start = np.float32(np.median(log_price[rows]))
    forest = Forest(
        matrix,
        make_dataset(matrix, log_price, settings),
        log_price,
        targets.groups,
        settings,
    )
    booster = forest.fit(0, rows, np.full(len(log_price), start))
    added = predict_residual(
        [booster], matrix, rows=run.held_out_rows(), config=settings
    )
    return (start + added).astype(np.float32)


def price_by_ridge(run: Run, *, seed: int) -> NDArray[np.float32]:
    """Price held-out products by a ridge on TF-IDF of words and letters.

    Returns
    -------
    ndarray of shape (n_held_out,), float32
        log1p prices in units of the run.
    """
    texts, targets = inputs_of(run).texts, run.targets()
    rows = np.flatnonzero(targets.folds >= 0)
    return fit_ridge(
        [texts[row] for row in rows.tolist()],
        targets.log_price[rows],
        [texts[row] for row in run.held_out_rows()],
        groups=targets.groups[rows],
        seed=seed,
    )


def fit_ridge(
    texts: Sequence[str],
    log_price: NDArray[np.float64],
    new_texts: Sequence[str],
    *,
    groups: NDArray[np.integer],
    seed: int,
) -> NDArray[np.float32]:
    """Fit a ridge on TF-IDF of words (1 to 2) and letters (3 to 5); price new texts.

    The penalty is chosen on a fifth of the groups.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import PredefinedSplit
    from sklearn.pipeline import make_pipeline, make_union

    _, member = np.unique(groups, return_inverse=True)
    is_valid = (
        np.random.default_rng(seed).permutation(member.max() + 1)[member] % 5 == 0
    )
    words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=_WORD, sublinear_tf=True)
    letters = TfidfVectorizer(
        analyzer="char_wb", ngram_range=(3, 5), min_df=3, sublinear_tf=True
    )
    split = PredefinedSplit(np.where(is_valid[member], 0, -1))
    model = make_pipeline(
        make_union(words, letters), RidgeCV(alphas=_ALPHAS, cv=split)
    ).fit(texts, log_price)
    return np.asarray(model.predict(new_texts), np.float32)
