"""Bring the fold networks' embedding spaces onto one another.

Networks trained on different folds put the same products in spaces that differ by
roughly a rotation; a tree that splits on coordinate j would mix unrelated quantities.
Each tower of fold k is rotated onto fold 0's by orthogonal Procrustes (Schönemann,
1966, "A generalized solution of the orthogonal Procrustes problem", Psychometrika 31).
The rotation is fitted on anchors: products that every network embeds, of which those
in fold 0 or k are left out, so that no held-out product has a say in it.
"""

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

logger = logging.getLogger(__name__)

TOWER_DIMS = (256, 256)
_TOWER_NAMES = ("text", "image")
_RIDGE = 1e-3


def fit_rotation(
    source: NDArray[np.floating], target: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Fit the orthogonal matrix R that brings `source @ R` nearest to `target`.

    Parameters
    ----------
    source, target : ndarray of shape (m, d)
        The same products in two spaces; not centred, for the origin is shared.

    Returns
    -------
    ndarray of shape (d, d)
        Directions that the products do not determine stay put: a small multiple of
        the identity is added to the cross-covariance.
    """
    cross = source.astype(np.float64).T @ target.astype(np.float64)
    scale = np.linalg.norm(cross) / np.sqrt(len(cross)) or 1.0
    left, _, right = np.linalg.svd(cross + _RIDGE * scale * np.eye(len(cross)))
    rotation: NDArray[np.float64] = left @ right
    return rotation


def alignment_residual(
    source: NDArray[np.floating],
    target: NDArray[np.floating],
    rotation: NDArray[np.floating],
) -> float:
    """Return ||source @ R - target|| / ||target||: 0 aligned, about 1.4 unrelated."""
    goal = target.astype(np.float64)
    distance = np.linalg.norm(source.astype(np.float64) @ rotation - goal)
    return float(distance / max(float(np.linalg.norm(goal)), 1e-12))


def fit_rotations(
    anchors: NDArray[np.floating],
    *,
    anchor_folds: NDArray[np.integer],
    anchor_image_ok: NDArray[np.bool_],
    tower_dims: tuple[int, int] = TOWER_DIMS,
) -> NDArray[np.float64]:
    """Fit each fold's rotation onto fold 0, a block for each tower.

    Parameters
    ----------
    anchors : ndarray of shape (n_folds, m, d)
        The anchors as each fold's network embeds them, d the sum of `tower_dims`.
    anchor_folds : ndarray of shape (m,)
        Fold of each anchor.
    anchor_image_ok : ndarray of shape (m,)
        Only anchors with a photo say anything of the image tower.
    tower_dims : (int, int)
        Width of the text half and of the image half.

    Returns
    -------
    ndarray of shape (n_folds, d, d)
        Block-diagonal; the identity for fold 0.
    """
    n_folds, _, dim = anchors.shape
    rotations = np.tile(np.eye(dim), (n_folds, 1, 1))
    for fold in range(1, n_folds):
        for columns, used in _towers(fold, anchor_folds, anchor_image_ok, tower_dims):
            rotations[fold, columns, columns] = fit_rotation(
                anchors[fold][used, columns], anchors[0][used, columns]
            )
    return rotations


def align_fused(
    fused: NDArray[np.floating],
    folds: NDArray[np.integer],
    *,
    anchors: NDArray[np.floating],
    anchor_rows: NDArray[np.integer],
    anchor_image_ok: NDArray[np.bool_],
    tower_dims: tuple[int, int] = TOWER_DIMS,
) -> tuple[NDArray[np.float32], list[dict[str, Any]]]:
    """Rotate each product's embedding into the space of fold 0.

    Parameters
    ----------
    fused : ndarray of shape (n_products, d)
        Each by the network of its own fold; fold -1 by that of fold 0.
    folds : ndarray of shape (n_products,)
    anchors, anchor_image_ok, tower_dims
        As in `fit_rotations`.
    anchor_rows : ndarray of shape (m,)
        Catalog rows of the anchors.

    Returns
    -------
    aligned : ndarray of shape (n_products, d), float32
    residuals : list of dict
        For each fold after the first and each tower: `fold`, `tower`, `n_anchors`,
        `before` and `after`, the relative distance to fold 0, in which 0 anchors
        means that the tower stays as it is and nothing was measured: with two folds
        every priced anchor is in one of them.
    """
    anchor_folds = folds[anchor_rows]
    rotations = fit_rotations(
        anchors,
        anchor_folds=anchor_folds,
        anchor_image_ok=anchor_image_ok,
        tower_dims=tower_dims,
    )
    aligned = np.array(fused, dtype=np.float32)
    residuals: list[dict[str, Any]] = []
    for fold in range(1, len(anchors)):
        rows = folds == fold
        aligned[rows] = aligned[rows] @ rotations[fold].astype(np.float32)
        towers = _towers(fold, anchor_folds, anchor_image_ok, tower_dims)
        for name, (columns, used) in zip(_TOWER_NAMES, towers, strict=True):
            if not used.any():
                logger.warning(
                    "alignment: no anchor outside folds 0 and %d for the %s tower; "
                    "it stays unaligned. Use 3 folds or more.",
                    *(fold, name),
                )
            pair = anchors[fold][used, columns], anchors[0][used, columns]
            block = rotations[fold, columns, columns]
            before = alignment_residual(*pair, np.eye(len(block)))
            residuals.append(
                {
                    "fold": fold,
                    "tower": name,
                    "n_anchors": int(used.sum()),
                    "before": round(before, 4),
                    "after": round(alignment_residual(*pair, block), 4),
                }
            )
    return aligned, residuals


def _towers(
    fold: int,
    anchor_folds: NDArray[np.integer],
    anchor_image_ok: NDArray[np.bool_],
    tower_dims: tuple[int, int],
) -> list[tuple[slice, NDArray[np.bool_]]]:
    """Columns of each tower and the anchors that its rotation is fitted on."""
    outside = (anchor_folds != 0) & (anchor_folds != fold)
    text_dim, image_dim = tower_dims
    return [
        (slice(0, text_dim), outside),
        (slice(text_dim, text_dim + image_dim), outside & anchor_image_ok),
    ]
