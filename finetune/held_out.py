"""Choose the products that no stage trains on, by date or at random.

Their prices do not reach the networks, nor any file of this stage: to all stages they
are unpriced products. Only the last stage reads their prices, to score predictions.
"""

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embed.catalog.reader import Catalog
from embed.catalog.split_columns import read_day, read_days, write_day
from embed.errors import ConfigError
from finetune.config import NO_TEST, FinetuneConfig
from finetune.folds import draw_share
from finetune.records import DatesRecord
from finetune.seen import Ties

DEFAULT_SHARE = 0.2
"""Share of the priced products that the default date of the test holds out, about."""

_OTHER_DATES = (
    f" Choose another date with --test-from DATE; --test-from {NO_TEST} trains on all."
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Split:
    """Division of a run's products into those to train on and held-out ones."""

    price: NDArray[np.float64]
    """Prices to train on, catalog currency, shape (n_products,); NaN elsewhere."""

    held_out: NDArray[np.bool_]
    """Products with a price that is held out, shape (n_products,)."""

    n_undated: int
    """Products with a price but no date, which are neither trained on nor held out."""

    dates: DatesRecord | None
    """None without a time column."""


def split_products(
    catalog: Catalog,
    price: NDArray[np.float64],
    groups: NDArray[np.integer],
    config: FinetuneConfig,
    ties: Ties | None = None,
) -> Split:
    """Divide the products of a run.

    Parameters
    ----------
    catalog : Catalog
    price : ndarray of shape (n_products,)
        Catalog currency; NaN: unpriced.
    groups : ndarray of shape (n_products,)
        Products of one group are drawn together. By date they may be divided.
    config : FinetuneConfig
    ties : Ties, optional
        What the products share with those of a former run. Products that it held out
        at random stay held out; of the others, only new ones are drawn.

    Returns
    -------
    Split

    Raises
    ------
    ConfigError
        If `test_from` needs a time column that the run lacks, or leaves no product on
        one side.
    """
    days = read_days(catalog)
    priced = ~np.isnan(price)
    held_out = undated = np.zeros(len(price), dtype=bool)
    first_day: float | None = None
    if config.hold_out:
        held_out = _draw(catalog, price, groups, config, ties)
        _require_both_sides(priced, held_out, f"--hold-out {config.hold_out:g}")
        logger.info(
            "%d of %d priced products are held out at random: no stage trains on them.",
            held_out.sum(),
            priced.sum(),
        )
    else:
        first_day = _first_test_day(config, days, priced)
        if days is not None and first_day is not None:
            held_out, undated = priced & (days >= first_day), priced & np.isnan(days)
            date = write_day(first_day)
            where = f"--test-from {date} ({_span(days)})"
            _require_both_sides(priced & ~undated, held_out, where)
            logger.info(
                "%d products dated %s or later are held out: no stage trains on "
                "them.%s",
                held_out.sum(),
                date,
                "" if config.test_from else _OTHER_DATES,
            )
            _mention_undated(catalog, undated)
    is_trained = priced & ~held_out & ~undated
    return Split(
        price=np.where(is_trained, price, np.nan),
        held_out=held_out,
        n_undated=int(undated.sum()),
        dates=None
        if days is None
        else _record_dates(days, is_trained, held_out, first_day),
    )


def _draw(
    catalog: Catalog,
    price: NDArray[np.float64],
    groups: NDArray[np.integer],
    config: FinetuneConfig,
    ties: Ties | None,
) -> NDArray[np.bool_]:
    """Draw products at random; those of a former run stay on their side."""
    stay_out = is_known = np.zeros(len(price), dtype=bool)
    if ties is not None:
        is_trained = ties.seen_by.any(axis=1)
        stay_out = ties.held_out & ~is_trained & ~np.isnan(price)
        is_known = ties.held_out | is_trained
    return stay_out | draw_share(
        np.where(is_known, np.nan, price),
        groups,
        share=config.hold_out,
        seed=config.seed,
        order_keys=[str(sample_id) for sample_id in catalog.sample_id],
    )


def _first_test_day(
    config: FinetuneConfig, days: NDArray[np.float64] | None, priced: NDArray[np.bool_]
) -> float | None:
    """Return the day from which products are held out; None for no such test."""
    if config.test_from == NO_TEST:
        return None
    if config.test_from is not None:
        if days is None:
            raise ConfigError(
                f"--test-from {config.test_from}: the run has no time column. Run "
                f"`pricestack embed` again with --time-column to name it, or leave "
                f"--test-from out"
            )
        return read_day(config.test_from)
    if days is None:
        return None
    distinct, counts = np.unique(days[priced & ~np.isnan(days)], return_counts=True)
    if len(distinct) < 2:
        return None
    # Products from each day on; the first day would leave none to train on.
    share_from = (counts[::-1].cumsum()[::-1] / counts.sum())[1:]
    return float(distinct[1:][np.abs(share_from - DEFAULT_SHARE).argmin()])


def _require_both_sides(
    usable: NDArray[np.bool_], held_out: NDArray[np.bool_], where: str
) -> None:
    n_held_out = int(held_out.sum())
    if 0 < n_held_out < int(usable.sum()):
        return
    raise ConfigError(
        f"{where}: holds out {n_held_out} of {int(usable.sum())} priced products, at "
        f"least one must be held out and the others be trained on. Choose another "
        f"value, or leave the option out"
    )


def _mention_undated(catalog: Catalog, undated: NDArray[np.bool_]) -> None:
    if undated.any():
        logger.warning(
            "%d products have no readable date in %r, so they are neither trained on "
            "nor held out; the first is %s.",
            undated.sum(),
            catalog.columns.time,
            catalog.describe(int(undated.argmax())),
        )


def _record_dates(
    days: NDArray[np.float64],
    is_trained: NDArray[np.bool_],
    held_out: NDArray[np.bool_],
    first_day: float | None,
) -> DatesRecord | None:
    trained = days[is_trained & ~np.isnan(days)]
    if not len(trained):
        return None
    tested = days[held_out & ~np.isnan(days)]
    return DatesRecord(
        first_trained=write_day(trained.min()),
        last_trained=write_day(trained.max()),
        test_from=None if first_day is None else write_day(first_day),
        last_held_out=write_day(tested.max()) if len(tested) else None,
    )


def _span(days: NDArray[np.float64]) -> str:
    known = days[~np.isnan(days)]
    return f"dates from {write_day(known.min())} to {write_day(known.max())}"
