import numpy as np
import pytest
import torch
from conftest import write_product_cache

from embed.photos.decode import decode_thumbnail
from finetune.batches import ProductCache, shuffled_batches, sorted_batches

CLOSING = 3  # [SEP] of the tiny encoder
COLUMNS = np.broadcast_to(np.arange(64, dtype=np.uint8)[None, :, None], (64, 64, 3))


def batches_of(rows, lengths, *, batch_size=32, seed=0):
    rng = np.random.default_rng(seed)
    return shuffled_batches(rows, lengths, batch_size=batch_size, rng=rng)


def padding(batches, lengths):
    padded = sum(len(batch) * lengths[batch].max() for batch in batches)
    return 1 - sum(lengths[batch].sum() for batch in batches) / padded


@pytest.fixture
def lengths():
    return np.random.default_rng(0).integers(8, 64, 3000)


@pytest.fixture(scope="session")
def cache(embedded_run):
    return ProductCache(embedded_run / "embed", max_tokens=24, image_size=32)


@pytest.fixture(scope="session")
def wide_photo(tmp_path_factory):
    """One product, whose photo grows brighter from left to right."""
    folder = tmp_path_factory.mktemp("wide")
    write_product_cache(folder, [[2, 5, 3]], [COLUMNS * 3 + 30])
    return ProductCache(folder, max_tokens=8, image_size=64)


def rows_with_photo(cache):
    return np.flatnonzero(cache.image_ok)


@pytest.mark.parametrize("batch_size", [2, 7, 32])
def test_an_epoch_visits_every_row_once(lengths, batch_size):
    rows = np.random.default_rng(1).choice(len(lengths), 1999, replace=False)
    visited = np.concatenate(batches_of(rows, lengths, batch_size=batch_size))
    assert sorted(visited) == sorted(rows)
    visited = np.concatenate(sorted_batches(rows, lengths, batch_size=batch_size))
    assert sorted(visited) == sorted(rows)


def test_the_same_generator_state_gives_the_same_batches(lengths):
    rows = np.arange(len(lengths))
    first, again, other = (batches_of(rows, lengths, seed=s) for s in (4, 4, 5))
    assert [b.tolist() for b in first] == [b.tolist() for b in again]
    assert [b.tolist() for b in first] != [b.tolist() for b in other]


def test_batches_hold_texts_of_similar_length(lengths):
    rows = np.arange(len(lengths))
    at_random = np.array_split(np.random.default_rng(1).permutation(rows), 94)
    batches = batches_of(rows, lengths)
    assert padding(batches, lengths) < 0.2 * padding(at_random, lengths)


def test_batches_of_one_length_are_not_in_order_of_length(lengths):
    longest = [lengths[b].max() for b in batches_of(np.arange(len(lengths)), lengths)]
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.3


@pytest.mark.parametrize("batch_size", [2, 3, 5, 32])
def test_no_batch_holds_a_single_row(lengths, batch_size):
    # The head normalises over the batch, which takes two rows.
    one_over_a_pool = [32 * batch_size * pools + 1 for pools in (1, 2)]
    for n in [*range(2, 201), *one_over_a_pool]:
        batches = batches_of(np.arange(n), lengths, batch_size=batch_size)
        assert min(map(len, batches)) >= 2, n
        assert max(map(len, batches)) <= 1.5 * batch_size + 1, n


def test_cut_texts_keep_their_first_and_closing_token(embedded_run, cache):
    short = ProductCache(embedded_run / "embed", max_tokens=8, image_size=32)
    rows = np.flatnonzero(cache.tokens.lengths > 8)
    batch = short.batch(rows)
    assert batch.tokens.shape == (len(rows), 8)
    assert batch.mask.all()
    assert set(batch.tokens[:, -1].tolist()) == {CLOSING}
    np.testing.assert_array_equal(
        batch.tokens[:, :7], np.stack([cache.tokens[row][:7] for row in rows])
    )
    assert short.lengths.max() == 8


def test_texts_that_fit_are_whole_and_the_rest_is_masked(cache):
    rows = np.arange(len(cache))
    batch = cache.batch(rows)
    np.testing.assert_array_equal(batch.mask.sum(1), cache.lengths)
    assert not batch.tokens[batch.mask == 0].any()


def test_evaluation_photos_are_whole_and_always_the_same(cache):
    rows = rows_with_photo(cache)
    batch = cache.batch(rows)
    whole = [decode_thumbnail(cache.thumbnails[row].tobytes()) for row in rows]
    np.testing.assert_array_equal(batch.photos, np.stack(whole))
    assert torch.equal(cache.batch(rows).photos, batch.photos)


def test_training_photos_differ_from_the_whole_one_and_from_each_other(cache):
    rows, rng = rows_with_photo(cache), np.random.default_rng(0)
    whole, one = cache.batch(rows), cache.batch(rows, augment=rng)
    other = cache.batch(rows, augment=rng)
    again = cache.batch(rows, augment=np.random.default_rng(0))
    assert not torch.equal(one.photos, whole.photos)
    assert not torch.equal(one.photos, other.photos)
    assert torch.equal(one.photos, again.photos)
    assert torch.equal(one.tokens, whole.tokens)


def test_training_photos_are_crops_and_mirrors_inside_the_photo(wide_photo):
    whole = wide_photo.batch(np.array([0])).photos[0].numpy().astype(int)
    rng = np.random.default_rng(0)
    mirrored = 0
    for _ in range(60):
        batch = wide_photo.batch(np.array([0]), augment=rng)
        photo = batch.photos[0].numpy().astype(int)
        assert photo.shape == whole.shape
        assert whole.min() <= photo.min()
        assert photo.max() <= whole.max()
        assert np.ptp(photo) >= 0.75 * np.ptp(whole)
        mirrored += photo[0, 0, 0] > photo[0, -1, 0]
    assert 15 < mirrored < 45


def test_a_batch_without_photos_has_no_pixels(cache):
    rows = np.flatnonzero(~cache.image_ok)
    batch = cache.batch(rows)
    assert len(rows) > 0
    assert batch.photos.shape == (0, 32, 32, 3)
    assert batch.image_rows.shape == (0,)


@pytest.mark.parametrize("size", [1, 3, 7, 40, 64])
def test_split_keeps_each_photo_with_its_product(cache, size):
    batch = cache.batch(np.arange(len(cache)))
    photo_of = dict(zip(batch.image_rows.tolist(), batch.photos, strict=True))
    start = 0
    for part in batch.split(size):
        rows = slice(start, start + len(part.tokens))
        assert len(part.tokens) <= size
        assert torch.equal(part.tokens, batch.tokens[rows])
        assert torch.equal(part.mask, batch.mask[rows])
        np.testing.assert_array_equal(part.attributes, batch.attributes[rows])
        for row, pixels in zip(part.image_rows.tolist(), part.photos, strict=True):
            assert torch.equal(photo_of.pop(start + row), pixels)
        start += len(part.tokens)
    assert start == len(cache)
    assert not photo_of


def test_frozen_photos_are_the_features_of_the_embedding_stage(embedded_run):
    folder = embedded_run / "embed"
    cache = ProductCache(folder, max_tokens=24, image_size=32, frozen_photos=True)
    rows = np.array([5, 0, 7, 31])
    batch = cache.batch(rows, augment=np.random.default_rng(0))
    expected = np.load(folder / "image.npy")[rows[batch.image_rows.numpy()]]
    assert batch.photos.dtype == torch.float32
    np.testing.assert_array_equal(batch.photos.numpy(), expected.astype(np.float32))
    assert len(batch.image_rows) == np.load(folder / "image_ok.npy")[rows].sum() > 0


def test_image_dropout_leaves_out_whole_photos_of_training_batches(cache):
    rows = np.tile(rows_with_photo(cache), 40)
    kept = cache.batch(rows, augment=np.random.default_rng(0), image_dropout=0.25)
    assert len(kept.photos) == len(kept.image_rows) < len(rows)
    assert len(kept.image_rows) / len(rows) == pytest.approx(0.75, abs=0.06)
    assert len(torch.unique(kept.image_rows)) == len(kept.image_rows)
    assert torch.equal(kept.tokens, cache.batch(rows).tokens)
    plain = cache.batch(rows, image_dropout=0.25)
    assert len(plain.image_rows) == len(rows)


def test_without_image_dropout_the_photos_are_drawn_as_ever(cache):
    rows = rows_with_photo(cache)
    first = cache.batch(rows, augment=np.random.default_rng(0))
    again = cache.batch(rows, augment=np.random.default_rng(0), image_dropout=0.0)
    assert torch.equal(first.photos, again.photos)
    assert len(first.image_rows) == len(rows)
