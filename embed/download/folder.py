"""What a folder of photos already holds for each row of a catalog."""

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
    """What the folder holds for a row.

    Attributes
    ----------
    state : State
        `kept`: its photo, as recorded; `unchecked`: a file that may be its photo;
        `taken`: a file that the embedding stage would take for its photo and that is
        another's.
    file : str
        Below the folder; "" if missing.
    """

    state: State
    file: str = ""


class PhotoFolder:
    """A folder of photos before a run asks for more.

    Parameters
    ----------
    out_dir : Path
        The folder.
    recorded : dict of str to Recorded
        Where the photos of an earlier run came from.
    names : PhotoNames
        Of the catalog's photos.
    """

    def __init__(
        self, out_dir: Path, recorded: dict[str, Recorded], names: PhotoNames
    ) -> None:
        self._out_dir = out_dir
        self._recorded = recorded
        self._names = names
        self._index = index_images(out_dir)

    def look_up(self, row: int, log_row: LogRow, name: str) -> Found:
        """Say what the embedding stage would find for a row today.

        Parameters
        ----------
        row : int
            Row of the catalog.
        log_row : LogRow
            Its id and link.
        name : str
            The name that its photo is to have.
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
        same = path.is_file() and path.stat().st_size == record.n_bytes
        return Found("kept" if same else "unchecked", file)

    def is_photo(self, file: str) -> bool:
        """Decode a file of the folder; False if that fails."""
        try:
            check_photo(self._out_dir / file)
        except PhotoFailure:
            return False
        return True

    def keep(self, log_row: LogRow, file: str) -> None:
        """Note that a row's photo is in the folder."""
        log_row.file, log_row.status = file, "kept"
        log_row.n_bytes = (self._out_dir / file).stat().st_size


def note_taken(log_row: LogRow, file: str) -> None:
    """Note that another photo has the row's name."""
    log_row.file, log_row.status = file, "taken"
    log_row.reason = (
        f"another file has its name: {shown(file)}; move it away, or use a folder of "
        f"its own for this catalog"
    )
