"""Pictures that stand in for a photo: one picture for many products of unlike texts.

A shop that has no photo of a product shows a picture of its logo. Such a picture tells
nothing of the product, and ties all products that have it into one fold. Variants of
one product share a photo too; their texts are alike.
"""

import csv
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from embed.catalog.reader import Catalog
from embed.photos.decode import thumbnail_sha256
from embed.store.arrays import (
    RaggedRows,
    crc_rows,
    flush_rows,
    open_rows,
    read_rows,
    release_rows,
)
from embed.store.checksums import CHECKED_ARRAYS, CHECKSUMS_NAME
from embed.store.durable import named_errors
from embed.text import parse_fields

LEAST_UNLIKE = 6
"""Products, each unlike the others, that a picture of no photo is shared by."""

LEAST_UNLIKE_OF_MANY = 3
"""The same for a picture of at least `MANY` products and a tenth of all."""

MANY = 10

REASON = (
    "a picture that products of unlike texts share, taken for a stand-in; "
    "--keep-shared-photos keeps it"
)
KNOWN_REASON = "a picture that was taken for a stand-in when the run was embedded"
_ALIKE = 0.5  # share of the shorter name's words
_COMMON = 0.5  # share of the other products
_N_WORDS = 16
# Numbers, units and sizes of one letter tell variants apart, not products. Scripts
# without spaces count by character.
_WORD = re.compile(r"[\u3040-\u9fff]|(?:(?![\u3040-\u9fff])[^\W\d_]){2,}")
# fmt: off
_UNITS = frozenset({
    "oz", "ounce", "ounces", "fl", "fluid", "lb", "lbs", "pound", "pounds", "gram",
    "grams", "kg", "ml", "liter", "litre", "ct", "count", "pack", "packs", "pcs",
    "piece", "pieces", "inch", "inches", "cm", "mm", "size", "of",
})
# fmt: on


def shared_by_unlike(keys: Sequence[str], texts: Sequence[str]) -> dict[str, list[int]]:
    """Find what too many products of unlike texts share to be their own.

    Parameters
    ----------
    keys : sequence of str, length n_products
        Such as a hash of the photo, or its link; "" shares nothing.
    texts : sequence of str, length n_products
        As in the catalog.

    Returns
    -------
    dict of str to list of int
        Rows of each key that is shared by at least `LEAST_UNLIKE` products, or
        `LEAST_UNLIKE_OF_MANY`, whose names have, of every two, less than half of the
        shorter one's words in common. Units, and words that half of the products
        without the key have, such as the brand of a shop, do not count.
    """
    rows_of: dict[str, list[int]] = {}
    for row, key in enumerate(keys):
        if key:
            rows_of.setdefault(key, []).append(row)
    shared = {key: rows for key, rows in rows_of.items() if _least(rows, keys)}
    if not shared:
        return {}
    names = [_words(text) for text in texts]
    n_with = Counter(word for name in names for word in name)
    return {
        key: rows
        for key, rows in shared.items()
        if _are_unlike(_telling(names, rows, n_with), least=_least(rows, keys))
    }


def leave_out_stand_ins(
    catalog: Catalog, stage_dir: Path, *, chunk_size: int
) -> list[dict[str, Any]]:
    """Leave the products without photo that a picture only stands in for.

    Features, checksums and problems.csv follow; the thumbnails stay. A run that is
    killed in the midst of it may do it once more, to the same bytes, after problems.csv
    is cut to what was written before.

    Parameters
    ----------
    catalog : Catalog
    stage_dir : Path
        Of the embedding stage, with all rows of all arrays written.
    chunk_size : int
        Products between two checksums.

    Returns
    -------
    list of dict
        Of each picture `sha256` of its thumbnail, `n_products`, and the `sample_id` of
        the first product that has it.
    """
    found = shared_by_unlike(_photo_hashes(stage_dir), catalog.text)
    if rows := sorted(row for with_picture in found.values() for row in with_picture):
        _take_out(stage_dir, rows, chunk_size=chunk_size)
        path = stage_dir / "problems.csv"
        with named_errors(path), path.open("a", encoding="utf-8", newline="") as file:
            lines = csv.writer(file, lineterminator="\n")
            lines.writerows((catalog.sample_id[row], "image", REASON) for row in rows)
    return [
        {
            "sha256": sha256,
            "n_products": len(with_picture),
            "sample_id": str(catalog.sample_id[with_picture[0]]),
        }
        for sha256, with_picture in found.items()
    ]


def _photo_hashes(stage_dir: Path) -> list[str]:
    """Return the sha256 of each thumbnail, "" where there is none."""
    thumbnails = RaggedRows(stage_dir / "thumbnails.npy")
    hashes = []
    for row in range(len(thumbnails)):
        jpeg = thumbnails[row].tobytes()
        hashes.append(thumbnail_sha256(jpeg) if jpeg else "")
        if not row % 4096:
            release_rows(thumbnails.flat)
    return hashes


def _take_out(stage_dir: Path, rows: Sequence[int], *, chunk_size: int) -> None:
    image = _open(stage_dir, "image")
    image_ok = _open(stage_dir, "image_ok")
    checksums = _open(stage_dir, Path(CHECKSUMS_NAME).stem)
    image[list(rows)] = 0
    image_ok[list(rows)] = False
    for chunk in sorted({row // chunk_size for row in rows}):
        start = chunk * chunk_size
        stop = min(start + chunk_size, len(image_ok))
        for name, array in (("image", image), ("image_ok", image_ok)):
            checksums[chunk, CHECKED_ARRAYS.index(name)] = crc_rows(array, start, stop)
    for array in (image, image_ok, checksums):
        flush_rows(array)


def known_stand_ins(embed: Mapping[str, Any]) -> frozenset[str]:
    """Return the sha256 of the thumbnails that a run took for stand-ins.

    Parameters
    ----------
    embed : mapping
        Manifest of the embedding stage; those of older versions name none.
    """
    return frozenset(found["sha256"] for found in embed.get("stand_ins", ()))


def describe_stand_ins(embed: Mapping[str, Any]) -> str:
    """Say in a line what was taken for a stand-in, "" if nothing was."""
    found = embed.get("stand_ins", [])
    if not found:
        return ""
    n_products = sum(one["n_products"] for one in found)
    pictures = "1 picture" if len(found) == 1 else f"{len(found)} pictures"
    largest = max(found, key=lambda one: int(one["n_products"]))
    return (
        f"Stand-ins: {pictures}, shared by {n_products} products of unlike texts (one "
        f"is sample_id {largest['sample_id']!r}), taken for no photo. "
        f"--keep-shared-photos keeps them."
    )


def _open(stage_dir: Path, name: str) -> NDArray[Any]:
    path = stage_dir / f"{name}.npy"
    found = read_rows(path)
    return open_rows(path, shape=found.shape, dtype=found.dtype, resume=True)


def _least(rows: Sequence[int], keys: Sequence[str]) -> int:
    """Return how many of some products must be unlike each other; 0: they are few."""
    if len(rows) >= max(MANY, len(keys) / 10):
        return LEAST_UNLIKE_OF_MANY
    return LEAST_UNLIKE if len(rows) >= LEAST_UNLIKE else 0


def _telling(
    names: Sequence[frozenset[str]], rows: Sequence[int], n_with: Mapping[str, int]
) -> set[frozenset[str]]:
    """Return the names of some products without the words that most others have."""
    n_inside = Counter(word for row in rows for word in names[row])
    n_others = len(names) - len(rows)
    common = {
        word
        for word, n in n_inside.items()
        if n_others >= MANY and n_with[word] - n >= _COMMON * n_others
    }
    return {name for row in rows if (name := names[row] - common)}


def _are_unlike(names: set[frozenset[str]], *, least: int) -> bool:
    """Tell whether so many of some names are unlike each other."""
    chosen: list[frozenset[str]] = []
    # In an order that does not depend on that of the rows.
    for words in sorted(names, key=sorted):
        if not any(_are_alike(words, other) for other in chosen):
            chosen.append(words)
        if len(chosen) == least:
            return True
    return False


def _words(text: str) -> frozenset[str]:
    """Return the first words of a product's name, of its text if it has none."""
    product = parse_fields(text)
    name = product.name or " ".join(product.bullets) or product.description
    return frozenset(_WORD.findall(name.casefold())[:_N_WORDS]) - _UNITS


def _are_alike(one: frozenset[str], other: frozenset[str]) -> bool:
    return len(one & other) >= _ALIKE * min(len(one), len(other))
