"""Show the progress of long work: a bar on a terminal, else log lines."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TextIO, TypeVar

from tqdm import tqdm

logger = logging.getLogger(__name__)
Item = TypeVar("Item")
_SECONDS_BETWEEN_LINES = 15.0
_is_shown = ContextVar("is_shown", default=True)


class BesideBars(logging.StreamHandler[TextIO]):
    """Write log lines to standard error, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line above the bars."""
        try:
            tqdm.write(self.format(record), file=self.stream)
        except Exception:
            self.handleError(record)


@contextmanager
def hidden_progress() -> Iterator[None]:
    """Hide the progress of all work within a `with` block."""
    token = _is_shown.set(False)
    try:
        yield
    finally:
        _is_shown.reset(token)


def track(
    items: Iterable[tuple[int, Item]], *, total: int, label: str, unit: str
) -> Iterator[Item]:
    """Yield items while showing how much of the work is done, its rate and ETA.

    Parameters
    ----------
    items : iterable of (int, item)
        Each item with its units of work. They count as done when the next item is
        requested.
    total : int
        Units of all items.
    label, unit : str
        Name of the work and of its units, for example "embed" and "products".
    """
    if not _is_shown.get():
        yield from (item for _, item in items)
        return
    if sys.stderr.isatty():
        with tqdm(total=total, desc=label, unit=f" {unit}") as bar:
            for amount, item in items:
                yield item
                bar.update(amount)
        return
    done, start = 0, time.monotonic()
    last = start
    for amount, item in items:
        yield item
        done += amount
        now = time.monotonic()
        if now - last > _SECONDS_BETWEEN_LINES and done < total:
            rate = done / (now - start)
            logger.info(
                "%s: %d of %d %s, %.1f/s, %.0f s to go",
                label,
                done,
                total,
                unit,
                rate,
                (total - done) / rate,
            )
            last = now
