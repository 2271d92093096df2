from pathlib import Path

import numpy as np
import pytest

from embed.catalog.columns import CatalogColumns
from embed.catalog.reader import Catalog
from embed.errors import ConfigError
from finetune.config import FinetuneConfig
from finetune.folds import draw_share
from finetune.held_out import split_products

N = 2000


@pytest.fixture
def products():
    rng = np.random.default_rng(0)
    groups = np.sort(rng.integers(0, 1200, N))
    level = rng.normal(2.5, 1.0, 1200)[groups]
    price = np.round(np.exp(level + rng.normal(0, 0.2, N)), 1) + 0.1
    price[rng.choice(N, 50, replace=False)] = np.nan
    return price, groups, [f"id-{row}" for row in range(N)]


@pytest.mark.parametrize("share", [0.05, 0.1, 0.25, 0.5])
def test_a_draw_has_whole_groups_and_its_share(products, share):
    price, groups, keys = products
    drawn = draw_share(price, groups, share=share, seed=3, order_keys=keys)
    priced = ~np.isnan(price)
    assert not drawn[~priced].any()
    assert not np.isin(groups[drawn], groups[priced & ~drawn]).any()
    assert drawn.sum() == pytest.approx(share * priced.sum(), rel=0.05)


def test_the_prices_of_a_draw_are_more_like_the_rest_than_those_of_any_groups(products):
    price, groups, keys = products
    priced = ~np.isnan(price)

    def gap(drawn):
        rest = np.log(price[priced & ~drawn]).mean()
        return abs(np.log(price[priced & drawn]).mean() - rest)

    gaps = []
    for seed in range(10):
        drawn = draw_share(price, groups, share=0.1, seed=seed, order_keys=keys)
        any_groups = np.random.default_rng(seed).random(1200)[groups] < 0.1
        gaps.append((gap(drawn), gap(any_groups)))
    balanced, unbalanced = np.mean(gaps, axis=0)
    assert balanced < 0.05
    assert balanced < unbalanced / 2


def test_a_draw_depends_on_the_seed_and_not_on_the_order_of_rows(products):
    price, groups, keys = products
    drawn = draw_share(price, groups, share=0.1, seed=0, order_keys=keys)
    other = draw_share(price, groups, share=0.1, seed=1, order_keys=keys)
    assert (drawn != other).any()
    order = np.random.default_rng(0).permutation(N)
    again = draw_share(
        price[order],
        groups[order],
        share=0.1,
        seed=0,
        order_keys=[keys[row] for row in order],
    )
    np.testing.assert_array_equal(again, drawn[order])


def test_a_group_larger_than_the_draw_is_never_drawn():
    price = np.linspace(1, 50, 100)
    groups = np.where(np.arange(100) < 40, 0, np.arange(100))
    for seed in range(20):
        drawn = draw_share(price, groups, share=0.1, seed=seed)
        assert not drawn[:40].any()
        assert 4 <= drawn.sum() <= 12


def dated_catalog(dates):
    columns = CatalogColumns(time="sold", time_format="ISO8601")
    n = len(dates)
    return Catalog(
        path=Path("catalog.csv"),
        columns=columns,
        sample_id=np.array([f"p{row}" for row in range(n)]),
        text=("tea",) * n,
        image_link=("",) * n,
        price_text=None,
        time=tuple(dates),
    )


def split(dates, price=None, **settings):
    price = np.arange(1.0, len(dates) + 1) if price is None else price
    groups = np.arange(len(dates))
    config = FinetuneConfig(**settings)
    return split_products(dated_catalog(dates), price, groups, config)


MONTHS = [f"2024-{month:02}-15" for month in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)]


def test_later_products_are_held_out_and_have_no_price_to_train_on():
    result = split(MONTHS, test_from="2024-06-15")
    assert result.held_out.tolist() == [False] * 5 + [True] * 5
    assert np.isnan(result.price).tolist() == result.held_out.tolist()
    dates = result.dates
    assert (dates.first_trained, dates.last_trained) == (MONTHS[0], MONTHS[4])
    assert (dates.test_from, dates.last_held_out) == (MONTHS[5], MONTHS[9])


def test_the_default_date_leaves_about_a_fifth_and_is_said(caplog):
    caplog.set_level("INFO")
    assert split(MONTHS).held_out.sum() == 2
    assert "2 products dated 2024-09-15 or later are held out" in caplog.text
    # Many products of the last day: the nearest share that a day allows.
    assert split([*MONTHS[:2], *["2024-09-01"] * 7, MONTHS[9]]).held_out.sum() == 1


@pytest.mark.parametrize("dates", [["2024-01-01"] * 5, [""] * 4 + ["2024-01-01"]])
def test_one_date_allows_no_default_test(dates):
    result = split(dates)
    assert not result.held_out.any()
    assert not result.n_undated


def test_none_trains_on_all_and_so_does_a_catalog_without_dates():
    result = split(["", *MONTHS], test_from="none")
    assert not result.held_out.any()
    assert not np.isnan(result.price).any()
    assert result.dates.test_from is None


def test_products_without_a_date_are_on_neither_side_and_counted(caplog):
    price = np.arange(1.0, 12.0)
    price[5] = np.nan
    result = split(["soon", *MONTHS], price, test_from="2024-06-15")
    assert result.n_undated == 1
    assert not result.held_out[0]
    assert np.isnan(result.price[0])
    assert not result.held_out[5]
    assert "1 products have no readable date in 'sold'" in caplog.text
    assert "sample_id 'p0'" in caplog.text


@pytest.mark.parametrize("date", ["2025-01-01", "2024-01-01"])
def test_a_date_that_leaves_one_side_empty_is_refused(date):
    with pytest.raises(ConfigError, match=rf"--test-from {date} \(dates from 2024-01"):
        split(MONTHS, test_from=date)


def test_a_random_share_ignores_dates_and_refuses_to_be_empty():
    result = split(["", *MONTHS], hold_out=0.2)
    assert result.held_out.sum() == 2
    assert not result.n_undated
    assert result.dates.test_from is None
    with pytest.raises(ConfigError, match=r"--hold-out 0\.05: holds out 0 of 5"):
        split(MONTHS[:5], hold_out=0.05)


def test_settings_that_contradict_each_other_or_have_no_meaning_are_refused():
    with pytest.raises(ConfigError, match="exclude each other"):
        FinetuneConfig(test_from="2024-01-01", hold_out=0.1)
    with pytest.raises(ConfigError, match="--test-from must be a date such as"):
        FinetuneConfig(test_from="1.1.2024")
    for share in (-0.1, 0.6):
        with pytest.raises(ConfigError, match="--hold-out must be 0 to"):
            FinetuneConfig(hold_out=share)
