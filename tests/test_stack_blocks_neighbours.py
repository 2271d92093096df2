import numpy as np
import pytest
from block_products import N_FOLDS, fit, make_folds, make_products, priced
from scipy.sparse import csr_array

from embed.errors import CacheError, InputError
from stack.blocks import nearest
from stack.blocks.inputs import BlockInputs, Features, Known
from stack.blocks.nearest import DenseReferences, WordReferences, find_nearest
from stack.blocks.neighbours import N_NEIGHBOURS, SHARPNESS, STATISTICS, Neighbours
from stack.blocks.terms import count_terms, inverse_frequency, weigh

COLUMNS = [column.name for column in Neighbours.columns]


def columns_of(features, space):
    start = COLUMNS.index(f"neighbours-{space}-{STATISTICS[0].name}")
    return features[:, start : start + len(STATISTICS)]


def load(stage_dir, products, prices):
    known = Known(features=products.features, prices=prices)
    return Neighbours.load(stage_dir / "blocks/neighbours", known, range(N_FOLDS))


def unit(rows):
    rows = rows.astype(np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    products, log_price = make_products()
    prices = priced(log_price, make_folds())
    found = fit("neighbours", products, prices, tmp_path_factory.mktemp("stack"))
    return products, prices, found


@pytest.mark.parametrize("space", ["text", "image", "fused"])
def test_statistics_are_those_of_the_nearest_outside_the_fold(fitted, space):
    products, prices, found = fitted
    has_rows = np.ones(len(prices.folds), dtype=bool)
    if space == "image":
        has_rows = products.features.image_ok
    rows = unit(getattr(products.features, space))
    for row in (0, 7, 31, 90):
        own = int(prices.folds[row])
        known = (prices.folds >= 0) & (prices.folds != own) & has_rows
        cosine = rows[known] @ rows[row]
        best = np.argsort(-cosine)[:N_NEIGHBOURS]
        price, near = prices.log_price[known][best], cosine[best]
        weight = np.maximum(near, 0) ** SHARPNESS
        expected = [
            *(price.mean(), (price * weight).sum() / weight.sum(), np.median(price)),
            *(price.std(), price.min(), price.max(), 1 - near.max(), 1 - near.mean()),
        ]
        got = columns_of(found, space)[row]
        if has_rows[row]:
            assert (near > 0).all()
            np.testing.assert_allclose(got, expected, atol=1e-5)
        else:
            assert np.isnan(got).all()


def test_products_without_photo_have_no_neighbours_by_photo(fitted):
    products, _, found = fitted
    without = ~products.features.image_ok
    assert without.any()
    assert np.isnan(columns_of(found, "image")[without]).all()
    assert np.isfinite(columns_of(found, "image")[~without]).all()
    assert np.isfinite(columns_of(found, "text")).all()


def test_a_product_with_no_common_word_has_no_neighbours_by_words(fitted, tmp_path):
    products, prices, _ = fitted
    fit("neighbours", products, prices, tmp_path)
    block = load(tmp_path, products, prices)
    first = products.take(np.array([0]))
    strange = BlockInputs(texts=["xylophone"], features=first.features)
    assert np.isnan(columns_of(block.predict(strange), "words")).all()
    assert np.isfinite(columns_of(block.predict(first), "words")).all()


def test_a_variant_of_a_known_product_is_nearest_by_words(fitted, tmp_path):
    products, prices, _ = fitted
    fit("neighbours", products, prices, tmp_path)
    block = load(tmp_path, products, prices)
    known = int(np.flatnonzero(prices.folds >= 0)[0])
    found = columns_of(block.predict(products.take(np.array([known]))), "words")
    assert found[0, COLUMNS.index("neighbours-text-nearest")] == pytest.approx(
        0, abs=1e-5
    )


def test_no_photo_in_the_run_leaves_that_space_empty(fitted, tmp_path):
    products, prices, _ = fitted
    bare = BlockInputs(
        texts=products.texts,
        features=Features(
            text=products.features.text,
            image=products.features.image,
            image_ok=np.zeros(len(products.texts), dtype=bool),
            fused=products.features.fused,
            attributes=products.features.attributes,
            categories=products.features.categories,
        ),
    )
    found = fit("neighbours", bare, prices, tmp_path)
    assert np.isnan(columns_of(found, "image")).all()
    block = load(tmp_path, bare, prices)
    with_photo = products.take(np.flatnonzero(products.features.image_ok)[:1])
    assert np.isnan(columns_of(block.predict(with_photo), "image")).all()


def test_references_that_stay_on_disk_give_the_same(fitted, monkeypatch):
    rows = fitted[0].features.text
    which = np.arange(0, len(rows), 2)
    held = DenseReferences(rows, which).similarity(rows[:5])
    monkeypatch.setattr(nearest, "_HELD_BYTES", 0)
    monkeypatch.setattr(nearest, "_CHUNK_ROWS", 7)
    streamed = DenseReferences(rows, which).similarity(rows[:5])
    np.testing.assert_allclose(streamed, held, atol=1e-6)
    np.testing.assert_allclose(held, unit(rows[:5]) @ unit(rows[which]).T, atol=1e-5)


def test_chunks_of_queries_change_nothing(fitted, monkeypatch, tmp_path):
    products, prices, found = fitted
    monkeypatch.setattr(nearest, "_CHUNK_VALUES", 1)
    again = fit("neighbours", products, prices, tmp_path)
    np.testing.assert_allclose(again, found, atol=1e-5)


def test_equal_neighbours_are_taken_in_their_order():
    similarity = np.array([[0.5, 0.9, 0.5, 0.5, 0.9]], dtype=np.float32)
    shaken = similarity + np.array([[1e-7, 0, 2e-7, -1e-7, 1e-7]], dtype=np.float32)
    for cosines in (similarity, shaken):
        places, found = find_nearest(cosines, 3)
        assert places.tolist() == [[1, 4, 0]]
        np.testing.assert_allclose(found, [[0.9, 0.9, 0.5]], atol=1e-6)


@pytest.mark.parametrize(("n_queries", "n_references"), [(3, 0), (0, 4), (2, 1)])
def test_fewer_references_than_asked_for_are_all_found(n_queries, n_references):
    places, found = find_nearest(np.ones((n_queries, n_references), np.float32), 10)
    assert places.shape == found.shape == (n_queries, n_references)


def test_words_are_compared_by_cosine():
    texts = ["green tea", "green tea", "black coffee"]
    counts = count_terms(texts)[0]
    idf = inverse_frequency(counts)
    rows = weigh(counts, idf)
    assert isinstance(rows, csr_array)
    queries = count_terms(["tea green", "coffee", "nuts"])[0]
    found = WordReferences(idf, rows).similarity(queries)
    assert (found[0, :2] > 0.5).all()
    assert found[0, 2] == 0
    assert found[1].tolist()[:2] == [0, 0]
    assert found[1, 2] > 0
    assert not found[2].any()


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("indices", lambda part: np.where(part == part.max(), 2**30, part)),
        ("indices", lambda part: part[:-1]),
        ("indptr", lambda part: part[::-1]),
        ("data", lambda part: part[:, None]),
    ],
)
def test_words_whose_files_do_not_fit_are_refused(fitted, tmp_path, part, change):
    products, prices, _ = fitted
    fit("neighbours", products, prices, tmp_path)
    path = tmp_path / f"blocks/neighbours/{part}.npy"
    np.save(path, change(np.load(path)))
    with pytest.raises(CacheError, match=r"data\.npy: does not fit indices\.npy"):
        load(tmp_path, products, prices)


def test_a_cosine_that_is_not_a_number_is_refused():
    cosines = np.zeros((2, 5), np.float32)
    cosines[1, 3] = np.nan
    with pytest.raises(InputError, match="must be finite, found nan"):
        find_nearest(cosines, 2)
