"""Photo files byte by byte: one card of four colours in many formats, and damage."""

import io
import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = 32
CARD = Image.new("RGB", (SIZE, SIZE), (255, 0, 0))
CARD.paste((0, 160, 0), (16, 0, 32, 16))
CARD.paste((0, 0, 255), (0, 16, 16, 32))
CARD.paste((240, 200, 40), (16, 16, 32, 32))
PIXELS = np.asarray(CARD)


def saved(form: str, photo: Image.Image = CARD, **options: object) -> bytes:
    buffer = io.BytesIO()
    photo.save(buffer, form, **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + body))
    return struct.pack(">I", len(body)) + kind + body + checksum


def png(
    size: tuple[int, int],
    depth: int,
    colour: int,
    data: bytes,
    *,
    extra: bytes = b"",
    interlaced: bool = False,
) -> bytes:
    """Write a PNG around compressed rows."""
    header = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, interlaced)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + extra
        + chunk(b"IDAT", data)
        + chunk(b"IEND", b"")
    )


def png_of(values: NDArray[np.generic], colour: int, extra: bytes = b"") -> bytes:
    """Write an array of 8 or 16 bits as PNG."""
    height, width = values.shape[:2]
    depth = values.dtype.itemsize * 8
    rows = values.astype(values.dtype.newbyteorder(">")).reshape(height, -1)
    data = b"".join(b"\0" + row.tobytes() for row in rows)
    return png((width, height), depth, colour, zlib.compress(data), extra=extra)


def png_with(extra: bytes) -> bytes:
    """Write the card with more chunks before its pixels."""
    return png_of(PIXELS, 2, extra)


def interlaced_png() -> bytes:
    data = b""
    for left, top, right_by, down_by in (
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    ):
        rows = PIXELS[top::down_by, left::right_by]
        data += b"".join(b"\0" + row.tobytes() for row in rows)
    return png((SIZE, SIZE), 8, 2, zlib.compress(data), interlaced=True)


def zeros(n: int) -> bytes:
    """Compress n zero bytes, a megabyte at a time: zlib's format, at no cost."""
    piece, rest = divmod(n, 1 << 20)
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = deflate.compress(bytes(1 << 20)) + deflate.flush(zlib.Z_FULL_FLUSH)
    end = deflate.compress(bytes(rest)) + deflate.flush()
    return b"\x78\xda" + block * piece + end + struct.pack(">HH", n % 65521, 1)


def zero_png(width: int, height: int, depth: int, colour: int) -> bytes:
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    row = 1 + width * channels * depth // 8
    return png((width, height), depth, colour, zeros(row * height))


def tiff(
    tags: dict[int, tuple[int, tuple[int, ...]]], data: bytes, *, order: str = "<"
) -> bytes:
    """Write a TIFF of one page: tag to (type, values); data begins at byte 8."""
    directory, far = b"", b""
    start = 8 + len(data)
    after = start + 2 + 12 * len(tags) + 4
    for tag, (kind, values) in sorted(tags.items()):
        packed = struct.pack(order + {3: "H", 4: "I"}[kind] * len(values), *values)
        if len(packed) > 4:
            place = struct.pack(order + "I", after + len(far))
            far += packed
        else:
            place = packed.ljust(4, b"\0")
        directory += struct.pack(order + "HHI", tag, kind, len(values)) + place
    head = b"II*\0" if order == "<" else b"MM\0*"
    count = struct.pack(order + "H", len(tags))
    end = bytes(4) + far
    return head + struct.pack(order + "I", start) + data + count + directory + end


def tiff_of(
    size: tuple[int, int],
    data: bytes,
    *,
    order: str = "<",
    bits: tuple[int, ...] = (8, 8, 8),
    more: dict[int, tuple[int, tuple[int, ...]]] | None = None,
) -> bytes:
    tags = {
        256: (4, (size[0],)),
        257: (4, (size[1],)),
        258: (3, bits),
        259: (3, (1,)),
        262: (3, (2 if len(bits) > 1 else 1,)),
        273: (4, (8,)),
        277: (3, (len(bits),)),
        278: (4, (size[1],)),
        279: (4, (len(data),)),
    }
    return tiff({**tags, **(more or {})}, data, order=order)


def planar_tiff() -> bytes:
    planes = [np.ascontiguousarray(PIXELS[..., i]).tobytes() for i in range(3)]
    more = {
        273: (4, (8, 8 + 1024, 8 + 2048)),
        279: (4, (1024,) * 3),
        284: (3, (2,)),
    }
    return tiff_of((SIZE, SIZE), b"".join(planes), more=more)


def tiled_tiff(side: int, data: bytes) -> bytes:
    """Write a grey 8 x 8 page with one compressed tile of another size."""
    return tiff(
        {
            256: (4, (8,)),
            257: (4, (8,)),
            258: (3, (8,)),
            259: (3, (8,)),
            262: (3, (1,)),
            277: (3, (1,)),
            322: (4, (side,)),
            323: (4, (side,)),
            324: (4, (8,)),
            325: (4, (len(data),)),
        },
        data,
    )


def bmp(rows: bytes, *, height: int = SIZE, bits: int = 24, packing: int = 0) -> bytes:
    palette = b"".join(bytes((i, i, i, 0)) for i in range(256)) if bits == 8 else b""
    start = 54 + len(palette)
    return (
        struct.pack("<2sIHHI", b"BM", start + len(rows), 0, 0, start)
        + struct.pack(
            "<IiiHHIIiiII", 40, SIZE, height, 1, bits, packing, len(rows), 0, 0, 0, 0
        )
        + palette
        + rows
    )


def top_down_bmp() -> bytes:
    return bmp(np.ascontiguousarray(PIXELS[..., ::-1]).tobytes(), height=-SIZE)


def rle_bmp() -> bytes:
    rows = np.asarray(CARD.convert("L"))[::-1]
    runs = [bytes((16, row[0], 16, row[16], 0, 0)) for row in rows]
    return bmp(b"".join(runs) + b"\0\1", bits=8, packing=1)


def gif(screen: tuple[int, int], frame: tuple[int, int]) -> bytes:
    return (
        struct.pack("<6sHHBBB", b"GIF89a", *screen, 0x80, 0, 0)
        + bytes(6)
        + struct.pack("<BHHHHB", 0x2C, 0, 0, *frame, 0)
        + b"\x02\x02\x44\x01\x00\x3b"
    )


def riff(kind: bytes, body: bytes) -> bytes:
    padded = kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(padded)) + b"WEBP" + padded


def patched(content: bytes, old: bytes, new: bytes) -> bytes:
    assert content.count(old) >= 1
    return content.replace(old, new)


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


def turned(orientation: int) -> Image.Image:
    """Turn the card so that this orientation brings it upright."""
    moves = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    return CARD.transpose(moves[orientation]) if orientation in moves else CARD


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def jpeg(**options: object) -> bytes:
    return saved("JPEG", quality=95, subsampling=0, **options)


def jpeg_with(*segments: bytes) -> bytes:
    """Put more segments at the head of the card."""
    content = jpeg()
    return content[:2] + b"".join(segments) + content[2:]


def ycck() -> bytes:
    """Write CMYK as YCC and K: the card's inks, in the order that Adobe turns round."""
    inks = CARD.convert("CMYK").split()
    ycc = Image.merge("RGB", inks[:3]).convert("YCbCr").split()
    planes = [plane.point(lambda value: 255 - value) for plane in ycc]
    content = saved("JPEG", Image.merge("CMYK", [*planes, inks[3]]), quality=95)
    adobe = content.index(b"Adobe")
    return content[: adobe + 11] + b"\2" + content[adobe + 12 :]


def many_scans(n: int) -> bytes:
    """Write a large progressive photo whose last scan comes n times."""
    content = saved("JPEG", Image.new("L", (7000, 7000)), progressive=True)
    last = content.rindex(b"\xff\xda")
    return content[:last] + content[last:-2] * n + b"\xff\xd9"


def overwritten(content: bytes, after: bytes, n: int) -> bytes:
    """Overwrite the bytes that follow the head of a JPEG table."""
    start = content.index(after) + 5
    return content[:start] + b"\xff" * n + content[start + n :]


def rationals(n_bytes: int) -> bytes:
    """Write EXIF whose horizontal resolution is a list of fractions."""
    head = b"II*\0" + struct.pack("<IH", 8, 1)
    return head + struct.pack("<HHIII", 0x011A, 5, n_bytes // 8, 26, 0) + bytes(n_bytes)


def exif_bomb() -> bytes:
    tags = b"Exif\0\0" + rationals(8 << 20)
    parts = [tags[i : i + 65_000] for i in range(0, len(tags), 65_000)]
    blocks = [parts[0], *(b"Exif\0\0" + part for part in parts[1:])]
    return jpeg_with(*(segment(0xE1, block) for block in blocks))
