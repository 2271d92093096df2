import numpy as np
import pytest
from block_products import fit, make_folds, make_products, priced

from embed.sizes.bins import bin_columns
from finetune.score import smape, to_price
from stack.blocks.inputs import BlockInputs, Known
from stack.blocks.lexical import Lexical
from stack.blocks.terms import count_terms, inverse_frequency, weigh


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
    products, _, _, folder = fitted
    some = products.take(np.arange(20))

    def predict(folds):
        return Lexical.load(folder, Known(), folds).predict(some)

    mean = np.mean([predict([0]), predict([2])], axis=0)
    np.testing.assert_allclose(predict([0, 2]), mean, atol=1e-5)
    np.testing.assert_array_equal(predict([2, 0, 2]), predict([0, 2]))
    assert (predict([0]) != predict([2])).all()


def test_an_empty_text_is_priced_by_its_size(fitted):
    products, _, _, folder = fitted
    block = Lexical.load(folder, Known(), [0])
    first = products.take(np.array([0]))
    found = block.predict(BlockInputs(texts=[""], features=first.features))
    sizes = bin_columns(first.features.attributes, np.load(folder / "edges.npy"))
    by_size = sizes @ np.load(folder / "weights.npy")[0, -sizes.shape[1] :]
    intercept = np.load(folder / "intercepts.npy")[0]
    assert found[0, 0] == pytest.approx(float(by_size[0] + intercept))
    assert by_size[0] != 0


def test_some_products_have_the_counts_of_all(fitted):
    some, rows = fitted[0], np.array([7, 3, 3])
    alone = count_terms([some.texts[row] for row in rows])
    for counted in (some.take(rows), some.take(np.arange(20)).take(rows)):
        for left, right in zip(counted.counts, alone, strict=True):
            assert (left != right).nnz == 0
            np.testing.assert_allclose(
                weigh(left, inverse_frequency(left)).power(2).sum(axis=1), 1, atol=1e-5
            )


def test_a_word_that_is_new_weighs_what_one_products_own_word_does():
    idf = inverse_frequency(count_terms(["tea", "tea leaf"])[0])
    own, new = (
        weigh(count_terms([text])[0], idf).toarray() for text in ("tea leaf", "tea pot")
    )
    np.testing.assert_allclose(np.sort(own[own > 0]), np.sort(new[new > 0]))
    assert len(new[new > 0]) == 3
