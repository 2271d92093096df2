import json
import logging

import numpy as np
import pytest
from sklearn.tree import DecisionTreeRegressor

from stack.alignment import (
    align_fused,
    alignment_residual,
    fit_rotation,
    fit_rotations,
)

N, N_FOLDS, DIMS = 1500, 4, (12, 8)
TEXT, IMAGE = slice(0, 12), slice(12, 20)


def random_rotation(rng, dim):
    return np.linalg.qr(rng.normal(size=(dim, dim)))[0]


@pytest.fixture
def planted():
    """Fold networks that differ by a rotation in each tower, and some noise."""
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(N, sum(DIMS)))
    turns = np.zeros((N_FOLDS, sum(DIMS), sum(DIMS)))
    for fold in range(N_FOLDS):
        for tower, dim in zip((TEXT, IMAGE), DIMS, strict=True):
            turn = np.eye(dim) if fold == 0 else random_rotation(rng, dim)
            turns[fold, tower, tower] = turn
    every = shared @ turns + rng.normal(0, 0.02, (N_FOLDS, N, sum(DIMS)))
    folds = (np.arange(N) % N_FOLDS).astype(np.int8)
    folds[:30] = -1
    rows = np.arange(0, N, 4) + rng.integers(0, 4, N // 4)
    return {
        "shared": shared,
        "turns": turns,
        "fused": every[np.maximum(folds, 0), np.arange(N)].astype(np.float16),
        "folds": folds,
        "anchors": every[:, rows].astype(np.float16),
        "anchor_rows": rows,
        "anchor_image_ok": rng.random(len(rows)) < 0.8,
    }


def align(planted, **changes):
    given = {
        name: value
        for name, value in {**planted, **changes}.items()
        if name not in ("shared", "turns")
    }
    return align_fused(given.pop("fused"), given.pop("folds"), tower_dims=DIMS, **given)


def rotations_of(planted, **changes):
    given = {**planted, **changes}
    return fit_rotations(
        given["anchors"],
        anchor_folds=planted["folds"][planted["anchor_rows"]],
        anchor_image_ok=given["anchor_image_ok"],
        tower_dims=DIMS,
    )


def assert_orthogonal(matrix):
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(len(matrix)), atol=1e-10)


def test_fit_rotation_recovers_a_planted_rotation():
    rng = np.random.default_rng(0)
    source, turn = rng.normal(size=(200, 16)), random_rotation(rng, 16)
    rotation = fit_rotation(source, source @ turn)
    np.testing.assert_allclose(rotation, turn, atol=0.01)
    assert alignment_residual(source, source @ turn, rotation) < 0.01


def test_fit_rotation_is_orthogonal_and_the_best_among_others_under_noise():
    rng = np.random.default_rng(1)
    source, target = rng.normal(size=(2, 300, 10))
    target += source @ random_rotation(rng, 10)
    rotation = fit_rotation(source, target)
    assert_orthogonal(rotation)
    best = alignment_residual(source, target, rotation)
    for _ in range(20):
        other = random_rotation(rng, 10)
        assert best < alignment_residual(source, target, other)


def test_directions_that_no_product_determines_stay_put():
    rng = np.random.default_rng(2)
    source, turn = np.zeros((50, 8)), np.eye(8)
    source[:, :3] = rng.normal(size=(50, 3))
    turn[:3, :3] = random_rotation(rng, 3)
    np.testing.assert_allclose(fit_rotation(source, source @ turn), turn, atol=0.01)


def test_no_products_at_all_give_the_identity():
    np.testing.assert_allclose(fit_rotation(*np.zeros((2, 0, 8))), np.eye(8))


def test_residual_does_not_overflow_in_float16():
    values = np.full((500, 8), 100, dtype=np.float16)
    assert alignment_residual(values, values, np.eye(8)) == 0


def test_rotations_are_block_diagonal_and_orthogonal_and_undo_the_planted_ones(planted):
    rotations = rotations_of(planted)
    assert rotations.shape == (N_FOLDS, 20, 20)
    np.testing.assert_array_equal(rotations[0], np.eye(20))
    for rotation, turn in zip(rotations, planted["turns"], strict=True):
        assert_orthogonal(rotation)
        assert not rotation[TEXT, IMAGE].any()
        assert not rotation[IMAGE, TEXT].any()
        np.testing.assert_allclose(rotation, turn.T, atol=0.02)


def test_aligned_embeddings_are_those_of_one_network(planted):
    aligned, _ = align(planted)
    assert aligned.dtype == np.float32
    np.testing.assert_allclose(aligned, planted["shared"], atol=0.25)


def test_rows_of_fold_0_and_unpriced_rows_are_left_alone(planted):
    aligned, _ = align(planted)
    kept = planted["folds"] <= 0
    np.testing.assert_array_equal(aligned[kept], planted["fused"][kept])


def test_alignment_does_not_change_its_inputs(planted):
    before = {name: value.copy() for name, value in planted.items()}
    align(planted)
    for name, value in before.items():
        np.testing.assert_array_equal(planted[name], value)


def test_residuals_fall_and_go_to_json(planted):
    _, residuals = align(planted)
    assert json.loads(json.dumps(residuals)) == residuals
    named = {(row["fold"], row["tower"]) for row in residuals}
    assert named == {(fold, t) for fold in (1, 2, 3) for t in ("text", "image")}
    for row in residuals:
        assert row["before"] > 1
        assert row["after"] < 0.05


def test_a_tree_on_pooled_folds_needs_the_alignment(planted):
    target = planted["shared"][:, 0] + 2 * (planted["shared"][:, 12] > 0)
    aligned, _ = align(planted)

    def explained(embeddings):
        tested = planted["folds"] == 3
        tree = DecisionTreeRegressor(max_depth=5, random_state=0)
        tree.fit(embeddings[~tested], target[~tested])
        return tree.score(embeddings[tested], target[tested])

    assert explained(planted["fused"]) < 0.2
    assert explained(aligned) > 0.85


@pytest.mark.parametrize("fold", [1, 2, 3])
def test_anchors_of_either_fold_have_no_say_in_the_rotation(planted, fold):
    anchor_folds = planted["folds"][planted["anchor_rows"]]
    own = np.isin(anchor_folds, [0, fold])
    changed = planted["anchors"].copy()
    changed[:, own] = 7
    rotations = (
        rotations_of(planted)[fold],
        rotations_of(planted, anchors=changed)[fold],
    )
    np.testing.assert_array_equal(*rotations)
    changed[:, ~own] = np.random.default_rng(0).normal(size=changed[:, ~own].shape)
    assert (
        np.abs(rotations_of(planted, anchors=changed)[fold] - rotations[0]).max() > 0.1
    )


def test_anchors_without_photo_have_no_say_in_the_image_tower(planted):
    changed = planted["anchors"].copy()
    changed[:, ~planted["anchor_image_ok"], IMAGE] = 7
    np.testing.assert_array_equal(
        rotations_of(planted, anchors=changed), rotations_of(planted)
    )


@pytest.mark.parametrize("n_photos", [0, 1, 5])
def test_few_photos_leave_the_image_tower_finite_and_orthogonal(planted, n_photos):
    few = np.zeros_like(planted["anchor_image_ok"])
    few[:n_photos] = True
    rotations = rotations_of(planted, anchor_image_ok=few)
    for rotation, turn in zip(rotations, planted["turns"], strict=True):
        assert_orthogonal(rotation)
        np.testing.assert_allclose(rotation[TEXT, TEXT], turn[TEXT, TEXT].T, atol=0.02)
    aligned, _ = align(planted, anchor_image_ok=few)
    assert np.isfinite(aligned).all()


def test_two_folds_leave_no_anchor_and_say_so(planted, caplog):
    folds = np.where(planted["folds"] < 0, 1, planted["folds"] % 2).astype(np.int8)
    with caplog.at_level(logging.WARNING):
        aligned, residuals = align(planted, folds=folds, anchors=planted["anchors"][:2])
    np.testing.assert_array_equal(aligned, planted["fused"])
    assert [row["n_anchors"] for row in residuals] == [0, 0]
    assert "no anchor outside folds 0 and 1 for the text tower" in caplog.text
