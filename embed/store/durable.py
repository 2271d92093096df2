"""Write files whole or not at all: to a `.part` file, flushed to disk, then renamed.

A reader never reads half of such a file, even if the writer was killed. A killed writer
leaves a `.part` file, which the next writer removes.
"""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

PARTIAL_SUFFIX = ".part"


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing; it gets its name only if the block ends without error.

    Parameters
    ----------
    path : Path
        File to write; an existing file is replaced in one step.

    Raises
    ------
    OSError
        If writing fails; the error names the file, and an old file at `path` remains.
    """
    partial = path.with_name(path.name + PARTIAL_SUFFIX)
    try:
        with named_errors(path), partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    _rename(partial, path)


def replace_durably(partial: Path, path: Path) -> None:
    """Flush a finished file to disk and rename it to `path` in one step."""
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    _rename(partial, path)


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Add the file's name to an error of writing ("No space left on device")."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno:
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with whole_file(path) as file:
        file.write(content)


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Write a `.npy` file whole or not at all."""
    # Into memory first: to a real file, numpy writes with C's stdio and ignores an
    # error when the last bytes are flushed.
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_bytes(path, buffer.getvalue())


def remove_partial_files(folder: Path) -> None:
    """Delete the partial files of killed writers in a folder and its subfolders."""
    for partial in folder.glob(f"**/*{PARTIAL_SUFFIX}"):
        partial.unlink(missing_ok=True)


def _rename(partial: Path, path: Path) -> None:
    os.replace(partial, path)
    if os.name != "posix":
        return
    # Flush the folder too, so that the rename survives a power cut.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        with named_errors(path):
            os.fsync(folder)
    finally:
        os.close(folder)
