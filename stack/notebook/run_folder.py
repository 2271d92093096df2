"""The run folder of a fitted regressor, and its content in a pickle."""

import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any

from embed.errors import CacheError, ConfigError
from embed.store.durable import PARTIAL_SUFFIX, write_bytes
from embed.store.manifest import MANIFEST_NAME, read_json
from stack.notebook.inputs import PHOTOS_NAME
from stack.notebook.photo_links import expand_home
from stack.price.predictor import Predictor

INPUTS_NAME = "inputs"
_MARKER_NAME = ".pricestack"
_MARKER_TEXT = b"Made by PriceRegressor.fit, which writes and deletes files here.\n"


class RunFolder:
    """A run folder and its predictor, which is loaded on first use.

    A temporary folder lives as long as the object, and a pickle contains its files. For
    a folder that the user named, a pickle contains only the path.

    Parameters
    ----------
    path : Path, optional
        Folder; None makes a temporary one.

    Attributes
    ----------
    path : Path
    key : str
        Key of the finished stacking stage, which identifies the fit in the folder.

    Raises
    ------
    ConfigError
        If the folder contains something that no regressor wrote.
    """

    def __init__(self, path: Path | None) -> None:
        self.key = ""
        self._predictor: Predictor | None = None
        if path is None:
            self._make_temporary()
            return
        self._is_temporary = False
        self.path = expand_home(path).absolute()
        _require_ours(self.path)

    @property
    def inputs(self) -> Path:
        """Folder of the catalog and photos that the run is made from."""
        return self.path / INPUTS_NAME

    def claim(self) -> None:
        """Mark the folder as a fit's, before anything else is written to it."""
        write_bytes(self.inputs / _MARKER_NAME, _MARKER_TEXT)

    def finish(self) -> None:
        """Record the key of the fit that the folder contains."""
        self.key = self._present_key()

    def discard(self) -> None:
        """Delete the folder if it is a temporary one."""
        if self._is_temporary:
            self._remove()

    def predictor(self, *, n_threads: int) -> Predictor:
        """Load the run, once.

        Raises
        ------
        CacheError
            If the folder is gone or contains another fit.
        """
        if self._predictor is None:
            self._require_same_fit()
            self._predictor = Predictor(self.path, n_threads=n_threads)
        return self._predictor

    def __getstate__(self) -> dict[str, object]:
        files = None
        if self._is_temporary:
            self._require_same_fit()
            files = _read_files(self.path)
        return {"path": str(self.path), "key": self.key, "files": files}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.key = state["key"]
        self._predictor = None
        if state["files"] is None:
            self._is_temporary = False
            self.path = Path(state["path"])
            return
        self._make_temporary()
        for name, content in state["files"].items():
            path = self.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def _make_temporary(self) -> None:
        self._is_temporary = True
        self.path = Path(tempfile.mkdtemp(prefix="pricestack-"))
        self._remove = weakref.finalize(self, _remove_tree, self.path, os.getpid())

    def _present_key(self) -> str:
        manifest = read_json(self.path / "stack" / MANIFEST_NAME)
        return str(manifest["key"]) if manifest else ""

    def _require_same_fit(self) -> None:
        key = self._present_key()
        if not key:
            raise CacheError(
                f"{self.path}: the run folder of this regressor is missing or "
                f"incomplete. Put it back, or call fit again"
            )
        if key != self.key:
            raise CacheError(
                f"{self.path}: contains another fit ({key[:12]}) than this regressor's "
                f"({self.key[:12]}). Call fit again, and give each regressor that is "
                f"kept a run_dir of its own, or run_dir=None"
            )


def _remove_tree(path: Path, process: int) -> None:
    """Delete a temporary folder, but not from a forked copy of its process."""
    if os.getpid() == process:
        shutil.rmtree(path, ignore_errors=True)


def _require_ours(path: Path) -> None:
    """Raise if a folder has files that no fit wrote, which a fit might overwrite."""
    if path.exists() and not path.is_dir():
        raise ConfigError(
            f"run_dir {str(path)!r}: must be a folder, it is a file. Name another"
        )
    inputs = path / INPUTS_NAME
    if (inputs / _MARKER_NAME).is_file():
        return
    # A fit that was killed before it left its mark leaves a lock in `inputs`.
    if _visible(path) - {INPUTS_NAME} or _visible(inputs):
        raise ConfigError(
            f"run_dir {str(path)!r}: must be a new or empty folder, or one of an "
            f"earlier fit; this one contains other files. Name another"
        )


def _visible(folder: Path) -> set[str]:
    """Return the names in a folder that are not hidden; its own if it is a file."""
    try:
        names = set(os.listdir(folder))
    except FileNotFoundError:
        return set()
    except NotADirectoryError:
        return {folder.name}
    return {name for name in names if not name.startswith(".")}


def _read_files(folder: Path) -> dict[str, bytes]:
    """Read the files of a run folder except locks, unfinished files and photos."""
    photos = folder / INPUTS_NAME / PHOTOS_NAME
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not path.name.startswith(".")
        and path.suffix != PARTIAL_SUFFIX
        and path.parent != photos
    }
