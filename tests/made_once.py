"""Make folders in one test process that all of them read."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from filelock import FileLock

from embed.store.lock import HOLDER_NAME, LOCK_NAME


@contextmanager
def made_once(
    factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]
) -> Iterator[Path]:
    """Give the shared folder of that name; the first process to ask makes it.

    Afterwards, a file that a test has changed is an error: the next test would read it.

    Parameters
    ----------
    factory : pytest.TempPathFactory
        Gives the folder of this test run.
    name : str
        Name of the folder; each `make` needs a name of its own.
    make : callable
        Called with the folder, which is there and empty.
    """
    of_run = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        of_run = of_run.parent
    folder = of_run / "shared" / name
    folder.parent.mkdir(exist_ok=True)
    record = folder.with_suffix(".made")
    with FileLock(folder.with_suffix(".lock")):
        if not record.exists():
            shutil.rmtree(folder, ignore_errors=True)  # a failed attempt's
            folder.mkdir()
            make(folder)
            record.write_text(json.dumps(_state(folder)))
    yield folder
    before, now = json.loads(record.read_text()), _state(folder)
    changed = {file for file, _ in before.items() ^ now.items()}
    assert not changed, f"{folder} is shared; a test has changed {sorted(changed)}"


def _state(folder: Path) -> dict[str, str]:
    """Return the size and the time of change of each file, locks aside."""
    return {
        path.relative_to(folder).as_posix(): f"{stat.st_size} {stat.st_mtime_ns}"
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (LOCK_NAME, HOLDER_NAME)
        for stat in [path.stat()]
    }
