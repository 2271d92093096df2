"""Prepare chunks of catalog rows for the encoders; decode photos one chunk ahead."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embed.attributes import ATTRIBUTE_NAMES, extract_attributes
from embed.catalog.currencies import DecimalSign
from embed.catalog.reader import Catalog
from embed.config import EmbedConfig
from embed.encoders.embedder import EncoderSource
from embed.errors import UnreadableImage
from embed.photos.decode import (
    NO_SHA256,
    encode_thumbnail,
    load_image,
    photo_sha256,
    thumbnail_sha256,
)
from embed.photos.stand_ins import KNOWN_REASON
from embed.sizes.tokens import settle_decimal
from embed.table.encode import TableColumn, encode, feature_names
from embed.text import compose_text, parse_fields

MAX_SETTLING = 20_000
"""Number of names, evenly spread over a catalog, that settle its decimal sign."""


Photo = NDArray[np.uint8] | UnreadableImage
"""Pixels of a photo, or the reason why there are none."""

NO_PHOTO_GIVEN = UnreadableImage("none given")
"""In the place of a photo, for a product without one."""


NOT_DECODED: NDArray[np.uint8] = np.zeros((0, 0, 3), np.uint8)
"""In the place of a photo whose features and thumbnail are known."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Resolved inputs of the embedding stage, on which all arrays depend."""

    catalog: Catalog
    photos: tuple[Path | None, ...]
    encoders: EncoderSource
    reasons: tuple[str, ...] = ()
    """Reason why each product has no photo; "" if it has one. May be empty."""
    table: tuple[TableColumn, ...] = ()
    """Table columns of the run."""
    stand_ins: frozenset[str] = frozenset()
    """Thumbnail sha256 of the pictures that count as no photo."""
    is_known: Callable[[bytes], bool] | None = None
    """Tells by the sha256 of a photo's file whether it need not be decoded."""


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """One chunk of rows, ready to encode."""

    rows: range
    texts: list[str]
    attributes: NDArray[np.float32]
    """Sizes, then the features of table columns."""
    unreadable: list[tuple[int, str]]
    """Row of the chunk, from 0, and reason of each unreadable cell of the table."""
    rare: list[tuple[int, str]]
    """The same for each category that is new or rare in the run."""
    thumbnails: list[Photo]
    photo_sha256: list[bytes] = field(default_factory=list)
    """sha256 of each photo's file, `NO_SHA256` without one; empty if not from files."""


def attribute_names(table: Sequence[TableColumn]) -> list[str]:
    """Name the columns of the attributes: sizes, then features of the table."""
    return [*ATTRIBUTE_NAMES, *feature_names(table)]


def settle_config(config: EmbedConfig, texts: Sequence[str]) -> EmbedConfig:
    """Return the configuration with the decimal sign inferred from a catalog's names.

    Parameters
    ----------
    config : EmbedConfig
        Returned unchanged unless its decimal sign is `auto`.
    texts : sequence of str
        Texts of the catalog.
    """
    if config.text_decimal_sign != "auto":
        return config
    step = -(-len(texts) // MAX_SETTLING) or 1
    sign = settle_decimal(parse_fields(text).name for text in texts[::step])
    return dataclasses.replace(config, text_decimal_sign=sign or "unknown")


def prepared_chunks(inputs: Inputs, config: EmbedConfig, first: int) -> Iterator[Chunk]:
    """Yield chunks from row `first`, while photos of the next chunk are decoded."""
    n_products = inputs.catalog.n_products
    starts = range(first, n_products, config.chunk_size)
    pool = ThreadPoolExecutor(config.n_workers)
    try:
        ahead: list[tuple[range, list[Future[Any]]]] = []
        for start in starts:
            rows = range(start, min(start + config.chunk_size, n_products))
            photos = [pool.submit(_photo, inputs, config, row) for row in rows]
            ahead.append((rows, photos))
            if len(ahead) == 2:
                yield _chunk(inputs, config, *ahead.pop(0))
        for rows, photos in ahead:
            yield _chunk(inputs, config, rows, photos)
    finally:  # a stopped run does not wait for a thousand photos
        pool.shutdown(cancel_futures=True)


def _photo(inputs: Inputs, config: EmbedConfig, row: int) -> tuple[Photo, bytes]:
    """Return a product's photo and the sha256 of its file."""
    path = inputs.photos[row]
    if path is None:
        reason = UnreadableImage(inputs.reasons[row]) if inputs.reasons else None
        return reason or NO_PHOTO_GIVEN, NO_SHA256
    sha256 = photo_sha256(path)
    if inputs.is_known is not None and inputs.is_known(sha256):
        return NOT_DECODED, sha256
    try:
        photo = load_image(path, size=config.photo_size)
    except UnreadableImage as problem:
        return problem, sha256
    if sha256 == NO_SHA256 or photo_sha256(path) != sha256:
        return UnreadableImage("the file changed while it was read"), NO_SHA256
    return screen_photo(photo, inputs.stand_ins), sha256


def screen_photo(photo: NDArray[np.uint8], stand_ins: frozenset[str]) -> Photo:
    """Return a photo, or an error if it is a known stand-in.

    Parameters
    ----------
    photo : ndarray of uint8, shape (size, size, 3)
        Photo from `load_image`.
    stand_ins : frozenset of str
        Hashes from `embed.photos.stand_ins.known_stand_ins`.
    """
    if stand_ins and thumbnail_sha256(encode_thumbnail(photo)) in stand_ins:
        return UnreadableImage(KNOWN_REASON)
    return photo


def _chunk(
    inputs: Inputs, config: EmbedConfig, rows: range, photos: list[Future[Any]]
) -> Chunk:
    read = [photo.result() for photo in photos]
    chunk = prepare_chunk(
        [inputs.catalog.text[row] for row in rows],
        [photo for photo, _ in read],
        first=rows.start,
        decimal=config.decimal,
        table=inputs.table,
        cells={
            name: cells[rows.start : rows.stop]
            for name, cells in inputs.catalog.table.items()
        },
    )
    return dataclasses.replace(chunk, photo_sha256=[sha256 for _, sha256 in read])


def prepare_chunk(
    texts: Sequence[str],
    thumbnails: Sequence[Photo],
    *,
    first: int = 0,
    decimal: DecimalSign | None = None,
    table: Sequence[TableColumn] = (),
    cells: Mapping[str, Sequence[str]] | None = None,
) -> Chunk:
    """Parse texts and join them with their photos in a chunk.

    Parameters
    ----------
    texts : sequence of str
        Texts of the catalog.
    thumbnails : sequence of ndarray or UnreadableImage
        Photo of each text, from `load_image`.
    first : int
        Catalog row of the first text.
    decimal : {".", ","} or None
        Decimal sign of sizes, `decimal` of the run's configuration; None if unknown.
    table : sequence of TableColumn
        Table columns of the run.
    cells : mapping of str to sequence of str
        Cells of each table column; a column that is missing is unknown.
    """
    products = [parse_fields(text) for text in texts]
    sizes = [extract_attributes(product, decimal=decimal) for product in products]
    features = encode(table, cells or {}, n_products=len(products))
    return Chunk(
        rows=range(first, first + len(products)),
        texts=[compose_text(product) for product in products],
        attributes=np.hstack([np.stack(sizes), features.array]),
        unreadable=features.unreadable,
        rare=features.rare,
        thumbnails=list(thumbnails),
    )
