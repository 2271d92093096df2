import numpy as np
import pytest
from block_products import fit, make_folds, make_products, priced

from embed.sizes.bins import bin_columns
from finetune.score import smape, to_price
from stack.blocks import lexical, terms
from stack.blocks.products import Products
from stack.blocks.terms import Terms


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    products, log_price = make_products(400)
    prices = priced(log_price, make_folds(400))
    stage_dir = tmp_path_factory.mktemp("stack")
    found = fit("lexical", products, prices, stage_dir)
    return products, prices, found, stage_dir / "blocks" / "lexical"


def test_words_that_set_the_price_are_found(fitted):
    _, prices, found, _ = fitted
    kept = prices.folds >= 0
    true = to_price(prices.log_price[kept])
    constant = np.full(len(true), np.median(true))
    assert found.shape == (400, 1)
    assert smape(true, to_price(found[kept, 0])) < 0.5 * smape(true, constant)


def test_several_folds_are_the_average_of_each(fitted):
    products, prices, _, folder = fitted
    some = products.take(np.arange(20))

    def predict(folds):
        return lexical.load(folder, products.features, prices, folds).predict(some)

    mean = np.mean([predict([0]), predict([2])], axis=0)
    np.testing.assert_allclose(predict([0, 2]), mean, atol=1e-5)
    np.testing.assert_array_equal(predict([2, 0, 2]), predict([0, 2]))
    assert (predict([0]) != predict([2])).all()


def test_an_empty_text_is_priced_by_its_size(fitted):
    products, prices, _, folder = fitted
    block = lexical.load(folder, products.features, prices, [0])
    first = products.take(np.array([0]))
    found = block.predict(Products(texts=[""], features=first.features))
    sizes = bin_columns(first.features.attributes, np.load(folder / "edges.npy"))
    by_size = sizes @ np.load(folder / "weights.npy")[0, -sizes.shape[1] :]
    intercept = np.load(folder / "intercepts.npy")[0]
    assert found[0, 0] == pytest.approx(float(by_size[0] + intercept))
    assert by_size[0] != 0


def test_chunks_of_texts_change_nothing(monkeypatch):
    texts = [f"tea number {n}, {n} bags" for n in range(25)]
    whole = Terms.fit(texts, analyzer="char_wb", lengths=(3, 5))
    monkeypatch.setattr(terms, "_CHUNK_TEXTS", 4)
    parts = Terms.fit(texts, analyzer="char_wb", lengths=(3, 5))
    np.testing.assert_array_equal(parts.idf, whole.idf)
    in_parts = parts.weigh(texts)
    monkeypatch.undo()
    assert (in_parts != whole.weigh(texts)).nnz == 0
    np.testing.assert_allclose(in_parts.power(2).sum(axis=1), 1, atol=1e-5)


def test_a_word_that_is_new_weighs_what_one_products_own_word_does():
    kind = Terms.fit(["tea", "tea leaf"], analyzer="word", lengths=(1, 1))
    own, new = (kind.weigh([text]).toarray() for text in ("tea leaf", "tea pot"))
    np.testing.assert_allclose(np.sort(own[own > 0]), np.sort(new[new > 0]))
    assert len(new[new > 0]) == 2
