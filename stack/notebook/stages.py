"""The job of a fit: the three stages, run as the commands do."""

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from embed.catalog.columns import CatalogError
from embed.catalog.reader import read_catalog
from embed.errors import ConfigError
from embed.extract import extract
from embed.table.learn import GiveawayError
from finetune.out_of_fold import finetune
from stack.fit import fit_stack
from stack.notebook.inputs import write_inputs
from stack.notebook.photo_links import discard_copies
from stack.notebook.problems import problems_of, warn_of_placeholders
from stack.notebook.products import Products
from stack.notebook.run_folder import RunFolder
from stack.notebook.settings import Settings

_LEAST_TRAIN = 3  # below it, the boosters have nothing to grow a tree on


def require_enough(n_products: int, n_folds: int) -> None:
    """Refuse fewer products than the folds need.

    Raises
    ------
    ConfigError
        If a fold would hold out no product or leave too few to train on.
    """
    n_train = n_products - -(-n_products // n_folds)
    if n_products < n_folds or n_train < _LEAST_TRAIN:
        raise ConfigError(
            f"PriceRegressor: each of the folds must hold out a product and leave "
            f"{_LEAST_TRAIN} to train on, got n_folds={n_folds} and "
            f"n_samples={n_products}. Give more products or change n_folds"
        )


def run_stages(
    folder: RunFolder,
    products: Products,
    price: NDArray[np.float64],
    settings: Settings,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Run the three stages, as the commands do.

    Returns
    -------
    problems : DataFrame
        Placeholders, as in `PriceRegressor.problems_`.
    report : dict
        The report, as in report.json.
    """
    catalog_path, images_dir = write_inputs(products, price, folder.inputs)
    catalog = dataclasses.replace(
        read_catalog(catalog_path, columns=products.columns),
        plain_numbers=products.plain_numbers,
    )
    try:
        extract(catalog, folder.path, images_dir=images_dir, config=settings.embed)
    except GiveawayError as error:
        raise CatalogError(
            f"X: {error.fault}. If it is made from the price, drop it from X; if new "
            f"products have it before they have a price, use it with "
            f"allow_columns=[{error.column!r}]"
        ) from None
    problems = problems_of(folder.path / "embed" / "problems.csv", products)
    unusable = problems[problems["field"] == "image"]
    reasons = dict(zip(unusable["row"], unusable["reason"], strict=True))
    warn_of_placeholders(products, reasons, stacklevel=4)
    if images_dir is not None:  # later stages read the thumbnails
        discard_copies(products.photo_of_name, images_dir)
    finetune(folder.path, config=settings.finetune)
    return problems, fit_stack(folder.path, config=settings.stack)
