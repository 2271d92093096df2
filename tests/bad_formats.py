"""Photos in odd formats and shapes, which are read all the same."""

import struct

import numpy as np
from bad_kinds import (
    BLACK,
    BLACK_AND_WHITE,
    COLUMN,
    CUT_OUT,
    DAMAGED,
    GREY,
    GREY_RIGHT_HALF,
    NO_PHOTO,
    RIGHT_HALF,
    ROW,
    WHITE,
    refused,
    right,
)
from photo_bytes import (
    CARD,
    PIXELS,
    SIZE,
    chunk,
    exif,
    interlaced_png,
    jpeg,
    jpeg_with,
    patched,
    planar_tiff,
    png_of,
    png_with,
    rationals,
    rle_bmp,
    saved,
    segment,
    tiff_of,
    top_down_bmp,
    turned,
    ycck,
    zero_png,
    zeros,
)
from PIL import Image, ImageCms


def frames(form: str, **options: object) -> bytes:
    """Write an animation: the card, then black, then white."""
    more = [Image.new("RGB", CARD.size, colour) for colour in ("black", "white")]
    return saved(form, save_all=True, append_images=more, duration=90, **options)


def flat(mode: str, size: tuple[int, int], form: str, **options: object) -> bytes:
    """Write a photo that is black all over."""
    return saved(form, Image.new(mode, size), **options)


def icc() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def deep_card(colour: int, extra: bytes = b"") -> bytes:
    """Write the card with 16 bits a channel; with alpha, its left half is clear."""
    card = np.asarray({0: CARD.convert("L"), 2: CARD, 6: CUT_OUT}[colour], np.uint16)
    return png_of(card * np.uint16(257), colour, extra)


def float_card(scale: float) -> bytes:
    return saved(
        "TIFF", Image.fromarray(np.asarray(CARD.convert("L"), np.float32) / scale)
    )


def float_bomb() -> bytes:
    """Write 49 million pixels of 32-bit floats, packed to some hundred kilobytes."""
    data = zeros(7000 * 7000 * 4)
    more = {259: (3, (8,)), 339: (3, (3,))}
    return tiff_of((7000, 7000), data, bits=(32,), more=more)


ORIENTATIONS = {
    f"jpeg-exif-orientation-{turn}": right(
        lambda turn=turn: saved(
            "JPEG", turned(turn), quality=95, subsampling=0, exif=exif(turn)
        ),
        tolerance=4,
    )
    for turn in range(1, 9)
}

JPEGS = {
    "jpeg": right(jpeg, tolerance=4),
    "jpeg-progressive": right(lambda: jpeg(progressive=True), tolerance=4),
    "jpeg-half-the-colour": right(lambda: saved("JPEG", quality=95), tolerance=6),
    "jpeg-restart-markers": right(lambda: jpeg(restart_marker_blocks=1), tolerance=4),
    "jpeg-grey": right(
        lambda: saved("JPEG", CARD.convert("L"), quality=95), GREY, tolerance=4
    ),
    "jpeg-cmyk": right(
        lambda: saved("JPEG", CARD.convert("CMYK"), quality=95), tolerance=8
    ),
    "jpeg-ycck": right(ycck, tolerance=8),
    "jpeg-colour-profile": right(lambda: jpeg(icc_profile=icc()), tolerance=4),
    "jpeg-mpo-two-frames": right(
        lambda: saved(
            "MPO", save_all=True, append_images=[Image.new("RGB", (9, 9))], quality=95
        ),
        tolerance=6,
    ),
    "jpeg-bytes-after-its-end": right(lambda: jpeg() + b"<html>" * 999, tolerance=4),
    "jpeg-comment-of-64-kilobytes": right(
        lambda: jpeg_with(segment(0xFE, b"x" * 65_000)), tolerance=4
    ),
    "jpeg-exif-of-random-bytes": right(
        lambda: jpeg_with(
            segment(0xE1, b"Exif\0\0" + np.random.default_rng(1).bytes(999))
        ),
        tolerance=4,
    ),
    "jpeg-exif-cut-short": right(
        lambda: jpeg_with(segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01")),
        tolerance=4,
    ),
    "jpeg-exif-orientation-out-of-range": right(
        lambda: jpeg(exif=exif(77)), tolerance=4
    ),
    "jpeg-exif-tag-of-four-gigabytes": right(
        lambda: jpeg_with(
            segment(
                0xE1,
                b"Exif\0\0II*\0"
                + struct.pack("<IHHHII", 8, 1, 0x011A, 5, 0x1FFFFFFF, 26),
            )
        ),
        tolerance=4,
    ),
    **ORIENTATIONS,
}

PNGS = {
    "png": right(lambda: saved("PNG"), suffix=".png"),
    "png-interlaced": right(interlaced_png),
    "png-grey": right(lambda: saved("PNG", CARD.convert("L")), GREY),
    "png-grey-alpha": right(
        lambda: saved("PNG", CUT_OUT.convert("LA")), GREY_RIGHT_HALF
    ),
    "png-1-bit": right(
        lambda: saved("PNG", CARD.convert("1", dither=0)), BLACK_AND_WHITE
    ),
    "png-palette": right(lambda: saved("PNG", CARD.quantize(4)), tolerance=1),
    "png-palette-2-bits": right(
        lambda: saved("PNG", CARD.quantize(4), bits=2), tolerance=1
    ),
    "png-palette-one-clear-colour": right(
        lambda: saved(
            "PNG", CARD.quantize(4), transparency=CARD.quantize(4).getpixel((0, 0))
        ),
        np.where((PIXELS[0, 0] == PIXELS).all(2, keepdims=True), WHITE, PIXELS),
        tolerance=1,
    ),
    "png-palette-with-alpha": right(
        lambda: saved("PNG", CUT_OUT.quantize(8)), RIGHT_HALF, tolerance=1
    ),
    "png-alpha": right(lambda: saved("PNG", CUT_OUT), RIGHT_HALF),
    "png-one-clear-colour": right(
        lambda: saved("PNG", transparency=(255, 0, 0)),
        np.where((PIXELS == (255, 0, 0)).all(2, keepdims=True), WHITE, PIXELS),
    ),
    "png-16-bit-grey": right(lambda: deep_card(0), GREY),
    "png-16-bit-grey-one-clear-level": right(
        lambda: deep_card(0, chunk(b"tRNS", bytes(GREY[0, 0, :2]))),
        np.where(GREY[0, 0] == GREY, WHITE, GREY),
    ),
    "png-16-bit-rgb": right(lambda: deep_card(2)),
    "png-16-bit-rgba": right(lambda: deep_card(6), RIGHT_HALF),
    "png-exif-orientation": right(lambda: saved("PNG", turned(6), exif=exif(6))),
    "png-colour-profile": right(lambda: saved("PNG", icc_profile=icc())),
    "png-animated": right(lambda: frames("PNG")),
    "png-private-chunk": right(lambda: png_with(chunk(b"prVt", bytes(999)))),
    "png-text-of-40-megabytes": right(
        lambda: png_with(chunk(b"tEXt", b"Comment\0" + b"x" * 40_000_000))
    ),
    "png-compressed-text-bomb": refused(
        lambda: png_with(chunk(b"zTXt", b"Comment\0\0" + zeros(1 << 30))), DAMAGED
    ),
    "png-international-text-bomb": refused(
        lambda: png_with(chunk(b"iTXt", b"Comment\0\1\0\0\0" + zeros(1 << 30))), DAMAGED
    ),
    "png-colour-profile-bomb": refused(
        lambda: png_with(chunk(b"iCCP", b"icc\0\0" + zeros(1 << 30))), DAMAGED
    ),
    "png-thousands-of-chunks": right(
        lambda: png_with(chunk(b"tEXt", b"a\0b") * 50_000)
    ),
    "png-exif-bomb": refused(
        lambda: png_with(chunk(b"eXIf", rationals(8 << 20))),
        r"too large: \d+ bytes of EXIF, at most \d+ are read",
    ),
}

OTHER_FORMATS = {
    "bmp": right(lambda: saved("BMP"), suffix=".bmp"),
    "bmp-palette": right(lambda: saved("BMP", CARD.quantize(4)), tolerance=1),
    "bmp-1-bit": right(
        lambda: saved("BMP", CARD.convert("1", dither=0)), BLACK_AND_WHITE
    ),
    "bmp-top-down": right(top_down_bmp),
    "bmp-run-lengths": right(rle_bmp, GREY),
    "gif": right(lambda: saved("GIF"), suffix=".gif", tolerance=1),
    "gif-animated": right(lambda: frames("GIF"), suffix=".gif", tolerance=1),
    "gif-transparent": right(
        lambda: saved("GIF", CUT_OUT), RIGHT_HALF, suffix=".gif", tolerance=1
    ),
    "gif-thousands-of-comments": right(
        lambda: patched(
            saved("GIF"),
            b"\x2c\0\0\0\0",
            (b"\x21\xfe" + (b"\xff" + b"x" * 255) * 20_000) + b"\0\x2c\0\0\0\0",
        ),
        tolerance=1,
    ),
    "webp-lossless": right(lambda: saved("WEBP", lossless=True), suffix=".webp"),
    "webp-lossy": right(lambda: saved("WEBP", quality=95), tolerance=8),
    "webp-transparent": right(
        lambda: saved("WEBP", CUT_OUT, lossless=True), RIGHT_HALF
    ),
    "webp-animated": right(lambda: frames("WEBP", lossless=True)),
    "webp-exif-orientation": right(
        lambda: saved("WEBP", turned(8), lossless=True, exif=exif(8))
    ),
    "tiff": right(lambda: saved("TIFF"), suffix=".tif"),
    "tiff-lzw": right(lambda: saved("TIFF", compression="tiff_lzw")),
    "tiff-deflate": right(lambda: saved("TIFF", compression="tiff_adobe_deflate")),
    "tiff-jpeg": right(
        lambda: saved("TIFF", compression="jpeg", quality=95), tolerance=4
    ),
    "tiff-fax": right(
        lambda: saved("TIFF", CARD.convert("1", dither=0), compression="group4"),
        BLACK_AND_WHITE,
    ),
    "tiff-big-endian": right(
        lambda: tiff_of((SIZE, SIZE), PIXELS.tobytes(), order=">")
    ),
    "tiff-big": refused(lambda: saved("TIFF", big_tiff=True), "BigTIFF is not read"),
    "tiff-planes": right(planar_tiff),
    "tiff-pages": right(lambda: frames("TIFF")),
    "tiff-cmyk": right(lambda: saved("TIFF", CARD.convert("CMYK"))),
    "tiff-alpha": right(lambda: saved("TIFF", CUT_OUT), RIGHT_HALF),
    "tiff-float-to-1": right(lambda: float_card(255), GREY),
    "tiff-float-to-255": right(lambda: float_card(1), GREY),
    "tiff-orientation": right(
        lambda: tiff_of((SIZE, SIZE), turned(6).tobytes(), more={0x0112: (3, (6,))})
    ),
    "ppm": right(lambda: saved("PPM"), suffix=".ppm"),
    "ppm-written-out": right(
        lambda: b"P3 32 32 255\n" + b" ".join(b"%d" % v for v in PIXELS.ravel()) + b"\n"
    ),
    "jpeg-2000": right(lambda: saved("JPEG2000"), suffix=".jp2"),
    "jpeg-2000-bare": right(lambda: saved("JPEG2000", no_jp2=True), suffix=".j2k"),
    "avif": right(lambda: saved("AVIF", quality=95), suffix=".avif", tolerance=8),
    "heic": refused(
        lambda: struct.pack(">I8sI", 24, b"ftypheic", 0) + b"mif1heic" + bytes(999),
        NO_PHOTO,
        suffix=".heic",
    ),
}

SHAPES = {
    "one-pixel": right(lambda: flat("RGB", (1, 1), "PNG"), BLACK),
    "one-pixel-jpeg": right(lambda: flat("RGB", (1, 1), "JPEG"), BLACK),
    "one-by-20000": right(lambda: flat("RGB", (1, 20_000), "PNG"), COLUMN),
    "one-by-20000-jpeg": right(lambda: flat("RGB", (1, 20_000), "JPEG"), COLUMN),
    "20000-by-one": right(lambda: flat("RGB", (20_000, 1), "PNG"), ROW),
    "20000-by-one-gif": right(lambda: flat("L", (20_000, 1), "GIF"), ROW),
    "49-megapixels-16-bit-transparent": right(
        lambda: zero_png(7000, 7000, 16, 6), WHITE
    ),
    "49-megapixels-of-floats": right(float_bomb, BLACK),
    "49-megapixels-progressive": right(
        lambda: flat("L", (7000, 7000), "JPEG", progressive=True), BLACK
    ),
    "49-megapixels-turned": right(
        lambda: patched(
            zero_png(7000, 7000, 8, 6),
            b"\0\0\0\0IEND",
            chunk(b"eXIf", exif(6).removeprefix(b"Exif\0\0")) + b"\0\0\0\0IEND",
        ),
        WHITE,
    ),
    "25-megapixels-webp": right(
        lambda: flat("RGB", (4990, 4990), "WEBP", lossless=True, method=0, quality=0),
        BLACK,
    ),
}
