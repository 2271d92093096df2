"""Progress of a fit or a prediction, shown in full or not at all."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from embed.terminal.progress import BesideBars, hidden_progress

_PACKAGES = ("embed", "finetune", "stack")


@contextmanager
def shown(verbose: bool) -> Iterator[None]:
    """Show the log of the stages, which a notebook hides by default, or nothing.

    Handlers that the user has set up get the same records as before.
    """
    if verbose:
        with _handled(BesideBars(sys.stderr), logging.INFO):
            yield
    else:  # without a handler, Python itself prints warnings
        with (
            _handled(logging.NullHandler(), logging.NOTSET),
            hidden_progress(),
            _quiet_transformers(),
        ):
            yield


@contextmanager
def _handled(handler: logging.Handler, level: int) -> Iterator[None]:
    """Give the packages' loggers a handler, and a level unless it is NOTSET."""
    loggers = [logging.getLogger(name) for name in _PACKAGES]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(level or logger.level)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Hide the messages of transformers except errors, and its progress bar."""
    from transformers.utils import logging as transformers_logging

    was_shown = transformers_logging.is_progress_bar_enabled()
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers_logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if was_shown:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
