"""Align the embedding spaces of the folds' networks.

Networks trained on different folds embed the same products in spaces that differ by a
rotation, a scale and an offset; a tree that splits on coordinate j would mix unrelated
quantities. Each tower of fold k is moved onto fold 0's by Procrustes analysis with all
three (Schönemann and Carroll, 1970, "Fitting one matrix to another under choice of a
central dilation and a rigid motion", Psychometrika 35). It is fitted on anchors:
products that every network embeds. Anchors in fold 0 or k are left out, so no held-out
product influences the fit.

The common space is fold 0's, centred, with rows of length 1 on average. A product
without a photo lies at the centre of the image half: each network replaces the photo by
a learned vector, which does not depend on the product.
"""

import logging

import numpy as np
from numpy.typing import NDArray

logger = logging.getLogger(__name__)

TOWER_DIMS = (256, 256)
_TOWER_NAMES = ("text", "image")
_RIDGE = 1e-3
_ROUNDING = 1e-3  # float16 rounding, relative to the length of an embedding


def fit_rotation(
    source: NDArray[np.floating], target: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Fit the orthogonal matrix R that brings `source @ R` nearest to `target`.

    Parameters
    ----------
    source, target : ndarray of shape (m, d)
        The same products in two spaces with a shared origin.

    Returns
    -------
    ndarray of shape (d, d)
        Rotation. Directions that the products do not determine stay unchanged: a small
        multiple of the identity is added to the cross-covariance.
    """
    cross = source.astype(np.float64).T @ target.astype(np.float64)
    scale = np.linalg.norm(cross) / np.sqrt(len(cross)) or 1.0
    left, _, right = np.linalg.svd(cross + _RIDGE * scale * np.eye(len(cross)))
    rotation: NDArray[np.float64] = left @ right
    return rotation


def fit_similarity(
    source: NDArray[np.floating], target: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Fit the rotation, scale and offset that map `source` onto `target`.

    Parameters
    ----------
    source, target : ndarray of shape (m, d)
        The same products in two spaces. Without products, the result is the identity.

    Returns
    -------
    ndarray of shape (d + 1, d)
        Affine map for rows x with a 1 appended: rotation times scale, below it the
        offset. The scale gives both the same spread (least squares would shrink by the
        noise).
    """
    from_centre, from_spread = _centre_and_spread(source)
    to_centre, to_spread = _centre_and_spread(target)
    rotation = fit_rotation(source - from_centre, target - to_centre)
    matrix = rotation * (to_spread / from_spread)
    return np.vstack([matrix, to_centre - from_centre @ matrix])


def relative_distance(
    source: NDArray[np.floating], target: NDArray[np.floating]
) -> float:
    """Return ||source - target|| / ||target||: 0 if equal, about 1.4 if unrelated."""
    goal = target.astype(np.float64)
    distance = np.linalg.norm(source.astype(np.float64) - goal)
    return float(distance / max(float(np.linalg.norm(goal)), 1e-12))


def fit_alignment(
    anchors: NDArray[np.floating],
    *,
    anchor_folds: NDArray[np.integer],
    anchor_image_ok: NDArray[np.bool_],
    tower_dims: tuple[int, int] = TOWER_DIMS,
) -> tuple[NDArray[np.float64], list[dict[str, object]]]:
    """Fit each fold's map into the common space, with a block for each tower.

    Parameters
    ----------
    anchors : ndarray of shape (n_folds, m, d)
        The anchors as each fold's network embeds them, d the sum of `tower_dims`.
    anchor_folds : ndarray of shape (m,)
        Fold of each anchor.
    anchor_image_ok : ndarray of shape (m,)
        Whether the anchor has a photo; the others are not used for the image tower.
    tower_dims : (int, int)
        Width of the text half and of the image half.

    Returns
    -------
    alignment : ndarray of shape (n_folds, d + 1, d)
        Affine map of each fold, for `align`.
    residuals : list of dict
        For each fold after the first and each tower: `fold`, `tower`, `n_anchors`,
        `before` and `after`. These are relative distances to fold 0: `before` with
        each space centred and scaled, `after` with rotation too. With 0 anchors the
        tower is not aligned: with two folds, every priced anchor is in one of them.
    """
    n_folds, _, dim = anchors.shape
    alignment = np.zeros((n_folds, dim + 1, dim))
    residuals: list[dict[str, object]] = []
    for fold in range(n_folds):
        towers = _towers(fold, anchor_folds, anchor_image_ok, tower_dims)
        for name, (columns, in_common, used) in zip(_TOWER_NAMES, towers, strict=True):
            common = _standardise(anchors[0][in_common, columns])
            target = _apply(common, anchors[0][used, columns])
            source = anchors[fold][used, columns].astype(np.float64)
            moved = common if fold == 0 else fit_similarity(source, target)
            alignment[fold, columns, columns] = moved[:-1]
            alignment[fold, -1, columns] = moved[-1]
            if fold == 0:
                continue
            # Without any photo the image half is a constant: nothing to align.
            if not used.any() and (name == "text" or anchor_image_ok.any()):
                logger.warning(
                    "alignment: no anchor outside folds 1 and %d for the %s tower; "
                    "it stays unaligned.%s",
                    fold + 1,
                    name,
                    " Use 3 folds or more." if n_folds < 3 else "",
                )
            unturned = _apply(_standardise(source), source)
            residuals.append(
                {
                    "fold": fold,
                    "tower": name,
                    "n_anchors": int(used.sum()),
                    "before": round(relative_distance(unturned, target), 4),
                    "after": round(relative_distance(_apply(moved, source), target), 4),
                }
            )
    return alignment, residuals


def align(
    fused: NDArray[np.floating],
    image_ok: NDArray[np.bool_],
    alignment: NDArray[np.floating],
    *,
    tower_dims: tuple[int, int] = TOWER_DIMS,
) -> NDArray[np.float32]:
    """Map embeddings of one fold's network into the common space.

    Parameters
    ----------
    fused : ndarray of shape (m, d)
    image_ok : ndarray of shape (m,)
        Whether the product has a photo; the others get 0 in the image half.
    alignment : ndarray of shape (d + 1, d)
        Map of that fold, from `fit_alignment`.

    Returns
    -------
    ndarray of shape (m, d), float32
    """
    aligned = _apply(alignment, fused).astype(np.float32)
    aligned[~image_ok, tower_dims[0] :] = 0
    return aligned


def _towers(
    fold: int,
    anchor_folds: NDArray[np.integer],
    anchor_image_ok: NDArray[np.bool_],
    tower_dims: tuple[int, int],
) -> list[tuple[slice, NDArray[np.bool_], NDArray[np.bool_]]]:
    """Return each tower's columns and its anchors outside fold 0 and both folds."""
    text_dim, image_dim = tower_dims
    not_0 = anchor_folds != 0
    outside = not_0 & (anchor_folds != fold)
    return [
        (slice(0, text_dim), not_0, outside),
        (
            slice(text_dim, text_dim + image_dim),
            not_0 & anchor_image_ok,
            outside & anchor_image_ok,
        ),
    ]


def _centre_and_spread(
    rows: NDArray[np.floating],
) -> tuple[NDArray[np.float64], float]:
    """Return the mean of the rows and the root mean square of their distance to it."""
    if not len(rows):
        return np.zeros(rows.shape[1]), 1.0
    exact = rows.astype(np.float64)
    centre = exact.mean(0)
    spread = float(np.sqrt(((exact - centre) ** 2).sum(1).mean()))
    # Without that input, the half is constant except for rounding.
    is_constant = spread <= _ROUNDING * float(np.linalg.norm(centre))
    return centre, 1.0 if is_constant else spread


def _standardise(rows: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the affine map that centres and scales `rows`, shape (d + 1, d)."""
    centre, spread = _centre_and_spread(rows)
    return np.vstack([np.eye(len(centre)) / spread, -centre / spread])


def _apply(
    affine: NDArray[np.floating], rows: NDArray[np.floating]
) -> NDArray[np.float64]:
    moved: NDArray[np.float64] = rows.astype(np.float64) @ affine[:-1] + affine[-1]
    return moved
