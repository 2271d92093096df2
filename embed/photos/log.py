"""Read `downloads.csv`, which records the photo of a folder saved for each link.

`pricestack images` writes the file (`embed.download.log`), and `embed.photos.files`
reads it before it compares names.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

from embed.catalog.columns import CatalogError

LOG_NAME = "downloads.csv"
COLUMNS = (
    "sample_id",
    "image_link",
    "file",
    "status",
    "reason",
    "bytes",
    "attempts",
)
HAVE_PHOTO = ("ok", "kept")
_WITHOUT_PHOTO = ("failed", "taken")
_REASON_CHARS = 160


@dataclass(frozen=True)
class PhotoLog:
    """Outcome of each link that was downloaded to a folder.

    Attributes
    ----------
    files : dict of str to str
        File saved for each link, as a path below the folder.
    reasons : dict of str to str
        Reason why a link has no photo, by link.
    links : dict of str to set of str
        Links that each file was saved for.
    """

    files: dict[str, str]
    reasons: dict[str, str]
    links: dict[str, set[str]]


def read_photo_log(images_dir: Path) -> PhotoLog:
    """Read the record of `pricestack images` in a folder of photos.

    Parameters
    ----------
    images_dir : Path
        Folder of photos. A `downloads.csv` with other columns is ignored.

    Raises
    ------
    CatalogError
        If the record is damaged.
    """
    log = PhotoLog(files={}, reasons={}, links={})
    path = images_dir / LOG_NAME
    if not _is_ours(path):
        return log
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for line in csv.DictReader(file, strict=True):
                _note(log, line)
    except (ValueError, TypeError, OSError, csv.Error) as error:
        raise CatalogError(
            f"{path}: must be a record that `pricestack images` wrote whole, found "
            f"damage ({' '.join(str(error).split())}). Delete it and run `pricestack "
            f"images` again, which keeps the photos, or delete it to find photos by "
            f"their names alone."
        ) from error
    for link in log.files:
        log.reasons.pop(link, None)
    return log


def _is_ours(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.readline(1000).decode("utf-8-sig", "replace")
    return head.strip().split(",") == list(COLUMNS)


def _note(log: PhotoLog, line: dict[str, str]) -> None:
    if any(line[name] is None for name in COLUMNS) or None in line:
        raise ValueError(f"a row of another length, sample_id {line['sample_id']!r}")
    link, status = line["image_link"], line["status"]
    if not link:
        return
    if status in HAVE_PHOTO and line["file"]:
        log.files.setdefault(link, line["file"])
        log.links.setdefault(line["file"], set()).add(link)
    elif status in _WITHOUT_PHOTO:
        words = " ".join(line["reason"].split())
        log.reasons[link] = f"{status}: {words[:_REASON_CHARS]}"
