"""Check that a product's stored price is that of the network that held it out."""

import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embed.chunks import NO_PHOTO_GIVEN, Chunk, prepare_chunk, prepared_chunks
from embed.photos.decode import decode_thumbnail
from stack.audit.records import AuditedRun, Check
from stack.price.engine import Predicted
from stack.price.predictor import Predictor

_REPRODUCED = 0.03  # log price; float16 and other batches change it by less


def check_priced_again(audited: AuditedRun, n_products: int) -> Check:
    """Check that only the models that held a product out give its stored price."""
    rows = audited.sample(n_products)
    folds = np.unique(audited.folds[rows]).tolist()
    by_fold = [_predicted(audited, rows, fold) for fold in folds]
    reproduced = {
        "network": np.column_stack([prices.network_log_price for prices in by_fold])
    }
    if audited.opened.is_stacked:
        reproduced["stacker"] = np.column_stack(
            [prices.log_price for prices in by_fold]
        )
    is_own = audited.folds[rows][:, None] == np.array(folds)
    passed, details = True, []
    for name, log_prices in reproduced.items():
        stored = audited.run.out_of_fold(name)[rows]
        gaps = np.abs(log_prices - stored[:, None])
        own = float(np.quantile(gaps[is_own], 0.9))
        others = float(np.median(gaps[~is_own]))
        passed &= own < _REPRODUCED and others > 3 * own
        details.append(
            f"{name} {own:.4f} in the fold that held the product out, {others:.4f} in "
            f"the others"
        )
    return Check(
        name="priced again",
        passed=passed,
        detail=f"{len(rows)} products, difference from the stored log price: "
        f"{'; '.join(details)}",
    )


def _predicted(audited: AuditedRun, rows: NDArray[np.intp], fold: int) -> Predicted:
    """Price products by the models of one fold, under other ids and in other rows."""
    predictor = Predictor(
        audited.run.run_dir, n_threads=audited.n_threads, folds=[fold]
    )
    return predictor.predict(_chunk_of(audited, predictor, rows))


def _chunk_of(
    audited: AuditedRun, predictor: Predictor, rows: NDArray[np.intp]
) -> Chunk:
    """Prepare products with their photos; without a folder, with the thumbnails."""
    catalog = audited.catalog
    sample = catalog.take(rows.tolist())
    folder = audited.run.embed.inputs.images_dir
    if folder is None or not Path(folder).is_dir():
        image_ok = audited.run.array("embed/image_ok")
        photos = [
            decode_thumbnail(audited.thumbnails[int(row)].tobytes())
            if image_ok[row]
            else NO_PHOTO_GIVEN
            for row in rows
        ]
        return prepare_chunk(
            sample.text,
            photos,
            decimal=predictor.config.decimal,
            table=audited.run.embed.table,
            cells=sample.table,
        )
    inputs = predictor.inputs(sample, Path(folder))
    renamed = dataclasses.replace(sample, sample_id=sample.sample_id[::-1])
    inputs = dataclasses.replace(inputs, catalog=renamed)
    config = dataclasses.replace(predictor.config, chunk_size=len(rows))
    (chunk,) = prepared_chunks(inputs, config, 0)
    return chunk
