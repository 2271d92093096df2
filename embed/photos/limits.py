"""Limit the memory and time of a photo by its header, before it is decoded.

A limit on pixels is not enough: a few bytes in the file are enough for scans, tags,
EXIF, tiles and slow decoders that take much memory and time.
"""

import ctypes
import io
import struct
import sys

from PIL import Image, ImageFile

from embed.errors import UnreadableImage

MAX_PIXELS = 50_000_000
"""Most pixels of a photo; decoding takes at least 4 bytes per pixel."""

MAX_BYTES = 50_000_000
"""Most bytes of a file; some decoders keep several copies of it in memory."""

# Formats and codecs that need a multiple of the memory, or (in Python) of the time.
_COST = {"WEBP": 2, "AVIF": 3, "JPEG2000": 3, "ppm": 10, "ppm_plain": 10, "bmp_rle": 10}
# A photo has 1 to 20 scans and up to 3 blocks of EXIF. Each scan needs a pass over all
# pixels, even if it has few bytes; parsed EXIF takes 35 times its length.
_MAX_SCANS = 100
_MAX_EXIF_BLOCKS = 16
_MAX_EXIF_BYTES = 1 << 20
_MAX_TAG_NUMBERS = 500_000
_MORE_TAGS = (0x8769, 0x8825, 0xA005)  # point to the EXIF, GPS and interchange tags
_TEXT_KINDS = (1, 2, 6, 7)  # bytes and text, which take no object per value
_TILE_WIDTH, _TILE_HEIGHT = 322, 323


def check_header(file: io.BufferedReader) -> None:
    """Refuse a file by its bytes, before Pillow reads them.

    Raises
    ------
    UnreadableImage
        If it has too many scans, blocks of EXIF or numbers in tags.
    """
    _check_jpeg(file)
    _check_tiff(file)


def _check_jpeg(file: io.BufferedReader) -> None:
    """Count the expensive parts of a JPEG, whose data escapes these markers."""
    content = file.read() if file.peek(2)[:2] == b"\xff\xd8" else b""
    file.seek(0)
    for part, marker, most in (
        ("scans", b"\xff\xda", _MAX_SCANS),
        ("blocks of EXIF", b"Exif\0\0", _MAX_EXIF_BLOCKS),
    ):
        count = content.count(marker)
        if count > most:
            raise UnreadableImage(f"too large: {count} {part}, at most {most} are read")


def _check_tiff(file: io.BufferedReader) -> None:
    """Count the numbers in the tags; Pillow creates an object for each."""
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
    """Refuse a photo with too many pixels for its format; return a pixel's cost."""
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
    """Make glibc return free memory, which it keeps after `prepare_machine`."""
    if sys.platform == "linux":
        try:
            ctypes.CDLL("libc.so.6").malloc_trim(0)
        except (OSError, AttributeError):
            return  # another C library (musl) keeps less memory
