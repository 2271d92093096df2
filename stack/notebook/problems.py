"""Placeholders of a notebook's products, and their reasons."""

import os
import warnings
from pathlib import Path

import pandas as pd

from embed.catalog.columns import shorten
from embed.problems import Problem, read_problems
from stack.notebook.frame import N_SHOWN, place
from stack.notebook.products import Products


class PlaceholderWarning(UserWarning):
    """Some photos cannot be used; a placeholder replaces each of them."""


def problems_of(path: Path, products: Products) -> pd.DataFrame:
    """Read problems.csv of a run, with the problem of each photo's path.

    Returns
    -------
    DataFrame
        Columns sample_id, field, reason, and row, from 0.
    """
    problems = pd.DataFrame(read_problems(path), columns=Problem._fields, dtype=str)
    rows = {sample_id: row for row, sample_id in enumerate(products.sample_id)}
    problems["row"] = [rows[sample_id] for sample_id in problems["sample_id"]]
    for label, row in problems.loc[problems["field"] == "image", "row"].items():
        photo = products.photo[row]
        if photo is None:
            problems.loc[label, "reason"] = "no photo given"
        elif not os.path.isfile(photo):
            problems.loc[label, "reason"] = "no such file"
    return problems


def warn_of_placeholders(
    products: Products, reasons: dict[int, str], *, stacklevel: int = 3
) -> None:
    """Warn of photos that cannot be used, with their reasons.

    Parameters
    ----------
    products : Products
    reasons : dict of int to str
        Reason by row; rows without a path are left out.
    stacklevel : int
        Stack level of the warning.
    """
    bad = [row for row in sorted(reasons) if products.photo[row] is not None]
    if not bad:
        return
    n_given = sum(photo is not None for photo in products.photo)
    shown = "; ".join(_explain(products, row, reasons[row]) for row in bad[:N_SHOWN])
    warnings.warn(
        f"{len(bad)} of {n_given} photos cannot be used, so these products are priced "
        f"without one ({shown}). Correct the paths or images_dir",
        PlaceholderWarning,
        stacklevel=stacklevel,
    )


def _explain(products: Products, row: int, reason: str) -> str:
    path = products.photo[row]
    assert path is not None
    # an absolute path keeps one of the two slashes
    if any(part in ("http:", "https:") for part in path.parts):
        reason = "a link, which is not downloaded"
    # no terminal or log can show a name that is not UTF-8
    shown = os.fspath(path).encode("utf-8", "replace").decode()
    return f"{place(row, products.sample_id)}: {shorten(shown, 120)}: {reason}"
