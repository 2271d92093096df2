"""The kernel of block `kernel`: a weighted sum of similarities of two products.

It works on NumPy arrays and on tensors, which `kernel_settings` differentiates.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

N_KINDS = 3  # kinds of terms of `count_terms`
FLAG = 0.7
"""Distance of "known" from "unknown", beside sizes of standard deviation 1."""

_LARGEST = 4.0  # standard deviations
_FLAG_DECAY = 0.07
_START = {
    "words": (1.0,) * N_KINDS,
    "words_by_size": (1.0,) * N_KINDS,
    "size": (1.0,),
    "text": (
        0.05,
        2.0,
    ),  # cosines of embeddings differ little, so their cubes enter too
    "image": (0.05, 2.0),
    "penalty": (0.5,),
}
_START_DECAY = 0.07


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Similarities of products (rows) to others (columns); arrays or tensors."""

    words: tuple[Any, ...]
    """Cosines of TF-IDF of each kind, shape (n, m)."""

    text: Any
    """Cosines of text features, shape (n, m)."""

    image: Any
    """Cosines of image features, shape (n, m); 0 unless both have a photo."""

    sizes: Any
    """Standardised attributes of the rows, 0 where unknown, and flags, (n, 2 a)."""

    other_sizes: Any
    """The same of the columns, shape (m, 2 a)."""


def start_settings(n_attributes: int) -> NDArray[np.float32]:
    """Return the settings that learning starts from.

    They are natural logarithms of the weights, of the penalty and of the factor on each
    attribute's squared distance.

    Returns
    -------
    ndarray of shape (12 + n_attributes,)
    """
    weights = [value for values in _START.values() for value in values]
    return np.log(np.array([*weights, *[_START_DECAY] * n_attributes], np.float32))


def word_weights(settings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the weight of each kind of words for products of one size.

    Parameters
    ----------
    settings : ndarray of shape (n_folds, 12 + a)

    Returns
    -------
    ndarray of shape (n_folds, N_KINDS)
    """
    weights = (_PLACES["words"], _PLACES["words_by_size"])
    return np.asarray(sum(np.exp(settings[:, place]) for place in weights))


def penalty(settings: Any, exp: Callable[[Any], Any]) -> Any:
    """Return the L2 penalty of the ridge."""
    return exp(settings[_PLACES["penalty"]])[0]


def greatest(settings: NDArray[np.float32]) -> np.float32:
    """Return the kernel of a product without a photo with itself."""
    sums = {name: np.exp(settings[place]).sum() for name, place in _PLACES.items()}
    return np.float32(
        sums["words"] + sums["words_by_size"] + sums["size"] + sums["text"]
    )


def take_pairs(
    parts: Parts, rows: NDArray[np.intp], columns: NDArray[np.intp]
) -> Parts:
    """Return the pairs of `rows` and `columns`, as float32."""
    pairs = np.ix_(rows, columns)
    return Parts(
        words=tuple(cosines[pairs].astype(np.float32) for cosines in parts.words),
        text=parts.text[pairs].astype(np.float32),
        image=parts.image[pairs].astype(np.float32),
        sizes=parts.sizes[rows],
        other_sizes=parts.other_sizes[columns],
    )


def mix(parts: Parts, settings: Any, exp: Callable[[Any], Any]) -> Any:
    """Return the kernel, shape (n, m).

    Parameters
    ----------
    parts : Parts
    settings : array or tensor of shape (12 + a,)
        Settings in the order of `start_settings`.
    exp : callable
        `np.exp` or `torch.exp`.
    """
    weights = {name: exp(settings[place]) for name, place in _PLACES.items()}
    decay = exp(settings[_N_WEIGHTS:])
    alike = (
        weights["size"][0]
        + weights["text"][0] * parts.text
        + weights["text"][1] * _cube(parts.text)
        + weights["image"][0] * parts.image
        + weights["image"][1] * _cube(parts.image)
    )
    alone = 0.0
    for weight, by_size, cosines in zip(
        weights["words"], weights["words_by_size"], parts.words, strict=True
    ):
        alone = alone + weight * cosines
        alike = alike + by_size * cosines
    n_attributes = len(decay)
    values, others = (
        sizes[:, :n_attributes] * decay**0.5
        for sizes in (parts.sizes, parts.other_sizes)
    )
    flags, other_flags = (
        sizes[:, n_attributes:] * _FLAG_DECAY**0.5
        for sizes in (parts.sizes, parts.other_sizes)
    )
    squares = _squares(values, others) + _squares(flags, other_flags)
    return alone + exp(-squares.clip(0)) * alike


def mix_content(parts: Parts, settings: Any, exp: Callable[[Any], Any]) -> Any:
    """Return the kernel as if all products had the same size, shape (n, m)."""
    same, others = (0 * sizes for sizes in (parts.sizes, parts.other_sizes))
    return mix(replace(parts, sizes=same, other_sizes=others), settings, exp)


def standardise(
    attributes: NDArray[np.float32], scale: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return sizes as `Parts` contains them.

    Parameters
    ----------
    attributes : ndarray of shape (n, a)
        NaN where unknown.
    scale : ndarray of shape (2, a)
        Mean and standard deviation of each attribute.

    Returns
    -------
    ndarray of shape (n, 2 a)
    """
    known = ~np.isnan(attributes)
    values = np.where(known, (attributes - scale[0]) / scale[1], 0)
    values = values.clip(-_LARGEST, _LARGEST)
    return np.concatenate([values, FLAG * known], axis=1).astype(np.float32)


def _cube(values: Any) -> Any:
    return values * values * values  # faster than NumPy's power


def _squares(left: Any, right: Any) -> Any:
    """Return squared distances; rounding may make them negative."""
    return (left**2).sum(1)[:, None] + (right**2).sum(1) - 2 * left @ right.T


def _places() -> dict[str, slice]:
    places, start = {}, 0
    for name, values in _START.items():
        places[name] = slice(start, start + len(values))
        start += len(values)
    return places


_PLACES = _places()
_N_WEIGHTS = sum(map(len, _START.values()))
