import numpy as np
import pytest
from block_products import attributes_of, fit, make_folds, make_products, priced

from finetune.score import smape, to_price
from stack.blocks import references
from stack.blocks.inputs import BlockInputs, Features, Known
from stack.blocks.kernel import Kernel
from stack.blocks.mixture import mix, penalty

NAMES = ("kernel", "lexical")


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    products, log_price = make_products(400)
    prices = priced(log_price, make_folds(400))
    stage_dir = tmp_path_factory.mktemp("stack")
    found = fit("kernel", products, prices, stage_dir)
    return products, prices, found, stage_dir / "blocks" / "kernel"


def test_what_sets_the_price_is_found(fitted):
    _, prices, found, _ = fitted
    kept = prices.folds >= 0
    true = to_price(prices.log_price[kept])
    constant = np.full(len(true), np.median(true))
    assert found.shape == (400, len(Kernel.columns))
    assert smape(true, to_price(found[kept, 0])) < 0.4 * smape(true, constant)


def test_kind_and_size_together_are_learned(tmp_path):
    """One good is dearer the larger it is, another the smaller: no sum of both does."""
    rng = np.random.default_rng(0)
    n = 400
    good, size = rng.integers(0, 2, n), rng.normal(size=n)
    log_price = 3 + np.where(good == 0, size, -size)
    products = BlockInputs(
        texts=[f"Some {('green tea', 'olive oil')[of]} of ours." for of in good],
        features=Features(
            text=rng.normal(size=(n, 8)).astype(np.float16),
            image=np.zeros((n, 8), np.float16),
            image_ok=np.zeros(n, bool),
            fused=np.zeros((n, 8), np.float16),
            attributes=attributes_of(log_total_amount=size),
            categories=np.zeros((n, 0), np.float32),
        ),
    )
    prices = priced(log_price, (np.arange(n) % 4).astype(np.int8))
    found = {name: fit(name, products, prices, tmp_path)[:, 0] for name in NAMES}
    error = {name: np.abs(of - log_price).mean() for name, of in found.items()}
    assert error["kernel"] < 0.2 < 0.5 < error["lexical"]


def test_it_is_the_ridge_of_its_kernel(fitted):
    products, prices, found, folder = fitted
    known = np.flatnonzero(prices.folds >= 0)
    block = Kernel.load(folder, Known(), [1])
    parts = block.references.parts(products.take(known))
    matrix = mix(parts, block.settings[0], np.exp).astype(np.float64)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-4)
    assert np.linalg.eigvalsh(matrix).min() > -1e-3
    inside = prices.folds[known] != 1
    target = prices.log_price[known][inside]
    dual = np.linalg.solve(
        matrix[np.ix_(inside, inside)]
        + penalty(block.settings[0], np.exp) * np.eye(inside.sum()),
        target - target.mean(),
    )
    expected = matrix[np.ix_(~inside, inside)] @ dual + target.mean()
    np.testing.assert_allclose(found[known[~inside], 0], expected, atol=1e-3)


def test_a_photo_counts_where_both_have_one(fitted):
    products, _, _, folder = fitted
    block = Kernel.load(folder, Known(), [0])

    def compare(some):
        return mix(block.references.parts(some), block.settings[0], np.exp)

    without = np.flatnonzero(~products.features.image_ok)[:3]
    some = products.take(without)
    other = BlockInputs(
        texts=some.texts,
        features=Features(**{**vars(some.features), "image": some.features.image + 1}),
    )
    np.testing.assert_array_equal(compare(some), compare(other))
    with_photo = np.flatnonzero(products.features.image_ok)[:3]
    some = products.take(with_photo)
    other = BlockInputs(
        texts=some.texts,
        features=Features(**{**vars(some.features), "image": some.features.image + 1}),
    )
    assert (compare(some) != compare(other)).any(axis=1).all()


def test_of_a_large_catalog_a_sample_is_compared_with(tmp_path):
    products, log_price = make_products(400)
    prices = priced(log_price, make_folds(400))
    found = fit("kernel", products, prices, tmp_path, exact_up_to=150)
    kept = prices.folds >= 0
    true = to_price(log_price[kept])
    constant = np.full(len(true), np.median(true))
    assert np.load(tmp_path / "blocks/kernel/coefficients.npy").shape == (4, 150)
    assert smape(true, to_price(found[kept, 0])) < 0.6 * smape(true, constant)


def test_several_folds_are_the_average_of_each(fitted):
    products, _, _, folder = fitted
    some = products.take(np.arange(20))

    def predict(folds):
        return Kernel.load(folder, Known(), folds).predict(some)

    mean = np.mean([predict([0]), predict([2])], axis=0)
    np.testing.assert_allclose(predict([0, 2]), mean, atol=1e-4)
    assert (predict([0])[:, 0] != predict([2])[:, 0]).all()


def test_chunks_of_products_change_nothing(fitted, monkeypatch):
    products, prices, found, folder = fitted
    rows = np.flatnonzero(prices.folds == 3)
    monkeypatch.setattr(references, "_CHUNK_VALUES", 5000)
    block = Kernel.load(folder, Known(), [3])
    np.testing.assert_allclose(
        block.predict(products.take(rows)), found[rows], atol=1e-4
    )


def test_a_product_of_which_nothing_is_known_has_a_price(fitted):
    products, _, _, folder = fitted
    first = products.take(np.array([0])).features
    nothing = {name: np.zeros_like(array) for name, array in vars(first).items()}
    nothing["attributes"] = np.full_like(first.attributes, np.nan)
    block = Kernel.load(folder, Known(), [0])
    found = block.predict(BlockInputs(texts=[""], features=Features(**nothing)))[0]
    for column, value in zip(Kernel.columns, found, strict=True):
        assert np.isnan(value) == column.name.startswith("kernel-larger-")


def test_a_single_fold_is_priced_by_its_own_settings(fitted):
    products, _, _, folder = fitted
    settings = np.load(folder / "settings.npy")
    assert settings.shape == (4, 12 + products.features.attributes.shape[1])
    assert len(np.unique(settings, axis=0)) == 4
    for fold in range(4):
        block = Kernel.load(folder, Known(), [fold])
        np.testing.assert_array_equal(block.settings, settings[[fold]])
