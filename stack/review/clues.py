"""Collect what a run knows of the products whose prices are reviewed."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embed.text import parse_fields
from stack.review.expected import Expected
from stack.review.photo_fit import misfit_ratio, photo_misfit
from stack.review.suspicion import Clues, Endings, spread_of_interval
from stack.review.twins import Twins, find_twins
from stack.run import Run

_SIZES = ("log_pack_count", "log_total_g", "log_total_ml", "log_total_count")
_NAME_CHARS = 2000


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Clues of some products, and what stands behind them; arrays of shape (n,)."""

    clues: Clues
    twins: Twins
    misfit: NDArray[np.float64]
    """Share of other texts that fit the photo better; NaN if unknown."""

    names: list[str]
    """Of all products of the run."""


def collect_clues(run: Run, expected: Expected, places: NDArray[np.intp]) -> Findings:
    """Collect clues on products whose prices lie outside their intervals.

    Parameters
    ----------
    run : Run
    expected : Expected
        All products with an expected price.
    places : ndarray of shape (n,)
        Places of the products in `expected`.

    Raises
    ------
    CacheError
        If an array or the catalog is damaged.
    """
    rows = expected.rows[places]
    attributes = np.asarray(run.array("embed/attributes"), np.float32)
    columns = [run.embed.attribute_names.index(name) for name in _SIZES]
    names = [_name(text) for text in run.catalog().text]
    twins = find_twins(
        rows,
        fused=run.array("stack/fused"),
        priced_rows=expected.rows,
        price=expected.price,
        names=names,
        sizes=attributes[:, columns],
    )
    misfit, ratio = _photos(run, rows, expected)
    pack, grams, millilitres, _ = np.exp(attributes[rows][:, columns].astype(float)).T
    clues = Clues(
        price=expected.price[places],
        expected=expected.expected[places],
        spread=spread_of_interval(
            expected.low[places], expected.high[places], level=expected.level
        ),
        pack=pack,
        grams=grams,
        millilitres=millilitres,
        twin_log_price=twins.log_price,
        photo_ratio=ratio,
        endings=Endings.count(expected.price),
    )
    return Findings(clues=clues, twins=twins, misfit=misfit, names=names)


def _photos(
    run: Run, rows: NDArray[np.intp], expected: Expected
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return misfits and likelihood ratios of the photos of some catalog rows."""
    has_both = np.asarray(run.array("embed/image_ok") & run.array("embed/text_ok"))
    with_photo = expected.rows[has_both[expected.rows]]
    misfit = np.full(len(has_both), np.nan)
    ratio = misfit.copy()
    known = photo_misfit(
        run.array("embed/image")[with_photo],
        run.array("embed/text")[with_photo],
        run.targets().folds[with_photo],
    )
    misfit[with_photo] = known
    ratio[with_photo] = np.where(np.isnan(known), np.nan, misfit_ratio(known))
    return misfit[rows], ratio[rows]


def _name(text: str) -> str:
    product = parse_fields(text[:_NAME_CHARS])
    return product.name or product.description
