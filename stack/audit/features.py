"""Check that no feature depends on a product's id or row, or is made from the price."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from embed.attributes import ATTRIBUTE_NAMES
from embed.store.arrays import release_rows
from embed.table.encode import RARE, TableColumn, feature_names
from embed.table.giveaways import MIN_PRODUCTS, find_giveaway
from stack.audit.records import SAMPLE_ROWS, AuditedRun, Check
from stack.run import PREDICTIONS

_ID_CORRELATION = 0.99
_SAME_CONTENT = 0.05  # of a block's spread: float16 and batch lengths change values
_CHUNK_COLUMNS = 256


def check_ids(audited: AuditedRun) -> Check:
    """Look for features that rank products as ids do, or differ by id alone."""
    rows = audited.sample(SAMPLE_ROWS)
    ids = [_order_of_ids(audited.catalog.sample_id[rows]), rows.astype(np.float64)]
    strongest, nearest = 0.0, "none"
    differing, n_compared = 0, 0
    for name, content in _features(audited):
        block = audited.run.array(name).reshape(len(audited.folds), -1)
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


def check_table_columns(audited: AuditedRun) -> Check:
    """Look for table columns that give the price away, and for one made to do so."""
    embed, price = audited.run.embed, audited.price
    if len(audited.priced) < MIN_PRODUCTS:
        return Check(
            name="table columns",
            passed=None,
            detail=f"needs {MIN_PRODUCTS} products with a price, the run has "
            f"{len(audited.priced)}",
        )
    attributes = audited.run.array("embed/attributes")
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


def _features(audited: AuditedRun) -> Iterator[tuple[str, list[str] | None]]:
    """Yield names of feature arrays and the content that determines each row.

    None if prices determine it too.
    """
    texts = list(audited.catalog.text)
    yield "embed/text", texts
    cells = zip(texts, *audited.catalog.table.values(), strict=True)
    yield "embed/attributes", ["\0".join(row) if row[0] else "" for row in cells]
    yield "embed/image", audited.photo_hashes
    yield "stack/fused", None
    for name in ("network", "lightgbm"):
        yield PREDICTIONS[name], None
    for name in sorted(audited.opened.stack.files):
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
    repeats = [pair for pair in pairs if pair[0] != pair[1]][:SAMPLE_ROWS]
    return np.array(repeats, np.intp).reshape(-1, 2)


def _n_differing(block: NDArray[Any], pairs: NDArray[np.intp]) -> int:
    left, right = (block[rows].astype(np.float64) for rows in pairs.T)
    spread = np.nan_to_num(block[:SAMPLE_ROWS].astype(np.float64)).std(axis=0)
    same = np.isclose(left, right, rtol=0, atol=_SAME_CONTENT * spread, equal_nan=True)
    return int((~same).any(axis=1).sum())
