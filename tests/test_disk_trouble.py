"""A disk that is full or read-only, and a user who presses Ctrl-C."""

import errno
import os
import shutil
import subprocess
from unittest import mock

import pytest
from commands import run_command
from stages import STAGES, contents, run_stage

from embed.sample.law import write_sample


def n_calls(name, job):
    """Count how often a job calls an `os` function."""
    with mock.patch.object(os, name, wraps=getattr(os, name)) as counted:
        job()
    return counted.call_count


def fail_at(place, name, code, job):
    """Let call number `place` of an `os` function fail, as a disk does."""
    real, calls = getattr(os, name), 0

    def call(*arguments, **options):
        nonlocal calls
        calls += 1
        if calls == place:
            raise OSError(code, os.strerror(code))
        return real(*arguments, **options)

    with (
        mock.patch.object(os, name, call),
        pytest.raises(OSError, match=os.strerror(code)) as caught,
    ):
        job()
    assert caught.value.errno == code
    assert caught.value.filename or name == "replace"


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", ["posix_fallocate", "fsync", "replace"])
def test_a_failing_disk_stops_a_stage_that_then_goes_on(
    stage,
    name,
    whole_stages,
    small_catalog,
    tiny_encoder,
    tmp_path,
    pytestconfig,
    tally,
):
    before, expected = whole_stages[stage]
    run_dir = tmp_path / "run"

    def job():
        run_stage(stage, run_dir, small_catalog, tiny_encoder)

    if pytestconfig.getoption("--quick"):
        places = [1 if name == "posix_fallocate" else 4]
    else:
        shutil.copytree(before, run_dir)
        places = range(1, n_calls(name, job) + 1)
        assert places
        assert contents(run_dir) == expected
    for place in places:
        shutil.rmtree(run_dir, ignore_errors=True)
        shutil.copytree(before, run_dir)
        code = errno.EIO if place % 2 else errno.ENOSPC
        fail_at(place, name, code, job)
        job()
        assert contents(run_dir) == expected
        tally("failed writes that a stage went on from")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own: mounted, for it takes a real one to be full."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this user may not mount a tmpfs; failed writes are injected above")
    yield tmp_path
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def embed_arguments(catalog, encoder, run_dir):
    return [
        *("embed", "--catalog", catalog, "--run", run_dir),
        *("--images", catalog.parent / "images", "--text-encoder", encoder),
        *("--image-encoder", "no-such-encoder", "--random-weights", "--seed", "0"),
        *("--image-size", "32", "--threads", "1", "--backend", "eager"),
        *("--precision", "fp32", "--max-tokens", "32"),
    ]


def test_a_full_disk_ends_in_one_line_and_space_lets_it_go_on(
    small_disk, small_catalog, tiny_encoder, processes, tally
):
    arguments = embed_arguments(small_catalog, tiny_encoder, small_disk / "run")
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(960 * 1024))
    done = run_command(processes, *arguments)
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: ")
    assert "No space left on device. Free some space and give the same" in last
    assert "Traceback" not in done.stderr
    ballast.unlink()
    again = run_command(processes, *arguments)
    assert again.returncode == 0, again.stderr
    tally("full disks")


def test_a_read_only_disk_ends_in_one_line(
    small_disk, small_catalog, tiny_encoder, processes, tally
):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    arguments = embed_arguments(small_catalog, tiny_encoder, small_disk / "run")
    done = run_command(processes, *arguments)
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"Error: {small_disk}")
    assert "Read-only file system. Make the folder writable, or name" in last
    assert "Traceback" not in done.stderr
    tally("read-only disks")


def test_a_finished_run_on_a_read_only_disk_can_be_evaluated(
    finished_run, small_disk, processes, tally
):
    subprocess.run(["mount", "-o", "remount,size=128m", str(small_disk)], check=True)
    run_dir = shutil.copytree(finished_run, small_disk / "run")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    done = run_command(processes, "evaluate", "--run", run_dir)
    assert done.returncode == 0, done.stderr
    assert "Stacker" in done.stdout
    tally("read-only disks")


def test_ctrl_c_says_how_to_go_on(tiny_encoder, tmp_path, processes, tally):
    catalog = write_sample(tmp_path / "sample", n_products=600)
    run_dir = tmp_path / "run"
    embed = embed_arguments(catalog, tiny_encoder, run_dir)
    done = run_command(processes, *embed, ctrl_c_at="progress.json")
    assert done.returncode == 130, done.stderr
    assert done.stderr.strip().splitlines()[-1] == (
        "Stopped. Give the same command again to go on; finished work is kept."
    )
    assert "Traceback" not in done.stderr
    again = run_command(processes, *embed)
    assert again.returncode == 0, again.stderr
    assert "goes on after product 512" in again.stderr

    finetune = ["finetune", "--run", run_dir, "--folds", "2", "--max-tokens", "16"]
    finetune += ["--image-size", "32", "--threads", "1"]
    done = run_command(processes, *finetune, ctrl_c_at="plan.json")
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().endswith("finished work is kept.")
    tally("commands stopped by Ctrl-C", 2)
