"""List the files of a folder of photos, and look them up by the end of a link.

Only listed files are returned: a link is a key to look up, never a path to open. Work
and memory are linear in the number of files, even if many share a name.
"""

import logging
import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from embed.catalog.columns import CatalogError
from embed.photos.links import IMAGE_SUFFIXES, PhotoLink, fold, telling_query
from embed.photos.log import LOG_NAME

logger = logging.getLogger(__name__)

# wget writes a query into the file's name, on Windows behind "@" in place of "?".
_QUERY_IN_NAME = re.compile(r"(.+?)(?:\?|(?<=\w)@(?=[^@]*=))(.*)", re.DOTALL)
# Generic names, which do not identify a product.
_PLAIN = re.compile(
    r"(?:main|image|images|img|photo|picture|pic|public|default|original|full|large|"
    r"medium|small|thumb|thumbnail|front|back|side|cover|product|index|view|file|"
    r"download|primary|hero|featured|item|src)?[-_ ]?\d{0,3}"
)
_NUMBER = re.compile(r"0*([0-9]{1,40})")
_FLOAT = re.compile(r"([0-9]{1,40})\.0+")

# Kinds of match between the name of a file and the wanted name, best first.
_WITH_QUERY, _EXACT, _UNESCAPED, _STEM, _FOLDED, _FOLDED_STEM = range(6)
_KINDS = (_WITH_QUERY, _EXACT, _UNESCAPED, _STEM, _FOLDED, _FOLDED_STEM)
_AS_NUMBER = 99
_N_NAMED = 4


@dataclass(frozen=True, kw_only=True)
class Fit:
    """The files that fit a link or an id best, all equally well.

    Attributes
    ----------
    files : tuple of int
        Numbers of the first few files.
    n_files : int
        Number of all such files; with several, the right one is unknown.
    score : tuple of int
        Larger is better: whether the query fits, how many folders of the link fit,
        whether the file lies in no other folder, how well the name fits.
    """

    files: tuple[int, ...]
    n_files: int
    score: tuple[int, int, int, int]

    @property
    def file(self) -> int | None:
        """The number of the file, None if several fit."""
        return self.files[0] if self.n_files == 1 else None

    @property
    def is_close(self) -> bool:
        """Whether the name fits exactly except for its suffix."""
        return self.score[3] >= -_STEM

    @property
    def by_name_alone(self) -> bool:
        """Whether neither the query nor a folder of the link fits the files."""
        return not self.score[0] and not self.score[1]


@dataclass
class _Bucket:
    """Files with one stem below the same folders; `spelled` is filled on first use."""

    files: list[int] = field(default_factory=list)
    spelled: dict[tuple[bool, int, str, str], list[int]] | None = None


class PhotoIndex:
    """Index of a folder of photos.

    Parameters
    ----------
    images_dir : Path
        The folder.
    files : sequence of (Path, Path)
        Path of each file, and the path to read it from.
    """

    def __init__(self, images_dir: Path, files: Sequence[tuple[Path, Path]]) -> None:
        self.paths = [target for _, target in files]
        self.names = [path.relative_to(images_dir).as_posix() for path, _ in files]
        self._number = {name: file for file, name in enumerate(self.names)}
        self._parts = [tuple(re.split(r"[/\\]", name)) for name in self.names]
        self._nodes: dict[tuple[int, str], int] = {}
        self._buckets: dict[tuple[int, str], _Bucket] = {}
        self._by_number: dict[str, list[int]] = {}
        for file, parts in enumerate(self._parts):
            self._add(file, parts)

    def number_of(self, name: str) -> int | None:
        """Return the number of a file by its path below the folder, None if missing."""
        return self._number.get(name)

    def by_link(self, link: PhotoLink, *, anywhere: bool = False) -> Fit | None:
        """Find the files that fit a link by the longest tail of its path.

        A file with a query in its name fits only a link with that query.

        Parameters
        ----------
        link : PhotoLink
        anywhere : bool
            Whether a generic name such as `main.jpg` also fits in a folder that is not
            in the link.
        """
        nodes = [0]
        for folder in reversed(link.folders):
            node = self._nodes.get((nodes[-1], folder))
            if node is None:
                break
            nodes.append(node)
        for query in dict.fromkeys((link.query, "")):
            for depth in range(len(nodes) - 1, -1, -1):
                fit = self._at(nodes[depth], depth, link.names, query)
                if fit is not None and (anywhere or not _is_vague(link, fit)):
                    return fit
        return None

    def by_id(self, sample_id: str) -> tuple[Fit, bool] | None:
        """Find the files that are named by an id.

        Returns
        -------
        fit : Fit
        is_exact : bool
            False if the spelling differs: 1000.0 or 01000 for 1000, a for A.
        """
        fit = self._at(0, 0, ((sample_id, ""),), "")
        if fit is not None:
            return fit, fit.is_close
        whole = _FLOAT.fullmatch(sample_id)
        if whole and (fit := self._at(0, 0, ((whole[1], ""),), "")) is not None:
            return fit, False
        number = _NUMBER.fullmatch(whole[1] if whole else sample_id)
        files = self._by_number.get(number[1], []) if number else []
        return (_fit(files, (0, 0, 0, -_AS_NUMBER)), False) if files else None

    def _add(self, file: int, parts: tuple[str, ...]) -> None:
        base, _ = _split_query(parts[-1])
        stems = {_stem(fold(base)), _stem(fold(unquote(base)))} - {""}
        node = 0
        for depth in range(len(parts)):
            for stem in stems:
                self._buckets.setdefault((node, stem), _Bucket()).files.append(file)
            if depth < len(parts) - 1:
                step = (node, fold(unquote(parts[-2 - depth])))
                node = self._nodes.setdefault(step, len(self._nodes) + 1)
        number = _NUMBER.fullmatch(_stem(base))
        if number and _is_photo(base):
            self._by_number.setdefault(number[1], []).append(file)

    def _at(
        self, node: int, depth: int, names: Sequence[tuple[str, str]], query: str
    ) -> Fit | None:
        """Return the best files below the folders of a node."""
        fits = [
            (fitted, files)
            for name, raw_query in names
            for stem in _wanted_stems(name)
            if (bucket := self._buckets.get((node, stem))) is not None
            for fitted, files in self._fitting(bucket, depth, name, raw_query, query)
        ]
        if not fits:
            return None
        (is_whole, kind), files = max(fits, key=lambda pair: pair[0])
        return _fit(files, (int(bool(query)), depth, int(is_whole), kind))

    def _fitting(
        self, bucket: _Bucket, depth: int, name: str, raw_query: str, query: str
    ) -> Iterator[tuple[tuple[bool, int], list[int]]]:
        """Yield the best fit of a bucket, if any; files in no further folder first."""
        if bucket.spelled is None:
            bucket.spelled = self._spelled(bucket.files, depth)
        wanted = _spellings(name, raw_query)
        for exact, stem in ((_UNESCAPED, _STEM), (_FOLDED, _FOLDED_STEM)):
            wanted[stem] += wanted[exact]  # `tee.jpg` also fits `tee.jpg.webp`
        for is_whole in (True, False):
            for kind in _KINDS:
                for spelling in wanted.get(kind, ()):
                    files = bucket.spelled.get((is_whole, kind, spelling, query))
                    if files:
                        yield (is_whole, -kind), files
                        return

    def _spelled(
        self, files: Sequence[int], depth: int
    ) -> dict[tuple[bool, int, str, str], list[int]]:
        spelled: dict[tuple[bool, int, str, str], list[int]] = {}
        for file in files:
            base, raw_query = _split_query(self._parts[file][-1])
            query = telling_query(base, raw_query)
            is_whole = len(self._parts[file]) == depth + 1
            for kind, names in _spellings(base, raw_query).items():
                for name in names:
                    spelled.setdefault((is_whole, kind, name, query), []).append(file)
        return spelled


def _fit(files: Sequence[int], score: tuple[int, int, int, int]) -> Fit:
    return Fit(files=tuple(files[:_N_NAMED]), n_files=len(files), score=score)


def _is_vague(link: PhotoLink, fit: Fit) -> bool:
    """Tell whether a link and a file share only generic names.

    Examples are `main.jpg`, and `01/main.jpg` of another year.
    """
    has_query, depth, is_whole, _ = fit.score
    if has_query or is_whole or depth == len(link.folders):
        return False
    common = (*link.folders[len(link.folders) - depth :], fold(link.names[0][0]))
    return all(_PLAIN.fullmatch(_stem(name)) for name in common)


def index_images(images_dir: Path) -> PhotoIndex:
    """List a folder of photos, sub folders included, once.

    Parameters
    ----------
    images_dir : Path
        Folder of downloaded photos.

    Returns
    -------
    PhotoIndex
        Index of the files. A symbolic link to a file inside the folder gives that file,
        any other gives itself. The record of `pricestack images` and its unfinished
        files are left out.

    Raises
    ------
    CatalogError
        If the folder does not exist or cannot be listed.
    """
    if not images_dir.is_dir():
        raise CatalogError(
            f"--images {str(images_dir)!r}: must be an existing folder, found "
            f"{'a file' if images_dir.exists() else 'nothing'}. Give the folder of the "
            f"downloaded photos, or leave --images out to use text only."
        )
    paths = sorted(_names(images_dir), key=lambda path: (len(path.parts), path))
    return PhotoIndex(images_dir, [(path, _target(path, images_dir)) for path in paths])


def file_keys(name: str) -> set[str]:
    """Return the keys by which a file may be found in any folder.

    Parameters
    ----------
    name : str
        File name, without folder.
    """
    base, _ = _split_query(name)
    keys = {_stem(fold(name)), _stem(fold(base)), _stem(fold(unquote(base)))}
    number = _NUMBER.fullmatch(_stem(base))
    return keys | ({f"number {number[1]}"} if number else set())


def wanted_keys(link: PhotoLink | None, sample_id: str) -> set[str]:
    """Return the keys that a product looks up; compare them with `file_keys`."""
    names = [name for name, _ in link.names] if link else []
    keys = {key for name in (*names, sample_id) for key in _wanted_stems(name)}
    whole = _FLOAT.fullmatch(sample_id)
    number = _NUMBER.fullmatch(whole[1] if whole else sample_id)
    if whole:
        keys.add(whole[1])
    return keys | ({f"number {number[1]}"} if number else set())


def _wanted_stems(name: str) -> set[str]:
    """Return the stems of the files that may fit a wanted name."""
    names = {fold(name), fold(unquote(name))}
    return (names | set(map(_stem, names))) - {""}


def _spellings(base: str, raw_query: str) -> dict[int, tuple[str, ...]]:
    """Return the forms of a name that are compared, by kind of match."""
    exact = unicodedata.normalize("NFC", base)
    plain = unicodedata.normalize("NFC", unquote(base))
    both = (exact,) if exact == plain else (exact, plain)
    folded = tuple(dict.fromkeys(map(str.casefold, both)))
    return {
        _WITH_QUERY: (f"{exact}?{raw_query}",),
        _EXACT: (exact,),
        _UNESCAPED: both,
        _STEM: tuple(dict.fromkeys(map(_stem, both))),
        _FOLDED: folded,
        _FOLDED_STEM: tuple(dict.fromkeys(map(_stem, folded))),
    }


def _split_query(name: str) -> tuple[str, str]:
    """Split the name of a file from a query that wget appended to it."""
    match = _QUERY_IN_NAME.fullmatch(name)
    return (match[1], match[2]) if match else (name, "")


def _is_photo(name: str) -> bool:
    dot = name.rfind(".")
    return dot > 0 and name[dot:].lower() in IMAGE_SUFFIXES


def _stem(name: str) -> str:
    """Return a name without a photo's suffix; leave other names unchanged."""
    return name[: name.rfind(".")] if _is_photo(name) else name


def _names(images_dir: Path) -> Iterator[Path]:
    """Yield the files of a folder, and folders that are named like photos."""

    def refuse(error: OSError) -> None:
        if error.filename == str(images_dir):
            raise CatalogError(
                f"--images {error.filename!r}: must be a readable folder, found "
                f"{error.strerror!r}. Change its permissions."
            )
        logger.warning("%s: left out: %s", error.filename, error.strerror)

    for folder, folders, files in os.walk(images_dir, onerror=refuse):
        yield from (path for name in files if _may_be_photo(path := Path(folder, name)))
        for path in (Path(folder, name) for name in folders):
            if path.suffix.lower() in IMAGE_SUFFIXES:
                yield path


def _may_be_photo(path: Path) -> bool:
    is_unfinished = path.name.startswith(".download-") and path.suffix == ".part"
    return not is_unfinished and path.name != LOG_NAME


def _target(path: Path, images_dir: Path) -> Path:
    """Follow a link that stays inside the folder; leave others for `load_image`."""
    if not path.is_symlink():
        return path
    target = Path(os.path.realpath(path))
    root = images_dir.resolve()
    inside = target.is_relative_to(root)
    return images_dir / target.relative_to(root) if inside else path
