"""The blocks beyond the size up to which they are exact."""

import numpy as np
import pytest
from block_products import N_FOLDS, fit, make_folds, make_products, priced
from scipy.sparse import random_array

from embed.errors import CacheError
from finetune.score import smape, to_price
from stack.blocks import kernel_settings, spaces
from stack.blocks.centres import CentreRidge
from stack.blocks.index import DenseIndex
from stack.blocks.inputs import Known
from stack.blocks.kernel import Kernel
from stack.blocks.nearest import unit_rows
from stack.blocks.neighbours import Neighbours
from stack.blocks.rare_terms import RareTerms, cosines_of_terms
from stack.blocks.recall import SearchRecall

BOUND = 150


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Learn the kernel's weights in a few steps."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(kernel_settings, "N_STEPS", 8)
        yield


@pytest.fixture(scope="module")
def catalog():
    products, log_price = make_products(600)
    return products, priced(log_price, make_folds(600))


@pytest.fixture(scope="module")
def fitted(catalog, tmp_path_factory):
    stage_dir = tmp_path_factory.mktemp("stack")
    return {
        name: fit(name, *catalog, stage_dir, exact_up_to=BOUND)
        for name in ("kernel", "neighbours")
    }, stage_dir / "blocks"


def error(catalog, log_price):
    known = catalog[1].folds >= 0
    return smape(to_price(catalog[1].log_price[known]), to_price(log_price[known]))


def test_all_products_as_centres_give_the_exact_ridge():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(80, 200))
    kernel, target = rows @ rows.T / 200, rng.normal(size=80)
    ridge = CentreRidge(kernel, 0.3)
    for chunk in np.array_split(np.arange(80), 3):
        ridge.add(kernel[chunk], target[chunk])
    exact = np.linalg.solve(kernel + 0.3 * np.eye(80), target)
    np.testing.assert_allclose(ridge.solve(), exact, rtol=2e-3, atol=2e-4)


def test_equal_centres_are_no_trouble():
    kernel = np.ones((5, 5)) + np.diag([0, 0, 1.0, 2, 3])
    ridge = CentreRidge(kernel, 0.5)
    ridge.add(kernel, np.arange(5.0))
    expected = kernel @ np.linalg.solve(kernel + 0.5 * np.eye(5), np.arange(5.0))
    np.testing.assert_allclose(kernel @ ridge.solve(), expected, atol=1e-3)


def test_the_kernel_of_a_large_catalog_uses_all_prices(catalog, fitted, tmp_path):
    products, prices = catalog
    sampled = np.full_like(prices.folds, -1)
    drawn = np.random.default_rng(0).permutation(np.flatnonzero(prices.folds >= 0))
    sampled[drawn[:BOUND]] = prices.folds[drawn[:BOUND]]
    sample = fit("kernel", products, priced(prices.log_price, sampled), tmp_path)
    exact = fit("kernel", *catalog, tmp_path / "exact")
    errors = [error(catalog, of[:, 0]) for of in (fitted[0]["kernel"], exact, sample)]
    assert errors[0] < errors[1] + 0.2 * (errors[2] - errors[1])


def test_the_neighbours_of_a_large_catalog_are_nearly_the_exact_ones(
    catalog, fitted, tmp_path
):
    exact = fit("neighbours", *catalog, tmp_path)
    close = np.isclose(fitted[0]["neighbours"], exact, atol=2e-3, equal_nan=True)
    assert close.mean() > 0.97
    assert not (tmp_path / "blocks/neighbours/recall.json").exists()


def test_recall_is_measured(fitted):
    recall = SearchRecall.model_validate_json(
        (fitted[1] / "neighbours/recall.json").read_bytes()
    ).root
    assert set(recall) == {"text", "image", "fused", "words"}
    assert all(0.98 <= space.recall_at_10 <= 1 for space in recall.values())


def test_a_poor_search_is_given_more_effort(catalog, monkeypatch, tmp_path):
    monkeypatch.setattr(spaces, "_LEAST_RARE", 1)
    fit("neighbours", *catalog, tmp_path, exact_up_to=BOUND)
    path = tmp_path / "blocks/neighbours/recall.json"
    recall = SearchRecall.model_validate_json(path.read_bytes()).root
    assert recall["words"].effort > 1


def test_a_small_space_of_a_large_catalog_is_exact(catalog, tmp_path):
    n_photos = int((catalog[0].features.image_ok & (catalog[1].folds >= 0)).sum())
    fit("neighbours", *catalog, tmp_path, exact_up_to=n_photos)
    assert not (tmp_path / "blocks/neighbours/image_index.npy").exists()
    assert (tmp_path / "blocks/neighbours/text_index.npy").exists()


@pytest.mark.parametrize("name", ["kernel", "neighbours"])
def test_the_same_products_give_the_same_bytes(name, catalog, fitted, tmp_path):
    fit(name, *catalog, tmp_path, exact_up_to=BOUND)
    for path in (fitted[1] / name).iterdir():
        assert (
            path.read_bytes() == (tmp_path / "blocks" / name / path.name).read_bytes()
        )


@pytest.mark.parametrize("name", ["kernel", "neighbours"])
def test_prices_of_a_fold_change_nothing_within_it(name, catalog, fitted, tmp_path):
    products, prices = catalog
    inside = prices.folds == 2
    other = priced(np.where(inside, 9.0, prices.log_price), prices.folds)
    found = fit(name, products, other, tmp_path, exact_up_to=BOUND)
    assert found[inside].tobytes() == fitted[0][name][inside].tobytes()
    others = (prices.folds >= 0) & ~inside
    assert (found[others] != fitted[0][name][others]).any(axis=1).mean() > 0.9


def test_several_folds_are_the_average_of_each(catalog, fitted):
    products, prices = catalog
    known = Known(features=products.features, prices=prices)
    some = products.take(np.arange(20))

    def predict(folds):
        block = Kernel.load(fitted[1] / "kernel", known, folds)
        return block.predict(some)[:, 0]

    assert np.isfinite(predict(range(N_FOLDS))).all()
    mean = np.mean([predict([fold]) for fold in range(N_FOLDS)], axis=0)
    # Candidates of all folds and of one are not quite the same products.
    np.testing.assert_allclose(predict(range(N_FOLDS)), mean, atol=0.1)


def test_new_rows_are_added_to_an_index_without_a_rebuild():
    rows = unit_rows(np.random.default_rng(0).normal(size=(300, 8)))
    index = DenseIndex.empty(8)
    index.add(rows[:200])
    assert (index.nearest(rows[200:], 1)[0][:, 0] < 200).all()
    index.add(rows[200:])
    assert len(index) == 300
    assert (index.nearest(rows[200:], 1)[0][:, 0] == np.arange(200, 300)).all()


def test_an_index_finds_only_what_is_allowed():
    rows = unit_rows(np.random.default_rng(0).normal(size=(300, 8)))
    index = DenseIndex.empty(8)
    index.add(rows)
    allowed = np.arange(300) % 7 == 0
    places, cosines = index.nearest(rows[:50], 60, allowed=allowed)
    is_found = cosines != 0
    assert (is_found.sum(axis=1) > 20).all()
    assert allowed[places[is_found]].all()
    assert (places[~is_found] == 0).all()


def test_a_damaged_index_is_refused(catalog, fitted, tmp_path):
    products, prices = catalog
    fit("neighbours", products, prices, tmp_path, exact_up_to=BOUND)
    folder = tmp_path / "blocks/neighbours"
    np.save(folder / "text_index.npy", np.zeros(50, np.uint8))
    known = Known(features=products.features, prices=prices)
    with pytest.raises(
        CacheError, match=r"text_index\.npy: is not a whole index.*Copy the exported"
    ):
        Neighbours.load(folder, known, [0])


def test_rare_terms_are_found_in_the_order_of_their_weight():
    rng = np.random.default_rng(0)
    rows = random_array((40, 90), density=0.2, format="csr", rng=rng, dtype="f4")
    places = RareTerms(rows, 40).most_similar(rows[:6], 5)
    dense = rows.toarray()
    expected = np.argsort(-(dense[:6] @ dense.T), axis=1)[:, :5]
    np.testing.assert_array_equal(places, expected)
    everywhere = RareTerms(rows, 0).most_similar(rows[:6], 5)
    assert [len(found) for found in everywhere] == [0] * 6
    np.testing.assert_allclose(
        cosines_of_terms(rows[:6], rows[9:]), dense[:6] @ dense[9:].T, atol=1e-6
    )
