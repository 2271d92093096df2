import numpy as np
import pytest

from finetune.folds import assign_folds, duplicate_groups

N, N_FOLDS = 2000, 5


@pytest.fixture
def products():
    """Prices with many ties, groups of 1 to 9, some products unpriced."""
    rng = np.random.default_rng(0)
    price = np.round(np.exp(rng.normal(2.5, 1.0, N)), 1) + 0.1
    price[rng.choice(N, 50, replace=False)] = np.nan
    groups = np.sort(rng.integers(0, 1200, N))
    return price, groups, [f"id-{row}" for row in rng.permutation(N)]


def partition(groups):
    return {frozenset(np.flatnonzero(groups == name)) for name in set(groups.tolist())}


def test_rows_that_share_a_key_are_one_group_and_others_are_not():
    assert partition(duplicate_groups(["a", "b", "a", "c"])) == {
        frozenset({0, 2}), frozenset({1}), frozenset({3}),
    }  # fmt: skip


def test_groups_join_across_kinds_of_key():
    text, photo = ["a", "a", "b", "c"], ["x", "y", "y", "z"]
    assert partition(duplicate_groups(text, photo)) == {
        frozenset({0, 1, 2}), frozenset({3}),
    }  # fmt: skip


def test_rows_without_a_key_share_nothing():
    assert len(partition(duplicate_groups(["", "", ""], ["", "", ""]))) == 3


def test_the_same_key_of_another_kind_joins_nothing():
    assert len(partition(duplicate_groups(["a", ""], ["", "a"]))) == 2


def test_a_long_chain_of_duplicates_is_one_group():
    links = [str(row // 2) for row in range(3000)]
    shifted = [str((row + 1) // 2) for row in range(3000)]
    assert len(set(duplicate_groups(links, shifted).tolist())) == 1


def test_groups_do_not_depend_on_the_order_of_rows():
    rng = np.random.default_rng(0)
    text, photo = rng.integers(0, 300, (2, 400)).astype(str)
    order = rng.permutation(400)
    groups = duplicate_groups(text.tolist(), photo.tolist())
    shuffled = duplicate_groups(text[order].tolist(), photo[order].tolist())
    assert partition(groups) == {
        frozenset(order[list(rows)].tolist()) for rows in partition(shuffled)
    }


def test_duplicates_never_straddle_folds(products):
    price, groups, _ = products
    folds = assign_folds(price, groups, n_folds=N_FOLDS, seed=0)
    for group in set(groups.tolist()):
        assert len(set(folds[(groups == group) & ~np.isnan(price)].tolist())) <= 1


def test_every_priced_product_has_one_fold_and_others_none(products):
    price, groups, _ = products
    folds = assign_folds(price, groups, n_folds=N_FOLDS, seed=0)
    assert folds.dtype == np.int8
    np.testing.assert_array_equal(folds == -1, np.isnan(price))
    assert set(folds.tolist()) == {-1, *range(N_FOLDS)}


@pytest.mark.parametrize("largest", [1, 9, 300])
def test_folds_are_equal_to_within_the_largest_group(products, largest):
    price, groups, _ = products
    groups = np.arange(N) if largest == 1 else groups.copy()
    groups[:largest] = groups[0]
    folds = assign_folds(price, groups, n_folds=N_FOLDS, seed=0)
    sizes = np.bincount(folds[folds >= 0], minlength=N_FOLDS)
    assert np.ptp(sizes) <= max(np.unique(groups, return_counts=True)[1])


def test_folds_have_like_prices(products):
    price, groups, _ = products
    # As few priced groups as real duplicates leave; most products are single.
    groups = np.where(groups < 200, groups, np.arange(N) + 10_000)
    folds = assign_folds(price, groups, n_folds=N_FOLDS, seed=0)
    logs = [np.log1p(price[folds == fold]) for fold in range(N_FOLDS)]
    assert np.ptp([part.mean() for part in logs]) < 0.05
    assert np.ptp([part.std() for part in logs]) < 0.05


def test_same_seed_gives_the_same_folds_and_another_seed_others(products):
    price, groups, _ = products
    first, again, other = (
        assign_folds(price, groups, n_folds=N_FOLDS, seed=seed) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.5


def test_folds_follow_their_products_when_rows_are_shuffled(products):
    price, groups, ids = products
    order = np.random.default_rng(1).permutation(N)
    folds = assign_folds(price, groups, n_folds=N_FOLDS, seed=0, order_keys=ids)
    names = duplicate_groups([str(group) for group in groups[order]])
    shuffled = assign_folds(
        price[order],
        names,
        n_folds=N_FOLDS,
        seed=0,
        order_keys=[ids[row] for row in order],
    )
    np.testing.assert_array_equal(folds[order], shuffled)


@pytest.mark.parametrize("seed", range(5))
def test_rounding_does_not_part_groups_of_equal_mean_price(seed):
    rng = np.random.default_rng(seed)
    price = np.tile(np.exp(rng.normal(2, 1, 4)), 20)
    groups, order = np.repeat(np.arange(20), 4), rng.permutation(80)
    keys = np.array([f"{row:02}" for row in range(80)])
    folds, shuffled = (
        assign_folds(
            price[rows], groups[rows], n_folds=5, seed=0, order_keys=keys[rows].tolist()
        )
        for rows in (np.arange(80), order)
    )
    np.testing.assert_array_equal(folds[order], shuffled)


@pytest.mark.parametrize("n_folds", [1, 4])
def test_an_impossible_number_of_folds_is_refused_with_the_remedy(n_folds):
    price = np.array([1.0, 2, 3, 3, np.nan])
    groups = np.array([0, 1, 2, 2, 4])
    message = f"--folds must be 2 to .* which is 3, got {n_folds}. Use fewer folds or"
    with pytest.raises(ValueError, match=message):
        assign_folds(price, groups, n_folds=n_folds, seed=0)
