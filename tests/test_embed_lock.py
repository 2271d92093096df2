import json
import logging
import os
import re
import time

import pytest

from embed.store.lock import LOCK_NAME, LockedError, run_lock


def hold(run_dir, taken, seconds):
    with run_lock(run_dir):
        taken.set()
        time.sleep(seconds)


@pytest.fixture
def held(tmp_path, processes):
    """A run folder that another process holds."""
    taken = processes.Event()
    process = processes.Process(target=hold, args=(tmp_path, taken, 60))
    process.start()
    assert taken.wait(60)
    yield process
    process.kill()
    process.join()


def test_the_second_process_is_told_who_holds_the_run(held, tmp_path):
    with (
        pytest.raises(LockedError, match=rf"in use by process {held.pid} on .*since"),
        run_lock(tmp_path),
    ):
        pytest.fail("both hold the run")


def test_the_lock_of_a_killed_process_is_taken_over(held, tmp_path, caplog, tally):
    held.kill()
    held.join()
    with caplog.at_level(logging.INFO), run_lock(tmp_path):
        assert f"process {held.pid} " in caplog.text
        assert "taking over" in caplog.text
    tally("locks of killed processes taken over")


def test_a_run_is_free_after_its_process_has_ended_well_or_badly(tmp_path):
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), run_lock(tmp_path):
            _ = 1 / 0
    with run_lock(tmp_path):
        left = sorted(path.name for path in tmp_path.iterdir())
        assert left == [".lock", ".lock-holder.json"]
    assert not (tmp_path / ".lock-holder.json").exists()


@pytest.mark.parametrize(
    "record", [b"\x80\x04pickle", b'{"pid": Infinity}', b"[" * 100_000]
)
def test_a_holder_s_record_that_cannot_be_read_does_not_matter(record, held, tmp_path):
    (tmp_path / ".lock-holder.json").write_bytes(record)
    with (
        pytest.raises(LockedError, match=r"in use by another process\. Wait"),
        run_lock(tmp_path),
    ):
        pytest.fail("both hold the run")


def test_a_holder_s_record_cannot_write_to_the_terminal(held, tmp_path):
    record = {"pid": 1, "host": "caf\u00e9", "command": "\x1b[2Jok\n", "since": "\x9b"}
    (tmp_path / ".lock-holder.json").write_text(json.dumps(record))
    escaped = r"on caf\u00e9 (\x1b[2Jok\n, since \x9b)".replace(r"\u00e9", "\u00e9")
    with (
        pytest.raises(LockedError, match=re.escape(escaped)),
        run_lock(tmp_path),
    ):
        pytest.fail("both hold the run")


def test_a_folder_in_place_of_the_lock_is_an_error_of_the_system(tmp_path):
    (tmp_path / LOCK_NAME).mkdir()
    with pytest.raises(OSError, match=os.strerror(21)), run_lock(tmp_path):
        pytest.fail("locked a folder")
