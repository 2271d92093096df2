"""Memory-mapped `.npy` arrays, written in chunks so that a stopped run can continue."""

import mmap
import os
import zlib
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.lib import format as npy
from numpy.typing import DTypeLike, NDArray

from embed.errors import CacheError, InputError
from embed.store.durable import named_errors

FLOAT16_LIMIT = 65504.0
"""Largest finite float16; features must be smaller."""


def open_rows(
    path: Path, *, shape: tuple[int, ...], dtype: DTypeLike, resume: bool
) -> NDArray[Any]:
    """Open a `.npy` memmap for writing rows.

    Parameters
    ----------
    path : Path
        File to create, or to continue.
    shape : tuple of int
        Full shape; the first axis is the catalog's rows.
    dtype : dtype
        Type in the file: float16 for features, float32 for attributes.
    resume : bool
        Whether to keep the values of the file, which must have this shape and dtype.

    Returns
    -------
    memmap of shape `shape`

    Raises
    ------
    CacheError
        If `resume` and the file is missing or has another shape or dtype.
    OSError
        If the disk has no room for the whole array.
    """
    if not resume:
        fresh = npy.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)
        _allocate(path)
        return fresh
    rows = read_rows(path, mode="r+")
    if rows.shape != shape or rows.dtype != np.dtype(dtype):
        raise CacheError(
            f"{path}: has {rows.dtype}{list(rows.shape)}, expected "
            f"{np.dtype(dtype)}{list(shape)}. Delete the folder {path.parent} and run "
            f"the stage again."
        )
    return rows


def _allocate(path: Path) -> None:
    """Allocate the disk's blocks now; later, a full disk would kill by SIGBUS."""
    if hasattr(os, "posix_fallocate"):
        with named_errors(path), path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def read_rows(path: Path, *, mode: str = "r") -> NDArray[Any]:
    """Open a finished `.npy` array without reading it into memory.

    Parameters
    ----------
    path : Path
    mode : str
        "r" to read, "r+" to write too.

    Raises
    ------
    CacheError
        If the file is missing, cut short or not an array of plain numbers.
    """
    try:
        # Check first: if opened for writing, a cut-off file is filled with zeros.
        rows = npy.open_memmap(path, mode="r")
        return rows if mode == "r" else npy.open_memmap(path, mode=mode)
    except FileNotFoundError as error:
        raise _missing(path) from error
    except Exception as error:  # numpy raises many kinds for a damaged header
        raise CacheError(
            f"{path}: is not a whole .npy array ({error}). Delete the folder "
            f"{path.parent} and run the stage again."
        ) from error


def write_rows(rows: NDArray[Any], start: int, values: NDArray[Any]) -> None:
    """Write rows of a memmap through its file.

    Writing through the mapping reads each page first, which costs more than the write.

    Parameters
    ----------
    rows : memmap of shape (n_rows, ...)
        Array from `open_rows`. It shows the new values at once; `flush_rows` writes
        them to disk.
    start : int
        First row.
    values : ndarray of shape (n, ...)
        Values of the same type and width.

    Raises
    ------
    ValueError
        If the type or the width differ, or the rows do not fit.
    """
    fits = 0 <= start <= start + len(values) <= len(rows)
    if not fits or (values.dtype, values.shape[1:]) != (rows.dtype, rows.shape[1:]):
        raise ValueError(
            f"write_rows: {values.dtype}{list(values.shape)} from row {start} does not "
            f"fit {rows.dtype}{list(rows.shape)}"
        )
    path, offset = Path(rows.filename), rows.offset  # type: ignore[attr-defined]
    with named_errors(path), path.open("r+b") as file:
        file.seek(offset + start * rows.strides[0])
        file.write(np.ascontiguousarray(values).data)


def flush_rows(rows: NDArray[Any]) -> None:
    """Write a memmap's changes to disk, and release its pages.

    Otherwise every touched page counts as the process's memory, which would grow to the
    size of the arrays.
    """
    rows.flush()  # type: ignore[attr-defined]
    release_rows(rows)


def release_rows(rows: NDArray[Any]) -> None:
    """Release the pages of a memmap; they are read again when needed."""
    mapped = getattr(rows, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def to_float16(features: NDArray[np.float32], *, name: str) -> NDArray[np.float16]:
    """Convert features to float16; refuse values outside its range.

    Raises
    ------
    InputError
        If a value is not finite, or its size is 65504 or larger.
    """
    largest = float(np.abs(features).max(initial=0.0))
    if not largest < FLOAT16_LIMIT:
        raise InputError(
            f"{name}: features must be finite and below {FLOAT16_LIMIT:g} to be "
            f"stored as float16, found {largest!r}. Try --precision fp32, an option of "
            f"`pricestack embed` and `pricestack finetune`."
        )
    return features.astype(np.float16)


class RaggedWriter:
    """Rows of different lengths as one flat `.npy` array plus offsets.

    Row i is `flat[offsets[i]:offsets[i + 1]]`. Rows are appended in order; the header
    of the flat file gets its final length in `close`.

    Parameters
    ----------
    path : Path
        File of the flat array; the offsets are beside it in `NAME_offsets.npy`.
    n_rows : int
        Final number of rows.
    dtype : dtype
        Type of the flat array.
    rows_done : int
        Rows of a stopped run to keep; later rows are cut off.

    Raises
    ------
    CacheError
        If the files of a stopped run lack some of those rows.
    """

    def __init__(
        self, path: Path, *, n_rows: int, dtype: DTypeLike, rows_done: int
    ) -> None:
        self.path, self.dtype = path, np.dtype(dtype)
        self.offsets = open_rows(
            offsets_path(path),
            shape=(n_rows + 1,),
            dtype=np.int64,
            resume=rows_done > 0,
        )
        self.n_rows = rows_done
        if rows_done and not path.is_file():
            raise _missing(path)
        self._file: BinaryIO = path.open("r+b" if rows_done else "w+b")
        n_bytes = self._file.seek(0, 2)
        self._file.seek(0)
        self._write_header()
        expected = self._file.tell() + self._n_bytes()
        if rows_done and n_bytes < expected:
            self._file.close()
            raise CacheError(
                f"{path}: has {n_bytes} bytes, its first {rows_done} rows take "
                f"{expected}. Delete the folder {path.parent} and run the stage again."
            )
        self._file.truncate(expected)
        self._file.seek(0, 2)

    def append(self, row: NDArray[Any]) -> None:
        """Write the next row, shape (length,)."""
        self.extend([row])

    def extend(self, rows: Sequence[NDArray[Any]]) -> int:
        """Write the next rows; return the checksum of the rows and their offsets."""
        flat = np.concatenate([*rows, np.zeros(0, self.dtype)], dtype=self.dtype)
        with named_errors(self.path):
            self._file.write(flat.tobytes())
        start, stop = self.n_rows, self.n_rows + len(rows)
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        self.offsets[start + 1 : stop + 1] = self.offsets[start] + np.cumsum(lengths)
        self.n_rows = stop
        return _crc_ragged(flat, self.offsets[start : stop + 1])

    def flush(self) -> None:
        """Write the appended rows to disk."""
        with named_errors(self.path):
            self._file.flush()
            os.fsync(self._file.fileno())
        flush_rows(self.offsets)

    def close(self) -> None:
        """Write the final header."""
        with closing(self._file), named_errors(self.path):
            self._file.seek(0)
            self._write_header()
            self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        if kind is None:
            self.close()
            return
        with suppress(OSError):  # a resumed run writes unflushed rows again
            self._file.close()

    def _n_bytes(self) -> int:
        return int(self.offsets[self.n_rows]) * self.dtype.itemsize

    def _write_header(self) -> None:
        # numpy pads a header so that the first axis can grow in place.
        npy.write_array_header_1_0(
            self._file,
            {
                "descr": npy.dtype_to_descr(self.dtype),
                "fortran_order": False,
                "shape": (int(self.offsets[self.n_rows]),),
            },
        )


class RaggedRows:
    """Memory-mapped rows of a `RaggedWriter`: `rows[i]` is row i, shape (length,)."""

    def __init__(self, path: Path) -> None:
        self.flat = _read_flat(path)
        self.offsets: NDArray[np.int64] = np.asarray(read_rows(offsets_path(path)))
        if self.offsets.dtype != np.int64 or self.offsets.shape[1:] or not len(self):
            raise CacheError(
                f"{offsets_path(path)}: has {self.offsets.dtype}"
                f"{list(self.offsets.shape)}, expected int64 offsets. Delete the "
                f"folder {path.parent} and run the stage again."
            )
        if int(self.offsets[-1]) != len(self.flat):
            raise CacheError(
                f"{path}: has {len(self.flat)} values, its offsets end at "
                f"{int(self.offsets[-1])}. Delete the folder {path.parent} and run the "
                f"stage again."
            )

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Length of each row, shape (n_rows,)."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> NDArray[Any]:
        return self.flat[self.offsets[row] : self.offsets[row + 1]]


def crc_rows(rows: "NDArray[Any] | RaggedRows", start: int, stop: int) -> int:
    """Return the CRC-32 of rows start to stop - 1, with the offsets of ragged rows.

    It covers type and width too: a flipped bit in the header changes the values.
    """
    if isinstance(rows, RaggedRows):
        offsets = rows.offsets[start : stop + 1]
        return _crc_ragged(rows.flat[offsets[0] : offsets[-1]], offsets)
    return _crc(rows[start:stop])


def _crc_ragged(flat: NDArray[Any], offsets: NDArray[np.int64]) -> int:
    return _crc(flat, _crc(offsets))


def _crc(rows: NDArray[Any], before: int = 0) -> int:
    form = f"{rows.dtype.str}{rows.shape[1:]}".encode()
    return zlib.crc32(np.ascontiguousarray(rows).data, zlib.crc32(form, before))


def offsets_path(path: Path) -> Path:
    """Return the path of a ragged array's offsets."""
    return path.with_name(f"{path.stem}_offsets.npy")


def _read_flat(path: Path) -> NDArray[Any]:
    # A catalog without one photo has an empty thumbnail array, which cannot be mapped.
    with suppress(Exception), path.open("rb") as file:
        if npy.read_magic(file) == (1, 0):
            shape, _, dtype = npy.read_array_header_1_0(file)
            if shape == (0,):
                return np.zeros(0, dtype=dtype)
    return read_rows(path)  # raises the error for a damaged file


def _missing(path: Path) -> CacheError:
    return CacheError(
        f"{path}: is missing. Delete the folder {path.parent} and run the stage again."
    )
