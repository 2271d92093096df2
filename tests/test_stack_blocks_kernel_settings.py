import numpy as np
import pytest
import torch

from stack.blocks import kernel_settings
from stack.blocks.mixture import Parts, mix, penalty, start_settings, take_pairs

N = 600


def make_parts(rng, *, n=N, n_attributes=3):
    """Products with themselves: random words and features, sizes of any kind."""

    def cosines(d):
        rows = rng.normal(size=(n, d))
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return (rows @ rows.T).astype(np.float16)

    sizes = np.concatenate(
        [rng.normal(size=(n, n_attributes)), np.full((n, n_attributes), 0.7)], axis=1
    ).astype(np.float32)
    return Parts(
        words=tuple(cosines(40) for _ in range(3)),
        text=cosines(20),
        image=np.zeros((n, n), np.float16),
        sizes=sizes,
        other_sizes=sizes,
    )


def error_on(fold, parts, log_price, folds, settings):
    """Mean error of a ridge on the rows of a fold that it was not fitted on."""
    inside, held_out = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
    kernel = mix(take_pairs(parts, inside, inside), settings, np.exp)
    kernel[np.diag_indices_from(kernel)] += penalty(settings, np.exp)
    centre = log_price[inside].mean()
    dual = np.linalg.solve(kernel, log_price[inside] - centre)
    between = mix(take_pairs(parts, held_out, inside), settings, np.exp)
    return np.abs(between @ dual + centre - log_price[held_out]).mean()


@pytest.fixture(scope="module")
def learned():
    """Prices that rise and fall with the first of three sizes; settings for them."""
    rng = np.random.default_rng(0)
    parts = make_parts(rng)
    log_price = 3 + np.sin(3 * parts.sizes[:, 0]) + rng.normal(0, 0.1, N)
    folds = np.arange(N) % 4
    return (
        parts,
        log_price,
        folds,
        kernel_settings.learn_settings(parts, log_price, folds, fold=1),
    )


def test_the_size_that_counts_reaches_less_far_than_those_that_do_not(learned):
    decay = np.exp(learned[3][-3:])
    assert decay[0] > 3 * decay[1:].max()


def test_what_is_learned_errs_less_on_rows_that_had_no_part_in_it(learned):
    parts, log_price, folds, settings = learned
    before = error_on(1, parts, log_price, folds, start_settings(3))
    assert error_on(1, parts, log_price, folds, settings) < 0.7 * before


def test_prices_of_the_fold_itself_change_nothing(learned):
    parts, log_price, folds, settings = learned
    other = np.where(folds == 1, np.nan, log_price)
    np.testing.assert_array_equal(
        kernel_settings.learn_settings(parts, other, folds, fold=1), settings
    )
    other = np.where(folds == 2, log_price[::-1], log_price)
    assert (
        kernel_settings.learn_settings(parts, other, folds, fold=1) != settings
    ).any()


@pytest.mark.parametrize(
    ("folds", "why"),
    [
        (np.arange(N) % 2, "one fold left"),
        (np.where(np.arange(N) < 150, 0, 1 + np.arange(N) % 2), "few rows left"),
    ],
)
def test_with_too_little_to_learn_from_settings_stay_as_they_begin(
    learned, monkeypatch, folds, why
):
    monkeypatch.setattr(
        kernel_settings, "FEWEST", 200 if why == "one fold left" else 500
    )
    found = kernel_settings.learn_settings(learned[0], learned[1], folds, fold=0)
    np.testing.assert_array_equal(found, start_settings(3))


def test_prices_without_a_law_leave_no_settings_that_are_not_finite():
    parts = make_parts(np.random.default_rng(1))
    folds = np.arange(N) % 3
    for log_price in (np.full(N, 2.0), np.random.default_rng(2).normal(3, 2, N)):
        assert np.isfinite(
            kernel_settings.learn_settings(parts, log_price, folds, fold=0)
        ).all()


def test_arrays_and_tensors_are_mixed_alike():
    rng = np.random.default_rng(3)
    parts = make_parts(rng, n=50)
    settings = start_settings(3) + rng.normal(0, 0.3, 15).astype(np.float32)
    rows, columns = np.arange(10), np.arange(5, 50)
    found = mix(
        kernel_settings._tensors(parts, rows, columns),
        torch.from_numpy(settings),
        torch.exp,
    )
    expected = mix(take_pairs(parts, rows, columns), settings, np.exp)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-5)
