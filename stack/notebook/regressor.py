"""The three stages as one scikit-learn regressor, for notebooks."""

import dataclasses
import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from embed.catalog.columns import TableKind
from embed.config import EmbedConfig
from embed.errors import ConfigError, UnreadableImage
from embed.store.lock import run_lock
from finetune.config import FinetuneConfig
from finetune.price_unit import to_price
from stack.config import StackConfig
from stack.notebook.frame import require_frame, row_ids
from stack.notebook.photo_links import expand_home
from stack.notebook.problems import warn_of_placeholders
from stack.notebook.products import Products, read_products
from stack.notebook.run_folder import RunFolder
from stack.notebook.settings import settings_of
from stack.notebook.stages import require_enough, run_stages
from stack.notebook.table import TableColumns, find_kinds, named_columns
from stack.notebook.target import read_target
from stack.notebook.verbosity import shown
from stack.price.calibration import SHARES, require_level
from stack.price.catalog import predict_chunks
from stack.run import open_run


class PriceRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Prices of products from their text and photo.

    `fit` runs the three stages of the commands: frozen features, a fine-tuned network
    per fold, and boosters on the networks' residual, which are used only if the
    out-of-fold SMAPE shows that they help. A setting of None has the value of its
    stage's config.

    Parameters
    ----------
    text_columns : str or sequence of str
        Columns of X with text, in reading order.
    image_column : str, optional
        Column of X with paths of photos; None or NaN in it is no photo. None: no
        column, text only.
    table_columns : "auto", list, dict or None
        Columns of numbers, categories and dates. "auto": every column that is not
        text, photo or price, by its dtype or else by its cells, as with `pricestack
        embed --table auto`; columns without a kind are left out. A dict has the kind of
        each column: "number", "category" or "date".
    allow_columns : list
        Table columns to use although they give the price away.
    images_dir : path, optional
        Folder of relative paths. Default: the working directory.
    run_dir : path, optional
        Folder of the run: new, empty, or of an earlier fit. A stopped fit continues in
        it, and the commands read it. `explain` reads the photos by hard links in
        inputs/photos, if the file system supports them. None: a temporary folder that
        lives as long as the regressor.
    text_encoder, image_encoder : str, optional
        Name, path or "none", as in the commands' options.
    random_weights : bool, optional
        Start a photo tower whose weights cannot be found from random numbers.
    n_folds : int, optional
        Networks, each scored on products that it was not trained on. Default: 5.
    smooth_l1_epochs, smape_epochs : int, optional
        Epochs of the two phases of training. Default: 3 and 2.
    batch_size : int, optional
        Products for one update. Default: 32.
    max_tokens : int, optional
        Length of each text. Default: 128 for the frozen features, 64 for the network.
    image_size : int, optional
        Side of a photo, pixels. Default: the encoder's own (224 for EfficientNet-B0)
        for the frozen features, 160 for the network.
    freeze_image : bool, optional
        Train on the photos' frozen features, much faster. Default: False.
    precision : {"auto", "fp32", "bf16"}, optional
        Number format of the computation.
    n_threads : int
        Threads for arithmetic. Overrides n_threads of the configs, even by default.
    random_state : int, RandomState or None
        Seed of folds, batches, new weights and boosters. None: a new seed for each fit.
        Overrides the seed of the configs, even by default.
    verbose : bool
        Show progress while fitting and predicting.
    embed_config, finetune_config, stack_config : optional
        All settings of a stage; the parameters above override them.

    Attributes
    ----------
    smape_ : float
        Out-of-fold SMAPE of the chosen predictor, percent, 0 to 200.
    report_ : dict
        The comparison, as in report.json; `stack.tell.report.format_report` prints it.
    oof_price_ : ndarray of shape (n_products,)
        Out-of-fold price of each product, in the order of X.
    problems_ : DataFrame
        Placeholders: sample_id (label of the index), field, reason, row (from 0).
    run_dir_ : Path
        The run folder.
    feature_names_in_ : ndarray of str
        Used columns of X: text, photo, then the table; other columns are ignored.
    n_features_in_ : int

    Examples
    --------
    >>> from stack import PriceRegressor
    >>> regressor = PriceRegressor(image_column=None, smape_epochs=0)
    >>> regressor.fit(products, products["price"])  # doctest: +SKIP
    >>> regressor.predict(products)  # doctest: +SKIP
    """

    def __init__(
        self,
        text_columns: str | Sequence[str] = ("catalog_content",),
        image_column: str | None = "image_path",
        *,
        table_columns: TableColumns = "auto",
        allow_columns: Sequence[Hashable] = (),
        images_dir: str | os.PathLike[str] | None = None,
        run_dir: str | os.PathLike[str] | None = None,
        text_encoder: str | None = None,
        image_encoder: str | None = None,
        random_weights: bool | None = None,
        n_folds: int | None = None,
        smooth_l1_epochs: int | None = None,
        smape_epochs: int | None = None,
        batch_size: int | None = None,
        max_tokens: int | None = None,
        image_size: int | None = None,
        freeze_image: bool | None = None,
        precision: Literal["auto", "fp32", "bf16"] | None = None,
        n_threads: int = 2,
        random_state: int | np.random.RandomState | None = 0,
        verbose: bool = False,
        embed_config: EmbedConfig | None = None,
        finetune_config: FinetuneConfig | None = None,
        stack_config: StackConfig | None = None,
    ) -> None:
        self.text_columns = text_columns
        self.image_column = image_column
        self.table_columns = table_columns
        self.allow_columns = allow_columns
        self.images_dir = images_dir
        self.run_dir = run_dir
        self.text_encoder = text_encoder
        self.image_encoder = image_encoder
        self.random_weights = random_weights
        self.n_folds = n_folds
        self.smooth_l1_epochs = smooth_l1_epochs
        self.smape_epochs = smape_epochs
        self.batch_size = batch_size
        self.max_tokens = max_tokens
        self.image_size = image_size
        self.freeze_image = freeze_image
        self.precision = precision
        self.n_threads = n_threads
        self.random_state = random_state
        self.verbose = verbose
        self.embed_config = embed_config
        self.finetune_config = finetune_config
        self.stack_config = stack_config

    def fit(self, X: pd.DataFrame, y: ArrayLike) -> Self:
        """Train on products and their prices.

        Parameters
        ----------
        X : DataFrame of shape (n_products, any)
            A product per row, in any order.
        y : array-like of shape (n_products,)
            Prices in one currency, finite and above 0.

        Returns
        -------
        PriceRegressor
            The regressor itself. If a fit without `run_dir` fails, an earlier fit stays
            usable; with one, the folder contains the unfinished run.

        Raises
        ------
        CatalogError, ConfigError, WeightsError, CacheError, TrainingError, LockedError
            All are `ValueError` with a message of one line: where, what, what to do.
        """
        settings = settings_of(self.get_params(deep=False))
        columns = self._columns()
        require_frame(X, [*columns, *named_columns(self.table_columns)])
        price = read_target(y, row_ids(X.index))
        kinds = find_kinds(X, self.table_columns, others=columns, y=y, price=price)
        if not (self._text_columns() or kinds):
            raise ConfigError(
                "PriceRegressor: text_columns must name at least one column of X, got "
                f"{self.text_columns!r} and no table columns"
            )
        products = self._products(X, kinds)
        require_enough(len(price), settings.finetune.n_folds)
        folder = RunFolder(None if self.run_dir is None else Path(self.run_dir))
        try:
            with shown(self.verbose), run_lock(folder.inputs):
                folder.claim()
                problems, report = run_stages(folder, products, price, settings)
                folder.finish()
        except BaseException:
            folder.discard()
            raise
        self._folder = folder
        self._kinds = kinds
        self.feature_names_in_ = np.array([*columns, *kinds], dtype=object)
        self.n_features_in_ = len(self.feature_names_in_)
        self.problems_ = problems
        self.report_ = report
        scores = {row["name"]: row for row in report["predictors"]}
        self.smape_ = float(scores["chosen"]["smape"])
        run = open_run(folder.path)
        chosen = run.out_of_fold(report["verdict"]["chosen"])
        self.oof_price_ = to_price(chosen, run.price_unit)
        return self

    def predict(self, X: pd.DataFrame) -> NDArray[np.float64]:
        """Price products.

        Parameters
        ----------
        X : DataFrame of shape (n_products, any)
            Products with the columns of `feature_names_in_`.

        Returns
        -------
        ndarray of shape (n_products,)
            Prices in the order of X and the currency of y, finite and above 0.

        Raises
        ------
        NotFittedError
            Before `fit`.
        CatalogError
            If a column is missing or has a wrong value.
        CacheError
            If the run folder is gone or contains another fit.
        """
        log_price, _, _ = self._judged(X)
        predictor = self._folder.predictor(n_threads=self.n_threads)
        return to_price(log_price, predictor.run.price_unit)

    def predict_interval(
        self, X: pd.DataFrame, level: int | Sequence[int] = 90
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Price products, with prediction intervals.

        Parameters
        ----------
        X : DataFrame of shape (n_products, any)
            Products, as for `predict`.
        level : int or sequence of int
            Percent of new products whose price lies inside, 50 to 99.

        Returns
        -------
        price : ndarray of shape (n_products,)
            Prices in the order of X and the currency of y.
        low, high : ndarray of shape (n_products,) or (n_products, n_levels)
            Ends of the intervals; with a sequence of levels, a column for each.

        Raises
        ------
        NotFittedError, CatalogError, CacheError
            As `predict`.
        ConfigError
            If a level is not 50 to 99.
        """
        check_is_fitted(self)
        levels = [level] if isinstance(level, int) else list(level)
        for one in levels:  # before the work, not after it
            require_level(one)
        log_price, size, _ = self._judged(X)
        predictor = self._folder.predictor(n_threads=self.n_threads)
        bounds = predictor.confidence.calibration.bounds
        ends = [bounds(log_price, size, level=one) for one in levels]
        price = to_price(log_price, predictor.run.price_unit)
        if isinstance(level, int):
            return (price, *ends[0])
        low, high = (np.column_stack(columns) for columns in zip(*ends, strict=True))
        return price, low, high

    def confidence(self, X: pd.DataFrame) -> pd.DataFrame:
        """Return how sure the price of each product is.

        Parameters
        ----------
        X : DataFrame of shape (n_products, any)
            Products, as for `predict`.

        Returns
        -------
        DataFrame of shape (n_products, 3)
            With the index of X: `within_10` and `within_20`, the probabilities that
            the price is within 10 % and 20 % of the true one, and `unlike`, whether
            the product is unlike all that the regressor was trained on.

        Raises
        ------
        NotFittedError, CatalogError, CacheError
            As `predict`.
        """
        log_price, size, unlike = self._judged(X)
        predictor = self._folder.predictor(n_threads=self.n_threads)
        within = predictor.confidence.calibration.within
        probabilities = {
            f"within_{percent}": within(log_price, size, share=percent / 100)
            for percent in SHARES
        }
        return pd.DataFrame({**probabilities, "unlike": unlike}, index=X.index)

    @property
    def run_dir_(self) -> Path:
        """The run folder; a temporary one is deleted with the regressor."""
        check_is_fitted(self)
        return self._folder.path

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False  # columns go by name: a DataFrame only
        tags.input_tags.string = True
        tags.input_tags.allow_nan = True
        tags.target_tags.positive_only = True
        tags.non_deterministic = self.random_state is None
        return tags

    def _judged(
        self, X: pd.DataFrame
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
        """Return log prices, sizes of their errors, and which products are unlike."""
        check_is_fitted(self)
        products = self._products(X, self._kinds)
        catalog = products.catalog()
        log_price, size = np.zeros((2, catalog.n_products))
        unlike = np.zeros(catalog.n_products, dtype=bool)
        reasons: dict[int, str] = {}
        with shown(self.verbose):
            predictor = self._folder.predictor(n_threads=self.n_threads)
            inputs = dataclasses.replace(
                predictor.inputs(catalog, None), photos=products.photo
            )
            for chunk, predicted in predict_chunks(predictor, inputs):
                rows = slice(chunk.rows.start, chunk.rows.stop)
                log_price[rows], unlike[rows] = predicted.log_price, predicted.unlike
                size[rows] = predicted.error_size
                for row, photo in zip(chunk.rows, chunk.thumbnails, strict=True):
                    if isinstance(photo, UnreadableImage):
                        reasons[row] = str(photo)
        warn_of_placeholders(products, reasons, stacklevel=4)
        return log_price, size, unlike

    def _products(
        self, X: pd.DataFrame, kinds: Mapping[Hashable, TableKind] | None = None
    ) -> Products:
        text_columns, image_column = self._text_columns(), self.image_column
        images_dir = None if self.images_dir is None else Path(self.images_dir)
        if images_dir is not None and not expand_home(images_dir).is_dir():
            raise ConfigError(
                f"images_dir {str(images_dir)!r}: must be an existing folder. Name the "
                f"folder of the photos"
            )
        return read_products(
            X,
            text_columns=text_columns,
            image_column=image_column,
            images_dir=images_dir,
            kinds=kinds,
            allowed=self.allow_columns,
        )

    def _text_columns(self) -> list[str]:
        names = self.text_columns
        return [names] if isinstance(names, str) else list(names or ())

    def _columns(self) -> list[str]:
        image = [] if self.image_column is None else [self.image_column]
        return [*self._text_columns(), *image]
