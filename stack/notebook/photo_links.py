"""Gather the photos of a DataFrame as links in a run folder."""

import os
import re
import shutil
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from embed.catalog.reader import Catalog, CatalogColumns
from embed.errors import ConfigError
from embed.photos.files import find_photos
from embed.photos.links import IMAGE_SUFFIXES
from embed.store.durable import PARTIAL_SUFFIX
from embed.store.manifest import sha256_strings

_OURS = re.compile(r"[0-9a-f]{20}(\.\w+)?(" + re.escape(PARTIAL_SUFFIX) + ")?")


def photo_name(path: Path) -> str:
    """Return a name for a photo that changes when the file does."""
    stamp = ("", "")
    with suppress(OSError, ValueError):
        status = path.stat()
        stamp = (str(status.st_size), str(status.st_mtime_ns))
    suffix = path.suffix.lower()
    digest = sha256_strings([str(path), *stamp])[:20]
    return digest + (suffix if suffix in IMAGE_SUFFIXES else "")


def gather_photos(sources: Mapping[str, Path | None], folder: Path) -> None:
    """Link or copy photos into a folder, and delete from it those of an earlier fit.

    Parameters
    ----------
    sources : mapping of str to Path or None
        Paths by `photo_name`; unreadable files are left out.
    folder : Path
        Folder for the links; made if missing.

    Raises
    ------
    ConfigError
        If the folder contains a file that no fit put there, or one of the source
        photos. Nothing is deleted then.
    """
    folder.mkdir(exist_ok=True)
    # Hidden files (of file managers) stay.
    present = {name for name in os.listdir(folder) if not name.startswith(".")}
    _require_ours(present, folder)
    _require_elsewhere(sources, folder)
    for name in present - set(sources):
        (folder / name).unlink()
    for name, path in sources.items():
        # Copying a pipe or device may never end; such a product has no photo.
        if path is not None and name not in present and _is_readable(path):
            _link_or_copy(path, folder / name)


def mention_lists(image_column: str | None, n_lists: int) -> None:
    """Warn of cells that contain several paths."""
    if n_lists:
        cells = "1 cell" if n_lists == 1 else f"{n_lists} cells"
        warnings.warn(
            f"X[{image_column!r}]: {cells} with several paths; the first path is the "
            f"photo",
            UserWarning,
            stacklevel=5,
        )


def find_by_name(
    links: Sequence[str], photos: Sequence[Path | None], images_dir: Path
) -> list[Path | None]:
    """Look up photos in a folder by name, if their own path has no file.

    Parameters
    ----------
    links : sequence of str
        Path or link of each photo, "" for none.
    photos : sequence of Path or None
        Path that each link leads to; None for no photo.
    images_dir : Path
        Folder to look in; it need not exist.

    Returns
    -------
    list of Path or None
        Paths, unchanged where the file exists or the folder has no match.
    """
    is_missing = [path is not None and not os.path.exists(path) for path in photos]
    if not any(is_missing) or not images_dir.is_dir():
        return list(photos)
    catalog = Catalog(
        path=Path("X"),
        columns=CatalogColumns(),
        # Ids that match no file: photos of a notebook are matched by path alone.
        sample_id=np.array([f"/{row}" for row in range(len(links))]),
        text=("",) * len(links),
        image_link=tuple(links),
        price_text=None,
    )
    matches = find_photos(catalog, images_dir.resolve())
    return [
        (match or path) if missing else path
        for match, path, missing in zip(matches, photos, is_missing, strict=True)
    ]


def absolute(root: Path, path: str) -> Path | None:
    """Return a photo's absolute path, symbolic links resolved; None for ""."""
    if not path:
        return None
    whole = root / expand_home(Path(path))
    try:
        return Path(os.path.realpath(whole))
    except (OSError, ValueError):  # a loop of links or a NUL: opening it raises
        return whole.absolute()


def expand_home(path: Path) -> Path:
    """Expand `~` and `~/...`; other paths that begin with `~` are file names.

    Office programs write `~$name`, and another user's home is unlikely.
    """
    return path.expanduser() if path.parts[:1] == ("~",) else path


def discard_copies(sources: Mapping[str, Path | None], folder: Path) -> None:
    """Delete copies of photos that `gather_photos` made; links stay.

    Parameters
    ----------
    sources : mapping of str to Path or None
        Paths by `photo_name`, as for `gather_photos`.
    folder : Path
        Folder of the copies; deleted if it is then empty.
    """
    for name, path in sources.items():
        copy = folder / name
        if path is not None and copy.exists() and not _is_link(path, copy):
            copy.unlink()
    if not os.listdir(folder):
        folder.rmdir()


def _require_ours(names: set[str], folder: Path) -> None:
    foreign = sorted(name for name in names if not _OURS.fullmatch(name))
    if foreign:
        raise ConfigError(
            f"{folder}: must contain only files of a fit, but contains "
            f"{foreign[0]!r}. Move that file elsewhere, or name another run_dir"
        )


def _require_elsewhere(sources: Mapping[str, Path | None], folder: Path) -> None:
    whole = folder.resolve()
    if any(path is not None and path.parent == whole for path in sources.values()):
        raise ConfigError(
            f"{folder}: photos given in X lie here, but fit deletes files of earlier "
            f"fits from this folder. Move the photos elsewhere, or name another run_dir"
        )


def _is_link(path: Path, to: Path) -> bool:
    try:
        return os.path.samefile(path, to)
    except (OSError, ValueError):  # the user's file is gone
        return False


def _link_or_copy(path: Path, to: Path) -> None:
    try:
        os.link(path, to)
    except OSError:  # another file system, or one without links
        partial = to.with_name(to.name + PARTIAL_SUFFIX)
        shutil.copyfile(path, partial)
        os.replace(partial, to)


def _is_readable(path: Path) -> bool:
    return os.path.isfile(path) and os.access(path, os.R_OK)
