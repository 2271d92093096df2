"""Split a cell of the image column into links, and a link into its parts.

Shops export one link, or several links with separators, as a JSON list or as a Python
list. `embed.photos.files` matches links to files.
"""

import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath
from urllib.parse import unquote

# fmt: off
IMAGE_SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff",
    ".ppm", ".pgm", ".jp2", ".avif",
})
# Query parameters for size, format or access rights; they do not change the photo.
_HOW = frozenset({
    "w", "h", "width", "height", "dpr", "fit", "crop", "quality", "format", "fm",
    "auto", "sig", "signature", "expires", "token", "policy", "key-pair-id",
    "awsaccesskeyid",
})
_HOW_PREFIXES = ("x-amz-", "x-goog-", "utm_")
# These change the photo unless a photo's name comes before them: `image.php?v=7` may be
# photo 7.
_VERSION = frozenset({
    "v", "ver", "version", "rev", "t", "ts", "_", "cb", "cache", "size", "sz", "q",
    "bg", "scale", "resize", "strip", "imwidth", "wid", "hei",
})
# fmt: on
_URL = re.compile(r"(?:[a-z][a-z0-9+.-]*:)?//", re.IGNORECASE)
_EDGES = " \t\r\n\f\v,;|\"'"
_SUSPECT = re.compile(r"[\s,;|\[{\"']")
_QUOTED = r"(?:'[^']*'|\"[^\"]*\")"
_QUOTED_LIST = re.compile(rf"[\[(]\s*{_QUOTED}(?:\s*,\s*{_QUOTED})*\s*,?\s*[\])]")
_BEFORE_URL = re.compile(r"[\s,;|]+(?=[\"']?(?:https?:)//)", re.IGNORECASE)
_SPACE_BEFORE_URL = re.compile(r"[,;|]*\s+(?=[\"']?(?:https?:)?//)", re.IGNORECASE)
_WIDE_SEPARATOR = re.compile(r"\s*[,;|]\s+|\s*[\r\n\t]+\s*")
_SEPARATORS = (r"[\r\n\t]+", r"\|+", r";+", r",+", r"\s+")
_ALSO_WITHOUT_SUFFIX = (r"[\r\n\t]+", r"\|+", r";+")


def split_links(cell: str) -> list[str]:
    """Split a cell of the image column into its links.

    A separator inside a link stays: a URL ends only where another URL begins, or at a
    separator with white space if all parts are named like photos.

    Parameters
    ----------
    cell : str
        Cell of the catalog.

    Returns
    -------
    list of str
        Links in the cell's order, none empty, without surrounding white space.

    Examples
    --------
    >>> split_links("front.jpg, back.jpg")
    ['front.jpg', 'back.jpg']
    >>> split_links("https://a.example/w_300,h_300/x.jpg")
    ['https://a.example/w_300,h_300/x.jpg']
    """
    cell = cell.strip()
    if not _SUSPECT.search(cell) or cell[:5].casefold() == "data:":
        return [cell] if cell else []
    listed = _listed(cell)
    if listed is None:
        listed = _split_urls(cell) if _URL.match(cell.lstrip(_EDGES)) else _split(cell)
    return [link for part in listed if (link := _trimmed(part))]


def has_image_suffix(name: str) -> bool:
    """Tell whether a file name or link has a photo's suffix before any query."""
    path = re.split(r"[?#]", name, maxsplit=1)[0]
    return PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES


def fold(name: str) -> str:
    """Normalise a name, so that names that some file systems treat as one are equal."""
    return unicodedata.normalize("NFC", name).casefold()


@dataclass(frozen=True, kw_only=True)
class PhotoLink:
    """The parts of a link that identify a photo.

    Attributes
    ----------
    names : tuple of (str, str)
        Last part of the path and raw query, for each possible reading of the link.
    folders : tuple of str
        Host and folders, outermost first, in the form of `fold`.
    query : str
        The part of the query that identifies a photo; may be "".
    identity : str
        Key that is equal for links to the same photo.
    """

    names: tuple[tuple[str, str], ...]
    folders: tuple[str, ...]
    query: str
    identity: str

    @property
    def shown(self) -> str:
        """The last part, with the query if it matters, for a message."""
        name, query = self.names[0]
        return f"{name}?{query}" if self.query else name


@lru_cache(maxsize=4096)
def parse_link(link: str) -> PhotoLink:
    """Split a link, or a path of any system, into its parts.

    Parameters
    ----------
    link : str
        One link, from `split_links`.
    """
    is_url = bool(_URL.match(link))
    text = link.strip() if is_url else link.strip().replace("\\", "/")
    path, mark, rest = _cut(text)
    query = rest.partition("#")[0] if mark == "?" else ""
    if is_url and (scheme := _URL.match(path)):
        path = path[scheme.end() :]
    parts = [part for part in path.split("/") if part != "."]
    if is_url:
        parts[0] = parts[0].rpartition("@")[2].lower()
    name = parts[-1] if len(parts) > is_url else ""  # a host alone names no photo
    names = [(name, query)]
    if mark and name and not is_url:  # a file may have the mark in its name
        names.append((name + mark + rest, ""))
    outer = [unicodedata.normalize("NFC", unquote(part)) for part in parts[:-1] if part]
    telling = telling_query(name, query)
    plain = unicodedata.normalize("NFC", unquote(name))
    return PhotoLink(
        names=tuple(names),
        folders=tuple(map(str.casefold, outer)),
        query=telling,
        identity="\0".join([*outer, plain, telling]),
    )


def telling_query(name: str, query: str) -> str:
    """Return the part of a query that tells one photo from another.

    Parameters
    ----------
    name : str
        Name before the query.
    query : str
        Query without the question mark.

    Returns
    -------
    str
        Sorted parameters, without those for sizes, formats, versions and signatures.
    """
    is_photo = has_image_suffix(name)
    pairs = []
    for pair in re.split(r"[&;]", query):
        key, _, value = unquote(pair).partition("=")
        key = key.casefold()
        is_version = key in _VERSION or not value
        if pair and not (key in _HOW or key.startswith(_HOW_PREFIXES)):
            pairs += [] if is_photo and is_version else [f"{key}={value}"]
    return "&".join(sorted(pairs))


def _cut(text: str) -> tuple[str, str, str]:
    """Split at the first question mark or hash."""
    mark = re.search(r"[?#]", text)
    if mark is None:
        return text, "", ""
    return text[: mark.start()], mark[0], text[mark.end() :]


def _listed(cell: str) -> list[str] | None:
    """Read a list in brackets; return None if the cell is no list."""
    brackets = cell[0] + cell[-1]
    if brackets != "[]" and not (brackets in ("{}", "()") and "," in cell):
        return None
    try:
        items = json.loads(cell)
    except (ValueError, RecursionError):
        items = None
    if isinstance(items, list):
        return [item for item in items if isinstance(item, str)]
    if _QUOTED_LIST.fullmatch(cell):
        return [quoted[1:-1] for quoted in re.findall(_QUOTED, cell)]
    inner = cell[1:-1]
    return _split_urls(inner) if _URL.match(inner.lstrip(_EDGES)) else _split(inner)


def _split_urls(cell: str) -> list[str]:
    """Split a cell that begins with a URL."""
    first = _BEFORE_URL.split(cell, maxsplit=1)[0]
    # A URL inside another URL is part of its query.
    is_nested = first.count("://") > 1
    parts = (_SPACE_BEFORE_URL if is_nested else _BEFORE_URL).split(cell)
    if len(parts) == 1:
        parts = _SPACE_BEFORE_URL.split(cell)
    wide = [part for part in _WIDE_SEPARATOR.split(cell) if part.strip(_EDGES)]
    return wide if len(wide) > len(parts) and _are_links(wide) else parts


def _split(cell: str, separators: Sequence[str] = _SEPARATORS) -> list[str]:
    """Split a cell that begins with the name of a file."""
    for index, separator in enumerate(separators):
        parts = [p for part in re.split(separator, cell) if (p := part.strip(_EDGES))]
        if len(parts) < 2:
            continue
        alike = [_is_named_like_photo(part) for part in parts]
        is_list = not any(alike) and separator in _ALSO_WITHOUT_SUFFIX
        if all(alike) or is_list:
            rest = separators[index + 1 :]
            return [link for part in parts for link in _split(part, rest)]
    return [cell]


def _are_links(parts: Sequence[str]) -> bool:
    """Tell whether each part has a photo's suffix or is a URL before another URL."""
    is_url = [bool(_URL.match(part.strip(_EDGES))) for part in parts] + [True]
    return all(
        has_image_suffix(part.strip(_EDGES)) or (is_url[index] and is_url[index + 1])
        for index, part in enumerate(parts)
    )


def _is_named_like_photo(part: str) -> bool:
    part = part.strip(_EDGES)
    return bool(_URL.match(part)) or has_image_suffix(part)


def _trimmed(part: str) -> str:
    """Remove separators and quotes from the ends of a link."""
    part = part.strip().strip(",;|").strip()
    while len(part) > 1 and part[0] == part[-1] and part[0] in "\"'":
        part = part[1:-1].strip()
    return part
