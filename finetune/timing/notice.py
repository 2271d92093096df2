"""Tell how long a training takes before it begins, if that is long."""

import dataclasses
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path

from finetune.config import FinetuneConfig
from finetune.job import Job
from finetune.timing.cheaper import describe_options, freezable_towers
from finetune.timing.estimate import describe_duration, duration_of, work_of

logger = logging.getLogger(__name__)

LONG_SECONDS = 1800.0
"""A shorter training is not announced."""

# Seconds of training on a slow core, for a photo of this size and a text of this
# length. Nothing is measured if not even they make the training long.
_SLOW_PHOTO, _PHOTO_SIDE = 0.3, 160
_SLOW_TEXT, _TEXT_TOKENS = 0.06, 64
_WORTH_NAMING = 0.7  # largest share of the time that a cheaper way may take


def tell_duration(job: Job, only_fold: int | None) -> None:
    """Log how long the training takes and the cheaper way, if it takes long.

    Parameters
    ----------
    job : Job
    only_fold : int or None
        The fold to train, None for all.
    """
    if not logger.isEnabledFor(logging.INFO):
        return
    config, work = job.config, work_of(job, only_fold)
    if work.n_left(config) * config.n_epochs * _slow_epoch(job) < LONG_SECONDS:
        return
    with tempfile.TemporaryDirectory(prefix="pricestack-") as folder:
        duration = duration_of(job, only_fold, Path(folder))
        seconds = duration(config)
        if seconds < LONG_SECONDS:
            return
        folds = f"{config.n_folds} folds" if only_fold is None else "this fold"
        seeds = f", {config.n_seeds} seeds each" if config.n_seeds > 1 else ""
        logger.info(
            "Training takes about %s%s, for %s%s.",
            describe_duration(seconds),
            " more" if work.n_trained else "",
            folds,
            seeds,
        )
        if work.n_trained:  # other settings would train these networks again
            return
        way = _cheaper_way(job, duration, _WORTH_NAMING * seconds)
        limit = "--time-limit MINUTES chooses settings for the time that you have."
        logger.info("%s%s", way, limit)


def _cheaper_way(
    job: Job, duration: Callable[[FinetuneConfig], float], limit: float
) -> str:
    """Name the first frozen tower with which the training takes few enough seconds."""
    for changes in freezable_towers(job):
        cheaper = dataclasses.replace(job.config, **changes)  # type: ignore[arg-type]
        if (seconds := duration(cheaper)) <= limit:
            options = describe_options(cheaper, job.config)
            return f"With {options} it takes about {describe_duration(seconds)}. "
    return ""


def _slow_epoch(job: Job) -> float:
    """Return the seconds of an epoch on a slow core."""
    config, cache = job.config, job.cache
    trains_photos = config.sees_photos and not config.freeze_image
    n_photos = cache.image_ok.sum() if trains_photos else 0
    texts = cache.lengths.sum() / _TEXT_TOKENS
    photos = n_photos * (config.photo_size / _PHOTO_SIDE) ** 2
    return float(_SLOW_PHOTO * photos + _SLOW_TEXT * texts)
