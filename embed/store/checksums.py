"""Checksums of a stage's files, so that damage on disk is found before it is used.

CRC-32 finds any flipped bit and any cut-off copy; it does not protect against forgery.
The embedding stage records a checksum for each chunk of rows as it writes it. Finished
files have a checksum for each block.
"""

import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embed.errors import CacheError
from embed.store.manifest import remedy
from embed.store.records import FileRecord

_BLOCK_BYTES = 1 << 24


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
    """Return the CRC-32 of the rows numbered in `which`, in that order.

    Unlike `embed.store.arrays.crc_rows`, it does not cover type and width.
    """
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
