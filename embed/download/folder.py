"""A folder of photos: which it has, and photos stored whole or not at all."""

import errno
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from embed.config import DEFAULT_SIZE
from embed.download.failure import PhotoFailure, shown
from embed.download.log import LogRow, Recorded
from embed.download.names import PhotoNames
from embed.errors import ConfigError, UnreadableImage
from embed.photos.decode import load_image
from embed.photos.files import find_image
from embed.photos.index import index_images
from embed.store.durable import named_errors, replace_durably

State = Literal["missing", "kept", "unchecked", "taken"]
"""State of a row's photo in the folder. `kept`: the row's recorded photo; `unchecked`:
a file that may be its photo; `taken`: another row's photo that the embedding stage
would match to this row."""

_PART_PREFIX, _PART_SUFFIX = ".download-", ".part"
# Errors of a file system about a name, which do not concern the other photos.
_BAD_NAME = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.EISDIR)
_numbers = itertools.count()


class PhotoFolder:
    """A folder of photos, as it is before a run downloads more.

    Parameters
    ----------
    out_dir : Path
        The folder.
    recorded : dict of str to Recorded
        Sources of the photos of an earlier run, by file.
    names : PhotoNames
        File names for the catalog's photos.
    """

    def __init__(
        self, out_dir: Path, recorded: dict[str, Recorded], names: PhotoNames
    ) -> None:
        self._out_dir = out_dir
        self._recorded = recorded
        self._names = names
        self._index = index_images(out_dir)

    def look_up(self, row: int, log_row: LogRow, name: str) -> tuple[State, str]:
        """Look up the file that the embedding stage would match to a row.

        Parameters
        ----------
        row : int
            Row of the catalog.
        log_row : LogRow
            Id and link of the row.
        name : str
            File name reserved for the row's photo.

        Returns
        -------
        state : State
        file : str
            Path below the folder; "" if missing.
        """
        path = find_image(
            self._index, image_link=log_row.image_link, sample_id=log_row.sample_id
        )
        if path is None:
            return "missing", ""
        file = path.relative_to(self._out_dir).as_posix()
        record = self._recorded.get(file)
        if record is None:
            own = file == name or self._names.belongs(path.name, row)
            return "unchecked" if own else "taken", file
        if record.link != log_row.image_link:
            return "taken", file
        is_same = path.is_file() and path.stat().st_size == record.n_bytes
        return "kept" if is_same else "unchecked", file

    def is_photo(self, file: str) -> bool:
        """Tell whether a file of the folder decodes as a photo."""
        try:
            check_photo(self._out_dir / file)
        except PhotoFailure:
            return False
        return True

    def keep(self, log_row: LogRow, file: str) -> None:
        """Record that a row's photo is in the folder."""
        log_row.file, log_row.status = file, "kept"
        log_row.n_bytes = (self._out_dir / file).stat().st_size


def note_taken(log_row: LogRow, file: str) -> None:
    """Record that another photo has the row's name."""
    log_row.file, log_row.status = file, "taken"
    log_row.reason = (
        f"another file has its name: {shown(file)}; move it away, or use a folder of "
        f"its own for this catalog"
    )


def open_folder(out_dir: Path) -> None:
    """Make the folder if missing, and check that it can be written to.

    Parameters
    ----------
    out_dir : Path
        Folder of photos.

    Raises
    ------
    ConfigError
        If it is a file, or cannot be made or written to.
    """
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        trial = _partial_path(out_dir)
        trial.touch()
        trial.unlink()
    except FileExistsError as error:
        raise ConfigError(
            f"--out {out_dir}: must be a folder, found a file. Name another."
        ) from error
    except OSError as error:
        raise ConfigError(
            f"--out {out_dir}: cannot be written to ({error.strerror}). Name another "
            f"folder, or change its permissions."
        ) from error


def remove_leftovers(out_dir: Path) -> None:
    """Remove the partial files of a killed run."""
    for left_over in out_dir.glob(f"{_PART_PREFIX}*{_PART_SUFFIX}"):
        left_over.unlink()


def store_photo(content: bytes, paths: Sequence[Path]) -> None:
    """Write a photo under each of its names, if it decodes.

    Parameters
    ----------
    content : bytes
        Downloaded bytes.
    paths : sequence of Path
        Names in one folder; an existing file is replaced.

    Raises
    ------
    PhotoFailure
        If the embedding stage could not read the photo, or a name is impossible.
    """
    for path in paths:
        partial = _partial_path(path.parent)
        try:
            with named_errors(path):
                partial.write_bytes(content)
            check_photo(partial)
            replace_durably(partial, path)
        except OSError as error:
            if error.errno not in _BAD_NAME:
                raise
            raise PhotoFailure(
                f"cannot be stored: {path.name}: {error.strerror}"
            ) from error
        finally:
            partial.unlink(missing_ok=True)


def check_photo(path: Path) -> None:
    """Decode a photo as the embedding stage will.

    Raises
    ------
    PhotoFailure
        If that stage could not read it.
    """
    try:
        load_image(path, size=DEFAULT_SIZE)
    except UnreadableImage as error:
        raise PhotoFailure(str(error)) from error


def _partial_path(folder: Path) -> Path:
    return folder / f"{_PART_PREFIX}{os.getpid()}-{next(_numbers)}{_PART_SUFFIX}"
