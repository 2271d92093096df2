"""Stages that are killed end with the same bytes as stages that never were."""

import itertools
import os
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from stages import STAGES, contents, fingerprint, run_stage

N_KILLS, N_KILLS_QUICK = 30, 2
ONE_MOMENT_IN = 40  # in the quick suite

_visit: Callable[[], None] | None = None


def _on_event(event: str, arguments: tuple) -> None:
    if _visit is None:
        return
    if event in ("os.rename", "os.remove", "os.truncate", "os.mkdir") or (
        event == "open" and isinstance(arguments[1], str) and arguments[1] != "r"
    ):
        _visit()


sys.addaudithook(_on_event)


@contextmanager
def visited_boundaries(visit: Callable[[], None]) -> Iterator[None]:
    """Call `visit` before and after whatever changes the disk."""
    global _visit
    busy = False

    def once() -> None:
        nonlocal busy
        if not busy:  # what the visitor itself writes does not count
            busy = True
            visit()
            busy = False

    def around(real):
        def call(*arguments, **options):
            once()
            result = real(*arguments, **options)
            once()
            return result

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", around(os.fsync))
        patch.setattr(os, "replace", around(os.replace))
        patch.setattr(np.memmap, "flush", around(np.memmap.flush))
        _visit = once
        try:
            yield
        finally:
            _visit = None


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_killed_at_any_write_ends_with_the_same_bytes(
    stage, whole_stages, small_catalog, tiny_encoder, tmp_path, pytestconfig, tally
):
    """A kill leaves what lies on disk then: a copy of the folder, taken there."""
    before, expected = whole_stages[stage]
    run_dir = shutil.copytree(before, tmp_path / "run")
    states: dict[str, Path] = {}
    moments = itertools.count()
    quick = pytestconfig.getoption("--quick")

    def keep_state() -> None:
        if quick and next(moments) % ONE_MOMENT_IN != ONE_MOMENT_IN // 2:
            return
        state = fingerprint(run_dir / stage)  # all that the stage changes
        if state not in states:
            states[state] = shutil.copytree(run_dir, tmp_path / f"state-{len(states)}")

    with visited_boundaries(keep_state):
        run_stage(stage, run_dir, small_catalog, tiny_encoder)
    assert contents(run_dir) == expected
    assert len(states) > (0 if quick else 10)
    for number, killed in enumerate(states.values()):
        run_stage(stage, killed, small_catalog, tiny_encoder)
        found = contents(killed)
        assert sorted(found) == sorted(expected), number
        differing = [name for name in expected if found[name] != expected[name]]
        assert not differing, number
    tally(f"states on disk, between writes, that `{stage}` went on from", len(states))


def run_and_say_when(begun, *arguments):
    """Run a stage in a process of its own; `begun` is set when its work begins."""
    begun.set()
    run_stage(*arguments)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_killed_at_random_moments_ends_with_the_same_bytes(
    stage, whole_stages, small_catalog, tiny_encoder, processes, tmp_path, few_of, tally
):
    before, expected = whole_stages[stage]
    rng = random.Random(stage)
    n_wanted = len(few_of(range(N_KILLS), N_KILLS_QUICK))

    def start(run_dir: Path):
        begun = processes.Event()
        process = processes.Process(
            target=run_and_say_when,
            args=(begun, stage, run_dir, small_catalog, tiny_encoder),
        )
        process.start()
        assert begun.wait(60)
        return process

    first = start(shutil.copytree(before, tmp_path / "run"))
    started = time.monotonic()
    first.join()
    assert first.exitcode == 0
    longest = time.monotonic() - started
    n_kills, n_half_done, n_runs = 0, 0, 0

    def enough() -> bool:
        # How many kills hit before the first write depends on the machine.
        assert n_kills < 20 * n_wanted
        return n_kills >= n_wanted and n_half_done >= 2 * n_wanted // 3

    while not enough():
        run_dir = shutil.copytree(before, tmp_path / f"run-{n_runs}")
        at_first, n_runs = contents(run_dir), n_runs + 1
        while True:
            process = start(run_dir)
            if not enough():
                process.join(rng.uniform(0, longest))
                process.kill()
            process.join()
            if process.exitcode == 0:
                break
            assert process.exitcode == -9
            n_kills += 1
            n_half_done += contents(run_dir) != at_first
        assert contents(run_dir) == expected
    tally(f"moments at which `{stage}` was killed by SIGKILL", n_kills)
    tally(f"of which `{stage}` had written something", n_half_done)
