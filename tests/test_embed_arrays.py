import sys
from pathlib import Path

import numpy as np
import pytest

from embed.errors import CacheError, InputError
from embed.store.arrays import (
    RaggedRows,
    RaggedWriter,
    flush_rows,
    offsets_path,
    open_rows,
    read_rows,
    release_rows,
    to_float16,
    write_rows,
)

ROWS = [np.arange(length, dtype=np.int32) + 10 * length for length in (3, 0, 5, 1, 4)]


def write_ragged(path, rows=ROWS, *, n_rows=None, rows_done=0):
    n_rows = len(rows) if n_rows is None else n_rows
    with RaggedWriter(
        path, n_rows=n_rows, dtype=np.int32, rows_done=rows_done
    ) as writer:
        for row in rows[rows_done:]:
            writer.append(row)


def bytes_of(path):
    return path.read_bytes(), offsets_path(path).read_bytes()


def test_ragged_rows_come_back_as_they_were_written(tmp_path):
    write_ragged(tmp_path / "tokens.npy")
    found = RaggedRows(tmp_path / "tokens.npy")
    assert len(found) == len(ROWS)
    assert found.lengths.tolist() == [3, 0, 5, 1, 4]
    for row, expected in enumerate(ROWS):
        np.testing.assert_array_equal(found[row], expected)
    np.testing.assert_array_equal(
        np.load(tmp_path / "tokens.npy"), np.concatenate(ROWS)
    )


def test_rows_that_are_all_empty_can_be_read(tmp_path):
    write_ragged(tmp_path / "thumbnails.npy", [ROWS[1]] * 3)
    found = RaggedRows(tmp_path / "thumbnails.npy")
    assert found.flat.dtype == np.int32
    assert [len(found[row]) for row in range(3)] == [0, 0, 0]


@pytest.mark.parametrize("rows_done", range(1, len(ROWS)))
def test_a_resumed_ragged_array_drops_what_lies_after_the_rows_done(
    tmp_path, rows_done
):
    whole, cut = tmp_path / "whole.npy", tmp_path / "cut.npy"
    write_ragged(whole)
    stray = [*ROWS[:rows_done], np.full(99, 7, np.int32)]
    write_ragged(cut, stray, n_rows=len(ROWS))
    write_ragged(cut, rows_done=rows_done)
    assert bytes_of(cut) == bytes_of(whole)


def test_a_resumed_ragged_array_that_lost_rows_is_refused(tmp_path):
    path = tmp_path / "tokens.npy"
    write_ragged(path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 4)
    with pytest.raises(CacheError, match=r"has \d+ bytes, its first 5 rows take"):
        write_ragged(path, rows_done=5)
    path.unlink()
    with pytest.raises(CacheError, match=r"tokens.npy: is missing. Delete the folder"):
        write_ragged(path, rows_done=5)


def test_a_ragged_array_that_does_not_fit_its_offsets_is_refused(tmp_path):
    write_ragged(tmp_path / "tokens.npy")
    np.save(tmp_path / "tokens.npy", np.arange(4))
    with pytest.raises(CacheError, match=r"has 4 values, its offsets end at 13"):
        RaggedRows(tmp_path / "tokens.npy")


@pytest.mark.parametrize("content", [b"", b"\x93NUM", b"not an array at all"])
def test_a_file_that_is_no_array_is_refused(tmp_path, content):
    write_ragged(tmp_path / "tokens.npy")
    (tmp_path / "tokens.npy").write_bytes(content)
    for read in (read_rows, RaggedRows):
        with pytest.raises(CacheError, match=r"tokens.npy: is not a whole .npy array"):
            read(tmp_path / "tokens.npy")


@pytest.mark.parametrize("mode", ["r", "r+"])
def test_a_truncated_array_is_refused_and_left_alone(tmp_path, mode):
    path = tmp_path / "text.npy"
    np.save(path, np.ones((50, 4), np.float16))
    with path.open("r+b") as file:
        file.truncate(300)
    with pytest.raises(CacheError, match=r"text.npy: is not a whole .npy array .*Del"):
        read_rows(path, mode=mode)
    assert path.stat().st_size == 300


def test_arrays_of_python_objects_are_refused(tmp_path):
    np.save(tmp_path / "text.npy", np.array([{}, []], dtype=object))
    with pytest.raises(CacheError, match="is not a whole"):
        read_rows(tmp_path / "text.npy")


def test_going_on_needs_the_same_shape_and_type(tmp_path):
    path = tmp_path / "text.npy"
    rows = open_rows(path, shape=(3, 2), dtype="float16", resume=False)
    rows[:] = 5
    again = open_rows(path, shape=(3, 2), dtype="float16", resume=True)
    assert (again == 5).all()
    for shape, dtype in (((3, 3), "float16"), ((3, 2), "float32")):
        with pytest.raises(
            CacheError, match=r"text.npy: has float16\[3, 2\], expected .*Delete the"
        ):
            open_rows(path, shape=shape, dtype=dtype, resume=True)
    with pytest.raises(CacheError, match=r"other.npy: is missing. Delete the folder"):
        open_rows(tmp_path / "other.npy", shape=(3,), dtype="bool", resume=True)


def test_a_new_array_starts_from_zeros_whatever_lay_there(tmp_path):
    path = tmp_path / "text.npy"
    np.save(path, np.ones((3, 2)))
    assert not open_rows(path, shape=(3, 2), dtype="float64", resume=False).any()


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan, 65504.0, -65504.0, 1e30])
def test_features_that_float16_cannot_hold_are_refused(bad):
    features = np.array([[1.0, bad]], dtype=np.float32)
    with pytest.raises(InputError, match=r"text: features must be finite .* 65504"):
        to_float16(features, name="text")


def test_features_that_float16_holds_are_kept_to_its_precision():
    features = np.array([0.1, -1000.3, 65503.0], dtype=np.float32)
    np.testing.assert_allclose(to_float16(features, name="text"), features, rtol=1e-3)
    assert to_float16(np.zeros((0, 4), np.float32), name="text").shape == (0, 4)


def resident_kib():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Rss:"))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_flushed_rows_do_not_stay_in_memory_and_keep_what_was_written(tmp_path):
    rows = open_rows(
        tmp_path / "rows.npy", shape=(64, 1 << 18), dtype="float32", resume=False
    )  # 64 MiB
    for at in range(len(rows)):
        rows[at] = at
    before = resident_kib()
    flush_rows(rows)
    assert before - resident_kib() > 60 * 1024
    np.testing.assert_array_equal(rows[:, 5], np.arange(64))
    np.testing.assert_array_equal(read_rows(tmp_path / "rows.npy")[:, -1], rows[:, 0])
    release_rows(np.zeros(3))  # an array in memory has no pages to give back


def test_rows_written_by_way_of_the_file_are_seen_at_once_and_stay(tmp_path):
    path = tmp_path / "text.npy"
    rows = open_rows(path, shape=(6, 3), dtype="float16", resume=False)
    values = np.arange(12, dtype=np.float16).reshape(4, 3)
    write_rows(rows, 1, values[::-1])
    expected = np.vstack([np.zeros((1, 3)), values[::-1], np.zeros((1, 3))])
    np.testing.assert_array_equal(rows, expected)
    flush_rows(rows)
    np.testing.assert_array_equal(np.load(path), expected)


@pytest.mark.parametrize(
    ("start", "values"),
    [
        (4, np.zeros((3, 3), np.float16)),
        (-1, np.zeros((1, 3), np.float16)),
        (0, np.zeros((1, 3), np.float32)),
        (0, np.zeros((1, 2), np.float16)),
    ],
)
def test_rows_that_do_not_fit_are_refused_and_nothing_is_written(
    tmp_path, start, values
):
    rows = open_rows(tmp_path / "a.npy", shape=(6, 3), dtype="float16", resume=False)
    before = (tmp_path / "a.npy").read_bytes()
    with pytest.raises(ValueError, match="does not fit"):
        write_rows(rows, start, values)
    assert (tmp_path / "a.npy").read_bytes() == before
