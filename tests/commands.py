"""Run commands in processes forked from one that has imported everything."""

import os
import signal
import time
from multiprocessing.context import BaseContext
from multiprocessing.synchronize import Event
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryDirectory

from stack.cli import main

PATIENCE = 600
"""Seconds until a command counts as hanging, on a machine with much else to do."""


def run_command(
    processes: BaseContext, *arguments: object, ctrl_c_at: str | None = None
) -> "CompletedProcess[str]":
    """Run `pricestack ARGUMENTS`; press Ctrl-C once a file of a name is in place."""
    words, in_place = list(map(str, arguments)), processes.Event()
    with TemporaryDirectory() as folder:
        paths = [Path(folder, name) for name in ("stdout", "stderr")]
        process = processes.Process(
            target=_run, args=(paths, words, ctrl_c_at, in_place)
        )
        process.start()
        if ctrl_c_at and in_place.wait(PATIENCE):
            os.kill(process.pid, signal.SIGINT)
        process.join(PATIENCE)
        process.kill()
        process.join()
        out, err = (path.read_text(encoding="utf-8") for path in paths)
    return CompletedProcess(words, process.exitcode, out, err)


def _run(
    paths: list[Path], arguments: list[str], stop_at: str | None, in_place: Event
) -> None:
    for stream, path in enumerate(paths, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), stream)
    if stop_at:
        _wait_at(stop_at, in_place)
    main(arguments)


def _wait_at(name: str, in_place: Event) -> None:
    """Go no further than a file of that name, so that a signal comes in time."""
    replace = os.replace

    def replace_and_wait(source: Path, target: Path) -> None:
        replace(source, target)
        if Path(target).name == name:
            in_place.set()
            time.sleep(PATIENCE)

    os.replace = replace_and_wait
