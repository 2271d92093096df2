"""Checksums of a stage's files, so that damage on disk is found before it is used.

CRC-32 finds any flipped bit and any cut-off copy; it does not protect against forgery.
The embedding stage records a checksum for each chunk of rows as it writes it. Finished
files have a checksum for each block.
"""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embed.errors import CacheError
from embed.store.arrays import RaggedRows, crc_rows, read_rows, release_rows
from embed.store.manifest import remedy
from embed.store.records import FileRecord

if TYPE_CHECKING:
    from embed.records import EmbedManifest

ROW_ARRAYS = ("text", "image", "text_ok", "image_ok", "attributes")
RAGGED_ARRAYS = ("tokens", "thumbnails")
CHECKED_ARRAYS = ROW_ARRAYS + RAGGED_ARRAYS
CHECKSUMS_NAME = "checksums.npy"
_BLOCK_BYTES = 1 << 24


def verify_embedding(
    embed_dir: Path,
    manifest: "EmbedManifest",
    names: Sequence[str] = CHECKED_ARRAYS,
) -> None:
    """Compare arrays of a finished embedding stage with their chunks' checksums.

    Parameters
    ----------
    embed_dir : Path
        Folder with checksums.npy, uint32 of shape (n_chunks, len(CHECKED_ARRAYS)).
    manifest : EmbedManifest
    names : sequence of str
        Arrays of `CHECKED_ARRAYS` to check; all other files are always checked.

    Raises
    ------
    CacheError
        If a file is missing, cut short or damaged; the message names the file, the rows
        and the remedy.
    """
    verify_files(embed_dir, manifest.files)
    recorded = read_rows(embed_dir / CHECKSUMS_NAME)
    n_rows, chunk_size = manifest.n_products, manifest.config.chunk_size
    if recorded.shape != (-(-n_rows // chunk_size), len(CHECKED_ARRAYS)):
        raise CacheError(
            f"{embed_dir / CHECKSUMS_NAME}: has the shape {recorded.shape}, which does "
            f"not fit the manifest. {remedy(embed_dir)}"
        )
    for name in names:
        path, column = embed_dir / f"{name}.npy", CHECKED_ARRAYS.index(name)
        rows: RaggedRows | NDArray[Any]
        rows = RaggedRows(path) if name in RAGGED_ARRAYS else read_rows(path)
        if len(rows) != n_rows:
            raise CacheError(
                f"{path}: has {len(rows)} rows, {n_rows} were written. "
                f"{remedy(embed_dir)}"
            )
        for chunk, start in enumerate(range(0, n_rows, chunk_size)):
            stop = min(start + chunk_size, n_rows)
            if crc_rows(rows, start, stop) != recorded[chunk, column]:
                raise CacheError(
                    f"{path}: rows {start} to {stop - 1} (chunk {chunk}) are not those "
                    f"that were written. {remedy(embed_dir)}"
                )
            release_rows(rows.flat if isinstance(rows, RaggedRows) else rows)


def record_files(folder: Path, names: Iterable[str]) -> dict[str, FileRecord]:
    """Return the size and checksums of finished files, for a manifest."""
    return {
        name: FileRecord(
            bytes=(folder / name).stat().st_size,
            crc32=_block_checksums(folder / name),
        )
        for name in sorted(names)
    }


def verify_files(
    stage_dir: Path,
    recorded: Mapping[str, FileRecord],
    names: Iterable[str] | None = None,
) -> None:
    """Compare files with their record in a manifest.

    Parameters
    ----------
    stage_dir : Path
    recorded : mapping
        Record from `record_files`.
    names : iterable of str, optional
        Files to check; all recorded files by default.

    Raises
    ------
    CacheError
        If a file is missing, cut short or damaged; the message names the file, the
        bytes and the remedy.
    """
    for name in recorded if names is None else names:
        path = stage_dir / name
        problem = _find_damage(path, recorded.get(name))
        if problem:
            raise CacheError(f"{path}: {problem}. {remedy(stage_dir)}")


def crc_of_rows(rows: NDArray[Any], which: NDArray[np.integer]) -> int:
    """Return the CRC-32 of the rows `which`, in that order."""
    crc = 0
    for start in range(0, len(which), 4096):
        block = np.ascontiguousarray(rows[which[start : start + 4096]])
        crc = zlib.crc32(block.data, crc)
    return crc


def _find_damage(path: Path, recorded: FileRecord | None) -> str:
    if recorded is None:
        return "is not in the stage's manifest"
    if not path.is_file():
        return "is missing"
    if (size := path.stat().st_size) != recorded.bytes:
        return f"has {size} bytes, {recorded.bytes} were written"
    expected = dict(enumerate(recorded.crc32))
    for block, checksum in enumerate(_block_checksums(path)):
        if checksum != expected.get(block):
            start = block * _BLOCK_BYTES
            stop = min(start + _BLOCK_BYTES, size)
            return (
                f"bytes {start} to {stop - 1} (chunk {block}) are not those that were "
                f"written"
            )
    return ""


def _block_checksums(path: Path) -> list[int]:
    with path.open("rb") as file:
        blocks = iter(lambda: file.read(_BLOCK_BYTES), b"")
        return [zlib.crc32(block) for block in blocks]
