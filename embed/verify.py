"""Check the arrays of a finished embedding stage, a chunk of rows at a time."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from embed.errors import CacheError
from embed.records import EmbedManifest
from embed.store.arrays import RaggedRows, crc_rows, read_rows, release_rows
from embed.store.checksums import verify_files
from embed.store.manifest import remedy

ROW_ARRAYS = ("text", "image", "text_ok", "image_ok", "attributes")
"""Arrays with one row of fixed width for each product."""

RAGGED_ARRAYS = ("tokens", "thumbnails")
"""Arrays with one row for each product, whose length varies."""

CHECKED_ARRAYS = ROW_ARRAYS + RAGGED_ARRAYS
"""Arrays with checksums by chunk, in the order of the columns of checksums.npy."""

CHECKSUMS_NAME = "checksums.npy"


def verify_embedding(
    embed_dir: Path,
    manifest: EmbedManifest,
    names: Sequence[str] = CHECKED_ARRAYS,
) -> None:
    """Compare arrays of a finished embedding stage with their chunks' checksums.

    Parameters
    ----------
    embed_dir : Path
        Folder with checksums.npy, uint32 of shape (n_chunks, len(CHECKED_ARRAYS)).
    manifest : EmbedManifest
    names : sequence of str
        Arrays of `CHECKED_ARRAYS` to check. All other files are checked in any case.

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
