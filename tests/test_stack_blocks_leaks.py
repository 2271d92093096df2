"""No block shows a product its own price, nor that of another in its fold."""

import numpy as np
import pytest
from block_products import N_FOLDS, fit, make_folds, make_products, priced

from finetune.score import smape, to_price
from stack.blocks import kernel_settings
from stack.blocks.fitted import BLOCKS_DIR
from stack.blocks.inputs import Known
from stack.blocks.registry import PRICE_BLOCKS
from stack.config import StackConfig
from stack.trees.matrix import BlockMatrix
from stack.trees.residual import fit_out_of_fold

BLOCKS = sorted(PRICE_BLOCKS)
FOLD = 2


@pytest.fixture(autouse=True)
def learning(monkeypatch):
    """Few as they are, let the kernel's weights be learned from these products."""
    monkeypatch.setattr(kernel_settings, "FEWEST", 20)


@pytest.fixture(scope="module")
def products():
    return make_products()


def in_sample(name, products, prices, stage_dir):
    """What the block would be if each product's own price were among the known."""
    known = Known(features=products.features, prices=prices)
    folder = stage_dir / BLOCKS_DIR / name
    loaded = PRICE_BLOCKS[name].load(folder, known, range(N_FOLDS))
    return loaded.predict(products)


@pytest.mark.parametrize("name", BLOCKS)
def test_prices_of_a_fold_change_nothing_within_it(name, products, tmp_path):
    products, log_price = products
    folds = make_folds()
    inside = folds == FOLD
    other = np.where(inside, log_price[::-1] + 2, log_price)
    pair, leaked = [], []
    for at, target in enumerate((log_price, other)):
        prices, stage_dir = priced(target, folds), tmp_path / str(at)
        pair.append(fit(name, products, prices, stage_dir))
        leaked.append(in_sample(name, products, prices, stage_dir))
    assert pair[0][inside].tobytes() == pair[1][inside].tobytes()
    assert np.isfinite(pair[0][inside]).any(axis=1).all()
    others = (folds >= 0) & ~inside
    assert (pair[0][others] != pair[1][others]).any(axis=1).all()
    # The canary: with the rows themselves among the known, the same test fails.
    assert (leaked[0][inside] != leaked[1][inside]).any(axis=1).all()


@pytest.mark.parametrize("name", BLOCKS)
def test_unpriced_products_are_never_references(name, products, tmp_path):
    products, log_price = products
    folds = make_folds()
    unpriced = folds < 0
    found = []
    for at, price in enumerate((np.nan, 50.0)):
        prices = priced(log_price, folds)
        prices.log_price[unpriced] = price
        found.append(fit(name, products, prices, tmp_path / str(at)))
    assert unpriced.any()
    assert found[0].tobytes() == found[1].tobytes()
    assert np.isfinite(found[0][unpriced]).any(axis=1).all()


@pytest.mark.parametrize("name", BLOCKS)
def test_unpriced_products_see_all_prices(name, products, tmp_path):
    products, log_price = products
    folds = make_folds()
    prices = priced(log_price, folds)
    found = fit(name, products, prices, tmp_path)
    expected = in_sample(name, products, prices, tmp_path)
    np.testing.assert_allclose(found[folds < 0], expected[folds < 0], atol=1e-5)
    assert not np.allclose(
        found[folds >= 0], expected[folds >= 0], atol=1e-3, equal_nan=True
    )


@pytest.mark.parametrize("name", BLOCKS)
def test_random_prices_are_predicted_by_no_block_but_an_in_sample_one(name, tmp_path):
    n = 600
    products, _ = make_products(n, n_brands=200)  # three or so of each
    log_price = np.random.default_rng(5).normal(3, 0.8, n)
    folds = (np.arange(n) % N_FOLDS).astype(np.int8)
    prices = priced(log_price, folds)
    config = StackConfig(max_rounds=60, min_data_in_leaf=10, n_threads=1)

    def score(features):
        fitted = fit_out_of_fold(
            BlockMatrix({name: features}),
            log_price,
            init_log_price=None,
            folds=folds,
            groups=np.arange(n),
            config=config,
        )
        return smape(to_price(log_price), to_price(fitted.out_of_fold))

    constant = np.full(n, np.median(log_price))
    median = smape(to_price(log_price), to_price(constant))
    honest = score(fit(name, products, prices, tmp_path))
    leaked = score(in_sample(name, products, prices, tmp_path))
    assert honest > median - 2
    assert leaked < median - 4
