"""Write and read `downloads.csv`, the outcome of each row's download."""

import csv
import io
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Literal

from embed.catalog.columns import one_line
from embed.errors import ConfigError
from embed.photos.log import COLUMNS, HAVE_PHOTO
from embed.store.durable import write_bytes

Status = Literal["ok", "kept", "failed", "taken", "no link", "not asked"]


@dataclass(kw_only=True)
class LogRow:
    """Outcome of one row of the catalog; its fields are the columns of the file.

    Attributes
    ----------
    file : str
        Path of the photo below the folder; "" without a photo. If `status` is `taken`,
        the other photo's path.
    status : Status
        `ok`: downloaded in this run; `kept`: already there; `failed`: see `reason`;
        `taken`: another photo has the row's file name; `no link`: the catalog has no
        link; `not asked`: the run was stopped before the request.
    reason : str
        Why there is no photo; the part before a colon is the kind of reason.
    n_bytes : int
        Size of the photo; 0 without a photo.
    attempts : int
        Requests for the link in this run.
    """

    sample_id: str
    image_link: str
    file: str = ""
    status: Status = "not asked"
    reason: str = ""
    n_bytes: int = 0
    attempts: int = 0

    @property
    def has_photo(self) -> bool:
        """Whether the row's photo is in the folder."""
        return self.status in HAVE_PHOTO


@dataclass(frozen=True)
class Recorded:
    """Link and size of a photo in the folder; link "" if the link is unknown."""

    link: str
    n_bytes: int


def write_log(path: Path, rows: Iterable[LogRow]) -> None:
    """Write `downloads.csv` completely or not at all.

    Parameters
    ----------
    path : Path
        File to write.
    rows : iterable of LogRow
        Rows in catalog order.
    """
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(COLUMNS)
    lines.writerows(map(astuple, rows))
    write_bytes(path, text.getvalue().encode())


def read_log(path: Path) -> dict[str, Recorded]:
    """Read the links and sizes of the photos of an earlier run.

    Parameters
    ----------
    path : Path
        `downloads.csv`, which may be missing.

    Returns
    -------
    dict of str to Recorded
        Link and size by the photo's path below the folder.

    Raises
    ------
    ConfigError
        If the file does not have the form that `write_log` writes.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _parse(csv.DictReader(file, strict=True))
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise ConfigError(
            f"{path}: not the record of an earlier run ({one_line(error)}). Delete it "
            f"and run again; photos in the folder are kept."
        ) from error


def _parse(lines: "csv.DictReader[str]") -> dict[str, Recorded]:
    photos: dict[str, Recorded] = {}
    if lines.fieldnames is None or tuple(lines.fieldnames) != COLUMNS:
        raise ValueError(f"columns {lines.fieldnames}, expected {list(COLUMNS)}")
    for line in lines:
        if line["status"] in HAVE_PHOTO:
            photos[line["file"]] = Recorded(line["image_link"], int(line["bytes"]))
        elif line["status"] == "taken":
            photos.setdefault(line["file"], Recorded("", 0))
    return photos
