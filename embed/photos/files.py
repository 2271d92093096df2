"""Match the photos of a folder to the products of a catalog, with a reason for misses.

A link is matched by the longest tail of its path, including host and folders. If no
file fits, a file named by the product's id is used. A file that fits several links, or
a link that fits several files, is not matched: without a photo a product is priced
from its text, but with another product's photo it is priced wrongly.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from embed.catalog.columns import shorten
from embed.catalog.reader import Catalog
from embed.photos.index import Fit, PhotoIndex, index_images
from embed.photos.links import parse_link
from embed.photos.log import LOG_NAME, PhotoLog, read_photo_log

Score = tuple[int, int, int, int]
_N_SHOWN = 3
_UNCLEAR = "it is unclear whose it is"
_REMEDY = "keep the folders of the links, or name photos by sample_id"


@dataclass(frozen=True, kw_only=True)
class PhotoMatches:
    """The photo of each product of a catalog.

    Attributes
    ----------
    paths : tuple of Path or None, length n_products
        Photo of each product, None if it has none.
    reasons : tuple of str, length n_products
        Reason why a product has no photo; "" if it has one.
    notes : tuple of str
        Lines for the user.
    """

    paths: tuple[Path | None, ...]
    reasons: tuple[str, ...]
    notes: tuple[str, ...]


def match_photos(catalog: Catalog, images_dir: Path | None) -> PhotoMatches:
    """Find the photo of each product in a folder.

    Parameters
    ----------
    catalog : Catalog
    images_dir : Path, optional
        Folder of the photos. The record of `pricestack images` overrides file names: a
        saved link has its recorded file, a failed link has none.

    Raises
    ------
    CatalogError
        If the folder does not exist, or its record is damaged.
    """
    notes = list_notes(catalog)
    if images_dir is None:
        no_paths = (None,) * catalog.n_products
        reasons = ("no folder of photos was given",) * catalog.n_products
        return PhotoMatches(paths=no_paths, reasons=reasons, notes=tuple(notes))
    index, log = index_images(images_dir), read_photo_log(images_dir)
    sample_ids = [str(sample_id) for sample_id in catalog.sample_id]
    matcher = _Matcher(index, log, catalog.image_link, sample_ids)
    matches = [matcher.photo(row) for row in range(catalog.n_products)]
    notes += _notes(matcher, images_dir)
    return PhotoMatches(
        paths=tuple(None if file is None else index.paths[file] for file, _ in matches),
        reasons=tuple(reason for _, reason in matches),
        notes=tuple(notes),
    )


def list_notes(catalog: Catalog) -> list[str]:
    """Return a note on the cells of the image column with several links, if any."""
    n = catalog.n_link_lists
    if not n:
        return []
    cells = "1 cell" if n == 1 else f"{n} cells"
    return [
        f"{catalog.path}: {cells} of column {catalog.columns.image!r} with several "
        f"links; the first link is used."
    ]


def find_photos(catalog: Catalog, images_dir: Path | None) -> tuple[Path | None, ...]:
    """Return the photo of each product, None if the folder has none.

    Raises
    ------
    CatalogError
        If the folder does not exist, or its record is damaged.
    """
    return match_photos(catalog, images_dir).paths


def find_image(index: PhotoIndex, *, image_link: str, sample_id: str) -> Path | None:
    """Find the photo of one product by its link, else by its id.

    Parameters
    ----------
    index : PhotoIndex
        Index from `index_images`. Only indexed files are returned, so no link can lead
        out of the folder.
    image_link : str
        URL or path; may be empty.
    sample_id : str
        Id; ``<sample_id>.<any image suffix>`` is used if no file fits the link.

    Returns
    -------
    Path or None
        Path of the photo; None if the folder has no such photo, or several.
    """
    empty_log = PhotoLog(files={}, reasons={}, links={})
    file, _ = _Matcher(index, empty_log, [image_link], [sample_id]).photo(0)
    return None if file is None else index.paths[file]


@dataclass
class _Claims:
    """Links and products that fit the name of one file."""

    scores: dict[str, Score] = field(default_factory=dict)
    """Score of each link, by the link's identity."""

    named_by_id: set[str] = field(default_factory=set)
    """Owners whose id equals the file's name exactly."""

    n_named_loosely: int = 0
    """Number of products whose id equals the file's name in another spelling."""

    def add_link(self, identity: str, score: Score) -> None:
        self.scores[identity] = max(score, self.scores.get(identity, score))

    @cached_property
    def best(self) -> tuple[str, Score | None]:
        """The identity with the best score, and the second-best score."""
        first, *rest = sorted(self.scores, key=self.scores.__getitem__, reverse=True)
        return first, self.scores[rest[0]] if rest else None

    def is_won_by(self, identity: str) -> bool:
        """Tell whether one link fits the file better than all other links."""
        first, second = self.best
        return first == identity and (second is None or self.scores[first] > second)


class _Matcher:
    """Match the links and ids of a catalog to the files of a folder."""

    def __init__(
        self,
        index: PhotoIndex,
        log: PhotoLog,
        links: Sequence[str],
        sample_ids: Sequence[str],
    ) -> None:
        self._index, self._log = index, log
        self._links, self._ids = links, sample_ids
        self._parsed = {link: parse_link(link) for link in set(links) if link}
        self._link_fits = {
            link: index.by_link(parsed) for link, parsed in self._parsed.items()
        }
        self._id_fits = [index.by_id(sample_id) for sample_id in sample_ids]
        self._claims: defaultdict[int, _Claims] = defaultdict(_Claims)
        self._claim_all()
        self.n_by_log: Counter[str] = Counter()
        self.n_unclear = 0

    def _claim_all(self) -> None:
        for link, fit in self._link_fits.items():
            if fit is not None and fit.file is not None:
                identity = self._parsed[link].identity
                self._claims[fit.file].add_link(identity, fit.score)
        for row, id_fit in enumerate(self._id_fits):
            if id_fit is not None and id_fit[0].file is not None:
                claim = self._claims[id_fit[0].file]
                if id_fit[1]:
                    claim.named_by_id.add(self._owner(row))
                else:
                    claim.n_named_loosely += 1

    def photo(self, row: int) -> tuple[int | None, str]:
        """Return the number of a row's file, or None and the reason."""
        link = self._links[row]
        if link in self._log.reasons:
            self.n_by_log["none"] += 1
            return None, (
                f"{LOG_NAME}: {self._log.reasons[link]}; run `pricestack images` "
                f"again if the photo is there now"
            )
        saved = self._index.number_of(self._log.files.get(link, ""))
        if saved is not None:
            self.n_by_log["file"] += 1
            return saved, ""
        file, by_link = self._by_link(row) if link else (None, "")
        if file is not None:
            return file, ""
        file, by_id = self._by_id(row)
        if file is not None:
            return file, ""
        self.n_unclear += bool(by_link or by_id)
        return None, by_link or by_id or self._not_there(row)

    def _by_link(self, row: int) -> tuple[int | None, str]:
        parsed = self._parsed[self._links[row]]
        fit = self._link_fits[self._links[row]]
        if fit is None:
            return None, ""
        wanted = f"{_shown(parsed.shown)} (last part of the link)"
        file = fit.file
        if file is None:
            return None, f"{self._several(fit, wanted)}; {_REMEDY}"
        claim = self._claims[file]
        fits = f"{_shown(self._index.names[file])} fits {wanted}"
        if self._is_saved_for_another(file, parsed.identity):
            return None, f"{fits}, but was saved for another link"
        if not claim.is_won_by(parsed.identity):
            n = len(claim.scores) - 1
            other_links = "1 other link" if n == 1 else f"{n} other links"
            return None, f"{fits}, but also {other_links}, so {_UNCLEAR}; {_REMEDY}"
        if fit.by_name_alone and claim.named_by_id - {self._owner(row)}:
            return None, (
                f"{fits}, but is also named by the sample_id of another product, so "
                f"{_UNCLEAR}; keep the folders of the links"
            )
        return file, ""

    def _by_id(self, row: int) -> tuple[int | None, str]:
        id_fit = self._id_fits[row]
        if id_fit is None:
            return None, ""
        fit, is_exact = id_fit
        wanted = f"the sample_id {_shown(self._ids[row])}"
        file, owner = fit.file, self._owner(row)
        if file is None:
            return None, f"{self._several(fit, wanted)}; keep one of them"
        claim = self._claims[file]
        fits = f"{_shown(self._index.names[file])} fits {wanted}"
        if self._is_saved_for_another(file, owner):
            return None, f"{fits}, but was saved for another link"
        is_linked = bool(claim.scores.keys() - {owner})
        is_named = bool(claim.named_by_id - {owner})
        if is_linked or is_named or not (is_exact or claim.n_named_loosely == 1):
            rival = "link" if is_linked else "sample_id"
            return None, (
                f"{fits}, but also the {rival} of another product, so {_UNCLEAR}; "
                f"{_REMEDY}"
            )
        return file, ""

    def _owner(self, row: int) -> str:
        """Return the identity of the row's link, or of the row if it has no link."""
        link = self._links[row]
        return self._parsed[link].identity if link else f"row {row}"

    def _is_saved_for_another(self, file: int, identity: str) -> bool:
        links = self._log.links.get(self._index.names[file], ())
        return bool(links) and all(parse_link(x).identity != identity for x in links)

    def _not_there(self, row: int) -> str:
        link, sample_id = self._links[row], _shown(self._ids[row])
        if not link:
            return f"no image link, and no photo named by the sample_id {sample_id}"
        if link[:5].casefold() == "data:":
            return "the link is a picture itself (data:), which is not read"
        parsed = self._parsed[link]
        if not parsed.shown:
            return f"the link names no file, and no photo is named {sample_id}"
        reason = (
            f"no photo named {_shown(parsed.shown)} (last part of the link) or "
            f"{sample_id} (sample_id) in the images folder"
        )
        elsewhere = self._index.by_link(parsed, anywhere=True)
        if elsewhere is None:
            return reason
        name = _shown(self._index.names[elsewhere.files[0]])
        return f"{reason}; {name} lies in a folder that is not in the link"

    def _several(self, fit: Fit, wanted: str) -> str:
        names = [_shown(self._index.names[file]) for file in fit.files[:_N_SHOWN]]
        more = ", …" if fit.n_files > len(names) else ""
        listed = ", ".join(names) + more
        return f"{fit.n_files} files fit {wanted} equally well: {listed}"


def _shown(name: str) -> str:
    """Return a name as one line of valid UTF-8, even if its bytes are not."""
    return repr(shorten(name, 80)).encode("utf-8", "backslashreplace").decode()


def _notes(matcher: _Matcher, images_dir: Path) -> list[str]:
    notes = []
    if matcher.n_by_log:
        notes.append(
            f"{images_dir / LOG_NAME}: products with the photo recorded for their "
            f"link: {matcher.n_by_log['file']}; products without a photo because it "
            f"failed or its name was taken: {matcher.n_by_log['none']}."
        )
    if matcher.n_unclear:
        notes.append(
            f"{images_dir}: products without a photo because it is unclear which file "
            f"is their photo: {matcher.n_unclear}."
        )
    return notes
