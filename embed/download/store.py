"""Store photos on disk: complete and decodable under their name, or not at all."""

import errno
import itertools
import os
from collections.abc import Sequence
from pathlib import Path

from embed.config import EmbedConfig
from embed.download.failure import PhotoFailure
from embed.errors import ConfigError, UnreadableImage
from embed.photos.decode import load_image
from embed.store.durable import named_errors, replace_durably

_PART_PREFIX, _PART_SUFFIX = ".download-", ".part"
# Errors of a file system about a name, which do not concern the other photos.
_BAD_NAME = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.EISDIR)
_numbers = itertools.count()


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
        load_image(path, size=EmbedConfig.image_size)
    except UnreadableImage as error:
        raise PhotoFailure(str(error)) from error


def _partial_path(folder: Path) -> Path:
    return folder / f"{_PART_PREFIX}{os.getpid()}-{next(_numbers)}{_PART_SUFFIX}"
