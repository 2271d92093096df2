"""Download the photos that a catalog links to, and record the outcome of each row.

A photo counts only under its final name, which it gets by rename after it was decoded.
So the job may be killed at any moment and started again.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from embed.catalog.reader import Catalog, CatalogError
from embed.download.config import DownloadConfig
from embed.download.folder import (
    PhotoFolder,
    note_taken,
    open_folder,
    remove_leftovers,
)
from embed.download.log import LogRow, read_log, write_log
from embed.download.names import PhotoNames
from embed.photos.log import LOG_NAME
from embed.store.lock import run_lock
from embed.terminal.options import require_packages
from embed.terminal.progress import track

if TYPE_CHECKING:
    from embed.download.queue import Outcome

_CHECKERS = 2
Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class DownloadReport:
    """Counts of a catalog's rows by the outcome of the download.

    Attributes
    ----------
    n_downloaded, n_kept : int
        Rows whose photo was downloaded in this run, or was there before.
    n_without_link : int
        Rows without a link.
    missing : dict of str to int
        Rows with a link but no photo, by kind of reason, most frequent first.
    n_asked : int
        Links that were requested.
    """

    n_downloaded: int
    n_kept: int
    n_without_link: int
    missing: dict[str, int]
    n_asked: int


def download_images(
    catalog: Catalog, out_dir: Path, *, config: DownloadConfig
) -> DownloadReport:
    """Download the missing photos of a catalog.

    Every row of the catalog gets a row in the folder's `downloads.csv`.

    Parameters
    ----------
    catalog : Catalog
        Catalog with links.
    out_dir : Path
        Folder of photos, made if missing.
    config : DownloadConfig
        Limits of the download.

    Returns
    -------
    DownloadReport
        Counts of rows.

    Raises
    ------
    CatalogError
        If no row has a link.
    ConfigError
        If the folder cannot be used or a package is missing.
    LockedError
        If another process works on the folder.
    """
    require_packages("images", {"httpx2": "httpx2", "tenacity": "tenacity"})
    if not any(catalog.image_link):
        raise CatalogError(
            f"{catalog.path}: no row has a link in column {catalog.columns.image!r}. "
            f"Name the column of links with --image-column"
        )
    open_folder(out_dir)
    with run_lock(out_dir):
        remove_leftovers(out_dir)
        job = _Job(catalog, out_dir, config)
        try:
            job.sort_out()
            job.ask()
        finally:
            job.save()
        return job.report()


class _Job:
    """One download run over a catalog."""

    def __init__(self, catalog: Catalog, out_dir: Path, config: DownloadConfig) -> None:
        self._out_dir = out_dir
        self._config = config
        ids = [str(sample_id) for sample_id in catalog.sample_id]
        self._log = [
            LogRow(sample_id=sample_id, image_link=link)
            for sample_id, link in zip(ids, catalog.image_link, strict=True)
        ]
        self._names = PhotoNames(catalog.image_link, ids)
        self._recorded = read_log(out_dir / LOG_NAME)
        self._asked_rows: dict[str, list[int]] = {}
        self._name: dict[int, str] = {}

    def sort_out(self) -> None:
        """Find the rows whose link must be requested."""
        folder = PhotoFolder(self._out_dir, self._recorded, self._names)
        unchecked: list[tuple[int, str]] = []
        for row, log_row in enumerate(self._log):
            if not log_row.image_link:
                log_row.status, log_row.reason = "no link", "no link in the catalog"
                continue
            name = self._name[row] = self._names.name(row)
            state, file = folder.look_up(row, log_row, name)
            if state == "kept":
                folder.keep(log_row, file)
            elif state == "taken":
                note_taken(log_row, file)
            elif state == "unchecked":
                unchecked.append((row, file))
            else:
                self._ask_for(row)
        self._check(folder, unchecked)

    def ask(self) -> None:
        """Request the links, record the outcomes, and save from time to time."""
        from embed.download.queue import Ask, photos_asked  # late: it imports httpx2

        asks = [
            Ask(
                link,
                tuple(dict.fromkeys(self._out_dir / self._name[row] for row in rows)),
            )
            for link, rows in self._asked_rows.items()
        ]
        saved = time.monotonic()
        with closing(photos_asked(asks, config=self._config)) as outcomes:
            for outcome in track(
                _units(outcomes), total=len(asks), label="images", unit="links"
            ):
                self._note(outcome)
                if time.monotonic() - saved > self._config.save_every:
                    self.save()
                    saved = time.monotonic()

    def save(self) -> None:
        """Write `downloads.csv`."""
        write_log(self._out_dir / LOG_NAME, self._log)

    def report(self) -> DownloadReport:
        """Count the rows by outcome."""
        status = Counter(log_row.status for log_row in self._log)
        kinds = Counter(
            log_row.reason.partition(":")[0]
            for log_row in self._log
            if log_row.image_link and not log_row.has_photo
        )
        return DownloadReport(
            n_downloaded=status["ok"],
            n_kept=status["kept"],
            n_without_link=status["no link"],
            missing=dict(kinds.most_common()),
            n_asked=len(self._asked_rows),
        )

    def _ask_for(self, row: int) -> None:
        log_row = self._log[row]
        if self._name[row]:
            self._asked_rows.setdefault(log_row.image_link, []).append(row)
            return
        log_row.status = "failed"
        log_row.reason = (
            "no file name is unique to this photo: neither the link's last part nor "
            "the sample_id is a usable name that no other product has"
        )

    def _check(self, folder: PhotoFolder, unchecked: list[tuple[int, str]]) -> None:
        """Decode files of unknown origin before they count as photos."""
        with ThreadPoolExecutor(_CHECKERS) as checkers:
            answers = checkers.map(folder.is_photo, [file for _, file in unchecked])
            checked = zip(unchecked, answers, strict=True)
            try:
                for (row, file), is_photo in track(
                    _units(checked), total=len(unchecked), label="check", unit="photos"
                ):
                    self._note_checked(folder, row, file, is_photo=is_photo)
            finally:  # on Ctrl-C, do not wait for checks that have not begun
                checkers.shutdown(cancel_futures=True)

    def _note_checked(
        self, folder: PhotoFolder, row: int, file: str, *, is_photo: bool
    ) -> None:
        if is_photo:
            folder.keep(self._log[row], file)
        elif file == self._name[row]:
            self._ask_for(row)
        else:
            note_taken(self._log[row], file)

    def _note(self, outcome: "Outcome") -> None:
        for row in self._asked_rows[outcome.ask.link]:
            log_row = self._log[row]
            log_row.attempts = outcome.attempts
            if outcome.reason:
                log_row.status, log_row.reason = "failed", outcome.reason
            else:
                log_row.status, log_row.file = "ok", self._name[row]
                log_row.n_bytes = outcome.n_bytes


def _units(items: Iterable[Item]) -> Iterator[tuple[int, Item]]:
    return ((1, item) for item in items)
