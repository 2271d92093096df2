"""Files that are whole or not there: written beside, brought to disk, renamed.

A reader never sees half of such a file, whenever the writer was killed. What a killed
writer leaves is a `.part` file, which the next one removes.
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
    """Open a file for writing that takes its name only when the block ends well.

    Parameters
    ----------
    path : Path
        Replaced in one step if it exists.

    Raises
    ------
    OSError
        From writing, with the file's name; what stood at `path` is still there.
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
    """Bring a finished file to disk and put it in another's place, in one step."""
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    _rename(partial, path)


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Give an error of writing ("No space left on device") the file's name."""
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
    # By way of memory: given a real file, numpy writes with C's stdio, and takes no
    # notice where the last bytes do not get to the disk.
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_bytes(path, buffer.getvalue())


def remove_partial_files(folder: Path) -> None:
    """Delete what killed writers left in a folder and the folders in it."""
    for partial in folder.glob(f"**/*{PARTIAL_SUFFIX}"):
        partial.unlink(missing_ok=True)


def _rename(partial: Path, path: Path) -> None:
    os.replace(partial, path)
    if os.name != "posix":
        return
    # The folder's list of names too, so that the rename outlives a power cut.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        with named_errors(path):
            os.fsync(folder)
    finally:
        os.close(folder)
