import numpy as np
import pytest
import torch

from embed.attributes import ATTRIBUTE_NAMES
from embed.encoders.towers import pad_tokens
from embed.sizes.bins import BIN_WEIGHT, N_BINS, bin_columns, bin_edges
from finetune.network.wide import WidePart

AMOUNT = ATTRIBUTE_NAMES.index("log_total_amount")
PACKS = ATTRIBUTE_NAMES.index("log_pack_count")
N_WORDS = 60
PER_WORD = 0.3 * np.random.default_rng(5).normal(size=N_WORDS)


class Products:
    """As much of a ProductCache as the wide part is fitted on."""

    max_tokens = 16

    def __init__(self, tokens, attributes):
        self.tokens, self.attributes = tokens, attributes
        self.text_ok = np.ones(len(tokens), dtype=bool)

    def text_batch(self, rows):
        return pad_tokens([self.tokens[int(row)] for row in rows])


@pytest.fixture
def briefly(monkeypatch):
    """Learn for fewer epochs, where what is learned does not matter."""
    monkeypatch.setattr("finetune.network.shallow._N_EPOCHS", 2)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def cache(rng):
    return draw_products(rng, 600)


def draw_products(rng, n, longest=12):
    lengths = rng.integers(3, longest, size=n)
    tokens = [rng.integers(1, N_WORDS, size=length) for length in lengths]
    attributes = np.full((n, len(ATTRIBUTE_NAMES)), np.nan, np.float32)
    attributes[:, [AMOUNT, PACKS]] = rng.normal(size=(n, 2))
    attributes[::3, PACKS] = np.nan
    return Products(tokens, attributes)


@pytest.fixture
def log_price(cache):
    return prices_by_word(cache)


def prices_by_word(cache):
    return np.array([3 + PER_WORD[ids].sum() for ids in cache.tokens])


def fit(cache, log_price, rows=None, groups=None):
    wide = WidePart(cache.attributes.shape[1])
    everyone = np.arange(len(cache.tokens))
    rows = everyone if rows is None else rows
    groups = everyone if groups is None else groups
    rng = np.random.default_rng(0)
    return wide, wide.fit(cache, log_price, rows, groups, rng=rng)


@pytest.fixture(scope="module")
def learned():
    """Products, and a wide part that has learned their prices. Not to be changed."""
    cache = draw_products(np.random.default_rng(0), 600)
    log_price = prices_by_word(cache)
    wide, nested = fit(cache, log_price)
    return cache, log_price, wide, nested


def price(wide, cache, rows):
    attributes = torch.from_numpy(cache.attributes[rows])
    return wide(*cache.text_batch(rows), attributes).numpy()


def test_prices_of_words_are_learned(cache, log_price):
    train, test = np.arange(500), np.arange(500, 600)
    wide, nested = fit(cache, log_price, train)
    assert np.corrcoef(price(wide, cache, test), log_price[test])[0, 1] > 0.7
    assert np.corrcoef(nested[train], log_price[train])[0, 1] > 0.7
    in_sample = np.abs(price(wide, cache, train) - log_price[train]).mean()
    assert in_sample < 0.5 * np.abs(nested[train] - log_price[train]).mean()


def test_sizes_are_learned_by_bins_and_unknown_ones_too(cache, rng):
    known = ~np.isnan(cache.attributes[:, PACKS])
    log_price = 3 + np.where(known, np.abs(cache.attributes[:, PACKS]), -2)
    wide, _ = fit(cache, log_price)
    found = price(wide, cache, np.arange(600))
    assert np.corrcoef(found, log_price)[0, 1] > 0.9
    assert found[~known].max() < 2 < found[known].min()


def test_what_a_size_adds_by_the_word_is_learned(rng):
    """A word that makes large ones dear and small ones cheap, by itself nothing."""
    cache = draw_products(rng, 2400, longest=5)
    has_word = np.array([(ids[:3] == 9).any() for ids in cache.tokens])
    extra = np.arange(len(has_word)) % 2 == 0
    for row in np.flatnonzero(extra):
        cache.tokens[row][0] = 9
    has_word |= extra
    size = np.sign(cache.attributes[:, AMOUNT])
    cache.attributes[:, AMOUNT] = size
    log_price = 3 + np.where(has_word, size, -size)
    train, test = np.arange(2000), np.arange(2000, 2400)
    wide, _ = fit(cache, log_price, train)
    assert np.corrcoef(price(wide, cache, test), log_price[test])[0, 1] > 0.5


@pytest.mark.usefixtures("briefly")
def test_a_price_is_the_shallow_network_s_own(cache, log_price, monkeypatch):
    """Columns, lengths and bins of the module are those of the matrix."""
    kept = {}
    rows = np.arange(600)
    wide = WidePart(len(ATTRIBUTE_NAMES))
    matrix = wide._matrix

    def keep(*given):
        kept["matrix"] = matrix(*given)
        return kept["matrix"]

    monkeypatch.setattr(wide, "_matrix", keep)
    wide.fit(cache, log_price, rows, rows, rng=np.random.default_rng(0))
    expected = wide.shallow.predict(kept["matrix"])
    np.testing.assert_allclose(price(wide, cache, rows), expected, atol=1e-5)


def test_a_nested_price_has_not_seen_its_product_nor_one_with_the_same_text(
    cache, log_price
):
    cache.tokens[7] = cache.tokens[3].copy()
    _, nested = fit(cache, log_price)
    log_price[[3, 7]] = 20.0
    wide, again = fit(cache, log_price)
    assert again[3] == nested[3]
    assert again[7] == nested[7]
    assert (again != nested).sum() > 300  # the other fifths have
    assert price(wide, cache, np.array([3]))[0] > nested[3] + 1


@pytest.mark.usefixtures("briefly")
def test_duplicates_by_photo_share_a_fifth(cache, log_price):
    groups = np.arange(600)
    groups[7] = 3
    _, nested = fit(cache, log_price, groups=groups)
    log_price[3] = 20.0
    assert fit(cache, log_price, groups=groups)[1][7] == nested[7]


@pytest.mark.usefixtures("briefly")
def test_texts_that_are_equal_after_the_cut_share_a_fifth(cache, log_price, rng):
    start = rng.integers(1, N_WORDS, size=15)
    for row, word in ((3, 8), (7, 9)):
        cache.tokens[row] = np.array([*start, word, 2])  # closed by 2 after the cut
    _, nested = fit(cache, log_price)
    log_price[3] = 20.0
    assert fit(cache, log_price)[1][7] == nested[7]


@pytest.mark.usefixtures("briefly")
def test_prices_outside_the_rows_are_not_read(cache, log_price):
    rows = np.arange(0, 600, 2)
    wide, nested = fit(cache, log_price, rows)
    log_price[1::2] = np.nan
    again, nested_again = fit(cache, log_price, rows)
    for name, tensor in wide.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    np.testing.assert_array_equal(nested, nested_again)
    assert np.isnan(nested[1::2]).all()
    assert np.isfinite(nested[::2]).all()


def test_padding_and_other_products_say_nothing(learned):
    cache, _, wide, _ = learned
    together = price(wide, cache, np.arange(50))
    alone = [price(wide, cache, np.array([row]))[0] for row in range(50)]
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_without_attributes_words_alone_are_learned(cache, log_price):
    cache.attributes = cache.attributes[:, :0]
    wide, _ = fit(cache, log_price)
    found = price(wide, cache, np.arange(600))
    assert np.corrcoef(found, log_price)[0, 1] > 0.8


def test_of_equal_products_alone_one_price_is_learned():
    cache = Products(
        [np.array([5, 6, 7])] * 4, np.zeros((4, len(ATTRIBUTE_NAMES)), np.float32)
    )
    wide, nested = fit(cache, np.array([1.0, 2.0, 3.0, 6.0]))
    np.testing.assert_allclose(nested, 3.0)
    found = price(wide, cache, np.arange(4))
    np.testing.assert_allclose(found, found[0], atol=1e-5)
    assert 1 < found[0] < 6


def test_a_network_with_a_wide_part_loads_what_another_one_learned(learned):
    cache, _, wide, _ = learned
    other = WidePart(len(ATTRIBUTE_NAMES))
    other.load_state_dict(wide.state_dict())
    rows = np.arange(50)
    np.testing.assert_array_equal(price(other, cache, rows), price(wide, cache, rows))
    assert not any(values.requires_grad for values in other.parameters())
    narrow = wide.state_dict()
    narrow["shallow.vectors"] = narrow["shallow.vectors"][:, 1:]
    with pytest.raises(RuntimeError, match=r"size mismatch for shallow\.vectors"):
        other.load_state_dict(narrow)
    beyond = wide.state_dict()
    beyond["shallow.place"] = beyond["shallow.place"] + 1
    with pytest.raises(RuntimeError, match=r"shallow\.place is not within the \d+ vec"):
        other.load_state_dict(beyond)


def test_the_same_seed_learns_the_same_bytes(learned):
    cache, log_price, wide, nested = learned
    again, nested_again = fit(cache, log_price)
    np.testing.assert_array_equal(nested, nested_again)
    for name, tensor in wide.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


def test_other_attributes_than_ours_are_refused():
    with pytest.raises(ValueError, match="n_attributes must be 0 or 15, got 2"):
        WidePart(2)


def test_a_text_of_one_token_has_a_price(learned):
    cache, _, wide, _ = learned
    short = Products([np.array([5])], cache.attributes)
    assert np.isfinite(price(wide, short, np.array([0]))).all()


def test_bins_hold_near_equally_many_and_equal_values_share_one(rng):
    column = rng.normal(size=1000).astype(np.float32)
    few = np.repeat([1.0, 2.0], 500).astype(np.float32)
    nothing = np.full(1000, np.nan, np.float32)
    attributes = np.stack([column, few, nothing], axis=1)
    found = bin_columns(attributes, bin_edges(attributes)).toarray() / BIN_WEIGHT
    assert set(np.unique(found)) == {0.0, 1.0}
    normal, two, unknown = np.split(found, 3, axis=1)
    assert normal[:, :N_BINS].sum(0).tolist() == [1000 / N_BINS] * N_BINS
    assert sorted(two.sum(0)[two.sum(0) > 0]) == [500, 500]
    assert unknown.sum(0).tolist() == [0] * N_BINS + [1000]
