"""The two losses, on log1p prices.

SMAPE of prices is 2 tanh(|ln p - ln y| / 2), bounded and smooth except at p = y. Its
gradient vanishes for large errors, so training starts with SmoothL1 (Girshick, 2015,
"Fast R-CNN", arXiv:1504.08083).
"""

import math

import torch
import torch.nn.functional as F

from finetune.price_unit import PRICE_FLOOR

LOG_FLOOR = math.log1p(PRICE_FLOOR)
"""log1p price below which SMAPE continues as a straight line: a network may start below
zero, where the price would be negative and the loss flat."""


def smooth_l1_loss(
    predicted: torch.Tensor, target: torch.Tensor, *, beta: float = 0.5
) -> torch.Tensor:
    """Compute the mean SmoothL1: squared below `beta`, linear above.

    Parameters
    ----------
    predicted, target : Tensor of shape (batch,)
        log1p prices.
    beta : float
        Error in log price.

    Returns
    -------
    Tensor of shape ()

    Raises
    ------
    ValueError
        If the shapes differ; torch would broadcast (n,) and (n, 1) to (n, n).
    """
    _require_same_shape(predicted, target, where="smooth_l1_loss")
    return F.smooth_l1_loss(_widen(predicted), _widen(target), beta=beta)


def smape_loss(predicted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Compute the mean SMAPE of prices as a differentiable fraction, 0 to 2.

    Below `LOG_FLOOR` it continues along its tangent there, so that the gradient never
    vanishes; the loss may then exceed 2.

    Parameters
    ----------
    predicted, target : Tensor of shape (batch,)
        log1p prices; targets above 0.

    Returns
    -------
    Tensor of shape ()
        The loss; 100 times it is the official score in percent.

    Raises
    ------
    ValueError
        If the shapes differ; torch would broadcast (n,) and (n, 1) to (n, n).
    """
    _require_same_shape(predicted, target, where="smape_loss")
    predicted, target = _widen(predicted), _widen(target)
    above = predicted.clamp(min=LOG_FLOOR)
    distance = (_log_price(above) - _log_price(target)).abs()
    # 2 tanh(d / 2), whose own gradient, 1 - tanh^2, rounds to 0 from d = 18 on.
    smape = 2 - 4 * torch.sigmoid(-distance)
    price = torch.expm1(target)
    slope = 4 * (1 + PRICE_FLOOR) * price / (price + PRICE_FLOOR).square()
    return (smape + slope * F.relu(LOG_FLOOR - predicted)).mean()


def _log_price(log1p_price: torch.Tensor) -> torch.Tensor:
    """Compute ln(e^z - 1) as z + ln(1 - e^-z), which does not overflow."""
    return log1p_price + torch.log(-torch.expm1(-log1p_price))


def _require_same_shape(
    predicted: torch.Tensor, target: torch.Tensor, *, where: str
) -> None:
    if predicted.shape != target.shape:
        raise ValueError(
            f"{where}: predicted and target must have the same shape, "
            f"got {tuple(predicted.shape)} and {tuple(target.shape)}"
        )


def _widen(values: torch.Tensor) -> torch.Tensor:
    """Compute in float32 at least, also under autocast."""
    return values if values.dtype == torch.float64 else values.float()
