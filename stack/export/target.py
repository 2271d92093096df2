"""The folder of an export: new or replaced, whole or not at all."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from embed.errors import CacheError, ConfigError
from embed.store.manifest import MANIFEST_NAME, read_json

KIND = "pricestack export"
PACKAGES = ("onnx", "onnxruntime", "tokenizers", "jinja2")


def require_free(out_dir: Path) -> None:
    """Raise if a folder contains anything but an earlier export's own files.

    Parameters
    ----------
    out_dir : Path
        Folder of the export; may be missing.

    Raises
    ------
    ConfigError
        If the folder contains a file that no export wrote, which would be lost.
    """
    if not out_dir.exists():
        return
    if not out_dir.is_dir():
        raise ConfigError(f"--out {out_dir}: is a file. Name a folder.")
    if not any(out_dir.iterdir()):
        return
    own = _exported_files(out_dir)
    if own is None:
        raise ConfigError(
            f"--out {out_dir}: must be new, empty or an earlier export, but holds "
            f"other files. Name another folder."
        )
    stranger = _first_stranger(out_dir, own)
    if stranger is not None:
        raise ConfigError(
            f"--out {out_dir}: an earlier export is replaced only if it holds nothing "
            f"else, but {stranger!r} is there too. Move it elsewhere, or name another "
            f"folder with --out."
        )


@contextmanager
def whole_folder(out_dir: Path) -> Iterator[Path]:
    """Yield an empty folder that replaces `out_dir` if the block succeeds.

    It lies beside `out_dir`, with a dot before its name. Remains of a killed export are
    removed, and an earlier export that it had moved away is put back.
    """
    out_dir = out_dir.resolve()
    partial = out_dir.with_name(f".{out_dir.name}.part")
    former = out_dir.with_name(f".{out_dir.name}.former")
    if former.exists() and not out_dir.exists():
        former.rename(out_dir)
    shutil.rmtree(former, ignore_errors=True)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        require_free(out_dir)  # a file may have been put there meanwhile
        _swap(partial, out_dir, former)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _swap(partial: Path, out_dir: Path, former: Path) -> None:
    """Rename into place, in two steps: no step replaces a folder that is not empty."""
    if out_dir.exists():
        out_dir.rename(former)
    try:
        partial.rename(out_dir)
    except OSError:
        if former.exists():
            former.rename(out_dir)
        raise
    shutil.rmtree(former, ignore_errors=True)


def _exported_files(folder: Path) -> set[str] | None:
    """Return the files that an export wrote, or None for another folder."""
    try:
        manifest = read_json(folder / MANIFEST_NAME)
    except CacheError:
        return None
    if manifest is None or manifest.get("kind") != KIND:
        return None
    files = manifest.get("files")
    return {MANIFEST_NAME, *files} if isinstance(files, dict) else None


def _first_stranger(folder: Path, own: set[str]) -> str | None:
    """Return the first file that is not of the export or of running it."""
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        is_folder = path.is_dir() and not path.is_symlink()
        if not (
            is_folder
            or relative.as_posix() in own
            or "__pycache__" in relative.parts[:-1]
        ):
            return relative.as_posix()
    return None
