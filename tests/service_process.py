"""`pricestack serve` in a process of its own, as the tests of it start it."""

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from conftest import small_image_backbone, use_photo_tower

from stack.service.command import serve_command

PATIENCE = 120
"""Seconds until a service counts as hanging, on a machine with much else to do."""


@dataclass(frozen=True, kw_only=True)
class Running:
    """A service that is ready."""

    url: str
    log_path: Path
    process: BaseProcess

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    @property
    def n_priced(self) -> int:
        """Return what it says, when it has stopped, of the products it priced."""
        found = re.search(r"stopped; (\d+) products were priced", self.log)
        assert found, self.log
        return int(found[1])


def serve_to(log_path: Path, arguments: list[str], small_tower: bool) -> None:
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(log, stream)
    if small_tower:
        use_photo_tower(pytest.MonkeyPatch(), small_image_backbone)
    serve_command([*arguments, "--threads", "1"])


@contextmanager
def running_service(
    processes: BaseContext, run_dir: Path, folder: Path, *, small_tower: bool = True
) -> Iterator[Running]:
    """Serve a run, made with the stand-in for EfficientNet-B0 or not."""
    log_path = folder / "serve.log"
    arguments = ["--run", str(run_dir), "--port", "0"]
    process = processes.Process(
        target=serve_to, args=(log_path, arguments, small_tower)
    )
    process.start()
    try:
        yield Running(
            url=_ready_url(log_path, process), log_path=log_path, process=process
        )
    finally:
        process.terminate()
        process.join(PATIENCE)
        assert process.exitcode is not None, "the service did not stop"


def _ready_url(log_path: Path, process: BaseProcess) -> str:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        log = log_path.read_text() if log_path.exists() else ""
        if found := re.search(r"ready at (http://\S+)", log):
            return found[1]
        assert process.is_alive(), log
        time.sleep(0.05)
    raise AssertionError(f"the service did not get ready: {log_path.read_text()}")
