import numpy as np

from finetune.score import PRICE_FLOOR, smape_rows, to_price
from stack.trees.objective import log_smape_gradients

RNG = np.random.default_rng(0)
TRUE = np.log1p(np.exp(RNG.normal(3, 1, 500)))
PREDICTED = TRUE + RNG.standard_t(2, 500).clip(-20, 20)
ABOVE_FLOOR = np.expm1(PREDICTED) > 2 * PRICE_FLOOR


def loss(predicted):
    return smape_rows(to_price(TRUE), to_price(predicted)) / 200


def test_the_gradient_is_that_of_smape():
    gradient, _ = log_smape_gradients(TRUE, PREDICTED)
    step = 1e-6
    slope = (loss(PREDICTED + step) - loss(PREDICTED - step)) / (2 * step)
    assert ABOVE_FLOOR.sum() > 400
    np.testing.assert_allclose(gradient[ABOVE_FLOOR], slope[ABOVE_FLOOR], atol=1e-5)


def test_gradients_are_bounded_and_hessians_positive_for_any_prediction():
    predicted = np.array([-50.0, -1.0, 0.0, 1e-9, 1.0, 20.0, 200.0])
    for true in (np.log1p(0.01), 1.0, 15.0):
        gradient, hessian = log_smape_gradients(np.full(7, true), predicted)
        price = to_price(predicted)
        assert np.isfinite(gradient).all()
        assert np.isfinite(hessian).all()
        assert (np.abs(gradient) <= 0.5 * (1 + price) / price).all()
        assert (hessian >= 0.25).all()


def test_a_step_of_newton_s_method_lowers_the_loss_of_a_product_that_is_far_out():
    # Of an expensive one: below about 1 in currency log1p is no logarithm.
    gradient, hessian = log_smape_gradients(TRUE, PREDICTED)
    is_expensive = np.minimum(np.expm1(TRUE), np.expm1(PREDICTED)) > 5
    distance = np.abs(PREDICTED - TRUE)
    far_out = is_expensive & (distance > 0.15) & (distance < 10)  # tanh rounds to 1
    assert far_out.sum() > 200
    after = loss(PREDICTED - gradient / hessian)
    assert (after[far_out] < loss(PREDICTED)[far_out]).all()


def test_an_exact_prediction_has_no_gradient():
    gradient, hessian = log_smape_gradients(TRUE, TRUE)
    assert (gradient == 0).all()
    assert (hessian >= 5.0).all()
