import os
import resource
import signal

import numpy as np
import pytest

from embed.store.durable import (
    remove_partial_files,
    replace_durably,
    save_array,
    whole_file,
    write_bytes,
)


def test_a_file_takes_its_name_only_when_it_is_whole(tmp_path):
    path = tmp_path / "report.json"
    with whole_file(path) as file:
        file.write(b"half")
        file.flush()
        assert not path.exists()
    assert path.read_bytes() == b"half"


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "report.json"
    write_bytes(path, b"old")

    def fail():
        with whole_file(path) as file:
            file.write(b"new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_on_disk_before_it_takes_its_name_and_its_folder_after(
    tmp_path, monkeypatch
):
    done = []
    real_fsync, real_replace = os.fsync, os.replace

    def fsync(descriptor):
        is_folder = os.path.isdir(f"/proc/self/fd/{descriptor}")
        done.append("fsync folder" if is_folder else "fsync file")
        real_fsync(descriptor)

    def replace(source, target):
        done.append("rename")
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    write_bytes(tmp_path / "a", b"1")
    (tmp_path / "b.part").write_bytes(b"2")
    replace_durably(tmp_path / "b.part", tmp_path / "b")
    assert done == 2 * ["fsync file", "rename", "fsync folder"]
    assert (tmp_path / "b").read_bytes() == b"2"


def test_an_error_of_writing_names_the_file(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*prices\.npy'"):
        save_array(tmp_path / "prices.npy", np.arange(3))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_the_disk_cuts_short_is_an_error_and_not_there(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    path = tmp_path / "prices.npy"
    try:
        for n_bytes in (100, 1000, 2000):  # of 2528; a limit acts as a full disk does
            resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
            with pytest.raises(OSError, match=r"prices\.npy"):
                save_array(path, np.arange(300))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert list(tmp_path.iterdir()) == []


def test_an_array_is_read_back(tmp_path):
    save_array(tmp_path / "folds.npy", np.arange(5, dtype=np.int8))
    found = np.load(tmp_path / "folds.npy")
    assert found.dtype == np.int8
    np.testing.assert_array_equal(found, np.arange(5))


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path):
    (tmp_path / "fold-0").mkdir()
    for name in ("a.json.part", "fold-0/model.safetensors.part", "a.json", "part"):
        (tmp_path / name).touch()
    remove_partial_files(tmp_path)
    left = sorted(p.name for p in tmp_path.rglob("*") if p.is_file())
    assert left == ["a.json", "part"]
