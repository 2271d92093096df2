"""A corpus of bad photos: one of each kind."""

import ctypes
import os
import struct
from pathlib import Path

from bad_damage import BOMBS, BROKEN, NO_PHOTOS
from bad_formats import JPEGS, OTHER_FORMATS, PNGS, SHAPES
from bad_kinds import NO_PHOTO, Kind, refused
from bad_places import NAMES, PLACES
from PIL import features


def write_corpus(folder: Path) -> dict[str, str]:
    """Write one photo of each kind; return the link to each."""
    folder.mkdir(parents=True)
    return {
        name: kind.make(folder, name + kind.suffix) or name + kind.suffix
        for name, kind in KINDS.items()
    }


def change_after_listing(folder: Path) -> None:
    """Do what happens to some files between being listed and being read."""
    for name, kind in KINDS.items():
        if kind.after_listing is not None:
            kind.after_listing(folder / (name + kind.suffix))


def undo_changes(folder: Path) -> None:
    """Bring the files back that `change_after_listing` changed."""
    for name, kind in KINDS.items():
        if kind.after_listing is not None:
            (folder / (name + kind.suffix)).unlink(missing_ok=True)
            kind.make(folder, name + kind.suffix)


def give_up_root_rights() -> None:
    """Let file permissions bind root too (Linux): drop the rights to pass them by."""
    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = struct.pack("Ii", 0x20080522, 0)
    rights = ctypes.create_string_buffer(24)
    if libc.capget(header, rights) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    words = list(struct.unpack("6I", rights.raw))
    words[0] &= ~0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
    if libc.capset(header, struct.pack("6I", *words)) != 0:
        raise OSError(ctypes.get_errno(), "capset")


KINDS: dict[str, Kind] = {
    **JPEGS,
    **PNGS,
    **OTHER_FORMATS,
    **SHAPES,
    **BOMBS,
    **NO_PHOTOS,
    **BROKEN,
    **NAMES,
    **PLACES,
}
# A Pillow built without a format says so by not knowing it.
if not features.check("avif"):
    KINDS["avif"] = refused(lambda: b"\0\0\0\x1cftypavif" + bytes(99), NO_PHOTO)
    del KINDS["avif-cut"], KINDS["bomb-avif"]
