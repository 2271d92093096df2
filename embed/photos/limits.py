"""What a photo may cost at most, read from its header before it is decoded.

Limits on pixels alone leave cheap ways to much memory and time: scans, tags, EXIF,
tiles and slow decoders, each a few bytes in the file.
"""

import ctypes
import io
import struct
import sys

from PIL import Image, ImageFile

from embed.errors import UnreadableImage

MAX_PIXELS = 50_000_000
"""More is refused from the header: decoding takes 4 bytes a pixel and more."""

MAX_BYTES = 50_000_000
"""A longer file is refused: some decoders hold it whole, several times."""

# Formats and codecs that take so many times the memory, or (in Python) the time.
_COST = {"WEBP": 2, "AVIF": 3, "JPEG2000": 3, "ppm": 10, "ppm_plain": 10, "bmp_rle": 10}
# A photo has 1 to 20 scans and up to 3 blocks of EXIF. Each scan costs a pass over all
# pixels, however few bytes it has; EXIF takes 35 times its length when parsed.
_MAX_SCANS = 100
_MAX_EXIF_BLOCKS = 16
_MAX_EXIF_BYTES = 1 << 20
_MAX_TAG_NUMBERS = 500_000
_MORE_TAGS = (0x8769, 0x8825, 0xA005)  # where the EXIF, GPS and interchange tags are
_TEXT_KINDS = (1, 2, 6, 7)  # bytes and text: not made into a number each
_TILE_WIDTH, _TILE_HEIGHT = 322, 323


def check_header(file: io.BufferedReader) -> None:
    """Refuse a file by what its bytes say before Pillow looks at them.

    Raises
    ------
    UnreadableImage
        If it has too many scans, blocks of EXIF or numbers in tags.
    """
    _check_jpeg(file)
    _check_tiff(file)


def _check_jpeg(file: io.BufferedReader) -> None:
    """Count what costs much at a few bytes each; in its data, JPEG escapes markers."""
    content = file.read() if file.peek(2)[:2] == b"\xff\xd8" else b""
    file.seek(0)
    for what, marker, most in (
        ("scans", b"\xff\xda", _MAX_SCANS),
        ("blocks of EXIF", b"Exif\0\0", _MAX_EXIF_BLOCKS),
    ):
        count = content.count(marker)
        if count > most:
            raise UnreadableImage(f"too large: {count} {what}, at most {most} are read")


def _check_tiff(file: io.BufferedReader) -> None:
    """Count the numbers in the tags: Pillow makes objects of them."""
    head = file.read(8)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(head[:4])
    if head[:4] in (b"II+\0", b"MM\0+"):
        raise UnreadableImage("BigTIFF is not read")
    pending, count = [struct.unpack(order + "I", head[4:])[0]] if order else [], 0
    for start in pending:
        file.seek(start)
        n_tags = int.from_bytes(file.read(2), "little" if order == "<" else "big")
        tags = file.read(12 * n_tags)
        whole = tags[: len(tags) // 12 * 12]
        for tag, kind, n, place in struct.iter_unpack(f"{order}HHII", whole):
            count += n if kind not in _TEXT_KINDS else 0
            if tag in _MORE_TAGS and len(pending) < 8:
                pending.append(place)
    if count > _MAX_TAG_NUMBERS:
        raise UnreadableImage(
            f"too large: {count} numbers in TIFF tags, at most {_MAX_TAG_NUMBERS} are "
            f"read"
        )
    file.seek(0)


def check_size(photo: Image.Image) -> int:
    """Refuse what would take too much memory or time; return the cost of a pixel."""
    tiles = photo.tile if isinstance(photo, ImageFile.ImageFile) else []
    names = [photo.format or "", *(tile[0] for tile in tiles)]
    cost = max(_COST.get(name, 1) for name in names)
    most = MAX_PIXELS // cost
    tags = getattr(photo, "tag_v2", {})
    tile = [tags.get(_TILE_WIDTH, 0), tags.get(_TILE_HEIGHT, 0)]
    for width, height in (photo.size, tile):
        if width * height > most:
            raise UnreadableImage(
                f"too large: {width} x {height}, at most {most} pixels are read"
            )
    return cost


def check_exif(photo: Image.Image) -> None:
    """Refuse EXIF that would take much memory when parsed."""
    for name in ("exif", "Raw profile type exif"):
        length = len(photo.info.get(name, ""))
        if length > _MAX_EXIF_BYTES:
            raise UnreadableImage(
                f"too large: {length} bytes of EXIF, at most {_MAX_EXIF_BYTES} are read"
            )


def give_memory_back() -> None:
    """Have glibc return what is free; `prepare_machine` lets it keep all it had."""
    if sys.platform == "linux":
        try:
            ctypes.CDLL("libc.so.6").malloc_trim(0)
        except (OSError, AttributeError):
            return  # another C library (musl), which keeps less
