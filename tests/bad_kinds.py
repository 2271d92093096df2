"""What a kind of bad photo is, and what may become of one."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from photo_bytes import CARD, PIXELS, SIZE
from PIL import Image

GREY = np.asarray(CARD.convert("L").convert("RGB"))
BLACK_AND_WHITE = np.asarray(CARD.convert("1", dither=0).convert("RGB"))
WHITE = np.full((SIZE, SIZE, 3), 255, np.uint8)
BLACK = np.zeros((SIZE, SIZE, 3), np.uint8)
COLUMN, ROW = WHITE.copy(), WHITE.copy()
COLUMN[:, 15], ROW[15] = 0, 0
CUT_OUT = CARD.copy()  # its left half is transparent
CUT_OUT.putalpha(Image.fromarray(np.uint8([[0] * 16 + [255] * 16] * SIZE)))
RIGHT_HALF = np.where(np.arange(SIZE)[:, None] < 16, WHITE, PIXELS)
GREY_RIGHT_HALF = np.where(np.arange(SIZE)[:, None] < 16, WHITE, GREY)

NOT_LISTED = r"no photo named .+ \(last part of the link\) or .+ in the images folder"
NO_PHOTO = "not a photo in a known format"
NO_FILE = "no such file"
LEADS_OUT = "a link that leads out of the images folder"
TOO_MANY_PIXELS = r"too large: (\d+ x \d+, )?at most \d+ pixels are read"
DAMAGED = "(truncated file|damaged file: .+)"
NOT_READ = f"({NO_PHOTO}|{DAMAGED})"  # versions of Pillow notice sooner or later

Maker = Callable[[Path, str], str | None]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of photo: its maker, and either its pixels or the reason against it."""

    make: Maker  # writes it into the images folder under a name; may give another link
    pixels: NDArray[np.uint8] | None = None
    tolerance: int = 0  # mean difference of levels
    reason: str = ""  # a regular expression for the whole reason
    suffix: str = ".jpg"
    after_listing: Callable[[Path], None] | None = None


def a_file(content: Callable[[], bytes]) -> Maker:
    """Make a file; its content is made when it is written."""

    def make(folder: Path, name: str) -> None:
        (folder / name).write_bytes(content())

    return make


def right(
    content: Callable[[], bytes],
    pixels: NDArray[np.uint8] = PIXELS,
    tolerance: int = 0,
    suffix: str = ".jpg",
) -> Kind:
    make = a_file(content)
    return Kind(make=make, pixels=pixels, tolerance=tolerance, suffix=suffix)


def refused(content: Callable[[], bytes], reason: str, suffix: str = ".jpg") -> Kind:
    return Kind(make=a_file(content), reason=reason, suffix=suffix)
