"""Choose the file name under which the photo of each product is stored.

`embed.photos.files` later looks a photo up in `downloads.csv` and, if that is lost, by
the last part of the link or by sample_id. So a photo gets a name only if no product
with another link would look that name up, even a product whose own photo is missing: a
wrong photo beside a price is worse than none.
"""

import re
from collections.abc import Sequence
from pathlib import PurePath
from urllib.parse import unquote

from embed.photos.index import file_keys, wanted_keys
from embed.photos.links import IMAGE_SUFFIXES, fold, parse_link
from embed.photos.log import LOG_NAME

_MAX_NAME_BYTES = 200  # file systems take 255, encrypted ones 143 or more
_UNSAFE = re.compile(r'[<>:"|?*/\\]')
_WINDOWS_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)
_DEFAULT_SUFFIX = ".jpg"


class PhotoNames:
    """File names for the photos of a catalog.

    Parameters
    ----------
    links : sequence of str, length n_products
        Link of each product, "" where missing.
    sample_ids : sequence of str, length n_products
        Unique id of each product.
    """

    def __init__(self, links: Sequence[str], sample_ids: Sequence[str]) -> None:
        self._links = links
        self._ids = sample_ids
        self._users: dict[str, set[str]] = {}
        for row, sample_id in enumerate(sample_ids):
            link = parse_link(links[row]) if links[row] else None
            for key in wanted_keys(link, sample_id):
                self._users.setdefault(key, set()).add(self._user(row))

    def name(self, row: int) -> str:
        """Choose the file name of a row's photo.

        Returns
        -------
        str
            File name shared by all rows of one link, or the row's own; "" if no name
            is unique to this photo.
        """
        last_part, *unescaped = _parts(self._links[row]) or ("",)
        by_id = (self._ids[row] + suffix for suffix in _suffixes(last_part))
        for name in (last_part, *unescaped, *by_id):
            if _is_safe(name) and self.belongs(name, row):
                return name
        return ""

    def belongs(self, name: str, row: int) -> bool:
        """Tell whether only rows of one link would look up a file of this name.

        Parameters
        ----------
        name : str
            File name, without folder.
        row : int
            One row of that link.
        """
        own = {self._user(row)}
        return all(self._users.get(key, own) <= own for key in file_keys(name))

    def _user(self, row: int) -> str:
        return self._links[row] or f"row {row}"  # no link has this form


def _parts(link: str) -> tuple[str, ...]:
    """Return the last part of a link, as written and without percent escapes."""
    last_part = re.split(r"[?#]", link.strip(), maxsplit=1)[0].rpartition("/")[2]
    return (last_part, unquote(last_part)) if last_part else ()


def _suffixes(last_part: str) -> list[str]:
    """Return suffixes for a photo that is named by id, the link's suffix first."""
    own = PurePath(last_part).suffix.lower()
    first = [own] if own in IMAGE_SUFFIXES else []
    return [*first, _DEFAULT_SUFFIX, *sorted(IMAGE_SUFFIXES)]


def _is_safe(name: str) -> bool:
    """Tell whether a name means one plain file in the folder, on any system."""
    return bool(
        name
        and name == name.strip(" .")  # "..", hidden names, and ends that Windows cuts
        and name.isprintable()
        and len(name.encode("utf-8", "replace")) <= _MAX_NAME_BYTES
        and not _UNSAFE.search(name)
        and not _WINDOWS_DEVICE.match(name)
        and fold(name) != LOG_NAME
    )
