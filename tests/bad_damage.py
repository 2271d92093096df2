"""Files that are no photo, no longer a photo, or a photo too large."""

import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
from bad_kinds import DAMAGED, NO_PHOTO, NOT_READ, TOO_MANY_PIXELS, Kind, refused, right
from photo_bytes import (
    CARD,
    SIZE,
    bmp,
    exif_bomb,
    gif,
    jpeg,
    many_scans,
    overwritten,
    patched,
    png,
    png_with,
    rationals,
    riff,
    saved,
    tiff_of,
    tiled_tiff,
    top_down_bmp,
    zero_png,
    zeros,
)
from PIL import Image


def zipped() -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("photo.png", saved("PNG"))
    return buffer.getvalue()


def cut(form: str, share: float, **options: object) -> Callable[[], bytes]:
    """Write the head of a photo that is full of detail."""

    def content() -> bytes:
        noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
        whole = saved(form, Image.fromarray(noise), **options)
        return whole[: int(len(whole) * share)]

    return content


def jpeg_cut_before(marker: bytes) -> bytes:
    content = jpeg()
    return content[: content.index(marker)]


def without_chunk(kind: bytes) -> bytes:
    content = saved("PNG")
    start = content.index(kind) - 4
    length = int.from_bytes(content[start : start + 4], "big")
    return content[:start] + content[start + 12 + length :]


def jp2_claiming(size: tuple[int, int]) -> bytes:
    content = saved("JPEG2000")
    return patched(content, struct.pack(">II", SIZE, SIZE), struct.pack(">II", *size))


def avif_claiming(size: tuple[int, int]) -> bytes:
    old, new = (b"ispe" + struct.pack(">III", 0, *side) for side in (CARD.size, size))
    return patched(saved("AVIF"), old, new)


def sparse(folder: Path, name: str) -> None:
    """Make a PNG whose text chunk is three gigabytes long, on disk next to nothing."""
    with (folder / name).open("wb") as file:
        file.write(png_with(b"")[:33] + struct.pack(">I4s", 3 << 30, b"tEXt"))
        file.truncate(3 << 30)


BOMBS = {
    "bomb-png-30000-by-30000": refused(
        lambda: zero_png(30_000, 30_000, 8, 2), TOO_MANY_PIXELS, suffix=".png"
    ),
    "bomb-png-15000-by-8000": refused(
        lambda: zero_png(15_000, 8_000, 8, 2), TOO_MANY_PIXELS
    ),
    "bomb-png-two-thousand-million-wide": refused(
        lambda: png((2**31 - 1, 1), 8, 2, zeros(9)), TOO_MANY_PIXELS
    ),
    "bomb-jpeg-65000-by-65000": refused(
        lambda: patched(
            jpeg(),
            struct.pack(">BHH", 8, SIZE, SIZE),
            struct.pack(">BHH", 8, 65_000, 65_000),
        ),
        TOO_MANY_PIXELS,
    ),
    "bomb-gif-screen": refused(lambda: gif((65_535, 65_535), (1, 1)), TOO_MANY_PIXELS),
    "bomb-gif-frame-larger-than-its-screen": refused(
        lambda: gif((1, 1), (65_535, 65_535)), TOO_MANY_PIXELS
    ),
    "bomb-bmp": refused(
        lambda: patched(
            bmp(b""), struct.pack("<ii", SIZE, SIZE), struct.pack("<ii", 60_000, 60_000)
        ),
        TOO_MANY_PIXELS,
    ),
    "bomb-tiff": refused(lambda: tiff_of((90_000, 90_000), b"x"), TOO_MANY_PIXELS),
    "bomb-tiff-tile": refused(
        lambda: tiled_tiff(32_768, zeros(32_768 * 32_768)), TOO_MANY_PIXELS
    ),
    "bomb-tiff-tags": refused(
        lambda: tiff_of((8, 8), bytes(192), more={0x011A: (4, (1,) * 600_000)}),
        r"too large: 6\d+ numbers in TIFF tags, at most 500000 are read",
    ),
    "bomb-tiff-tags-of-exif": refused(
        lambda: tiff_of((SIZE, SIZE), rationals(8 << 20)[8:], more={0x8769: (4, (8,))}),
        r"too large: \d+ numbers in TIFF tags, at most 500000 are read",
    ),
    "bomb-webp-canvas": refused(
        lambda: riff(b"VP8X", struct.pack("<I", 0) + b"\xff\xff\x3f\xff\xff\x03"),
        "(" + TOO_MANY_PIXELS + "|" + NO_PHOTO + "|" + DAMAGED + ")",
    ),
    "bomb-webp-lossless": refused(
        lambda: riff(b"VP8L", b"\x2f" + struct.pack("<I", 0x0FFFFFFF) + bytes(99)),
        TOO_MANY_PIXELS,
    ),
    "bomb-jpeg-2000": refused(lambda: jp2_claiming((60_000, 60_000)), TOO_MANY_PIXELS),
    "bomb-avif": refused(
        lambda: avif_claiming((16_000, 16_000)),
        "(" + TOO_MANY_PIXELS + "|" + DAMAGED + "|" + NO_PHOTO + ")",
    ),
    "bomb-ppm": refused(lambda: b"P6 99999 99999 255\n" + bytes(99), TOO_MANY_PIXELS),
    "bomb-ppm-written-out": refused(
        lambda: b"P3 7000 7000 255\n" + b"0 " * 999, TOO_MANY_PIXELS
    ),
    "bomb-jpeg-scans": refused(
        lambda: many_scans(5000), r"too large: \d+ scans, at most 100 are read"
    ),
    "bomb-jpeg-exif": refused(
        exif_bomb, r"too large: \d+ blocks of EXIF, at most 16 are read"
    ),
    "bomb-file-of-three-gigabytes": Kind(
        make=sparse, reason=r"too large: 3221225472 bytes, at most \d+ are read"
    ),
}

NO_PHOTOS = {
    "empty": refused(lambda: b"", "empty file"),
    "zero-bytes": refused(lambda: bytes(10_000), NO_PHOTO),
    "one-byte": refused(lambda: b"\xff", NO_PHOTO),
    "random-bytes": refused(lambda: np.random.default_rng(0).bytes(50_000), NO_PHOTO),
    "html": refused(lambda: b"<!DOCTYPE html><title>404</title>", NO_PHOTO),
    "json": refused(lambda: json.dumps({"error": 404}).encode(), NO_PHOTO),
    "text": refused(lambda: b"image not found\n", NO_PHOTO),
    "svg": refused(lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>", NO_PHOTO),
    "pdf": refused(lambda: b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n%%EOF\n", NO_PHOTO),
    "postscript": refused(
        lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", NO_PHOTO
    ),
    "zip": refused(zipped, NO_PHOTO),
    "pickle": refused(lambda: pickle.dumps(["photo"]), NO_PHOTO),
    "icon": refused(lambda: saved("ICO"), NO_PHOTO),
    "photoshop": refused(lambda: b"8BPS\0\1" + bytes(99), NO_PHOTO),
    "git-lfs-pointer": refused(
        lambda: b"version https://git-lfs.github.com/spec/v1\nsize 12345\n", NO_PHOTO
    ),
}

BROKEN = {
    **{
        f"jpeg-cut-at-{percent}-percent": refused(
            cut("JPEG", percent / 100), "truncated file"
        )
        for percent in (10, 25, 50, 75, 90, 99)
    },
    "jpeg-cut-in-its-first-bytes": refused(lambda: jpeg()[:3], NO_PHOTO),
    "jpeg-cut-before-its-size": refused(lambda: jpeg_cut_before(b"\xff\xc0"), NOT_READ),
    "jpeg-cut-before-its-scan": refused(lambda: jpeg_cut_before(b"\xff\xda"), NOT_READ),
    "jpeg-progressive-cut": refused(
        cut("JPEG", 0.4, progressive=True), "truncated file"
    ),
    "jpeg-corrupt-huffman-table": refused(
        lambda: overwritten(jpeg(), b"\xff\xc4", 16), DAMAGED
    ),
    "jpeg-missing-huffman-tables": right(
        lambda: patched(jpeg(), b"\xff\xc4", b"\xff\xfe"), tolerance=1
    ),
    "jpeg-corrupt-quantisation-table": refused(
        lambda: patched(jpeg(), b"\xff\xdb\0\x43\0", b"\xff\xdb\0\x43\xff"), NO_PHOTO
    ),
    "jpeg-missing-quantisation-table": refused(
        lambda: patched(jpeg(), b"\xff\xdb", b"\xff\xfe"), DAMAGED
    ),
    "jpeg-no-width": refused(
        lambda: patched(
            jpeg(), struct.pack(">BHH", 8, SIZE, SIZE), struct.pack(">BHH", 8, SIZE, 0)
        ),
        NOT_READ,
    ),
    "jpeg-12-bit": refused(
        lambda: patched(
            jpeg(),
            struct.pack(">BHH", 8, SIZE, SIZE),
            struct.pack(">BHH", 12, SIZE, SIZE),
        ),
        NOT_READ,
    ),
    "png-cut-in-its-header": refused(lambda: saved("PNG")[:20], NOT_READ),
    "png-cut-in-its-pixels": refused(cut("PNG", 0.5), DAMAGED),
    "png-corrupt-checksum": refused(
        lambda: saved("PNG")[:30] + b"\0" + saved("PNG")[31:], NOT_READ
    ),
    "png-corrupt-pixels": refused(
        lambda: png((SIZE, SIZE), 8, 2, b"\x78\x9c" + b"\xff" * 99), DAMAGED
    ),
    "png-too-few-pixels": refused(lambda: png((SIZE, SIZE), 8, 2, zeros(99)), DAMAGED),
    "png-missing-pixels": refused(lambda: without_chunk(b"IDAT"), NOT_READ),
    "png-missing-header": refused(lambda: without_chunk(b"IHDR"), NOT_READ),
    "png-missing-end": right(lambda: without_chunk(b"IEND")),
    "png-no-width": refused(lambda: png((0, SIZE), 8, 2, zeros(9)), NOT_READ),
    "png-chunk-longer-than-the-file": refused(
        lambda: png_with(struct.pack(">I", 1 << 31 - 1) + b"tEXt"),
        NOT_READ,
    ),
    "gif-cut": refused(cut("GIF", 0.5), DAMAGED),
    "gif-header-only": refused(lambda: b"GIF89a" + bytes(7), NOT_READ),
    "webp-cut": refused(cut("WEBP", 0.5), NOT_READ),
    "tiff-cut": refused(cut("TIFF", 0.5), NOT_READ),
    "tiff-lzw-cut": refused(
        lambda: tiff_of((SIZE, SIZE), b"\x80\0", more={259: (3, (5,))}), DAMAGED
    ),
    "tiff-strip-beyond-the-end": refused(
        lambda: tiff_of((SIZE, SIZE), b"x", more={273: (4, (99_999,))}), DAMAGED
    ),
    "tiff-directory-that-points-to-itself": refused(
        lambda: b"II*\0\x08\0\0\0\0\0\x08\0\0\0", NOT_READ
    ),
    "bmp-cut": refused(lambda: top_down_bmp()[:-99], DAMAGED),
    "bmp-of-a-negative-width": refused(
        lambda: patched(bmp(b""), struct.pack("<i", SIZE), struct.pack("<i", -SIZE)),
        TOO_MANY_PIXELS,
    ),
    "jpeg-2000-cut": refused(cut("JPEG2000", 0.3), NOT_READ, ".jp2"),
    "avif-cut": refused(cut("AVIF", 0.5), NOT_READ, ".avif"),
    "ppm-cut": refused(lambda: saved("PPM")[:-99], DAMAGED),
}
