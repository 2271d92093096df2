"""Under which file name the photo of each product is stored.

`embed.images.find_image` later looks a photo up by the last part of the link, and by
sample_id where the folder has no such file. So a name is given to a photo only if no
product with another link would look it up, not even one whose own photo is missing:
a wrong photo beside a price is worse than none.
"""

import re
import unicodedata
from collections.abc import Sequence
from pathlib import PurePath
from urllib.parse import unquote

from embed.images import IMAGE_SUFFIXES

LOG_NAME = "downloads.csv"
_MAX_NAME_BYTES = 200  # file systems take 255, encrypted ones 143 or more
_UNSAFE = re.compile(r'[<>:"|?*/\\]')
_WINDOWS_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)
_DEFAULT_SUFFIX = ".jpg"


class PhotoNames:
    """File names for the photos of a catalog.

    Parameters
    ----------
    links : sequence of str, length n_products
        "" where missing.
    sample_ids : sequence of str, length n_products
        Unique.
    """

    def __init__(self, links: Sequence[str], sample_ids: Sequence[str]) -> None:
        self._links = links
        self._ids = sample_ids
        self._users: dict[str, set[str]] = {}
        for row, sample_id in enumerate(sample_ids):
            for key in (*_parts(links[row]), sample_id):
                self._users.setdefault(_fold(key), set()).add(self._user(row))

    def name(self, row: int) -> str:
        """Choose the file name of a row's photo.

        Returns
        -------
        str
            The same for rows of one link, or the row's own; "" if there is no name
            that leads to this photo and to no other.
        """
        last_part, *unescaped = _parts(self._links[row]) or ("",)
        by_id = (self._ids[row] + suffix for suffix in _suffixes(last_part))
        for name in (last_part, *unescaped, *by_id):
            if _is_safe(name) and self.belongs(name, row):
                return name
        return ""

    def belongs(self, name: str, row: int) -> bool:
        """Say whether a file of this name would be found by rows of one link only.

        Parameters
        ----------
        name : str
            File name, without folder.
        row : int
            A row of that link.
        """
        path = PurePath(name)
        keys = {name, path.stem} if path.suffix.lower() in IMAGE_SUFFIXES else {name}
        own = {self._user(row)}
        return all(self._users.get(_fold(key), own) <= own for key in keys)

    def _user(self, row: int) -> str:
        return self._links[row] or f"row {row}"  # a link holds no such text


def _parts(link: str) -> tuple[str, ...]:
    """Return the parts of a link that `find_image` looks up, in its order."""
    last_part = re.split(r"[?#]", link.strip(), maxsplit=1)[0].rpartition("/")[2]
    return (last_part, unquote(last_part)) if last_part else ()


def _suffixes(last_part: str) -> list[str]:
    """Return suffixes for a photo that is named by id, the link's own first."""
    own = PurePath(last_part).suffix.lower()
    first = [own] if own in IMAGE_SUFFIXES else []
    return [*first, _DEFAULT_SUFFIX, *sorted(IMAGE_SUFFIXES)]


def _is_safe(name: str) -> bool:
    """Say whether a name means one plain file in the folder, on any system."""
    return bool(
        name
        and name == name.strip(" .")  # "..", hidden names, and what Windows cuts off
        and name.isprintable()
        and len(name.encode("utf-8", "replace")) <= _MAX_NAME_BYTES
        and not _UNSAFE.search(name)
        and not _WINDOWS_DEVICE.match(name)
        and _fold(name) != LOG_NAME
    )


def _fold(key: str) -> str:
    """Make names equal that some file systems take for one."""
    return unicodedata.normalize("NFC", key).casefold()
