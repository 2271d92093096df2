import dataclasses
import math

import numpy as np
import pytest
from block_products import fit, make_products, priced

from embed.errors import CacheError
from stack.blocks.inputs import BlockInputs, Known
from stack.blocks.statistics import SMOOTHING, Statistics

COLUMNS = [column.name for column in Statistics.columns]

TEXTS = (
    "8 Ounce. Acme tea, loose and green",
    "9 Ounce. ACME Tea, loose and black",
    "2 Count. Acme coffee, ground and dark",
    "2 Count. Bolt coffee, ground and dark",
)
FOLDS = np.array([0, 1, 1, 2], dtype=np.int8)
LOG_PRICE = np.array([1.0, 2.0, 4.0, 7.0])


@pytest.fixture
def fitted(tmp_path):
    few = make_products(len(TEXTS))[0]
    products = BlockInputs(texts=TEXTS, features=few.features)
    prices = priced(LOG_PRICE, FOLDS)
    found = fit("statistics", products, prices, tmp_path / "stack")
    return products, prices, found, tmp_path / "stack" / "blocks" / "statistics"


def test_means_are_shrunk_to_that_of_all_outside_the_fold(fitted):
    found = dict(zip(COLUMNS, fitted[2][0].tolist(), strict=True))
    overall = (2 + 4 + 7) / 3

    def shrunk(*log_prices):
        n = len(log_prices)
        return (sum(log_prices) + SMOOTHING * overall) / (n + SMOOTHING)

    expected = {
        "statistics-first-word-mean": shrunk(2.0, 4.0),
        "statistics-first-word-count": math.log1p(2),
        "statistics-two-words-mean": shrunk(2.0),
        "statistics-two-words-count": math.log1p(1),
        "statistics-unit-mean": shrunk(2.0),
        "statistics-unit-count": math.log1p(1),
    }
    assert found == pytest.approx(expected)


def test_what_is_only_in_the_own_fold_is_unknown(fitted):
    bolt = dict(zip(COLUMNS, fitted[2][3].tolist(), strict=True))
    assert bolt["statistics-first-word-count"] == 0
    assert bolt["statistics-first-word-mean"] == pytest.approx((1 + 2 + 4) / 3)
    assert bolt["statistics-unit-count"] == pytest.approx(math.log1p(1))


def test_a_new_product_sees_all_prices(fitted):
    products, prices, _, folder = fitted
    block = Statistics.load(folder, Known(prices=prices), [0, 1, 2])
    first = products.take(np.array([0]))
    new = BlockInputs(texts=["5 Ounce. Nobody tea, strange"], features=first.features)
    found = dict(zip(COLUMNS, block.predict(new)[0].tolist(), strict=True))
    assert found["statistics-first-word-mean"] == pytest.approx(LOG_PRICE.mean())
    assert found["statistics-unit-count"] == pytest.approx(math.log1p(2))


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("{}", "first-word is missing"),
        ('{"first-word": [1], "two-words": [], "unit": []}', "must be a string"),
        ("[", "not readable as JSON"),
    ],
)
def test_keys_that_no_fit_wrote_are_refused(fitted, content, fault):
    _, prices, _, folder = fitted
    (folder / "keys.json").write_text(content)
    with pytest.raises(CacheError, match=rf"keys\.json.*{fault}"):
        Statistics.load(folder, Known(prices=prices), [0])
    (folder / "keys.json").unlink()
    with pytest.raises(CacheError, match=r"keys\.json: is missing.*make stack"):
        Statistics.load(folder, Known(prices=prices), [0])


def test_a_category_column_without_keys_is_refused(fitted):
    products, prices, _, folder = fitted
    loaded = Statistics.load(folder, Known(prices=prices), [0])
    codes = np.ones((len(TEXTS), 1), np.float32)
    features = dataclasses.replace(products.features, categories=codes)
    others = BlockInputs(texts=TEXTS, features=features)
    with pytest.raises(
        CacheError, match=r"keys\.json: 'table0' is missing.*make stack"
    ):
        loaded.predict(others)


def test_sums_that_do_not_fit_their_keys_are_refused(fitted):
    _, prices, _, folder = fitted
    np.save(folder / "unit.npy", np.zeros((1, 3, 2)))
    with pytest.raises(CacheError, match=r"unit\.npy: has the shape .*make stack"):
        Statistics.load(folder, Known(prices=prices), [0])
