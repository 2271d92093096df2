"""Measure how badly a product's photo fits its text, among the texts of a catalog.

A ridge regression, fitted on the products of the other folds, predicts the text
features from the photo features. If many other texts are nearer to that prediction than
the product's own, photo and text may contradict each other.
"""

import numpy as np
from numpy.typing import NDArray

from stack.blocks.nearest import unit_rows

_RIDGE = 1.0
_LEAST_PRODUCTS = 50
_MAX_TEXTS = 2000  # that a photo is compared with
_BINS = np.array([0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1])


def photo_misfit(
    image: NDArray[np.floating],
    text: NDArray[np.floating],
    folds: NDArray[np.integer],
) -> NDArray[np.float64]:
    """Return the share of other texts that fit each photo better than its own.

    Parameters
    ----------
    image : ndarray of shape (n, d)
        Photo features of products that have a photo and a text.
    text : ndarray of shape (n, k)
        Their text features.
    folds : ndarray of shape (n,)
        Duplicates are in one fold.

    Returns
    -------
    ndarray of shape (n,)
        0 to 1; NaN for all if there are too few products, or features of no kind.
    """
    unknown = np.full(len(image), np.nan)
    if len(image) < _LEAST_PRODUCTS or not image.shape[1] or not text.shape[1]:
        return unknown
    photos, texts = _centred(_flattened(image)), _centred(text)
    predicted = np.zeros_like(texts)
    for fold in np.unique(folds):
        others, inside = folds != fold, folds == fold
        if not others.any():
            return unknown
        weights = _fit_ridge(photos[others], texts[others])
        predicted[inside] = photos[inside] @ weights
    predicted, texts = unit_rows(predicted), unit_rows(texts)
    own = (predicted * texts).sum(axis=1)
    sample = np.random.default_rng(0).permutation(len(texts))[:_MAX_TEXTS]
    better = predicted @ texts[sample].T > own[:, None] + 1e-6
    return np.asarray(better.mean(axis=1), np.float64)


def misfit_ratio(misfit: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how many times likelier each misfit is if the photo is another product's.

    The photo of another product fits the text as a text drawn at random does. For right
    photos, the catalog's own misfits show how often each occurs.

    Returns
    -------
    ndarray of shape (n,)
        Likelihood ratio; 1 where the misfit is NaN.
    """
    is_known = ~np.isnan(misfit)
    if not is_known.any():
        return np.ones(len(misfit))
    counts, _ = np.histogram(misfit[is_known], _BINS)
    density = (counts + 1) / (is_known.sum() + len(counts)) / np.diff(_BINS)
    middle = (_BINS[1:] + _BINS[:-1]) / 2
    return np.where(is_known, 1 / np.interp(misfit, middle, density), 1.0)


def _flattened(image: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return roots of the features, which a few large ones would rule otherwise."""
    image = np.asarray(image, np.float32)
    return unit_rows(np.sign(image) * np.sqrt(np.abs(image)))


def _centred(features: NDArray[np.floating]) -> NDArray[np.float32]:
    features = unit_rows(features)
    return np.asarray(features - features.mean(axis=0), np.float32)


def _fit_ridge(
    photos: NDArray[np.float32], texts: NDArray[np.float32]
) -> NDArray[np.float32]:
    gram = photos.T @ photos + np.float32(_RIDGE) * np.eye(
        photos.shape[1], dtype=np.float32
    )
    return np.asarray(np.linalg.solve(gram, photos.T @ texts), np.float32)
