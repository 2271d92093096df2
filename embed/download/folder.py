"""Look up the photos that a folder already has for the rows of a catalog."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from embed.download.failure import PhotoFailure, shown
from embed.download.log import LogRow, Recorded
from embed.download.names import PhotoNames
from embed.download.store import check_photo
from embed.photos.files import find_image
from embed.photos.index import index_images

State = Literal["missing", "kept", "unchecked", "taken"]


@dataclass(frozen=True)
class Found:
    """State of a row's photo in the folder.

    Attributes
    ----------
    state : State
        `kept`: the row's recorded photo; `unchecked`: a file that may be its photo;
        `taken`: another row's photo that the embedding stage would match to this row.
    file : str
        Path below the folder; "" if missing.
    """

    state: State
    file: str = ""


class PhotoFolder:
    """A folder of photos, as it is before a run downloads more.

    Parameters
    ----------
    out_dir : Path
        The folder.
    recorded : dict of str to Recorded
        Sources of the photos of an earlier run, by file.
    names : PhotoNames
        File names for the catalog's photos.
    """

    def __init__(
        self, out_dir: Path, recorded: dict[str, Recorded], names: PhotoNames
    ) -> None:
        self._out_dir = out_dir
        self._recorded = recorded
        self._names = names
        self._index = index_images(out_dir)

    def look_up(self, row: int, log_row: LogRow, name: str) -> Found:
        """Look up the file that the embedding stage would match to a row.

        Parameters
        ----------
        row : int
            Row of the catalog.
        log_row : LogRow
            Id and link of the row.
        name : str
            File name reserved for the row's photo.
        """
        path = find_image(
            self._index, image_link=log_row.image_link, sample_id=log_row.sample_id
        )
        if path is None:
            return Found("missing")
        file = path.relative_to(self._out_dir).as_posix()
        record = self._recorded.get(file)
        if record is None:
            own = file == name or self._names.belongs(path.name, row)
            return Found("unchecked" if own else "taken", file)
        if record.link != log_row.image_link:
            return Found("taken", file)
        is_same = path.is_file() and path.stat().st_size == record.n_bytes
        return Found("kept" if is_same else "unchecked", file)

    def is_photo(self, file: str) -> bool:
        """Tell whether a file of the folder decodes as a photo."""
        try:
            check_photo(self._out_dir / file)
        except PhotoFailure:
            return False
        return True

    def keep(self, log_row: LogRow, file: str) -> None:
        """Record that a row's photo is in the folder."""
        log_row.file, log_row.status = file, "kept"
        log_row.n_bytes = (self._out_dir / file).stat().st_size


def note_taken(log_row: LogRow, file: str) -> None:
    """Record that another photo has the row's name."""
    log_row.file, log_row.status = file, "taken"
    log_row.reason = (
        f"another file has its name: {shown(file)}; move it away, or use a folder of "
        f"its own for this catalog"
    )
