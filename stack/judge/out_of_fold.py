"""Write the products with their out-of-fold prices, intervals and flags as CSV."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embed.catalog.amounts import csv_amount
from embed.store.durable import write_bytes
from embed.text import MISSING_TEXT, compose_text, parse_fields
from finetune.price_unit import to_price
from stack.judge.nested import Nested
from stack.price.flags import NO_PHOTO, NO_TEXT, flag_price
from stack.records import Chosen
from stack.run import Run

CSV_NAME = "out_of_fold.csv"

LEVEL = 80
"""Level of the intervals, percent."""

COLUMNS = (
    "sample_id",
    "price",
    "fold",
    "network",
    "stacker",
    "low",
    "high",
    "within_20",
    "flags",
)


def write_out_of_fold(
    run: Run, path: Path, *, chosen: Chosen, nested: Nested, unlike: NDArray[np.bool_]
) -> None:
    """Write a row for each priced product: true price, out-of-fold prices, doubts.

    Parameters
    ----------
    run : Run
    path : Path
    chosen : {"network", "stacker"}
        Predictor that the verdict chose.
    nested : Nested
        Intervals and probabilities of the chosen prices.
    unlike : ndarray of shape (n_priced,), bool
    """
    targets = run.targets()
    rows = np.flatnonzero(targets.folds >= 0)
    prices = {
        name: to_price(run.out_of_fold(name)[rows], run.price_unit)
        for name in ("network", "stacker")
    }
    amounts = [targets.price[rows], *prices.values(), nested.low[LEVEL]]
    amounts.append(nested.high[LEVEL])
    flags = _flags(run, rows, prices[chosen], unlike)
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(COLUMNS)
    for sample_id, fold, within, reasons, *values in zip(
        run.array("embed/sample_id")[rows],
        targets.folds[rows],
        nested.within[20],
        flags,
        *amounts,
        strict=True,
    ):
        price, network, stacker, low, high = map(csv_amount, values)
        sure = f"{within:.3f}"
        lines.writerow(
            (sample_id, price, fold, network, stacker, low, high, sure, reasons)
        )
    write_bytes(path, text.getvalue().encode())


def _flags(
    run: Run,
    rows: NDArray[np.intp],
    prices: NDArray[np.float64],
    unlike: NDArray[np.bool_],
) -> Iterator[str]:
    """Yield the reasons to doubt each price, as `pricestack predict --flags` has them.

    One network prices each product out of fold, so none disagrees.
    """
    trained, texts = run.price_range(), run.catalog().text
    has_photo = run.array("embed/image_ok")
    for row, price, is_unlike in zip(rows, prices, unlike, strict=True):
        reasons = flag_price(float(price), 1.0, trained, unlike=bool(is_unlike))
        reasons += [NO_TEXT] * (compose_text(parse_fields(texts[row])) == MISSING_TEXT)
        reasons += [NO_PHOTO] * (not has_photo[row])
        yield "; ".join(reasons)
