import json
import logging

import numpy as np
import pytest
from sklearn.tree import DecisionTreeRegressor

from stack.trees.alignment import (
    align,
    fit_alignment,
    fit_rotation,
    fit_similarity,
    relative_distance,
)

N, N_FOLDS, DIMS = 1500, 4, (12, 8)
TEXT, IMAGE = slice(0, 12), slice(12, 20)


def random_rotation(rng, dim):
    return np.linalg.qr(rng.normal(size=(dim, dim)))[0]


@pytest.fixture
def planted():
    """Fold networks that differ by a similarity in each tower, and some noise."""
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(N, sum(DIMS)))
    every = np.zeros((N_FOLDS, N, sum(DIMS)))
    for fold in range(N_FOLDS):
        for tower, dim in zip((TEXT, IMAGE), DIMS, strict=True):
            turn = np.eye(dim) if fold == 0 else random_rotation(rng, dim)
            scale, offset = rng.uniform(0.5, 5), rng.normal(0, 3, dim)
            every[fold][:, tower] = shared[:, tower] @ turn * scale + offset
    every += rng.normal(0, 0.01, every.shape)
    folds = (np.arange(N) % N_FOLDS).astype(np.int8)
    folds[:30] = -1
    rows = np.arange(0, N, 4) + rng.integers(0, 4, N // 4)
    return {
        "shared": shared,
        "by_first": every[0],
        "fused": every[np.maximum(folds, 0), np.arange(N)].astype(np.float16),
        "folds": folds,
        "image_ok": rng.random(N) < 0.8,
        "anchors": every[:, rows].astype(np.float16),
        "anchor_rows": rows,
    }


def fit(planted, **changes):
    given = {**planted, **changes}
    rows = given["anchor_rows"]
    return fit_alignment(
        given["anchors"],
        anchor_folds=given["folds"][rows],
        anchor_image_ok=given["image_ok"][rows],
        tower_dims=DIMS,
    )


def aligned_by(alignment, planted):
    aligned = np.zeros(planted["fused"].shape, dtype=np.float32)
    for fold, way in enumerate(alignment):
        rows = np.maximum(planted["folds"], 0) == fold
        aligned[rows] = align(
            planted["fused"][rows], planted["image_ok"][rows], way, tower_dims=DIMS
        )
    return aligned


def assert_orthogonal(matrix):
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(len(matrix)), atol=1e-10)


def test_fit_rotation_recovers_a_planted_rotation():
    rng = np.random.default_rng(0)
    source, turn = rng.normal(size=(200, 16)), random_rotation(rng, 16)
    rotation = fit_rotation(source, source @ turn)
    np.testing.assert_allclose(rotation, turn, atol=0.01)
    assert relative_distance(source @ rotation, source @ turn) < 0.01


def test_fit_rotation_is_orthogonal_and_the_best_among_others_under_noise():
    rng = np.random.default_rng(1)
    source, target = rng.normal(size=(2, 300, 10))
    target += source @ random_rotation(rng, 10)
    rotation = fit_rotation(source, target)
    assert_orthogonal(rotation)
    best = relative_distance(source @ rotation, target)
    for _ in range(20):
        other = random_rotation(rng, 10)
        assert best < relative_distance(source @ other, target)


def test_directions_that_no_product_determines_stay_put():
    rng = np.random.default_rng(2)
    source, turn = np.zeros((50, 8)), np.eye(8)
    source[:, :3] = rng.normal(size=(50, 3))
    turn[:3, :3] = random_rotation(rng, 3)
    np.testing.assert_allclose(fit_rotation(source, source @ turn), turn, atol=0.01)


def test_no_products_at_all_give_the_identity():
    np.testing.assert_allclose(fit_rotation(*np.zeros((2, 0, 8))), np.eye(8))


def test_fit_similarity_recovers_rotation_scale_and_offset():
    rng = np.random.default_rng(3)
    source, turn = rng.normal(2, 1, size=(400, 6)), random_rotation(rng, 6)
    found = fit_similarity(source, 7 * source @ turn - 3)
    np.testing.assert_allclose(found[:-1], 7 * turn, atol=0.05)
    np.testing.assert_allclose(found[-1], -3, atol=0.2)
    np.testing.assert_array_equal(fit_similarity(*np.zeros((2, 0, 3)))[:-1], np.eye(3))


def test_distance_does_not_overflow_in_float16():
    values = np.full((500, 8), 100, dtype=np.float16)
    assert relative_distance(values, values) == 0


def test_the_alignment_keeps_towers_apart_and_angles_as_they_are(planted):
    alignment, _ = fit(planted)
    assert alignment.shape == (N_FOLDS, 21, 20)
    for way in alignment:
        assert not way[TEXT, IMAGE].any()
        assert not way[IMAGE, TEXT].any()
        for tower in (TEXT, IMAGE):
            block = way[tower, tower]
            assert_orthogonal(block / np.linalg.norm(block, axis=1, keepdims=True))


def test_aligned_embeddings_are_those_of_one_network(planted):
    alignment, _ = fit(planted)
    aligned = aligned_by(alignment, planted)
    assert aligned.dtype == np.float32
    expected = align(
        planted["by_first"], planted["image_ok"], alignment[0], tower_dims=DIMS
    )
    np.testing.assert_allclose(aligned, expected, atol=0.03)
    for tower in (TEXT, IMAGE):
        rows = aligned[planted["image_ok"], tower]
        np.testing.assert_allclose(rows.mean(0), 0, atol=0.1)
        np.testing.assert_allclose((rows**2).sum(1).mean(), 1, atol=0.05)


def test_a_product_without_photo_lies_at_the_centre_of_the_image_half(planted):
    aligned = aligned_by(fit(planted)[0], planted)
    without = ~planted["image_ok"]
    assert not aligned[without, IMAGE].any()
    assert aligned[without, TEXT].any(axis=1).all()


def test_fold_0_is_only_centred_and_scaled(planted):
    way = fit(planted)[0][0]
    for tower in (TEXT, IMAGE):
        block = way[tower, tower]
        np.testing.assert_array_equal(block, block[0, 0] * np.eye(len(block)))


def test_alignment_does_not_change_its_inputs(planted):
    before = {name: value.copy() for name, value in planted.items()}
    aligned_by(fit(planted)[0], planted)
    for name, value in before.items():
        np.testing.assert_array_equal(planted[name], value)


def test_residuals_fall_and_go_to_json(planted):
    _, residuals = fit(planted)
    assert json.loads(json.dumps(residuals)) == residuals
    named = {(row["fold"], row["tower"]) for row in residuals}
    assert named == {(fold, t) for fold in (1, 2, 3) for t in ("text", "image")}
    for row in residuals:
        assert row["before"] > 1
        assert row["after"] < 0.05


def test_a_tree_on_pooled_folds_needs_the_alignment(planted):
    every_photo = {**planted, "image_ok": np.ones(N, dtype=bool)}
    target = planted["shared"][:, 0] + 2 * (planted["shared"][:, 12] > 0)
    aligned = aligned_by(fit(every_photo)[0], every_photo)

    def explained(embeddings):
        tested = planted["folds"] == 3
        tree = DecisionTreeRegressor(max_depth=5, random_state=0)
        tree.fit(embeddings[~tested], target[~tested])
        return tree.score(embeddings[tested], target[tested])

    assert explained(planted["fused"]) < 0.2
    assert explained(aligned) > 0.85


@pytest.mark.parametrize("fold", [1, 2, 3])
def test_anchors_of_the_fold_itself_have_no_say_in_its_alignment(planted, fold):
    own = planted["folds"][planted["anchor_rows"]] == fold
    changed = planted["anchors"].copy()
    changed[fold, own] = 7
    before, after = fit(planted)[0][fold], fit(planted, anchors=changed)[0][fold]
    np.testing.assert_array_equal(before, after)
    rng = np.random.default_rng(0)
    changed[fold, ~own] = rng.normal(size=changed[fold, ~own].shape)
    assert np.abs(fit(planted, anchors=changed)[0][fold] - before).max() > 0.1


def test_anchors_of_fold_0_have_no_say_at_all(planted):
    own = planted["folds"][planted["anchor_rows"]] == 0
    changed = planted["anchors"].copy()
    changed[:, own] = 7
    np.testing.assert_array_equal(fit(planted)[0], fit(planted, anchors=changed)[0])


def test_anchors_without_photo_have_no_say_in_the_image_tower(planted):
    changed = planted["anchors"].copy()
    changed[:, ~planted["image_ok"][planted["anchor_rows"]], IMAGE] = 7
    np.testing.assert_array_equal(fit(planted, anchors=changed)[0], fit(planted)[0])


@pytest.mark.parametrize("n_photos", [0, 1, 5])
def test_few_photos_leave_the_image_tower_finite(planted, n_photos, caplog):
    few = np.zeros_like(planted["image_ok"])
    few[planted["anchor_rows"][:n_photos]] = True
    alignment, _ = fit(planted, image_ok=few)
    assert "Use 3 folds" not in caplog.text
    assert n_photos or not caplog.text
    assert np.isfinite(alignment).all()
    expected = fit(planted)[0][:, TEXT, TEXT]
    np.testing.assert_array_equal(alignment[:, TEXT, TEXT], expected)


def test_two_folds_leave_no_anchor_and_say_so(planted, caplog):
    folds = np.where(planted["folds"] < 0, 1, planted["folds"] % 2).astype(np.int8)
    with caplog.at_level(logging.WARNING):
        alignment, residuals = fit(planted, folds=folds, anchors=planted["anchors"][:2])
    np.testing.assert_allclose(alignment[1, :-1], np.eye(20))
    assert [row["n_anchors"] for row in residuals] == [0, 0]
    assert "no anchor outside folds 1 and 2 for the text tower" in caplog.text
