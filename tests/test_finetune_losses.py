import numpy as np
import pytest
import torch

from finetune.network.losses import LOG_FLOOR, smape_loss, smooth_l1_loss
from finetune.score import smape

RNG = np.random.default_rng(0)
PRICE, PREDICTED = np.exp(RNG.normal(2.5, 1.0, (2, 256)))
LOSSES = pytest.mark.parametrize("loss", [smape_loss, smooth_l1_loss])


def log1p_tensor(price, dtype=torch.float64):
    return torch.from_numpy(np.log1p(price)).to(dtype)


def gradient_at(predicted, target_price, loss=smape_loss):
    """Gradient of each row's own loss, in float32."""
    z = torch.tensor(predicted, dtype=torch.float32, requires_grad=True)
    value = loss(z, log1p_tensor(np.full(len(predicted), target_price), torch.float32))
    assert torch.isfinite(value)
    (gradient,) = torch.autograd.grad(value * len(predicted), z)
    return gradient.numpy()


def test_smooth_l1_loss_is_its_formula():
    distance = np.abs(np.log1p(PREDICTED) - np.log1p(PRICE))
    expected = np.where(distance < 0.5, distance**2, distance - 0.25).mean()
    found = smooth_l1_loss(log1p_tensor(PREDICTED), log1p_tensor(PRICE))
    assert float(found) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)]
)
def test_smape_loss_is_the_score_of_the_prices(dtype, tolerance):
    found = smape_loss(log1p_tensor(PREDICTED, dtype), log1p_tensor(PRICE, dtype))
    assert 100 * float(found) == pytest.approx(smape(PRICE, PREDICTED), rel=tolerance)


def test_smape_loss_is_the_score_from_a_cent_to_a_billion():
    price, predicted = np.array([0.01, 1e9, 1.0, 50.0]), np.array([1e9, 0.01, 0.5, 50])
    found = smape_loss(log1p_tensor(predicted), log1p_tensor(price))
    assert 100 * float(found) == pytest.approx(smape(price, predicted), rel=1e-12)


@LOSSES
def test_gradients_are_those_of_finite_differences(loss):
    z = torch.tensor(
        [-2.0, -0.1, 0.005, 0.05, 1, 4, 9], dtype=torch.float64, requires_grad=True
    )
    target = log1p_tensor(np.full(7, 12.0))
    assert torch.autograd.gradcheck(lambda z: loss(z, target), (z,))


@LOSSES
@pytest.mark.parametrize("price", [0.01, 1.0, 20.0, 3000.0])
def test_gradient_pushes_towards_the_price_from_anywhere(loss, price):
    low = gradient_at([-50.0, -1.0, -0.01, 0.0, LOG_FLOOR / 2], price, loss)
    assert np.isfinite(low).all()
    assert (low < 0).all()
    high = gradient_at([9.0, 14.0, 20.0], price, loss)
    assert np.isfinite(high).all()
    assert (high > 0).all()


def test_smape_gradient_is_accurate_far_above_the_price():
    z, price = np.array([15.0, 18.0, 20.0]), 1.0
    expected = 4 * price * np.exp(z) / (np.expm1(z) + price) ** 2
    np.testing.assert_allclose(gradient_at(z.tolist(), price), expected, rtol=1e-4)


def test_smape_loss_goes_on_straight_below_the_floor():
    around = [LOG_FLOOR - 1e-4, LOG_FLOOR + 1e-4, -3.0]
    below, above, far = gradient_at(around, 10.0)
    assert below == pytest.approx(above, rel=1e-3)
    assert far == pytest.approx(below, rel=1e-6)


@LOSSES
def test_exact_predictions_have_zero_loss_and_zero_gradient(loss):
    target = log1p_tensor(PRICE, torch.float32)
    z = target.clone().requires_grad_()
    value = loss(z, target)
    value.backward()
    assert value.item() == 0
    assert (z.grad == 0).all()


@LOSSES
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_inputs_are_computed_on_in_float32(loss, dtype):
    z, target = log1p_tensor(PREDICTED, dtype), log1p_tensor(PRICE, dtype)
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(z.requires_grad_(), target)
    assert value.dtype == torch.float32
    exact = loss(z.detach().double(), target.double())
    assert value.item() == pytest.approx(exact.item(), rel=1e-5)
    value.backward()
    assert z.grad.dtype == dtype
    assert torch.isfinite(z.grad).all()


@LOSSES
def test_losses_refuse_a_column_where_torch_would_broadcast(loss):
    with pytest.raises(ValueError, match=r"same shape, got \(3, 1\) and \(3,\)"):
        loss(torch.ones(3, 1), torch.ones(3))
