"""Price held-out products as the served predictor prices new ones.

The networks' outputs are those of the fine-tuning stage; the engine is the served one.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embed.text import compose_text, parse_fields
from stack.price.engine import Encoded, Engine
from stack.run import Run
from stack.trees.alignment import align

_CHUNK_ROWS = 1024


@dataclass(frozen=True, kw_only=True)
class ServedPrices:
    """Prices of held-out products as new products get them, shape (n_held_out,)."""

    log_price: NDArray[np.float32]
    """log1p price in units of the run."""

    error_size: NDArray[np.float32]
    """Expected size of its error; NaN without the engine's confidence."""

    unlike: NDArray[np.bool_]
    """Whether the product is unlike all that the run was trained on."""


def price_by_engine(run: Run, engine: Engine) -> ServedPrices:
    """Price the held-out products by the models of all folds.

    Parameters
    ----------
    run : Run
        Run whose boosters have been fitted.
    engine : Engine
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
    log_price, error_size = np.zeros((2, len(rows)), np.float32)
    unlike = np.zeros(len(rows), dtype=bool)
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
        predicted = engine.predict(encoded)
        log_price[part], unlike[part] = predicted.log_price, predicted.unlike
        error_size[part] = predicted.error_size
    return ServedPrices(log_price=log_price, error_size=error_size, unlike=unlike)
