import numpy as np
import pytest

from finetune.score import smape, to_price
from stack.price.engine import blend as blend_prices
from stack.trees.blend import blend_out_of_fold, fit_weights

N = 900


@pytest.fixture
def predictions():
    rng = np.random.default_rng(0)
    log = rng.normal(2.5, 1.0, size=N)
    network = np.log1p(np.exp(log + rng.normal(0, 0.4, N)))
    lightgbm = np.log1p(np.exp(log + rng.normal(0, 0.4, N)))
    return {
        "log_price": np.log1p(np.exp(log)).astype(np.float32),
        "network": network.astype(np.float32),
        "lightgbm": lightgbm.astype(np.float32),
        "folds": (np.arange(N) % 3).astype(np.int8),
    }


def blend(given, **options):
    return blend_out_of_fold(
        given["log_price"],
        network=given["network"],
        other=given["lightgbm"],
        folds=given["folds"],
        **options,
    )


def price_smape(given, predicted):
    return smape(to_price(given["log_price"]), to_price(predicted))


def test_two_independent_models_blend_to_a_better_one(predictions):
    blended, weights = blend(predictions)
    assert blended.dtype == np.float32
    assert weights.shape == (3, 2)
    np.testing.assert_allclose(weights, 0.5, atol=0.15)
    best = min(
        price_smape(predictions, predictions[m]) for m in ("network", "lightgbm")
    )
    assert price_smape(predictions, blended) < best - 5


def test_an_exact_model_gets_all_the_weight(predictions):
    predictions["network"] = predictions["log_price"]
    blended, weights = blend(predictions)
    np.testing.assert_allclose(weights, [[1, 0]] * 3, atol=1e-3)
    np.testing.assert_allclose(blended, predictions["log_price"], atol=1e-2)


def test_weights_are_never_worse_than_either_model_on_their_own_rows(predictions):
    price = to_price(predictions["log_price"])
    logs = np.log(
        np.column_stack([to_price(predictions[m]) for m in ("network", "lightgbm")])
    )
    fitted = smape(price, np.exp(logs @ fit_weights(price, logs)))
    assert fitted <= min(smape(price, np.exp(logs[:, j])) for j in (0, 1))


def test_weights_of_a_fold_never_see_its_prices(predictions):
    _, honest = blend(predictions)
    held_out = predictions["folds"] == 1
    predictions["log_price"] = np.where(held_out, 9.0, predictions["log_price"])
    _, changed = blend(predictions)
    np.testing.assert_array_equal(honest[1], changed[1])
    assert (honest[[0, 2]] != changed[[0, 2]]).any()


def test_unpriced_rows_get_the_mean_weights(predictions):
    predictions["folds"][:2] = -1
    predictions["log_price"][:2] = np.nan
    blended, weights = blend(predictions)
    w = weights.mean(axis=0)
    expected = np.log(to_price(predictions["network"][:2])) * w[0]
    expected += np.log(to_price(predictions["lightgbm"][:2])) * w[1]
    np.testing.assert_allclose(blended[:2], np.log1p(np.exp(expected)), rtol=1e-5)


def test_prices_below_one_cent_are_floored_not_infinite(predictions):
    predictions["lightgbm"][:5] = [-2.0, -1.0, -0.5, 0.0, 0.001]
    blended, _ = blend(predictions)
    assert np.isfinite(blended).all()


def test_within_limits_nearly_constant_models_get_no_huge_weights():
    rng = np.random.default_rng(0)
    log = rng.normal(2.5, 1.0, size=N)
    given = {
        "log_price": np.log1p(np.exp(log)),
        # Their difference, which is a thousandth, says all there is to know.
        "network": np.log1p(np.exp(2.5 + 1e-3 * log)),
        "lightgbm": np.full(N, np.log1p(np.exp(2.5))),
        "folds": np.arange(N) % 3,
    }
    assert np.abs(blend(given)[1]).max() > 10
    blended, weights = blend(given, limits=(0.0, 1.0))
    assert weights.min() >= 0
    assert weights.max() <= 1
    for name in ("network", "lightgbm"):
        assert price_smape(given, blended) < price_smape(given, given[name]) + 0.1


def test_limits_that_do_not_bind_change_little(predictions):
    free, within = blend(predictions)[1], blend(predictions, limits=(0.0, 1.0))[1]
    np.testing.assert_allclose(within, free, atol=0.02)


def test_new_products_are_blended_like_those_of_the_run(predictions):
    blended, weights = blend(predictions)
    rows = predictions["folds"] == 2
    found = blend_prices(
        weights[2], predictions["network"][rows], predictions["lightgbm"][rows]
    )
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, blended[rows])


def test_arrays_that_do_not_fit_are_refused(predictions):
    with pytest.raises(ValueError, match=r"network must have the shape of folds"):
        blend({**predictions, "network": predictions["network"][:, None]})
    with pytest.raises(ValueError, match="needs at least 2 folds"):
        blend({**predictions, "folds": np.zeros(N, dtype=np.int8)})


def test_huge_weights_of_nearly_constant_models_still_give_finite_prices(
    predictions, monkeypatch
):
    huge = np.array([6.5e8, -6.5e8])
    monkeypatch.setattr("stack.trees.blend.fit_weights", lambda price, logs, **_: huge)
    blended, _ = blend(predictions)
    assert np.isfinite(blended).all()
    assert np.isfinite(to_price(blended)).all()
