"""Price held-out products as the served predictor prices new ones.

The networks' outputs are those of the fine-tuning stage; the engine is the served one.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from embed.text import compose_text, parse_fields
from stack.price.engine import Encoded
from stack.price.loading import load_engine
from stack.run import Run
from stack.trees.alignment import align

_CHUNK_ROWS = 1024


def price_by_engine(run: Run, blocks: Sequence[str]) -> NDArray[np.float32]:
    """Price the held-out products by the boosters of all folds.

    Parameters
    ----------
    run : Run
        Run whose boosters have been fitted.
    blocks : sequence of str
        Blocks that they were fitted on.

    Returns
    -------
    ndarray of shape (n_held_out,), float32
        log1p prices in units of the run.
    """
    rows = run.held_out_rows()
    text, image = run.array("embed/text"), run.array("embed/image")
    attributes = run.array("embed/attributes")
    image_ok = np.asarray(run.array("embed/image_ok"))
    texts = run.catalog().text
    unpriced = np.flatnonzero(np.asarray(run.array("finetune/folds")) < 0)
    by_seed = run.array("finetune/unpriced_log_price")[:, :, np.isin(unpriced, rows)]
    by_fold = by_seed.mean(axis=1)
    fused = run.array("finetune/held_out_fused")
    alignment = run.array("stack/alignment").astype(np.float64)
    engine = load_engine(run, blocks, range(len(fused)))
    log_price = np.zeros(len(rows), np.float32)
    for start in range(0, len(rows), _CHUNK_ROWS):
        part = slice(start, start + _CHUNK_ROWS)
        has_photo = image_ok[rows[part]]
        photo_features = image[rows[part]].astype(np.float32)
        encoded = Encoded(
            texts=[compose_text(parse_fields(texts[row])) for row in rows[part]],
            attributes=np.asarray(attributes[rows[part]]),
            has_photo=has_photo,
            network_log_prices=by_fold[:, part],
            fused=[
                align(of_fold[part].astype(np.float32), has_photo, affine)
                for of_fold, affine in zip(fused, alignment, strict=True)
            ],
            text=text[rows[part]].astype(np.float32),
            image=np.where(has_photo[:, None], photo_features, np.float32(0)),
        )
        log_price[part] = engine.predict(encoded).log_price
    return log_price
