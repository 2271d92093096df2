"""Let only one process at a time work on a run folder."""

import json
import logging
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from embed.errors import InputError

logger = logging.getLogger(__name__)
LOCK_NAME = ".lock"
HOLDER_NAME = ".lock-holder.json"


class LockedError(InputError):
    """Another process works on the run folder."""


@contextmanager
def run_lock(run_dir: Path) -> Iterator[None]:
    """Hold the lock of a run folder, made if missing, until the block ends.

    The operating system (flock) releases the lock when the process ends, even if it is
    killed.

    Raises
    ------
    LockedError
        If another process holds the lock; the message names the process.
    OSError
        If the folder cannot be made or written.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    lock, holder_path = FileLock(run_dir / LOCK_NAME), run_dir / HOLDER_NAME
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise LockedError(
            f"{run_dir}: in use by {_holder(holder_path)}. Wait until it has ended, or "
            f"stop it; or name another folder."
        ) from None
    try:
        _mention_dead_holder(run_dir, holder_path)
        holder_path.write_text(json.dumps(_this_process()), encoding="utf-8")
        yield
    finally:
        with suppress(OSError):
            holder_path.unlink(missing_ok=True)
        lock.release()


def _this_process() -> dict[str, object]:
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:200],
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _holder(path: Path) -> str:
    """Describe the process that wrote the file; its content is only informative."""
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        return _printable(
            f"process {int(holder['pid'])} on {holder['host']} "
            f"({holder['command']}, since {holder['since']})"
        )
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return "another process"


def _printable(text: str) -> str:
    """Escape control characters, with which a file could change the terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _mention_dead_holder(run_dir: Path, holder_path: Path) -> None:
    if holder_path.exists():
        logger.info(
            "%s: %s ended before it was done; taking over.",
            run_dir,
            _holder(holder_path),
        )
