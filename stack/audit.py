"""Look for leaks in a finished run: predictions that used their own price.

Source: "Leakage and the reproducibility crisis in machine-learning-based science",
Kapoor & Narayanan, Patterns 2023. Each check can fail, and a canary, a leak made on
purpose, shows that the audit detects one.
"""

import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from embed.attributes import ATTRIBUTE_NAMES
from embed.catalog.reader import Catalog
from embed.chunks import NO_PHOTO_GIVEN, Chunk, prepare_chunk, prepared_chunks
from embed.photos.decode import decode_thumbnail
from embed.store.arrays import RaggedRows, release_rows
from embed.store.manifest import sha256_strings
from embed.table.encode import RARE, TableColumn, feature_names
from embed.table.giveaways import MIN_PRODUCTS, find_giveaway
from finetune.price_unit import to_log_price, to_price
from finetune.score import smape, smape_rows
from stack.blocks.fitted import block_matrix, fit_blocks, inputs_of
from stack.blocks.inputs import Prices
from stack.blocks.nearest import DenseReferences, find_nearest
from stack.judge.doubts import find_doubts
from stack.judge.evaluate import median_of_other_folds
from stack.judge.verdict import standard_error
from stack.price.engine import Predicted
from stack.price.predictor import Predictor
from stack.run import PREDICTIONS, FinishedRun, Run, open_finished_run
from stack.trees.residual import fit_out_of_fold

_SHUFFLED_ROUNDS = 30
_NOISE = 3.0  # standard errors
_ONE_LEVEL = 0.5
"""SMAPE points. The price of a product enters the features of products in other folds,
and theirs enter its own features. With shuffled prices of 7,232 products, this gains
less than 0.1; a product whose features contain its own price gains tens."""
_SAMPLE_ROWS = 1000  # for rank correlations and nearest neighbours
_ID_CORRELATION = 0.99
_SAME_CONTENT = 0.05  # of a block's spread: float16 and batch lengths change values
_CANARY_SHARE = 0.1
_REPRODUCED = 0.03  # log price: float16 and batch composition change it
_CHUNK_COLUMNS = 256


@dataclass(frozen=True, kw_only=True)
class Check:
    """The result of one check."""

    name: str
    passed: bool | None
    """None where there are too few products to check."""

    detail: str
    """The figures behind the result, in one line."""


@dataclass(frozen=True, kw_only=True)
class _Finished:
    """A finished run, with the arrays that the checks share."""

    opened: FinishedRun
    catalog: Catalog
    price: NDArray[np.float64]  # (n_products,), NaN: unpriced
    folds: NDArray[np.int8]
    n_threads: int
    seed: int

    @property
    def run(self) -> Run:
        """The stages that stacking reads."""
        return self.opened.run

    @property
    def priced(self) -> NDArray[np.intp]:
        """Rows that have a price."""
        return np.flatnonzero(self.folds >= 0)

    def predicted(self, predictor: str) -> NDArray[np.float64]:
        """Return a predictor's out-of-fold prices, catalog currency."""
        return to_price(self.run.out_of_fold(predictor), self.run.price_unit)

    def sample(self, n: int) -> NDArray[np.intp]:
        """Draw priced rows, in order; all if there are no more than `n`."""
        order = np.random.default_rng(self.seed).permutation(self.priced)
        return np.sort(order[:n])


def audit_run(
    run_dir: Path, *, n_products: int = 30, n_threads: int = 2, seed: int = 0
) -> Iterator[Check]:
    """Check a finished run for leaks, one after another.

    Parameters
    ----------
    run_dir : Path
        Run with all three stages finished; its catalog and photos have not moved.
    n_products : int
        Number of products to price again by each fold's network.
    n_threads : int
    seed : int
        Seed of the shuffled prices and the products drawn.

    Yields
    ------
    Check

    Raises
    ------
    CatalogError, CacheError
        If the run is not whole, or its catalog has changed or moved.
    """
    opened = open_finished_run(run_dir)
    run = opened.run
    finished = _Finished(
        opened=opened,
        catalog=run.catalog(),
        price=np.asarray(run.array("finetune/price")),
        folds=np.asarray(run.array("finetune/folds")),
        n_threads=n_threads,
        seed=seed,
    )
    yield _duplicates(finished)
    yield _ids(finished)
    yield _recorded_scores(finished)
    yield _sound(finished)
    yield _canary(finished)
    if run.embed.table:
        yield _table_columns(finished)
    yield from _shuffled_prices(finished)
    yield _priced_again(finished, n_products)


def _duplicates(finished: _Finished) -> Check:
    """Look for texts, photos and recorded groups that lie in two folds."""
    texts = [" ".join(text.lower().split()) for text in finished.catalog.text]
    finished.run.array("embed/thumbnails")  # raises an error if damaged
    photos = RaggedRows(finished.run.run_dir / "embed" / "thumbnails.npy")
    hashes = _photo_hashes(finished.run, photos)
    groups = [str(group) for group in finished.run.array("finetune/groups")]
    split = {
        name: _n_split(keys, finished.folds)
        for name, keys in (("texts", texts), ("photos", hashes), ("groups", groups))
    }
    counts = ", ".join(f"{n} {name}" for name, n in split.items())
    return Check(
        name="duplicates",
        passed=not any(split.values()),
        detail=f"in two folds or more: {counts}",
    )


def _photo_hashes(run: Run, photos: RaggedRows) -> list[str]:
    """Return a hash of each product's photo, "" where there is no usable photo."""
    image_ok = run.array("embed/image_ok")
    return [_hash(photos[row]) if ok else "" for row, ok in enumerate(image_ok)]


def _hash(photo: NDArray[np.uint8]) -> str:
    return sha256_strings([photo.tobytes().hex()]) if len(photo) else ""


def _n_split(keys: Sequence[str], folds: NDArray[np.integer]) -> int:
    folds_of: dict[str, set[int]] = {}
    for key, fold in zip(keys, folds.tolist(), strict=True):
        if key and fold >= 0:
            folds_of.setdefault(key, set()).add(fold)
    return sum(len(key_folds) > 1 for key_folds in folds_of.values())


def _ids(finished: _Finished) -> Check:
    """Look for features that rank products as ids do, or differ by id alone."""
    rows = finished.sample(_SAMPLE_ROWS)
    ids = [_order_of_ids(finished.catalog.sample_id[rows]), rows.astype(np.float64)]
    strongest, nearest = 0.0, "none"
    differing, n_compared = 0, 0
    for name, content in _features(finished):
        block = finished.run.array(name).reshape(len(finished.folds), -1)
        for start in range(0, block.shape[1], _CHUNK_COLUMNS):
            columns = block[rows, start : start + _CHUNK_COLUMNS].astype(np.float64)
            correlations = np.max(
                [_rank_correlation(columns, order) for order in ids], axis=0
            )
            if correlations.max() > strongest:
                strongest, nearest = (
                    float(correlations.max()),
                    f"{name}-{start + correlations.argmax()}",
                )
        pairs = _pairs(content) if content is not None else np.empty((0, 2), np.intp)
        n_compared += len(pairs)
        differing += _n_differing(block, pairs)
        release_rows(block)
    return Check(
        name="ids",
        passed=strongest < _ID_CORRELATION and not differing,
        detail=f"nearest to an id is {nearest} (rank correlation {strongest:.2f}); "
        f"{differing} of {n_compared} features differ between products of the same "
        f"text or photo",
    )


def _features(finished: _Finished) -> Iterator[tuple[str, list[str] | None]]:
    """Yield names of feature arrays and the content that determines each row.

    None if prices determine it too.
    """
    texts = list(finished.catalog.text)
    thumbnails = RaggedRows(finished.run.run_dir / "embed" / "thumbnails.npy")
    yield "embed/text", texts
    cells = zip(texts, *finished.catalog.table.values(), strict=True)
    yield "embed/attributes", ["\0".join(row) if row[0] else "" for row in cells]
    yield "embed/image", _photo_hashes(finished.run, thumbnails)
    yield "stack/fused", None
    for name in ("network", "lightgbm"):
        yield PREDICTIONS[name], None
    for name in sorted(finished.opened.stack.files):
        if name.startswith("blocks/") and name.endswith("/features.npy"):
            yield f"stack/{name.removesuffix('.npy')}", None


def _order_of_ids(sample_ids: NDArray[np.str_]) -> NDArray[np.float64]:
    try:
        return sample_ids.astype(np.float64)
    except ValueError:  # not numbers: alphabetical order
        return np.unique(sample_ids, return_inverse=True)[1].astype(np.float64)


def _rank_correlation(
    columns: NDArray[np.float64], order: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the size of Spearman's correlation of each column; 0 where constant."""
    values = np.nan_to_num(
        np.column_stack([columns, order]), nan=-np.inf, neginf=-np.inf
    )
    ranks = rankdata(values, axis=0)
    ranks -= ranks.mean(axis=0)
    length = np.linalg.norm(ranks, axis=0)
    product = np.abs(ranks[:, :-1].T @ ranks[:, -1])
    scale = length[:-1] * length[-1]
    ratio: NDArray[np.float64] = np.zeros_like(product)
    np.divide(product, scale, out=ratio, where=scale > 0)
    return ratio


def _pairs(content: Sequence[str]) -> NDArray[np.intp]:
    """Pair each row with the first of the same content, shape (m, 2)."""
    first: dict[str, int] = {}
    pairs = [
        (first.setdefault(key, row), row) for row, key in enumerate(content) if key
    ]
    repeats = [pair for pair in pairs if pair[0] != pair[1]][:_SAMPLE_ROWS]
    return np.array(repeats, np.intp).reshape(-1, 2)


def _n_differing(block: NDArray[Any], pairs: NDArray[np.intp]) -> int:
    left, right = (block[rows].astype(np.float64) for rows in pairs.T)
    spread = np.nan_to_num(block[:_SAMPLE_ROWS].astype(np.float64)).std(axis=0)
    same = np.isclose(left, right, rtol=0, atol=_SAME_CONTENT * spread, equal_nan=True)
    return int((~same).any(axis=1).sum())


def _recorded_scores(finished: _Finished) -> Check:
    """Compare stored network prices with what each network scored when trained."""
    network = finished.predicted("network")
    recorded = [fold.held_out_smape for fold in finished.run.finetune.folds]
    scores = [
        smape(finished.price[rows], network[rows])
        for fold in range(len(recorded))
        for rows in [np.flatnonzero(finished.folds == fold)]
    ]
    largest_gap = float(np.abs(np.subtract(scores, recorded)).max())
    return Check(
        name="recorded scores",
        passed=largest_gap < 0.01,
        detail=f"network by fold {_numbers(scores)}, when trained {_numbers(recorded)}",
    )


def _sound(finished: _Finished) -> Check:
    """Look for folds and prices that do not fit the rest."""
    rows = finished.priced
    price, folds = finished.price[rows], finished.folds[rows]
    predicted = {
        "network": finished.predicted("network")[rows],
        "chosen": finished.predicted(finished.opened.chosen)[rows],
        "median": median_of_other_folds(price, folds),
    }
    groups = np.asarray(finished.run.array("finetune/groups"))[rows]
    doubts = find_doubts(
        price, folds, predicted, groups, by_network=finished.run.anchor_prices()
    )
    by_fold = _numbers([fold["smape"]["network"] for fold in doubts["folds"]])
    return Check(
        name="soundness",
        passed=not doubts["sentences"],
        detail=" ".join([f"SMAPE of the networks {by_fold}.", *doubts["sentences"]]),
    )


def _canary(finished: _Finished) -> Check:
    """Check that a leak made on purpose shows and that stored prices are unlike it."""
    rows = finished.sample(_SAMPLE_ROWS)
    text = finished.run.array("embed/text")
    likeness = DenseReferences(text, finished.priced).similarity(text[rows])
    of_nearest = finished.priced[find_nearest(likeness, 1)[0][:, 0]]
    likeness[finished.folds[rows][:, None] == finished.folds[finished.priced]] = -2
    outside = finished.priced[find_nearest(likeness, 1)[0][:, 0]]
    price = finished.price
    leaked = smape(price[rows], price[of_nearest])
    honest = smape(price[rows], price[outside])
    stored = {
        name: smape(price[rows], finished.predicted(name)[rows]) for name in PREDICTIONS
    }
    limit = leaked + _CANARY_SHARE * (honest - leaked)
    return Check(
        name="canary",
        passed=leaked < 0.5 * honest and min(stored.values()) > limit,
        detail=f"price of the nearest text {honest:.1f}, the product itself included "
        f"{leaked:.1f}; stored "
        + ", ".join(f"{name} {value:.1f}" for name, value in stored.items()),
    )


def _table_columns(finished: _Finished) -> Check:
    """Look for table columns that give the price away, and for one made to do so."""
    embed, price = finished.run.embed, finished.price
    if len(finished.priced) < MIN_PRODUCTS:
        return Check(
            name="table columns",
            passed=None,
            detail=f"needs {MIN_PRODUCTS} products with a price, the run has "
            f"{len(finished.priced)}",
        )
    attributes = finished.run.array("embed/attributes")
    allowed = embed.inputs.columns.allowed
    columns, start = [], len(ATTRIBUTE_NAMES)
    places: list[int] = []
    for column in embed.table:
        stop = start + len(feature_names([column]))
        if column.name not in allowed:
            columns.append(column)
            places += range(start, stop)
        start = stop
    giveaway = find_giveaway(columns, attributes[:, np.array(places, np.intp)], price)
    shown = "no column gives the price away"
    if giveaway is not None:
        names, correlation = giveaway
        shown = (
            f"{' and '.join(names)} correlates with the log price by {correlation:.3f}"
        )
    # A category of two products each, next to each other by price.
    planted = (RARE + 1 + rankdata(price, "ordinal") // 2).astype(np.float32)
    made = TableColumn(name="made from the price", kind="category")
    is_detected = find_giveaway([made], planted[:, None], price) is not None
    return Check(
        name="table columns",
        passed=giveaway is None and is_detected,
        detail=f"{shown}; allowed: {', '.join(allowed) or 'none'}; a category made "
        f"from the price is {'' if is_detected else 'not '}found",
    )


def _shuffled_prices(finished: _Finished) -> Iterator[Check]:
    """Check that models learn nothing from prices shuffled over the products."""
    run, rows = finished.run, finished.priced
    price = finished.price.copy()
    price[rows] = np.random.default_rng(finished.seed).permutation(price[rows])
    blocks = {name: run.array(f"embed/{name}") for name in ("text", "attributes")}
    gain, noise = _gain(finished, price, blocks)
    yield Check(
        name="shuffled prices",
        passed=gain <= noise,
        detail=f"{gain:+.2f} SMAPE better than the constant median, noise {noise:.2f}",
    )
    price_blocks = _blocks_of(finished, price)
    if not price_blocks:
        return
    gain, noise = _gain(finished, price, blocks | price_blocks)
    yield Check(
        name="shuffled blocks",
        passed=gain <= noise + _ONE_LEVEL,
        detail=f"{gain:+.2f} SMAPE better than the constant median by trees that use "
        f"{', '.join(price_blocks)} too, noise {noise:.2f}, "
        f"{_ONE_LEVEL:.2f} let through",
    )


def _blocks_of(
    finished: _Finished, price: NDArray[np.float64]
) -> dict[str, NDArray[Any]]:
    """Fit the run's blocks on other prices, out of fold."""
    config = finished.opened.stack_config
    log_price = to_log_price(price, finished.run.price_unit)
    prices = Prices(log_price=log_price, folds=finished.folds)
    with tempfile.TemporaryDirectory() as folder:
        products = inputs_of(finished.run)
        fitted = fit_blocks(config.blocks, products, prices, Path(folder))
        return {name: np.array(block) for name, block in fitted.items()}


def _gain(
    finished: _Finished, price: NDArray[np.float64], blocks: dict[str, NDArray[Any]]
) -> tuple[float, float]:
    """Return the SMAPE by which trees beat the constant median, and the noise in it."""
    run, folds, rows = finished.run, finished.folds, finished.priced
    config = dataclasses.replace(
        finished.opened.stack_config,
        max_rounds=_SHUFFLED_ROUNDS,
        n_trials=0,
        n_threads=finished.n_threads,
    )
    groups = np.asarray(run.array("finetune/groups"))
    fit = fit_out_of_fold(
        block_matrix(blocks, embed=run.embed),
        to_log_price(price, run.price_unit),
        init_log_price=None,
        folds=folds,
        groups=groups,
        config=config,
    )
    predicted = to_price(fit.out_of_fold[rows], run.price_unit)
    constant = np.empty(len(rows))
    for fold in np.unique(folds[rows]):
        own = folds[rows] == fold
        constant[own] = np.median(price[rows][~own])
    better = smape_rows(price[rows], constant) - smape_rows(price[rows], predicted)
    return float(better.mean()), _NOISE * standard_error(better, groups[rows])


def _priced_again(finished: _Finished, n_products: int) -> Check:
    """Reproduce stored prices by the networks that held them out, and by no others."""
    rows = finished.sample(n_products)
    folds = np.unique(finished.folds[rows]).tolist()
    by_fold = [_predicted(finished, rows, fold) for fold in folds]
    reproduced = {
        "network": np.column_stack([prices.network_log_price for prices in by_fold])
    }
    if finished.opened.is_stacked:
        reproduced["stacker"] = np.column_stack(
            [prices.log_price for prices in by_fold]
        )
    is_own = finished.folds[rows][:, None] == np.array(folds)
    passed, details = True, []
    for name, log_prices in reproduced.items():
        stored = finished.run.out_of_fold(name)[rows]
        gaps = np.abs(log_prices - stored[:, None])
        own = float(np.quantile(gaps[is_own], 0.9))
        others = float(np.median(gaps[~is_own]))
        passed &= own < _REPRODUCED and others > 3 * own
        details.append(
            f"{name} of the own fold within {own:.4f} of the stored log price, others "
            f"within {others:.4f}"
        )
    return Check(
        name="priced again",
        passed=passed,
        detail=f"{len(rows)} products: {'; '.join(details)}",
    )


def _predicted(finished: _Finished, rows: NDArray[np.intp], fold: int) -> Predicted:
    """Price products by one fold alone, with their ids and rows exchanged."""
    predictor = Predictor(
        finished.run.run_dir, n_threads=finished.n_threads, folds=[fold]
    )
    return predictor.predict(_chunk_of(finished, predictor, rows))


def _chunk_of(
    finished: _Finished, predictor: Predictor, rows: NDArray[np.intp]
) -> Chunk:
    """Prepare products with their photos, or with the run's thumbnails."""
    catalog = finished.catalog
    sample = dataclasses.replace(
        catalog,
        sample_id=catalog.sample_id[rows],
        text=tuple(catalog.text[row] for row in rows),
        image_link=tuple(catalog.image_link[row] for row in rows),
        price_text=None,
        table={
            name: tuple(cells[row] for row in rows)
            for name, cells in catalog.table.items()
        },
        file_rows=None,
    )
    folder = finished.run.embed.inputs.images_dir
    if folder is None or not Path(folder).is_dir():
        thumbnails = RaggedRows(finished.run.run_dir / "embed" / "thumbnails.npy")
        image_ok = finished.run.array("embed/image_ok")
        photos = [
            decode_thumbnail(thumbnails[int(row)].tobytes())
            if image_ok[row]
            else NO_PHOTO_GIVEN
            for row in rows
        ]
        return prepare_chunk(
            sample.text,
            photos,
            decimal=predictor.config.decimal,
            table=finished.run.embed.table,
            cells=sample.table,
        )
    inputs = predictor.inputs(sample, Path(folder))
    renamed = dataclasses.replace(sample, sample_id=sample.sample_id[::-1])
    inputs = dataclasses.replace(inputs, catalog=renamed)
    config = dataclasses.replace(predictor.config, chunk_size=len(rows))
    (chunk,) = prepared_chunks(inputs, config, 0)
    return chunk


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:.2f}" for value in values)
