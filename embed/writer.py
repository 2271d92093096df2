"""Write the arrays of the embedding stage, a chunk of rows at a time."""

import csv
import hashlib
import io
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embed.chunks import Chunk, Inputs, Photo, attribute_names
from embed.config import EmbedConfig
from embed.encoders.embedder import Embedder
from embed.errors import CacheError, UnreadableImage
from embed.features import FeatureWriter, OtherFeatures
from embed.photos.decode import NO_SHA256, encode_thumbnail
from embed.records import EmbedProgress
from embed.reuse import Reuse
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
    reuse : Reuse
        Features of an earlier run.
    """

    def __init__(
        self,
        inputs: Inputs,
        config: EmbedConfig,
        stage_dir: Path,
        done: EmbedProgress,
        stack: ExitStack,
        reuse: Reuse,
    ) -> None:
        self.config, self.reuse = config, reuse
        self.sample_id = inputs.catalog.sample_id
        found: dict[str, str | None] = {**reuse.backends}
        found |= {name: backend for name, backend in done.backends.items() if backend}
        self.embedder = Embedder(inputs.encoders, config, found=found)
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
            sha256=self.arrays["text_sha256"],
            encode=self.embedder.text.encode,
            known=reuse.text,
            written=range(rows_done),
        )
        self.image = FeatureWriter(
            "image",
            self.arrays["image"],
            sha256=self.arrays["image_sha256"],
            encode=self.embedder.image.encode,
            known=reuse.image,
            written=np.flatnonzero(self.arrays["image_ok"][:rows_done]).tolist(),
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
        photo_sha256 = chunk.photo_sha256 or [NO_SHA256] * len(rows)
        jpegs = [
            self._thumbnail(photo, sha256)
            for photo, sha256 in zip(chunk.thumbnails, photo_sha256, strict=True)
        ]
        text_sha256 = [hashlib.sha256(ids.tobytes()).digest() for ids in token_ids]
        write_rows(self.arrays["text_sha256"], start, _as_rows(text_sha256))
        write_rows(self.arrays["image_sha256"], start, _as_rows(photo_sha256))
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

    def _thumbnail(self, photo: Photo, sha256: bytes) -> bytes:
        """Return the JPEG of a photo, b"" without one."""
        if isinstance(photo, UnreadableImage):
            return b""
        known = self.reuse.thumbnail(sha256)
        jpeg = encode_thumbnail(photo) if len(photo) else known
        if known is not None and jpeg != known:
            raise OtherFeatures("image")
        assert jpeg is not None, "a photo without pixels is known"
        return jpeg

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
        "text_sha256": ((n, len(NO_SHA256)), "uint8"),
        "image_sha256": ((n, len(NO_SHA256)), "uint8"),
        _CHECKSUMS: ((n_chunks, len(CHECKED_ARRAYS)), "uint32"),
    }
    return {
        name: open_rows(
            stage_dir / f"{name}.npy", shape=shape, dtype=dtype, resume=resume
        )
        for name, (shape, dtype) in shapes.items()
    }


def _as_rows(digests: list[bytes]) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(digests), np.uint8).reshape(len(digests), -1)


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
