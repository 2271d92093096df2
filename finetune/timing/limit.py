"""Choose the settings of a training that fit a time limit, once for a run."""

import dataclasses
import logging
import math
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from embed.errors import ConfigError
from embed.store.manifest import content_key, read_record, write_record
from finetune.config import FinetuneConfig
from finetune.job import Job
from finetune.records import LimitRecord
from finetune.timing.cheaper import (
    cheaper_settings,
    describe_losses,
    describe_options,
    freezable_towers,
)
from finetune.timing.estimate import describe_duration, duration_of, work_of

logger = logging.getLogger(__name__)

_RECORD_NAME = "time_limit.json"
_RESERVE = 0.1  # share of the limit that is kept for errors of the estimate


@dataclass(frozen=True, kw_only=True)
class TimeLimit:
    """Minutes that a training may take.

    Raises
    ------
    ConfigError
        If `minutes` is not above 0.
    """

    minutes: float

    fixed: frozenset[str] = frozenset()
    """Settings that the user chose, which are not changed to save time."""

    def __post_init__(self) -> None:
        """Refuse a limit that is no time."""
        if not 0 < self.minutes < math.inf:
            raise ConfigError(
                f"--time-limit must be above 0 minutes, got {self.minutes:g}"
            )


def settings_within(
    job: Job, limit: TimeLimit, *, only_fold: int | None
) -> FinetuneConfig:
    """Return the settings of a job, changed until they fit the limit.

    They are recorded before the training begins, so that a stopped run resumes with
    the same ones, whatever the speed is then.

    Parameters
    ----------
    job : Job
        Job with the settings that the user asked for.
    limit : TimeLimit
    only_fold : int or None
        The limit is for this fold alone; None: for all of them.

    Raises
    ------
    ConfigError
        If the cheapest settings take longer than the limit.
    """
    asked, stage_dir = job.config, job.stage_dir
    key = content_key(
        {
            "job": job.key,
            "minutes": limit.minutes,
            "fixed": sorted(limit.fixed),
            "one_fold": only_fold is not None,
        }
    )
    record = read_record(stage_dir / _RECORD_NAME, LimitRecord, key=key)
    if record is not None:
        config = dataclasses.replace(record.config, n_threads=asked.n_threads)
        options = describe_options(config, asked) or "all settings as they were given"
        logger.info("Time limit of %g min, chosen before: %s", limit.minutes, options)
        return config
    if not work_of(job, only_fold).n_left(asked):
        return asked
    fixed = limit.fixed if only_fold is None else limit.fixed | {"n_folds"}
    choices = cheaper_settings(asked, freezable_towers(job), fixed=fixed)
    with tempfile.TemporaryDirectory(prefix="pricestack-") as folder:
        config = choose_settings(
            choices, duration_of(job, only_fold, Path(folder)), minutes=limit.minutes
        )
    stage_dir.mkdir(parents=True, exist_ok=True)
    write_record(stage_dir / _RECORD_NAME, LimitRecord(key=key, config=config))
    return config


def choose_settings(
    choices: Iterable[FinetuneConfig],
    duration: Callable[[FinetuneConfig], float],
    *,
    minutes: float,
) -> FinetuneConfig:
    """Return the first configuration that fits the time, and log what it gives up.

    Parameters
    ----------
    choices : iterable of FinetuneConfig
        The one that the user asked for, then cheaper ones, the most accurate first.
    duration : callable
        Returns the seconds that a configuration takes.
    minutes : float
        The limit, of which a tenth is a reserve.

    Raises
    ------
    ConfigError
        If none of them fits.
    """
    seconds: dict[FinetuneConfig, float] = {}
    for config in choices:
        seconds[config] = duration(config)
        if seconds[config] <= 60 * minutes * (1 - _RESERVE):
            break
    asked = next(iter(seconds))
    if seconds[config] > 60 * minutes * (1 - _RESERVE):
        raise _too_short(minutes, seconds)
    takes = describe_duration(seconds[config])
    if config == asked:
        logger.info(
            "Time limit of %g min: about %s, nothing is given up.", minutes, takes
        )
    else:
        logger.info(
            "Time limit of %g min: about %s with %s, not about %s. Given up: %s.",
            minutes,
            takes,
            describe_options(config, asked),
            describe_duration(seconds[asked]),
            describe_losses(config, asked),
        )
    return config


def _too_short(minutes: float, seconds: dict[FinetuneConfig, float]) -> ConfigError:
    """Return the error of a limit that no settings fit, given the seconds of each."""
    cheapest = min(seconds, key=seconds.__getitem__)
    options = describe_options(cheapest, next(iter(seconds)))
    least = math.ceil(seconds[cheapest] / 60 / (1 - _RESERVE))
    return ConfigError(
        f"--time-limit {minutes:g}: even with {options or 'these settings'}, the "
        f"training takes about {describe_duration(seconds[cheapest])} on this machine. "
        f"Give --time-limit {least} or more"
    )
