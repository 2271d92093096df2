"""Write the arrays of the embedding stage, a chunk of rows at a time."""

import csv
import io
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embed.chunks import Chunk, Inputs, attribute_names
from embed.config import EmbedConfig
from embed.encoders.embedder import Embedder
from embed.errors import CacheError, UnreadableImage
from embed.features import FeatureWriter
from embed.photos.decode import encode_thumbnail
from embed.records import EmbedProgress
from embed.store.arrays import (
    RaggedWriter,
    crc_rows,
    flush_rows,
    open_rows,
    write_rows,
)
from embed.store.durable import named_errors, save_array
from embed.store.manifest import remedy
from embed.text import MISSING_TEXT
from embed.verify import CHECKED_ARRAYS, CHECKSUMS_NAME, ROW_ARRAYS

_CHECKSUMS = Path(CHECKSUMS_NAME).stem
PROBLEM_COLUMNS = ("sample_id", "field", "reason")


class ArrayWriter:
    """Open arrays of the stage; `write` adds one chunk to all of them.

    Parameters
    ----------
    inputs : Inputs
    config : EmbedConfig
    stage_dir : Path
    done : EmbedProgress
        Progress of a stopped run, whose rows are kept.
    stack : ExitStack
        Closes the files.
    """

    def __init__(
        self,
        inputs: Inputs,
        config: EmbedConfig,
        stage_dir: Path,
        done: EmbedProgress,
        stack: ExitStack,
    ) -> None:
        self.config = config
        self.sample_id = inputs.catalog.sample_id
        self.embedder = Embedder(inputs.encoders, config, found=done.backends)
        n, rows_done = inputs.catalog.n_products, done.rows

        def ragged(name: str, dtype: str) -> RaggedWriter:
            path = stage_dir / f"{name}.npy"
            return stack.enter_context(
                RaggedWriter(path, n_rows=n, dtype=dtype, rows_done=rows_done)
            )

        self.arrays = _open_arrays(
            stage_dir,
            n,
            n_attributes=len(attribute_names(inputs.table)),
            dims=(self.embedder.text.dim, self.embedder.image.dim),
            n_chunks=-(-n // config.chunk_size),
            resume=rows_done > 0,
        )
        self.tokens = ragged("tokens", "int32")
        self.thumbnails = ragged("thumbnails", "uint8")
        self.problems_path = stage_dir / "problems.csv"
        self.problems = stack.enter_context(
            _open_problems(self.problems_path, done.problem_bytes)
        )
        save_array(stage_dir / "sample_id.npy", inputs.catalog.sample_id)
        self.text = FeatureWriter(
            "text",
            self.arrays["text"],
            contents=inputs.catalog.text,
            has_features=np.ones(n, dtype=np.bool_),  # a placeholder for a missing text
            encode=self.embedder.text.encode,
        )
        self.image = FeatureWriter(
            "image",
            self.arrays["image"],
            contents=inputs.photos,
            has_features=self.arrays["image_ok"],
            encode=self.embedder.image.encode,
        )

    def write(self, chunk: Chunk) -> None:
        """Encode a chunk and write its rows."""
        rows, start, stop = chunk.rows, chunk.rows.start, chunk.rows.stop
        token_ids = self.embedder.tokenize(chunk.texts)
        photos = {
            row: thumbnail
            for row, thumbnail in zip(rows, chunk.thumbnails, strict=True)
            if not isinstance(thumbnail, UnreadableImage)
        }
        jpegs = (encode_thumbnail(photos[r]) if r in photos else b"" for r in rows)
        self.arrays["text_ok"][start:stop] = [t != MISSING_TEXT for t in chunk.texts]
        self.arrays["image_ok"][start:stop] = [row in photos for row in rows]
        self.text.write(rows, dict(zip(rows, token_ids, strict=True)))
        self.image.write(rows, photos)
        write_rows(self.arrays["attributes"], start, chunk.attributes)
        self._write_problems(chunk)
        self.arrays[_CHECKSUMS][start // self.config.chunk_size] = [
            *(crc_rows(self.arrays[name], start, stop) for name in ROW_ARRAYS),
            self.tokens.extend(token_ids),
            self.thumbnails.extend([np.frombuffer(j, dtype=np.uint8) for j in jpegs]),
        ]

    def _write_problems(self, chunk: Chunk) -> None:
        lines = csv.writer(self.problems, lineterminator="\n")
        for row, text, photo in zip(
            chunk.rows, chunk.texts, chunk.thumbnails, strict=True
        ):
            if text == MISSING_TEXT and self.embedder.text.dim:
                lines.writerow((self.sample_id[row], "text", "no usable text"))
            if isinstance(photo, UnreadableImage) and self.embedder.image.dim:
                lines.writerow((self.sample_id[row], "image", str(photo)))
        for place, reason in chunk.unreadable:
            lines.writerow((self.sample_id[chunk.rows[place]], "table", reason))

    def flush(self) -> int:
        """Write all rows to disk; return the size of problems.csv in bytes."""
        for array in self.arrays.values():
            flush_rows(array)
        self.tokens.flush()
        self.thumbnails.flush()
        with named_errors(self.problems_path):
            self.problems.flush()
            os.fsync(self.problems.fileno())
        return self.problems.tell()


def _open_arrays(
    stage_dir: Path,
    n: int,
    *,
    dims: tuple[int, int],
    n_attributes: int,
    n_chunks: int,
    resume: bool,
) -> dict[str, NDArray[Any]]:
    shapes = {
        "text": ((n, dims[0]), "float16"),
        "image": ((n, dims[1]), "float16"),
        "text_ok": ((n,), "bool"),
        "image_ok": ((n,), "bool"),
        "attributes": ((n, n_attributes), "float32"),
        _CHECKSUMS: ((n_chunks, len(CHECKED_ARRAYS)), "uint32"),
    }
    return {
        name: open_rows(
            stage_dir / f"{name}.npy", shape=shape, dtype=dtype, resume=resume
        )
        for name, (shape, dtype) in shapes.items()
    }


def _open_problems(path: Path, keep_bytes: int) -> io.TextIOWrapper:
    if keep_bytes and not (path.is_file() and path.stat().st_size >= keep_bytes):
        raise CacheError(
            f"{path}: lacks some of the {keep_bytes} bytes that were written before "
            f"the stage was stopped. {remedy(path.parent)}"
        )
    file = path.open("r+b" if keep_bytes else "w+b")
    file.truncate(keep_bytes)
    file.seek(keep_bytes)
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    if not keep_bytes:
        csv.writer(text, lineterminator="\n").writerow(PROBLEM_COLUMNS)
    return text
