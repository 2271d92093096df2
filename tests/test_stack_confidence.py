import re

import numpy as np
import pytest

from embed.attributes import ATTRIBUTE_NAMES
from embed.errors import ConfigError
from embed.text import MISSING_TEXT
from stack.blocks.neighbours import Neighbours
from stack.price.calibration import Calibration
from stack.price.confidence import (
    DISTANCES,
    Confidence,
    ErrorColumns,
    beyond_limits,
    distance_of,
)
from stack.price.engine import Encoded
from stack.trees.error_size import LEAST_PRODUCTS, fit_error_sizes, parts_of


def confidence(**changed):
    ones = np.ones(100)
    values = {
        "calibration": Calibration.fit(
            3 * ones, np.linspace(-1, 1, 100), ones, price_unit=1
        ),
        "columns": ErrorColumns(blocks=(), log_price_columns={}),
        "boosters": (),
        "usual_size": 0.2,
        "unknown_size": 0.9,
        "limits": {},
        "automatic": np.ones((100, 2)),
    }
    return Confidence(**{**values, **changed})


def encoded(texts, *, has_photo=False, table=()):
    n = len(texts)
    sizes = np.full((n, len(ATTRIBUTE_NAMES)), np.nan)
    return Encoded(
        texts=texts,
        attributes=np.column_stack([sizes, *table]).astype(np.float32),
        has_photo=np.full(n, has_photo),
        network_log_prices=np.zeros((1, n), np.float32),
        fused=[np.zeros((n, 512), np.float32)],
    )


def neighbours(**by_column):
    n = len(next(iter(by_column.values())))
    block = np.zeros((n, len(Neighbours.columns)), np.float32)
    names = [column.name for column in Neighbours.columns]
    for name, values in by_column.items():
        block[:, names.index(f"neighbours-{name.replace('_', '-')}")] = values
    return {"neighbours": block}


def test_log_prices_are_relative_to_the_predicted_one():
    columns = ErrorColumns(blocks=("a", "b"), log_price_columns={"a": (1,), "b": (0,)})
    blocks = {"a": np.array([[5.0, 4.0]]), "b": np.array([2.5])}
    found = columns(blocks, np.array([3.0]), np.array([True]))
    np.testing.assert_array_equal(found, [[5.0, 1.0, -0.5, 1.0, 3.0]])


def test_a_product_without_content_is_unlike_and_a_known_cell_is_content():
    texts = [MISSING_TEXT, "tea"]
    for has_photo, table, expected in (
        (False, (), [True, False]),
        (True, (), [False, False]),
        (False, ([np.nan, np.nan],), [True, False]),
        (False, ([4.0, np.nan],), [False, False]),
    ):
        products = encoded(texts, has_photo=has_photo, table=table)
        size, unlike = confidence().size(
            products, {"network": np.zeros(2)}, np.zeros(2)
        )
        assert unlike.tolist() == expected
        np.testing.assert_array_equal(size, np.where(expected, 0.9, 0.2))


def test_a_far_product_and_one_without_neighbours_are_unlike():
    blocks = neighbours(text_nearest=[0.1, 0.6, np.nan, 0.5])
    limits = {DISTANCES[0]: 0.5}
    assert beyond_limits(blocks, limits).tolist() == [False, True, True, False]
    assert distance_of(blocks, DISTANCES[0])[2] == np.inf
    assert not beyond_limits({"network": np.zeros(2)}, limits).any()


def test_an_unlike_product_has_a_wider_interval():
    blocks = neighbours(text_nearest=[0.1, 0.6])
    known = confidence(limits={DISTANCES[0]: 0.5})
    size, _ = known.size(encoded(["tea", "car"]), blocks, np.full(2, 3.0))
    low, high = known.calibration.bounds(np.full(2, 3.0), size, level=80)
    assert low[1] < low[0] < high[0] < high[1]


def test_automatic_prices_are_the_most_that_reach_the_rate():
    sure = np.linspace(0.99, 0.01, 200)
    is_right = np.arange(200) < 80
    found = confidence(automatic=np.column_stack([sure, is_right])).automatic_from(0.8)
    assert found.n == 100
    assert found.rate == 0.8
    assert found.share == 0.5
    assert found.least == sure[99]


def test_products_of_one_probability_are_chosen_together():
    sure = np.repeat([0.9, 0.5], 100)
    is_right = np.r_[np.ones(100), np.tile([1.0, 0.0], 50)]
    known = confidence(automatic=np.column_stack([sure, is_right]))
    assert known.automatic_from(0.8).n == 100
    assert known.automatic_from(0.75).n == 200


def test_a_rate_that_no_choice_reaches_is_refused_and_the_named_one_works():
    sure = np.linspace(0.99, 0.01, 200)
    is_right = (np.arange(200) % 3 > 0).astype(float)
    known = confidence(automatic=np.column_stack([sure, is_right]))
    with pytest.raises(ConfigError, match=r"--auto-at 0.95: out of fold") as refused:
        known.automatic_from(0.95)
    rate = float(re.search(r"Give ([\d.]+) or less", str(refused.value)).group(1))
    assert known.automatic_from(rate).rate >= rate


def draw_errors(n=1500, seed=0):
    """Draw errors whose size is the exponent of the first feature."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 3)).astype(np.float32)
    size = np.exp(features[:, 0] - 1)
    return features, size, rng.normal(0, size), np.arange(n) % 5


def test_boosters_find_the_size_of_errors():
    features, size, error, parts = draw_errors()
    fitted = fit_error_sizes(lambda rows: features[rows], error, parts)
    assert len(fitted.boosters) == 5
    for found in (fitted.size, *fitted.nested):
        assert np.corrcoef(np.log(found), np.log(size))[0, 1] > 0.85


def test_what_judges_a_part_does_not_depend_on_its_errors():
    features, _, error, parts = draw_errors()
    other = np.where(parts == 2, 9 * error, error)
    first, second = (
        fit_error_sizes(lambda rows: features[rows], errors, parts)
        for errors in (error, other)
    )
    np.testing.assert_array_equal(first.nested[2], second.nested[2])
    inside = parts == 2
    np.testing.assert_array_equal(first.size[inside], second.size[inside])
    assert (first.size[~inside] != second.size[~inside]).any()


def test_few_products_or_parts_have_errors_of_one_size():
    features, _, error, parts = draw_errors()
    few = slice(LEAST_PRODUCTS - 1)
    for errors, of_part in ((error[few], parts[few]), (error, parts % 2)):
        fitted = fit_error_sizes(lambda rows: features[rows], errors, of_part)
        assert not fitted.boosters
        np.testing.assert_allclose(fitted.size, np.abs(errors).mean())


def test_folds_beyond_five_share_parts():
    assert parts_of(np.arange(12)).max() == 4
