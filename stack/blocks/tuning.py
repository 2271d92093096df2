"""Settings of block `kernel`, learned from the rows that a fold's ridge is fitted on.

Gradient descent on the error of ridges that are fitted on some of those rows and judged
on others. The rows that the fold holds out have no part in it, so that its score stays
out of fold.

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
"""Rows of a step at most."""

FEWEST = 200
"""Rows below which there is too little to learn from."""

_RATE, _LAST_RATE = 0.08, 0.005
_PULL = 3e-4  # towards the start: on the squared distance, in logarithms


def tune(
    parts: Parts,
    log_price: NDArray[np.floating],
    folds: NDArray[np.integer],
    *,
    fold: int,
) -> NDArray[np.float32]:
    """Learn settings for the ridge that a fold is priced by.

    Parameters
    ----------
    parts : Parts
        Of n products with themselves.
    log_price : ndarray of shape (n,)
        log1p price; that of the fold's own rows is not read.
    folds : ndarray of shape (n,)
        Duplicates share one. Each step judges on one of the others.
    fold : int

    Returns
    -------
    ndarray of shape (12 + n_attributes,)
        As `start_settings`, which are returned where less than `FEWEST` rows or less
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
        found = _predict(parts, target, settings, fitted, judged)
        # SMAPE / 100 of a log price that is off by so much.
        error = 2 * torch.tanh((found - target[judged]).abs() / 2)
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
    """Fit a ridge on some rows; return the log price of others by it."""
    centre = target[fitted].mean()
    kernel = mix(_tensors(parts, fitted, fitted), settings, torch.exp)
    kernel = kernel + penalty(settings, torch.exp) * torch.eye(len(fitted))
    factor = torch.linalg.cholesky(kernel)
    dual = torch.cholesky_solve((target[fitted] - centre)[:, None], factor)
    between = mix(_tensors(parts, judged, fitted), settings, torch.exp)
    found: torch.Tensor = (between @ dual)[:, 0] + centre
    return found


def _tensors(parts: Parts, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> Parts:
    of = take_pairs(parts, rows, columns)
    return Parts(
        words=tuple(map(torch.from_numpy, of.words)),
        text=torch.from_numpy(of.text),
        image=torch.from_numpy(of.image),
        sizes=torch.from_numpy(of.sizes),
        other_sizes=torch.from_numpy(of.other_sizes),
    )
