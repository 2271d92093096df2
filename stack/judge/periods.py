"""Score prices by period, to show how they drift away from a model."""

import numpy as np
from numpy.typing import NDArray

from embed.catalog.split_columns import read_days, write_day
from finetune.price_unit import to_price
from finetune.score import smape
from stack.judge.verdict import standard_error
from stack.records import Bias, Period
from stack.run import Run

_MOST_PERIODS = 12
_Z95 = 1.96  # half the width of a 95 % interval, in standard errors


def score_by_period(
    run: Run, chosen: NDArray[np.floating], network: NDArray[np.floating]
) -> list[Period]:
    """Score the prices of each month, or of quarters or years if there are many months.

    Parameters
    ----------
    run : Run
    chosen, network : ndarray of shape (n_products,)
        log1p prices in units of the run: out of fold for training products, by all
        folds for held-out products. Products held out by date have rows of their own.

    Returns
    -------
    list of Period
        In order of time; empty without a time column.
    """
    days = read_days(run.catalog())
    if days is None:
        return []
    price = np.array(run.array("finetune/price"), dtype=np.float64)
    rows = run.held_out_rows()
    price[rows] = run.held_out_prices()
    is_held_out = np.isin(np.arange(len(price)), rows)
    groups = np.asarray(run.array("finetune/groups"))
    used = np.flatnonzero(~np.isnan(price) & ~np.isnan(days))
    names = _periods([write_day(day) for day in days[used]])
    if run.finetune.dates and run.finetune.dates.test_from:
        names = np.where(is_held_out[used], np.char.add(names, ", held out"), names)
    periods = []
    for name in np.unique(names):
        inside = used[names == name]
        prices = {
            predictor: to_price(log_price[inside], run.price_unit)
            for predictor, log_price in (("network", network), ("chosen", chosen))
        }
        periods.append(
            Period(
                period=str(name),
                n=len(inside),
                n_held_out=int(is_held_out[inside].sum()),
                smape={k: smape(price[inside], p) for k, p in prices.items()},
                bias=log_bias(price[inside], prices["chosen"], groups[inside]),
            )
        )
    return periods


def log_bias(
    price: NDArray[np.floating],
    predicted: NDArray[np.floating],
    groups: NDArray[np.integer],
) -> Bias:
    """Return the mean of ln(predicted / true price) and its 95 % interval.

    Parameters
    ----------
    price, predicted : ndarray of shape (n,)
        Catalog currency, above 0.
    groups : ndarray of shape (n,), int
        Products of one group count as one in the interval.

    Returns
    -------
    Bias
        Below 0, predictions are too low. With a single group, there is no interval.
    """
    ratio = np.log(predicted) - np.log(price)
    mean, error = float(ratio.mean()), standard_error(ratio, groups)
    if len(np.unique(groups)) < 2:
        return Bias(mean=mean, low=None, high=None)
    return Bias(mean=mean, low=mean - _Z95 * error, high=mean + _Z95 * error)


def _periods(dates: list[str]) -> NDArray[np.str_]:
    """Name the period of each date: 2024-03, 2024-Q1 or 2024."""
    months = np.array([date[:7] for date in dates])
    quarters = np.array([f"{date[:4]}-Q{(int(date[5:7]) + 2) // 3}" for date in dates])
    for names in (months, quarters):
        if len(np.unique(names)) <= _MOST_PERIODS:
            return names
    return np.array([date[:4] for date in dates])
