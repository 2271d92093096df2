import shutil

import numpy as np
import pytest

from embed.errors import CacheError
from embed.records import require_embedded
from embed.store.checksums import crc_of_rows, record_files, verify_files
from embed.verify import CHECKED_ARRAYS, verify_embedding


@pytest.fixture
def embed_dir(embedded_run, tmp_path):
    return shutil.copytree(embedded_run / "embed", tmp_path / "run" / "embed")


def flip_bit(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def verify(embed_dir):
    verify_embedding(embed_dir, require_embedded(embed_dir.parent))


def test_an_untouched_stage_is_whole(embed_dir):
    verify(embed_dir)
    assert len(np.load(embed_dir / "checksums.npy")) == 3  # 40 products, 16 a chunk


@pytest.mark.parametrize("name", CHECKED_ARRAYS)
def test_a_flipped_bit_is_named_by_file_and_rows(embed_dir, name, tally):
    path = embed_dir / f"{name}.npy"
    flip_bit(path, -1)
    with pytest.raises(
        CacheError,
        match=rf"{name}\.npy: rows 32 to 39 \(chunk 2\) are not those .* Delete the "
        rf"folder .* and run `make embeddings RUN=.*run CATALOG=FILE` again",
    ):
        verify(embed_dir)
    flip_bit(path, -1)
    flip_bit(path, 129 if name != "image_ok" else 128)
    with pytest.raises(CacheError, match=rf"{name}\.npy: rows 0 to 15 \(chunk 0\)"):
        verify(embed_dir)
    tally("files of a run with a flipped bit")


@pytest.mark.parametrize("name", [*CHECKED_ARRAYS, "tokens_offsets"])
def test_no_flipped_bit_of_a_header_changes_what_is_read(embed_dir, name):
    path, manifest = embed_dir / f"{name}.npy", require_embedded(embed_dir.parent)
    whole, expected = path.read_bytes(), np.load(path)
    n_found = 0
    for bit in range(0, 8 * 80, 3):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        try:
            verify_embedding(embed_dir, manifest, [name.removesuffix("_offsets")])
        except CacheError:
            n_found += 1
        else:
            np.testing.assert_array_equal(np.load(path), expected)
    assert n_found > 100


@pytest.mark.parametrize("name", CHECKED_ARRAYS)
def test_an_array_that_is_cut_short_or_missing_is_named(embed_dir, name, tally):
    path = embed_dir / f"{name}.npy"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CacheError, match=rf"{name}\.npy: .*Delete the folder"):
        verify(embed_dir)
    path.unlink()
    with pytest.raises(CacheError, match=rf"{name}\.npy: is missing"):
        verify(embed_dir)
    tally("files of a run cut short")


def test_the_offsets_of_ragged_rows_are_covered(embed_dir):
    path = embed_dir / "tokens_offsets.npy"
    offsets = np.load(path)
    offsets[3] += 1
    np.save(path, offsets)
    with pytest.raises(CacheError, match=r"tokens\.npy: rows 0 to 15"):
        verify(embed_dir)


@pytest.mark.parametrize("name", ["sample_id.npy", "problems.csv", "checksums.npy"])
def test_a_file_that_is_read_whole_is_named_with_its_bytes(embed_dir, name, tally):
    flip_bit(embed_dir / name, -1)
    with pytest.raises(CacheError, match=rf"{name}: bytes 0 to \d+ \(chunk 0\) are"):
        verify(embed_dir)
    tally("files of a run with a flipped bit")


def test_the_block_of_a_large_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("embed.store.checksums._BLOCK_BYTES", 100)
    stage_dir = tmp_path / "stack"
    stage_dir.mkdir()
    path = stage_dir / "fused.npy"
    path.write_bytes(bytes(250))
    recorded = record_files(stage_dir, [path.name])
    verify_files(stage_dir, recorded)
    flip_bit(path, 120)
    with pytest.raises(CacheError, match=r"bytes 100 to 199 \(chunk 1\)"):
        verify_files(stage_dir, recorded)
    path.write_bytes(bytes(249))
    with pytest.raises(CacheError, match="has 249 bytes, 250 were written"):
        verify_files(stage_dir, recorded)
    with pytest.raises(CacheError, match="is not in the stage's manifest"):
        verify_files(stage_dir, recorded, ["other.npy"])


def test_rows_that_lie_apart_have_a_checksum_of_their_own():
    rows = np.arange(20_000, dtype=np.float32).reshape(10_000, 2)
    some = np.arange(0, 10_000, 2)
    before = crc_of_rows(rows, some)
    rows[some + 1] = 0
    assert crc_of_rows(rows, some) == before
    rows[some[-1]] = 0
    assert crc_of_rows(rows, some) != before
