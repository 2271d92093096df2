import contextlib
import io
import os
import struct
import subprocess
import sys
import threading
import traceback
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile

import embed.photos.decode
from embed.catalog.reader import CatalogError
from embed.errors import UnreadableImage
from embed.photos.decode import (
    decode_photo,
    decode_thumbnail,
    encode_thumbnail,
    load_image,
)
from embed.photos.files import find_image
from embed.photos.index import index_images
from embed.photos.limits import MAX_BYTES, MAX_PIXELS

WHITE, RED, BLUE = (255, 255, 255), (255, 0, 0), (0, 0, 255)


def save(photo, path, **options):
    photo.save(path, **options)
    return path


def near(pixel, colour, tolerance=12):
    return np.abs(np.asarray(pixel, int) - colour).max() <= tolerance


def png_header(width, height):
    """A PNG that claims a size and holds no pixels."""

    def chunk(kind, body):
        checksum = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0"))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("shape", [(400, 100), (100, 400), (20, 5), (3001, 750)])
def test_whole_photo_is_fitted_and_padded_white(tmp_path, shape, suffix):
    photo = Image.new("RGB", shape, RED)
    pixels = load_image(save(photo, tmp_path / f"a.{suffix}"), size=64)

    assert pixels.shape == (64, 64, 3)
    assert pixels.dtype == np.uint8
    red = (pixels[..., 0] > 200) & (pixels[..., 1] < 60)
    height, width = red.any(1).sum(), red.any(0).sum()
    assert (width, height) == ((64, 16) if shape[0] > shape[1] else (16, 64))
    assert near(pixels[0, 0], WHITE) or near(pixels[0, 0], RED)
    assert (pixels[~red] > 200).all()
    assert abs(int(np.argwhere(red)[0].sum()) - 24) <= 1


def test_both_ends_of_a_large_jpeg_survive_the_reduced_decoding(tmp_path):
    photo = Image.new("RGB", (4000, 2000), RED)
    photo.paste(BLUE, (2000, 0, 4000, 2000))
    pixels = load_image(save(photo, tmp_path / "a.jpg"), size=100)
    assert near(pixels[50, 2], RED)
    assert near(pixels[50, 97], BLUE)
    assert near(pixels[10, 50], WHITE)


def test_one_pixel_wide_photo_keeps_a_pixel(tmp_path):
    path = save(Image.new("RGB", (1, 900), RED), tmp_path / "a.png")
    assert near(load_image(path, size=32)[16, 15], RED, 0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    upright = Image.new("RGB", (80, 80), WHITE)
    upright.paste(RED, (0, 0, 40, 40))
    upright.paste(BLUE, (40, 0, 80, 40))
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(stored, tmp_path / "a.jpg", exif=exif, quality=95)
    pixels = load_image(path, size=40)
    assert near(pixels[10, 10], RED)
    assert near(pixels[10, 30], BLUE)
    assert near(pixels[30, 20], WHITE)


def test_transparency_is_put_on_white(tmp_path):
    rgba = Image.new("RGBA", (40, 20), (0, 0, 0, 0))
    rgba.paste((255, 0, 0, 255), (0, 0, 20, 20))
    grey = Image.new("LA", (40, 20), (0, 0))
    grey.paste((0, 255), (0, 0, 20, 20))
    for name, photo in [("rgba", rgba), ("palette", rgba.quantize(8)), ("la", grey)]:
        pixels = load_image(save(photo, tmp_path / f"{name}.png"), size=40)
        assert near(pixels[20, 30], WHITE, 2), name
        assert not near(pixels[20, 10], WHITE), name


def test_half_transparent_red_becomes_pink(tmp_path):
    path = save(Image.new("RGBA", (9, 9), (255, 0, 0, 128)), tmp_path / "a.png")
    assert near(load_image(path, size=9)[4, 4], (255, 127, 127), 2)


def test_transparent_grey_level_is_put_on_white(tmp_path):
    path = save(Image.new("L", (9, 9), 7), tmp_path / "a.png", transparency=7)
    assert near(load_image(path, size=9)[4, 4], WHITE, 0)


def test_cmyk_becomes_rgb(tmp_path):
    path = save(Image.new("CMYK", (30, 30), (0, 255, 255, 0)), tmp_path / "a.jpg")
    assert near(load_image(path, size=30)[15, 15], RED)


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_16_bit_grey_is_scaled_and_not_clipped(tmp_path, suffix):
    values = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (64, 1))
    path = save(Image.fromarray(values), tmp_path / f"a.{suffix}")
    row = load_image(path, size=64)[32, :, 0]
    assert np.abs(row - np.linspace(0, 255, 64)).max() <= 1


@pytest.mark.parametrize("white", [1.0, 255.0, 4000.0])
def test_float_grey_is_scaled(tmp_path, white):
    values = np.tile(np.linspace(0, white, 64, dtype=np.float32), (64, 1))
    values[0, :2] = np.nan, np.inf
    path = save(Image.fromarray(values), tmp_path / "a.tif")
    row = load_image(path, size=64)[32, :, 0]
    assert np.abs(row - np.linspace(0, 255, 64)).max() <= 1


def test_first_frame_of_an_animation_is_taken(tmp_path):
    frames = [Image.new("RGB", (20, 20), colour) for colour in (RED, BLUE)]
    path = tmp_path / "a.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert near(load_image(path, size=20)[10, 10], RED)


def test_suffix_does_not_matter(tmp_path):
    path = tmp_path / "a.jpg"
    Image.new("RGB", (20, 20), RED).save(path, "PNG")
    assert near(load_image(path, size=20)[10, 10], RED, 0)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "TIFF"])
def test_truncated_photo_is_refused(tmp_path, form):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, form)
    path = tmp_path / "a"
    path.write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    with pytest.raises(UnreadableImage) as caught:
        load_image(path, size=32)
    assert caught.value.__cause__ is not None
    assert str(tmp_path) not in str(caught.value)
    if form == "JPEG":
        assert str(caught.value) == "truncated file"
    # It is kept for the product; the pixels are not.
    frames = [f for f, _ in traceback.walk_tb(caught.value.__cause__.__traceback__)]
    theirs = [f for f in frames if f"{os.sep}PIL{os.sep}" in f.f_code.co_filename]
    assert theirs
    assert not any(frame.f_locals for frame in theirs)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"<!DOCTYPE html><html>404</html>", "not a photo in a known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a photo"),
    ],
)
def test_other_content_is_refused_by_name(tmp_path, content, reason):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(UnreadableImage, match=reason):
        load_image(tmp_path / "a.jpg", size=32)


def test_missing_file_folder_and_pipe_are_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(UnreadableImage, match="not a regular file"):
        load_image(tmp_path / "pipe.jpg", size=32)
    with pytest.raises(UnreadableImage, match="a folder, not a file"):
        load_image(tmp_path, size=32)
    with pytest.raises(UnreadableImage, match="no such file"):
        load_image(tmp_path / "none.jpg", size=32)


@pytest.mark.parametrize("side", [7_100, 10_000, 60_000])
def test_too_large_photo_is_refused_from_its_header(tmp_path, monkeypatch, side):
    assert side * side > MAX_PIXELS
    (tmp_path / "a.png").write_bytes(png_header(side, side))
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("decoded"))
    with pytest.raises(UnreadableImage, match=f"^too large: .*at most {MAX_PIXELS} "):
        load_image(tmp_path / "a.png", size=32)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"])
def test_damaged_bytes_raise_nothing_else(tmp_path, form):
    rng = np.random.default_rng(0)
    buffer = io.BytesIO()
    pixels = rng.integers(0, 256, (24, 24, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, form)
    path = tmp_path / "a"
    for _ in range(150):
        content = np.frombuffer(buffer.getvalue(), np.uint8).copy()
        where = rng.integers(0, min(len(content), 200), 4)
        content[where] = rng.integers(0, 256, 4)
        path.write_bytes(content.tobytes())
        with contextlib.suppress(UnreadableImage):
            assert load_image(path, size=16).shape == (16, 16, 3)


def test_threads_read_the_same_pixels_without_warnings(tmp_path, recwarn):
    (tmp_path / "bomb.png").write_bytes(png_header(10_000, 10_000))
    path = save(Image.effect_noise((300, 200), 60), tmp_path / "a.jpg")
    expected = load_image(path, size=64)
    barrier = threading.Barrier(4)

    def read(_):
        barrier.wait(10)
        with pytest.raises(UnreadableImage):
            load_image(tmp_path / "bomb.png", size=64)
        return load_image(path, size=64)

    with ThreadPoolExecutor(4) as pool:
        for pixels in pool.map(read, range(16)):
            np.testing.assert_array_equal(pixels, expected)
    assert not recwarn.list


def test_size_below_one_pixel_is_refused(tmp_path):
    with pytest.raises(ValueError, match="size must be at least 1 pixel, got 0"):
        load_image(tmp_path / "a.jpg", size=0)


def test_embedded_colour_profile_does_no_harm(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    photo = Image.new("RGB", (20, 20), RED)
    path = save(photo, tmp_path / "a.jpg", icc_profile=profile)
    assert near(load_image(path, size=20)[10, 10], RED)


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return index_images(folder)


def find(index, link, sample_id="no such id"):
    path = find_image(index, image_link=link, sample_id=sample_id)
    return path.name if path else None


def test_index_of_a_missing_folder_names_the_option_and_the_remedy(tmp_path):
    with pytest.raises(CatalogError, match=r"--images .*none.*leave --images out"):
        index_images(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(CatalogError, match="a file"):
        index_images(tmp_path / "file")


def test_links_are_found_by_their_last_part(tmp_path):
    index = touch(tmp_path, "71+a b.jpg", "50%25.png", "caf\u00e9.jpg", "sub/d.JPG")
    assert find(index, "https://example.com/I/71+a%20b.jpg") == "71+a b.jpg"
    assert find(index, "https://example.com/I/71+a%20b.jpg?w=9&u=/x.jpg#y/z.png")
    assert find(index, "https://example.com/50%25.png") == "50%25.png"
    assert find(index, "images/caf%C3%A9.jpg ") == "caf\u00e9.jpg"
    assert find(index, "https://example.com/d.JPG") == "d.JPG"
    assert find(index, "https://example.com/D.jpg") == "d.JPG"
    assert find(index, "https://example.com/d2.jpg") is None


def test_links_inside_the_folder_are_followed_and_others_are_not(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    (tmp_path / "secret.png").touch()
    (images / "target").touch()
    (images / "inside.png").symlink_to("target")
    (images / "outside.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "linked").symlink_to(images)
    for folder in (images, tmp_path / "linked"):
        index = index_images(folder)
        for name in ("inside.png", "inside"):
            found = find_image(index, image_link=name, sample_id="")
            assert found == folder / "target"
        outside = find_image(index, image_link="outside.png", sample_id="")
        assert outside == folder / "outside.png"
        with pytest.raises(UnreadableImage, match="leads out of the images folder"):
            load_image(outside, size=8)


def test_folder_that_cannot_be_listed_is_an_error_and_a_sub_folder_a_warning(
    tmp_path, monkeypatch, caplog
):
    (tmp_path / "locked").mkdir()
    (tmp_path / "a.png").touch()
    scan = os.scandir

    def refuse(path):
        if str(path).endswith(locked):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    locked = "locked"
    assert index_images(tmp_path).names == ["a.png"]
    assert "locked: left out: Permission denied" in caplog.text
    locked = tmp_path.name
    with pytest.raises(CatalogError, match=r"must be a readable folder.*permissions"):
        index_images(tmp_path)


def test_large_photos_are_decoded_one_at_a_time(tmp_path, monkeypatch):
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path in paths:
        Image.new("L", (3000, 2000)).save(path, compress_level=1)
    inside, most = [], []
    shrink = embed.photos.decode.square

    def count(photo, size):
        inside.append(photo)
        most.append(len(inside))
        pixels = shrink(photo, size)
        inside.pop()
        return pixels

    monkeypatch.setattr(embed.photos.decode, "square", count)
    with ThreadPoolExecutor(3) as pool:
        assert len(list(pool.map(lambda path: load_image(path, size=16), paths))) == 3
    assert most == [1, 1, 1]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "CMYK", "I;16", "F"])
def test_photo_read_in_strips_has_the_pixels_of_one_read_whole(
    mode, tmp_path, monkeypatch
):
    noise = np.random.default_rng(0).integers(0, 256, (500, 700, 4), np.uint8)
    photo = Image.fromarray(noise).convert(mode if mode in ("RGB", "LA") else "RGBA")
    if mode in ("P", "CMYK"):
        photo = photo.convert("RGB").convert(mode)
    elif mode in ("I;16", "F"):
        deep = np.uint16 if mode == "I;16" else np.float32
        photo = Image.fromarray(noise[..., 0].astype(deep))
    assert photo.mode == mode
    path = save(photo, tmp_path / ("a.png" if mode in ("LA", "P") else "a.tif"))
    whole = load_image(path, size=40)
    monkeypatch.setattr("embed.photos.pixels._STRIP_PIXELS", 5000)
    np.testing.assert_array_equal(load_image(path, size=40), whole)


@pytest.mark.parametrize("name", ["77.png", "77.JPEG", "77.webp"])
def test_sample_id_finds_any_image_suffix_when_the_link_does_not(tmp_path, name):
    index = touch(tmp_path, name, "78.txt")
    assert find(index, "https://example.com/gone.jpg", "77") == name
    assert find(index, "", "77") == name
    assert find(index, "", "78") is None
    assert find(index, "", "") is None


def test_link_beats_sample_id_and_full_name_beats_shortened_one(tmp_path):
    index = touch(tmp_path, "1.jpg", "2.jpg", "1", "deep/2.jpg")
    assert find(index, "http://example.com/2.jpg", "1") == "2.jpg"
    found = find_image(index, image_link="2.jpg", sample_id="")
    assert found == tmp_path / "2.jpg"
    assert find(index, "", "1") == "1"


@pytest.mark.parametrize(
    "link",
    [
        "../secret.jpg",
        "https://example.com/..%2Fsecret.jpg",
        "https://example.com/%2E%2E/%2E%2E%2Fsecret.jpg",
        "https://example.com/..",
        "/etc/passwd",
        "file:///etc/passwd",
        "a\0b.jpg",
        "?",
        "///",
    ],
)
def test_no_link_leaves_the_folder(tmp_path, link):
    (tmp_path / "secret.jpg").touch()
    index = touch(tmp_path / "images", "ours.jpg")
    assert find(index, link) is None
    assert find_image(index, image_link="", sample_id=link) is None


def test_thumbnail_survives_encoding(tmp_path):
    path = save(Image.radial_gradient("L").convert("RGB"), tmp_path / "a.png")
    pixels = load_image(path, size=96)
    data = encode_thumbnail(pixels)
    assert data == encode_thumbnail(pixels)
    back = decode_thumbnail(data)
    assert back.dtype == np.uint8
    assert np.abs(back.astype(int) - pixels).mean() < 2


def test_thumbnail_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"height, width, 3.*got float64 of shape"):
        encode_thumbnail(np.zeros((4, 4, 3)))
    with pytest.raises(ValueError, match=r"uint8 of shape \(4, 4\)"):
        encode_thumbnail(np.zeros((4, 4), np.uint8))


FIRST_READS = """
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from embed.photos.decode import load_image

sys.setswitchinterval(1e-6)
together = threading.Barrier(8)


def read(path):
    together.wait()
    return load_image(path, size=8).shape


with ThreadPoolExecutor(8) as pool:
    shapes = list(pool.map(read, [Path(sys.argv[1])] * 8))
assert shapes == [(8, 8, 3)] * 8
"""


@pytest.mark.parametrize("attempt", range(3))
def test_the_first_photos_of_a_process_may_be_read_by_several_threads(
    attempt, tmp_path
):
    Image.new("RGB", (20, 10), "red").save(tmp_path / "photo.jpg")
    done = subprocess.run(
        [sys.executable, "-c", FIRST_READS, tmp_path / "photo.jpg"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_a_photo_in_memory_decodes_as_its_file_does(tmp_path, suffix):
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    path = save(Image.fromarray(pixels), tmp_path / f"a.{suffix}")
    found = decode_photo(path.read_bytes(), size=40)
    np.testing.assert_array_equal(found, load_image(path, size=40))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"<html>", "not a photo in a known format"),
        (bytes(MAX_BYTES + 1), "too large: 50000001 bytes"),
    ],
)
def test_a_photo_in_memory_is_refused_as_its_file_would_be(content, reason):
    with pytest.raises(UnreadableImage, match=reason):
        decode_photo(content, size=40)
