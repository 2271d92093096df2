"""Check that models learn nothing from prices shuffled over the products."""

import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetune.price_unit import to_log_price, to_price
from finetune.score import smape_rows
from stack.audit.records import AuditedRun, Check
from stack.blocks.fitted import block_matrix, fit_blocks, inputs_of
from stack.blocks.inputs import Prices
from stack.judge.evaluate import median_of_other_folds
from stack.judge.verdict import standard_error
from stack.trees.residual import fit_out_of_fold

_SHUFFLED_ROUNDS = 30
_NOISE = 3.0  # standard errors
_ONE_LEVEL = 0.5
"""SMAPE points. The price of a product enters the features of products in other folds,
and theirs enter its own features. With shuffled prices of 7,232 products, this gains
less than 0.1; a product whose features contain its own price gains tens."""


def check_shuffled_prices(audited: AuditedRun) -> Iterator[Check]:
    """Check that models learn nothing from prices shuffled over the products."""
    run, rows = audited.run, audited.priced
    price = audited.price.copy()
    price[rows] = np.random.default_rng(audited.seed).permutation(price[rows])
    blocks = {name: run.array(f"embed/{name}") for name in ("text", "attributes")}
    gain, noise = _gain(audited, price, blocks)
    yield Check(
        name="shuffled prices",
        passed=gain <= noise,
        detail=f"{gain:+.2f} SMAPE better than the constant median, noise {noise:.2f}",
    )
    price_blocks = _blocks_of(audited, price)
    if not price_blocks:
        return
    gain, noise = _gain(audited, price, blocks | price_blocks)
    yield Check(
        name="shuffled blocks",
        passed=gain <= noise + _ONE_LEVEL,
        detail=f"{gain:+.2f} SMAPE better than the constant median by trees that use "
        f"{', '.join(price_blocks)} too, noise {noise:.2f}, "
        f"{_ONE_LEVEL:.2f} let through",
    )


def _blocks_of(
    audited: AuditedRun, price: NDArray[np.float64]
) -> dict[str, NDArray[Any]]:
    """Fit the run's blocks on other prices, out of fold."""
    config = audited.opened.stack_config
    log_price = to_log_price(price, audited.run.price_unit)
    prices = Prices(log_price=log_price, folds=audited.folds)
    with tempfile.TemporaryDirectory() as folder:
        products = inputs_of(audited.run)
        fitted = fit_blocks(config.blocks, products, prices, Path(folder))
        return {name: np.array(block) for name, block in fitted.items()}


def _gain(
    audited: AuditedRun, price: NDArray[np.float64], blocks: dict[str, NDArray[Any]]
) -> tuple[float, float]:
    """Return the SMAPE by which trees beat the constant median, and the noise in it."""
    run, folds, rows = audited.run, audited.folds, audited.priced
    config = dataclasses.replace(
        audited.opened.stack_config,
        max_rounds=_SHUFFLED_ROUNDS,
        n_trials=0,
        n_threads=audited.n_threads,
    )
    fit = fit_out_of_fold(
        block_matrix(blocks, embed=run.embed),
        to_log_price(price, run.price_unit),
        init_log_price=None,
        folds=folds,
        groups=audited.groups,
        config=config,
    )
    predicted = to_price(fit.out_of_fold[rows], run.price_unit)
    constant = median_of_other_folds(price[rows], folds[rows])
    better = smape_rows(price[rows], constant) - smape_rows(price[rows], predicted)
    return float(better.mean()), _NOISE * standard_error(better, audited.groups[rows])
