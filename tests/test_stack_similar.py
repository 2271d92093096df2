import numpy as np
import pytest

from stack.price.similar import PricedProducts
from stack.run import open_run


@pytest.fixture(scope="module")
def run(finished_run):
    return open_run(finished_run)


def test_the_nearest_are_those_of_greatest_cosine(run):
    fused = np.load(run.run_dir / "stack" / "fused.npy").astype(np.float64)
    asked = fused[7] + 0.3 * fused[11]
    cosine = fused @ asked / np.linalg.norm(fused, axis=1) / np.linalg.norm(asked)
    expected = np.argsort(-cosine)[:6]
    found = PricedProducts(run).nearest(asked, n=6)
    sample_id = np.load(run.run_dir / "embed" / "sample_id.npy")
    assert [other.sample_id for other in found] == sample_id[expected].tolist()
    np.testing.assert_allclose(
        [other.similarity for other in found], cosine[expected], atol=1e-4
    )


def test_they_are_told_with_their_name_and_true_price(run):
    fused = np.load(run.run_dir / "stack" / "fused.npy")
    (found,) = PricedProducts(run).nearest(fused[4], n=1)
    catalog = run.catalog()
    assert found.sample_id == str(catalog.sample_id[4])
    assert found.price == catalog.price[4]
    assert found.text
    assert f"Item Name: {found.text}\n" in catalog.text[4]


def test_the_product_itself_and_its_duplicates_are_left_out(run):
    groups = np.load(run.run_dir / "finetune" / "groups.npy")
    fused = np.load(run.run_dir / "stack" / "fused.npy")
    products = PricedProducts(run)
    products._groups = groups.copy()
    products._groups[[5, 6]] = products._groups[4]
    sample_id = np.load(run.run_dir / "embed" / "sample_id.npy")
    found = products.nearest(fused[4], n=100, exclude_group_of=4)
    ids = {other.sample_id for other in found}
    assert ids == set(sample_id.tolist()) - set(sample_id[[4, 5, 6]].tolist())


def test_products_without_a_price_are_never_named(run):
    products = PricedProducts(run)
    products._price = products._price.copy()
    products._price[::2] = np.nan
    fused = np.load(run.run_dir / "stack" / "fused.npy")
    found = products.nearest(fused[0], n=100)
    assert len(found) == 20
    assert all(np.isfinite(other.price) for other in found)


def test_an_embedding_of_zeros_is_like_nothing(run):
    found = PricedProducts(run).nearest(np.zeros(512), n=3)
    assert [other.similarity for other in found] == [0, 0, 0]
