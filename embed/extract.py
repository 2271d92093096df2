"""Turn a catalog and a folder of photos into arrays, in bounded memory.

The stage works in chunks of rows. While one chunk is encoded, the photos of the next
are decoded. Each finished chunk is recorded, so a stopped run continues after it and
ends with the same bytes as an uninterrupted run.
"""

import csv
import dataclasses
import io
import logging
import os
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embed.attributes import ATTRIBUTE_NAMES
from embed.catalog.own_copy import CATALOG_NAME, write_run_catalog
from embed.catalog.reader import Catalog
from embed.chunks import Chunk, Inputs, prepared_chunks, settle_config
from embed.config import EmbedConfig
from embed.encoders.embedder import Embedder, resolve_encoders
from embed.encoders.towers import IMAGE_DIM
from embed.encoders.weights import weights_key
from embed.errors import CacheError, UnreadableImage
from embed.machine import describe_device, prepare_machine
from embed.photos.decode import encode_thumbnail
from embed.photos.files import match_photos
from embed.photos.stand_ins import leave_out_stand_ins
from embed.records import EmbedInputs, EmbedManifest, EmbedProgress, Substituted
from embed.sample.law import best_reachable_prices
from embed.store.arrays import (
    RaggedWriter,
    crc_rows,
    flush_rows,
    open_rows,
    read_rows,
    to_float16,
    write_rows,
)
from embed.store.checksums import (
    CHECKED_ARRAYS,
    CHECKSUMS_NAME,
    ROW_ARRAYS,
    record_files,
    verify_embedding,
)
from embed.store.durable import named_errors, remove_partial_files, save_array
from embed.store.lock import run_lock
from embed.store.manifest import (
    MANIFEST_NAME,
    content_key,
    environment,
    read_record,
    remedy,
    require_utf8,
    sha256_strings,
    write_record,
)
from embed.terminal.progress import track
from embed.text import MISSING_TEXT, TEXT_FORMAT

logger = logging.getLogger(__name__)

FORMAT = 7  # raise it when the same inputs give different arrays
PROBLEM_COLUMNS = ("sample_id", "field", "reason")
_PROGRESS_NAME = "progress.json"
# The key has the weights, format and backend that these resolve to; the number of
# threads and workers does not affect the arrays.
_NOT_IN_KEY = (
    "text_encoder",
    "image_encoder",
    "precision",
    "backend",
    "n_threads",
    "n_workers",
)
_WHOLE_FILES = ("sample_id.npy", "problems.csv", CATALOG_NAME, CHECKSUMS_NAME)


def extract(
    catalog: Catalog, run_dir: Path, *, images_dir: Path | None, config: EmbedConfig
) -> EmbedManifest:
    """Write `run_dir/embed`: frozen features, attributes, token ids and thumbnails.

    Parameters
    ----------
    catalog : Catalog
        Catalog, whose row i is row i of every array.
    run_dir : Path
        Run folder; made if missing. Finished work for the same inputs is reused.
    images_dir : Path, optional
        Folder of the photos.
    config : EmbedConfig

    Returns
    -------
    EmbedManifest

    Raises
    ------
    WeightsError, CacheError, CatalogError, LockedError
        If an input cannot be used; the message is one line and names the remedy.
    """
    require_utf8(run_dir)
    prepare_machine(config.n_threads)
    with run_lock(run_dir):
        return _extract(catalog, run_dir, images_dir=images_dir, config=config)


def _extract(
    catalog: Catalog, run_dir: Path, *, images_dir: Path | None, config: EmbedConfig
) -> EmbedManifest:
    config = settle_config(config, catalog.text)
    inputs = _resolve(catalog, images_dir, config)
    parts = _key_parts(inputs, config, images_dir)
    key = content_key(parts)
    locations = _locations(inputs, images_dir)
    stage_dir = run_dir / "embed"
    stage_dir.mkdir(exist_ok=True)
    remove_partial_files(stage_dir)
    finished = read_record(stage_dir / MANIFEST_NAME, EmbedManifest, key=key)
    if finished is not None:
        finished = _with_catalog(finished, catalog, stage_dir, locations)
        verify_embedding(stage_dir, finished)
        (stage_dir / _PROGRESS_NAME).unlink(missing_ok=True)
        logger.info("%s: up to date", stage_dir)
        return finished
    done = _progress(stage_dir, key, catalog.n_products)
    started = time.monotonic()
    backends = _write_chunks(inputs, config, stage_dir, done)
    stand_ins = (
        []
        if config.keep_shared_photos
        else leave_out_stand_ins(catalog, stage_dir, chunk_size=config.chunk_size)
    )
    write_run_catalog(
        catalog, stage_dir, best_prices=best_reachable_prices(catalog.path)
    )
    manifest = EmbedManifest(
        stage="embed",
        key=key,
        config=config,
        inputs=EmbedInputs(**parts, **locations),
        n_products=catalog.n_products,
        attribute_names=list(ATTRIBUTE_NAMES),
        substituted=_count_placeholders(stage_dir),
        stand_ins=stand_ins,
        files=record_files(stage_dir, _WHOLE_FILES),
        environment=environment(),
        device=describe_device(inputs.encoders.device),
        backends=backends,
        seconds=round(done.seconds + time.monotonic() - started, 2),
    )
    verify_embedding(stage_dir, manifest)
    write_record(stage_dir / MANIFEST_NAME, manifest)
    (stage_dir / _PROGRESS_NAME).unlink(missing_ok=True)
    return manifest


def _resolve(catalog: Catalog, images_dir: Path | None, config: EmbedConfig) -> Inputs:
    """Resolve the photo of each product, and the encoders."""
    matches = match_photos(catalog, images_dir)
    for note in matches.notes:
        logger.info("%s", note)
    return Inputs(
        catalog=catalog,
        photos=matches.paths,
        encoders=resolve_encoders(config),
        reasons=matches.reasons,
    )


def _key_parts(
    inputs: Inputs, config: EmbedConfig, images_dir: Path | None
) -> dict[str, Any]:
    # The key has the name and size of each photo: hashing every file would take as long
    # as the work that an unchanged key saves.
    root = images_dir or Path()
    photos = (
        f"{p.relative_to(root).as_posix()}:{_size(p)}" if p else ""
        for p in inputs.photos
    )
    settings = dataclasses.asdict(config)
    for name in _NOT_IN_KEY:
        del settings[name]
    return {
        "format": FORMAT,
        "text_format": TEXT_FORMAT,
        "settings": settings,
        "dtype": str(inputs.encoders.dtype),
        "backend": inputs.encoders.backend,
        "catalog_sha256": inputs.catalog.content_sha256,
        "sample_id_sha256": sha256_strings(map(str, inputs.catalog.sample_id)),
        "photos_sha256": sha256_strings(photos),
        "text_weights_sha256": weights_key(inputs.encoders.text_weights),
        "image_weights_sha256": weights_key(inputs.encoders.image_weights),
    }


def _size(photo: Path) -> int:
    try:
        return photo.stat().st_size
    except OSError:  # a broken link: it gets a placeholder like any unreadable photo
        return -1


def _locations(inputs: Inputs, images_dir: Path | None) -> dict[str, Any]:
    """Return where later stages find the inputs; the key covers their content."""
    image = inputs.encoders.image_weights
    return {
        "catalog_path": str(inputs.catalog.path.resolve()),
        "columns": inputs.catalog.columns,
        "images_dir": str(images_dir.resolve()) if images_dir else None,
        "text_weights": str(inputs.encoders.text_weights.absolute()),
        "image_weights": str(image.absolute()) if image else "random",
    }


def _with_catalog(
    manifest: EmbedManifest,
    catalog: Catalog,
    stage_dir: Path,
    locations: dict[str, Any],
) -> EmbedManifest:
    """Update a finished stage's catalog copy: prices may change, the key has none."""
    write_run_catalog(
        catalog, stage_dir, best_prices=best_reachable_prices(catalog.path)
    )
    files = {**manifest.files, **record_files(stage_dir, [CATALOG_NAME])}
    inputs = manifest.inputs.model_copy(update=locations)
    updated = manifest.model_copy(update={"inputs": inputs, "files": files})
    if updated != manifest:
        write_record(stage_dir / MANIFEST_NAME, updated)
    return updated


def _progress(stage_dir: Path, key: str, n_products: int) -> EmbedProgress:
    path = stage_dir / _PROGRESS_NAME
    done = read_record(path, EmbedProgress, key=key)
    if done is not None:
        done.require_within(n_products, path)
        logger.info("%s: goes on after product %d", stage_dir, done.rows)
        return done
    # Delete both records before any array that they describe is overwritten.
    (stage_dir / MANIFEST_NAME).unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    return EmbedProgress(key=key, rows=0, problem_bytes=0, backends={}, seconds=0.0)


def _write_chunks(
    inputs: Inputs, config: EmbedConfig, stage_dir: Path, done: EmbedProgress
) -> dict[str, str | None]:
    started = time.monotonic()
    with ExitStack() as stack:
        writer = ArrayWriter(inputs, config, stage_dir, done, stack)
        chunks = prepared_chunks(inputs, config, done.rows)
        for chunk in track(
            ((len(chunk.rows), chunk) for chunk in chunks),
            total=inputs.catalog.n_products - done.rows,
            label="embed",
            unit="products",
        ):
            writer.write(chunk)
            write_record(
                stage_dir / _PROGRESS_NAME,
                EmbedProgress(
                    key=done.key,
                    rows=chunk.rows.stop,
                    problem_bytes=writer.flush(),
                    backends=writer.embedder.backends(),
                    seconds=done.seconds + time.monotonic() - started,
                ),
            )
        return writer.embedder.backends()


def _count_placeholders(stage_dir: Path) -> Substituted:
    """Count the products with a placeholder, by field."""
    n_text, n_image = (
        int((~read_rows(stage_dir / f"{field}_ok.npy")).sum())
        for field in ("text", "image")
    )
    return Substituted(text=n_text, image=n_image)


class ArrayWriter:
    """Open arrays of the stage; `write` adds one chunk to all of them."""

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
        self.first_text = _first_rows(inputs.catalog.text)
        self.first_photo = _first_rows(inputs.photos)
        self.embedder = Embedder(inputs.encoders, config, found=done.backends)
        n, rows_done = inputs.catalog.n_products, done.rows

        def rows(name: str, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
            path = stage_dir / f"{name}.npy"
            return open_rows(path, shape=shape, dtype=dtype, resume=rows_done > 0)

        def ragged(name: str, dtype: str) -> RaggedWriter:
            path = stage_dir / f"{name}.npy"
            return stack.enter_context(
                RaggedWriter(path, n_rows=n, dtype=dtype, rows_done=rows_done)
            )

        self.arrays = {
            "text": rows("text", (n, self.embedder.text.dim), "float16"),
            "image": rows("image", (n, IMAGE_DIM), "float16"),
            "text_ok": rows("text_ok", (n,), "bool"),
            "image_ok": rows("image_ok", (n,), "bool"),
            "attributes": rows("attributes", (n, len(ATTRIBUTE_NAMES)), "float32"),
        }
        n_chunks = -(-n // config.chunk_size)
        stem = Path(CHECKSUMS_NAME).stem
        self.checksums = rows(stem, (n_chunks, len(CHECKED_ARRAYS)), "uint32")
        self.tokens = ragged("tokens", "int32")
        self.thumbnails = ragged("thumbnails", "uint8")
        self.problems_path = stage_dir / "problems.csv"
        self.problems = stack.enter_context(
            _open_problems(self.problems_path, done.problem_bytes)
        )
        save_array(stage_dir / "sample_id.npy", inputs.catalog.sample_id)

    def write(self, chunk: Chunk) -> None:
        """Encode a chunk and write its rows."""
        token_ids = self.embedder.tokenize(chunk.texts)
        self._write_text(chunk.rows, token_ids)
        thumbnails = self._write_images(chunk.rows, chunk.thumbnails)
        start, stop = chunk.rows.start, chunk.rows.stop
        write_rows(self.arrays["attributes"], start, chunk.attributes)
        self.arrays["text_ok"][start:stop] = [t != MISSING_TEXT for t in chunk.texts]
        self._write_problems(chunk)
        self.checksums[start // self.config.chunk_size] = [
            *(crc_rows(self.arrays[name], start, stop) for name in ROW_ARRAYS),
            self.tokens.extend(token_ids),
            self.thumbnails.extend(thumbnails),
        ]

    def _write_text(self, rows: range, token_ids: list[NDArray[np.int32]]) -> None:
        source = {row: self.first_text[row] for row in rows}
        new = [row for row in rows if source[row] == row]
        features = self.embedder.text.encode(
            [token_ids[row - rows.start] for row in new],
        )
        self._write_features("text", rows, source, features)

    def _write_images(
        self, rows: range, thumbnails: list[NDArray[np.uint8] | UnreadableImage]
    ) -> list[NDArray[np.uint8]]:
        """Write the features; return the thumbnails as JPEG, empty without a photo."""
        pictures = {
            row: thumbnail
            for row, thumbnail in zip(rows, thumbnails, strict=True)
            if not isinstance(thumbnail, UnreadableImage)
        }
        source = {row: self._encoded_at(row, rows, pictures) for row in pictures}
        new = [row for row in pictures if source[row] == row]
        features = self.embedder.image.encode([pictures[row] for row in new])
        self._write_features("image", rows, source, features)
        for row in rows:
            self.arrays["image_ok"][row] = row in pictures
        jpegs = (encode_thumbnail(pictures[r]) if r in pictures else b"" for r in rows)
        return [np.frombuffer(jpeg, dtype=np.uint8) for jpeg in jpegs]

    def _write_features(
        self,
        name: str,
        rows: range,
        source: Mapping[int, int],
        features: NDArray[np.float32],
    ) -> None:
        """Write the features of a chunk's rows.

        `features` belongs to the rows that are their own source, in order. Other rows
        copy their source, and a row without a source gets zeros.
        """
        array = self.arrays[name]
        values = np.zeros((len(rows), array.shape[1]), array.dtype)
        new = [row - rows.start for row in rows if source.get(row) == row]
        values[new] = to_float16(features, name=name)
        for row, first in source.items():
            if first < rows.start:
                values[row - rows.start] = array[first]
            elif first < row:
                values[row - rows.start] = values[first - rows.start]
        write_rows(array, rows.start, values)

    def _encoded_at(
        self, row: int, rows: range, pictures: Mapping[int, NDArray[np.uint8]]
    ) -> int:
        """Return the first row with the same photo if it has features, else `row`."""
        first = self.first_photo[row]
        is_earlier = first < rows.start and self.arrays["image_ok"][first]
        return first if is_earlier or first in pictures else row

    def _write_problems(self, chunk: Chunk) -> None:
        lines = csv.writer(self.problems, lineterminator="\n")
        for row, text, photo in zip(
            chunk.rows, chunk.texts, chunk.thumbnails, strict=True
        ):
            if text == MISSING_TEXT:
                lines.writerow((self.sample_id[row], "text", "no usable text"))
            if isinstance(photo, UnreadableImage):
                lines.writerow((self.sample_id[row], "image", str(photo)))

    def flush(self) -> int:
        """Write all rows to disk; return the size of problems.csv in bytes."""
        for array in (*self.arrays.values(), self.checksums):
            flush_rows(array)
        self.tokens.flush()
        self.thumbnails.flush()
        with named_errors(self.problems_path):
            self.problems.flush()
            os.fsync(self.problems.fileno())
        return self.problems.tell()


def _first_rows(values: tuple[Any, ...]) -> list[int]:
    """Return the first row with the same value for each row; only that is encoded."""
    first: dict[Any, int] = {}
    return [first.setdefault(value, row) for row, value in enumerate(values)]


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
