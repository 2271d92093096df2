"""Find stand-ins: one picture for many products of unlike texts.

A shop without a photo of a product may show its logo instead. Such a picture does not
describe the product, and would tie all products that share it into one fold. Variants
of one product share a photo too, but their texts are alike.
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
from embed.records import EmbedManifest, StandIn
from embed.store.arrays import (
    RaggedRows,
    crc_rows,
    flush_rows,
    open_rows,
    read_rows,
    release_rows,
)
from embed.store.durable import named_errors
from embed.text import parse_fields
from embed.verify import CHECKED_ARRAYS, CHECKSUMS_NAME

LEAST_UNLIKE = 6
"""Least number of mutually unlike products that share a stand-in."""

LEAST_UNLIKE_OF_MANY = 3
"""The same for a picture shared by at least `MANY` products and a tenth of all."""

MANY = 10

REASON = (
    "a picture that products of unlike texts share, taken for a stand-in; "
    "--keep-shared-photos keeps it"
)
KNOWN_REASON = "a picture that was taken for a stand-in when the run was embedded"
_ALIKE = 0.5  # share of the shorter name's words
_COMMON = 0.5  # share of the other products
_N_WORDS = 16
# Numbers, units and one-letter sizes distinguish variants, not products. In scripts
# without spaces, each character is a word.
_WORD = re.compile(r"[\u3040-\u9fff]|(?:(?![\u3040-\u9fff])[^\W\d_]){2,}")
# fmt: off
_UNITS = frozenset({
    "oz", "ounce", "ounces", "fl", "fluid", "lb", "lbs", "pound", "pounds", "gram",
    "grams", "kg", "ml", "liter", "litre", "ct", "count", "pack", "packs", "pcs",
    "piece", "pieces", "inch", "inches", "cm", "mm", "size", "of",
})
# fmt: on


def shared_by_unlike(keys: Sequence[str], texts: Sequence[str]) -> dict[str, list[int]]:
    """Find the keys that are shared by too many products of unlike texts.

    Parameters
    ----------
    keys : sequence of str, length n_products
        Key of each product, such as a hash of its photo or its link; "" is never
        shared.
    texts : sequence of str, length n_products
        Texts of the catalog.

    Returns
    -------
    dict of str to list of int
        Rows of each key that at least `LEAST_UNLIKE` (or `LEAST_UNLIKE_OF_MANY`)
        mutually unlike products share. Two products are unlike if their names have
        less than half of the shorter name's words in common. Units do not count, nor
        do words in half of the products without the key, such as the shop's brand.
    """
    rows_by_key: dict[str, list[int]] = {}
    for row, key in enumerate(keys):
        if key:
            rows_by_key.setdefault(key, []).append(row)
    shared = {key: rows for key, rows in rows_by_key.items() if _least(rows, keys)}
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
) -> list[StandIn]:
    """Mark the products that have a stand-in as having no photo.

    Features, checksums and problems.csv are updated; the thumbnails stay. A run that is
    killed during the update can repeat it with the same result, after problems.csv is
    cut to its earlier length.

    Parameters
    ----------
    catalog : Catalog
    stage_dir : Path
        Folder of the embedding stage, with all rows of all arrays written.
    chunk_size : int
        Products between two checksums.

    Returns
    -------
    list of StandIn
    """
    stand_ins = shared_by_unlike(_photo_hashes(stage_dir), catalog.text)
    if rows := sorted(row for sharing in stand_ins.values() for row in sharing):
        _take_out(stage_dir, rows, chunk_size=chunk_size)
        path = stage_dir / "problems.csv"
        with named_errors(path), path.open("a", encoding="utf-8", newline="") as file:
            lines = csv.writer(file, lineterminator="\n")
            lines.writerows((catalog.sample_id[row], "image", REASON) for row in rows)
    return [
        StandIn(
            sha256=sha256,
            n_products=len(sharing),
            sample_id=str(catalog.sample_id[sharing[0]]),
        )
        for sha256, sharing in stand_ins.items()
    ]


def _photo_hashes(stage_dir: Path) -> list[str]:
    """Return the sha256 of each thumbnail, "" without a thumbnail."""
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


def known_stand_ins(embed: EmbedManifest) -> frozenset[str]:
    """Return the thumbnail sha256 of a run's stand-ins.

    Parameters
    ----------
    embed : EmbedManifest
        Manifest of the embedding stage; older versions recorded no stand-ins.
    """
    return frozenset(picture.sha256 for picture in embed.stand_ins)


def describe_stand_ins(embed: EmbedManifest) -> str:
    """Describe a run's stand-ins in one line; return "" without stand-ins."""
    stand_ins = embed.stand_ins
    if not stand_ins:
        return ""
    n_products = sum(picture.n_products for picture in stand_ins)
    pictures = "1 picture" if len(stand_ins) == 1 else f"{len(stand_ins)} pictures"
    largest = max(stand_ins, key=lambda picture: picture.n_products)
    return (
        f"Stand-ins: {pictures}, shared by {n_products} products of unlike texts (one "
        f"is sample_id {largest.sample_id!r}), taken for no photo. "
        f"--keep-shared-photos keeps them."
    )


def _open(stage_dir: Path, name: str) -> NDArray[Any]:
    path = stage_dir / f"{name}.npy"
    rows = read_rows(path)
    return open_rows(path, shape=rows.shape, dtype=rows.dtype, resume=True)


def _least(rows: Sequence[int], keys: Sequence[str]) -> int:
    """Return how many products must be unlike for a stand-in; 0 for too few rows."""
    if len(rows) >= max(MANY, len(keys) / 10):
        return LEAST_UNLIKE_OF_MANY
    return LEAST_UNLIKE if len(rows) >= LEAST_UNLIKE else 0


def _telling(
    names: Sequence[frozenset[str]], rows: Sequence[int], n_with: Mapping[str, int]
) -> set[frozenset[str]]:
    """Return the names of `rows` without words that are common in other rows."""
    n_inside = Counter(word for row in rows for word in names[row])
    n_others = len(names) - len(rows)
    common = {
        word
        for word, n in n_inside.items()
        if n_others >= MANY and n_with[word] - n >= _COMMON * n_others
    }
    return {name for row in rows if (name := names[row] - common)}


def _are_unlike(names: set[frozenset[str]], *, least: int) -> bool:
    """Tell whether at least `least` names are unlike each other."""
    unlike_names: list[frozenset[str]] = []
    # Sorted, so that the result does not depend on the order of the rows.
    for words in sorted(names, key=sorted):
        if not any(_are_alike(words, earlier) for earlier in unlike_names):
            unlike_names.append(words)
        if len(unlike_names) == least:
            return True
    return False


def _words(text: str) -> frozenset[str]:
    """Return the first words of a product's name, or of its text without a name."""
    product = parse_fields(text)
    name = product.name or " ".join(product.bullets) or product.description
    return frozenset(_WORD.findall(name.casefold())[:_N_WORDS]) - _UNITS


def _are_alike(words_a: frozenset[str], words_b: frozenset[str]) -> bool:
    return len(words_a & words_b) >= _ALIKE * min(len(words_a), len(words_b))
