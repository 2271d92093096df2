"""A disk that is full or read-only, and a user who presses Ctrl-C."""

import errno
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from stages import STAGES, contents, run_stage

from embed.sample import write_sample

# 130 as a shell has it; Python ends by the signal itself where it struck amid an
# `exec`, as in imports, and a shell makes 130 of that.
STOPPED = (130, -signal.SIGINT)
pytestmark = pytest.mark.slow


def failure_at(place, name, code, job):
    """Let call number `place` of an `os` function fail, as a disk does; tell if so."""
    real, calls = getattr(os, name), 0

    def call(*arguments, **options):
        nonlocal calls
        calls += 1
        if calls == place:
            raise OSError(code, os.strerror(code))
        return real(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, name, call)
        try:
            job()
        except OSError as error:
            return error.errno == code and bool(error.filename or name == "replace")
    assert calls < place, "the failure went unnoticed"
    return False


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", ["posix_fallocate", "fsync", "replace"])
def test_a_failing_disk_stops_a_stage_that_then_goes_on(
    stage, name, whole_stages, small_catalog, tiny_encoder, tmp_path, tally
):
    before, expected = whole_stages[stage]
    run_dir = tmp_path / "run"

    def job():
        run_stage(stage, run_dir, small_catalog, tiny_encoder)

    for place in itertools.count(1):
        shutil.rmtree(run_dir, ignore_errors=True)
        shutil.copytree(before, run_dir)
        code = errno.EIO if place % 2 else errno.ENOSPC
        if not failure_at(place, name, code, job):
            break
        job()
        assert contents(run_dir) == expected
        tally("failed writes that a stage went on from")
    assert place > 1
    assert contents(run_dir) == expected


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own: mounted, for it takes a real one to be full."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this user may not mount a tmpfs; failed writes are injected above")
    yield tmp_path
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def embed_command(catalog, encoder, run_dir, *options):
    return [
        *(sys.executable, "-m", "embed", "--catalog", catalog, "--run", run_dir),
        *("--images", catalog.parent / "images", "--text-encoder", encoder),
        *("--image-encoder", "no-such-encoder", "--random-weights", "--seed", "0"),
        *("--image-size", "32", "--threads", "1", "--backend", "eager"),
        *("--precision", "fp32", "--max-tokens", "32", *options),
    ]


def run_command(command):
    return subprocess.run(list(map(str, command)), capture_output=True, text=True)


def test_a_full_disk_ends_in_one_line_and_space_lets_it_go_on(
    small_disk, small_catalog, tiny_encoder, tally
):
    run_dir, ballast = small_disk / "run", small_disk / "ballast"
    ballast.write_bytes(bytes(960 * 1024))
    done = run_command(embed_command(small_catalog, tiny_encoder, run_dir))
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: ")
    assert "No space left on device. Free some space and give the same" in last
    assert "Traceback" not in done.stderr
    ballast.unlink()
    again = run_command(embed_command(small_catalog, tiny_encoder, run_dir))
    assert again.returncode == 0, again.stderr
    tally("full disks")


def test_a_read_only_disk_ends_in_one_line(
    small_disk, small_catalog, tiny_encoder, tally
):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    done = run_command(embed_command(small_catalog, tiny_encoder, small_disk / "run"))
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"Error: {small_disk}")
    assert "Read-only file system. Make the folder writable, or name" in last
    assert "Traceback" not in done.stderr
    tally("read-only disks")


def test_a_finished_run_on_a_read_only_disk_can_be_evaluated(
    finished_run, small_disk, tally
):
    subprocess.run(["mount", "-o", "remount,size=128m", str(small_disk)], check=True)
    run_dir = shutil.copytree(finished_run, small_disk / "run")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    evaluate = "from stack.cli import evaluate_main; evaluate_main()"
    done = run_command([sys.executable, "-c", evaluate, "--run", run_dir])
    assert done.returncode == 0, done.stderr
    assert "Stacker" in done.stdout
    tally("read-only disks")


def wait_for(path: Path, process) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def interrupt(command, appears: Path):
    """Start a command, press Ctrl-C when a file appears, return what it printed."""
    with subprocess.Popen(
        # On a busy machine it must not be done before it is interrupted.
        ["nice", "-n", "19", *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        wait_for(appears, process)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    return process.returncode, stderr


def test_ctrl_c_says_how_to_go_on(tiny_encoder, tmp_path, tally):
    large = write_sample(tmp_path / "large", n_products=3000)
    run_dir = tmp_path / "run"
    command = embed_command(large, tiny_encoder, run_dir)
    code, stderr = interrupt(command, run_dir / "embed" / "progress.json")
    assert code in STOPPED, stderr
    assert stderr.strip().splitlines()[-1] == (
        "Stopped. Give the same command again to go on; finished work is kept."
    )
    assert "Traceback" not in stderr
    again = run_command(command)
    assert again.returncode == 0, again.stderr
    assert "goes on after product 512" in again.stderr

    command = [sys.executable, "-m", "finetune", "--run", run_dir, "--folds", "2"]
    command += ["--max-tokens", "16", "--image-size", "32", "--threads", "1"]
    code, stderr = interrupt(command, run_dir / "finetune" / "plan.json")
    assert code in STOPPED, stderr
    assert "Traceback" not in stderr
    assert stderr.strip().endswith("finished work is kept.")
    tally("commands stopped by Ctrl-C", 2)
