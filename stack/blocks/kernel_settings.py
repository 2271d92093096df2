"""Learn the settings of block `kernel` from the rows that a fold's ridge is fitted on.

Gradient descent minimises the error of ridges that are fitted on some of those rows and
judged on others. The rows that the fold holds out are not used, so its score stays out
of fold.

References
----------
Chapelle et al. (2002), "Choosing Multiple Parameters for Support Vector Machines": the
gradient of a validation error by a kernel's settings.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from stack.blocks.mixture import Parts, mix, penalty, start_settings, take_pairs

N_STEPS = 60
N_FITTED, N_JUDGED = 2000, 1000
"""Largest numbers of rows in a step."""

FEWEST = 200
"""With fewer rows, the settings are not learned."""

_RATE, _LAST_RATE = 0.08, 0.005
_PULL = 3e-4  # weight of the squared distance from the start, in logarithms


def learn_settings(
    parts: Parts,
    log_price: NDArray[np.floating],
    folds: NDArray[np.integer],
    *,
    fold: int,
) -> NDArray[np.float32]:
    """Learn the settings of a fold's ridge.

    Parameters
    ----------
    parts : Parts
        Similarities of n products to each other.
    log_price : ndarray of shape (n,)
        log1p price; the fold's own rows are not read.
    folds : ndarray of shape (n,)
        Fold of each product; duplicates share one. Each step judges on one other fold.
    fold : int
        Fold whose ridge is tuned.

    Returns
    -------
    ndarray of shape (12 + n_attributes,)
        Learned settings; those of `start_settings` if fewer than `FEWEST` rows or fewer
        than two folds are left.
    """
    start = start_settings(parts.sizes.shape[1] // 2)
    inside = folds != fold
    others = np.unique(folds[inside])
    if len(others) < 2 or inside.sum() < FEWEST:
        return start
    rng = np.random.default_rng([0, fold])
    target = torch.from_numpy(log_price.astype(np.float32))
    prior = torch.from_numpy(start)
    settings = prior.clone().requires_grad_()
    optimizer = torch.optim.Adam([settings], lr=_RATE, betas=(0.8, 0.95))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer, N_STEPS, eta_min=_LAST_RATE
    )
    for step in range(N_STEPS):
        is_judged = folds == others[step % len(others)]
        fitted = _draw(inside & ~is_judged, N_FITTED, rng)
        judged = _draw(is_judged, N_JUDGED, rng)
        predicted = _predict(parts, target, settings, fitted, judged)
        # SMAPE / 100 for this error in the log price.
        error = 2 * torch.tanh((predicted - target[judged]).abs() / 2)
        loss = error.mean() + _PULL * ((settings - prior) ** 2).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return settings.detach().numpy()


def _draw(
    among: NDArray[np.bool_], n_most: int, rng: np.random.Generator
) -> NDArray[np.intp]:
    rows = np.flatnonzero(among)
    return np.sort(rng.permutation(rows)[:n_most])


def _predict(
    parts: Parts,
    target: torch.Tensor,
    settings: torch.Tensor,
    fitted: NDArray[np.intp],
    judged: NDArray[np.intp],
) -> torch.Tensor:
    """Fit a ridge on `fitted` rows; predict the log prices of `judged` rows."""
    centre = target[fitted].mean()
    kernel = mix(_tensors(parts, fitted, fitted), settings, torch.exp)
    kernel = kernel + penalty(settings, torch.exp) * torch.eye(len(fitted))
    factor = torch.linalg.cholesky(kernel)
    dual = torch.cholesky_solve((target[fitted] - centre)[:, None], factor)
    between = mix(_tensors(parts, judged, fitted), settings, torch.exp)
    log_price: torch.Tensor = (between @ dual)[:, 0] + centre
    return log_price


def _tensors(parts: Parts, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> Parts:
    pairs = take_pairs(parts, rows, columns)
    return Parts(
        words=tuple(map(torch.from_numpy, pairs.words)),
        text=torch.from_numpy(pairs.text),
        image=torch.from_numpy(pairs.image),
        sizes=torch.from_numpy(pairs.sizes),
        other_sizes=torch.from_numpy(pairs.other_sizes),
    )
