"""Variants of one product, each without one input, priced in one batch."""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from embed.attributes import ATTRIBUTE_NAMES, KINDS
from embed.catalog.currencies import DecimalSign
from embed.chunks import NO_PHOTO_GIVEN, Chunk, Photo, prepare_chunk
from embed.errors import ConfigError
from embed.table.encode import TableColumn, feature_names
from stack.explain.phrases import Phrase, split_phrases

MAX_GRID = 16
_WHITE = 255
_BASE_UNITS = {"mass": "g", "volume": "ml", "count": "pieces"}

# Lengths and the number of bullet points are not here: they are never missing, so no
# network has learned to handle their absence.
_ATTRIBUTE_GROUPS = {
    "value": ("log_value", "log_field_total"),
    "unit": ("is_mass", "is_volume", "is_count"),
    "pack count": ("log_pack_count",),
    "size of one item": ("log_item_size",),
    "total amount": (
        "log_total_g",
        "log_total_ml",
        "log_total_count",
        "log_total_amount",
    ),
    "largest number in the name": ("log_largest_number",),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class KnownAttribute:
    """A size read from the text or a table column, and its places in the attributes."""

    name: str
    value: str
    columns: list[int]
    from_table: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variants:
    """A chunk whose row 0 is the product, and the input that each other row lacks.

    The other rows lack one phrase each, then one attribute each, then the photo, then
    one patch of it each.
    """

    chunk: Chunk
    phrases: list[Phrase]
    attributes: list[KnownAttribute]
    has_photo: bool
    grid: int

    def split(
        self, rows: Sequence[float]
    ) -> tuple[list[float], list[float], float | None, list[list[float]] | None]:
        """Split numbers of the rows: phrases, attributes, without photo, patches."""
        left = iter(rows[1:])

        def take(n: int) -> list[float]:
            return [float(next(left)) for _ in range(n)]

        phrases, attributes = take(len(self.phrases)), take(len(self.attributes))
        without = take(1)[0] if self.has_photo else None
        patches = [take(self.grid) for _ in range(self.grid * self.has_photo)]
        return phrases, attributes, without, patches or None


def make_variants(
    text: str,
    photo: NDArray[np.uint8] | None,
    *,
    n_phrases: int,
    max_words: int,
    image_grid: int,
    decimal: DecimalSign | None = None,
    table: Sequence[TableColumn] = (),
    cells: Mapping[str, str] | None = None,
) -> Variants:
    """Make the variants of a product.

    Parameters
    ----------
    text : str
        Catalog text.
    photo : ndarray of uint8, shape (size, size, 3), or None
    n_phrases, max_words : int
        Arguments `limit` and `max_words` of `split_phrases`.
    image_grid : int
        Patches along each side of the photo; 0 for none.
    decimal : {".", ","} or None
        Decimal sign of sizes in the run.
    table : sequence of TableColumn
        Table columns of the run.
    cells : mapping of str to str
        The product's cells by table column.

    Raises
    ------
    ConfigError
        If `image_grid` is negative or above `MAX_GRID`.
    """
    check_grid(image_grid)
    phrases = split_phrases(text, limit=n_phrases, max_words=max_words)
    cells = cells or {}
    product = prepare_chunk(
        [text],
        [NO_PHOTO_GIVEN],
        decimal=decimal,
        table=table,
        cells={name: [cell] for name, cell in cells.items()},
    )
    values = product.attributes[0]
    attributes = [*_known_attributes(values), *_known_cells(values, table, cells)]
    pictures = list(_photos_without(photo, image_grid)) if photo is not None else []
    same_text = [text] * (len(attributes) + len(pictures))
    whole = NO_PHOTO_GIVEN if photo is None else photo
    same_photo = [whole] * (1 + len(phrases) + len(attributes))
    texts = [text, *(phrase.without for phrase in phrases), *same_text]
    chunk = prepare_chunk(
        texts,
        [*same_photo, *pictures],
        decimal=decimal,
        table=table,
        cells={name: [cell] * len(texts) for name, cell in cells.items()},
    )
    for row, attribute in enumerate(attributes, start=1 + len(phrases)):
        chunk.attributes[row, attribute.columns] = np.nan
    return Variants(
        chunk=chunk,
        phrases=phrases,
        attributes=attributes,
        has_photo=photo is not None,
        grid=image_grid,
    )


def check_grid(image_grid: int) -> None:
    """Raise if a number of patches is out of range.

    Raises
    ------
    ConfigError
        If it is negative or above `MAX_GRID`.
    """
    if not 0 <= image_grid <= MAX_GRID:
        raise ConfigError(
            f"--grid must be 0 (no map) to {MAX_GRID} patches along each side of the "
            f"photo, got {image_grid}"
        )


def patch_bounds(size: int, grid: int) -> list[tuple[int, int]]:
    """Return where each patch begins and ends along a side of `size` pixels."""
    bounds = [size * patch // grid for patch in range(grid + 1)] if grid else []
    return list(itertools.pairwise(bounds))


def _photos_without(photo: NDArray[np.uint8], grid: int) -> Iterator[Photo]:
    """Yield no photo at all, then the photo with each patch white.

    Photos are padded with white and most products stand on white, so a white patch
    means "nothing here". It changes nothing where the photo is white already.
    """
    yield NO_PHOTO_GIVEN
    for top, bottom in patch_bounds(photo.shape[0], grid):
        for left, right in patch_bounds(photo.shape[1], grid):
            patched = photo.copy()
            patched[top:bottom, left:right] = _WHITE
            yield patched


def _known_attributes(values: NDArray[np.float32]) -> list[KnownAttribute]:
    """Return the attributes that a text contains."""
    sizes = values[: len(ATTRIBUTE_NAMES)]
    by_name = dict(zip(ATTRIBUTE_NAMES, map(float, sizes), strict=True))
    return [
        KnownAttribute(
            name=name,
            value=_in_words(name, by_name),
            columns=[ATTRIBUTE_NAMES.index(column) for column in columns],
        )
        for name, columns in _ATTRIBUTE_GROUPS.items()
        if not all(math.isnan(by_name[column]) for column in columns)
    ]


def _known_cells(
    values: NDArray[np.float32],
    table: Sequence[TableColumn],
    cells: Mapping[str, str],
) -> Iterator[KnownAttribute]:
    """Yield the table columns in which the product has a readable cell."""
    start = len(ATTRIBUTE_NAMES)
    for column in table:
        places = list(range(start, start + len(feature_names([column]))))
        start = places[-1] + 1
        if not np.isnan(values[places]).any():
            yield KnownAttribute(
                name=column.name,
                value=cells[column.name].strip(),
                columns=places,
                from_table=True,
            )


def _in_words(name: str, values: dict[str, float]) -> str:
    """Return an attribute's value in words."""
    kind = next((kind for kind in KINDS if values[f"is_{kind}"] == 1), None)
    if name == "unit":
        return kind or "unknown"
    columns = _ATTRIBUTE_GROUPS[name]
    column = columns[-1] if name == "total amount" else columns[0]
    if math.isnan(values[column]):
        column = next(c for c in columns if not math.isnan(values[c]))
    rounded = float(f"{math.exp(values[column]):.4g}")
    number = np.format_float_positional(rounded, trim="-")
    if name in ("size of one item", "total amount") and kind:
        return f"{number} {_BASE_UNITS[kind]}"
    return number
