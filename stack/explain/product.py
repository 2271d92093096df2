"""A product of a run, as it was priced: its text, its photo, and who never saw it."""

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from embed.catalog.reader import Catalog
from embed.errors import InputError, UnreadableImage
from embed.photos.decode import decode_thumbnail, encode_thumbnail, load_image
from embed.store.arrays import RaggedRows
from finetune.price_unit import to_price
from stack.price.predictor import Predictor
from stack.run import Run, open_finished_run

PhotoSource = Literal["file", "thumbnail", "none"]
_N_SUGGESTED = 3


@dataclass(frozen=True, kw_only=True)
class RunProduct:
    """What is known of a product of a run."""

    row: int
    """Of the catalog, from 0."""

    sample_id: str

    fold: int
    """Whose network and booster never saw its price; -1 if it has none."""

    text: str

    photo: NDArray[np.uint8] | None
    """Shape (size, size, 3)."""

    photo_source: PhotoSource
    """`file`: exactly what was priced; `thumbnail`: as the run keeps it, after JPEG,
    because the file is not there or has changed."""

    true_price: float | None
    """Catalog currency."""

    priced_at: float
    """What the run holds as its out-of-fold price, by the predictor it chose; of a
    product of fold -1, from the embedding by the first fold's network alone."""


def find_product(run_dir: Path, sample_id: str) -> tuple[Run, int]:
    """Open a finished run and find a product in it.

    Returns
    -------
    run : Run
    row : int
        Of the catalog, from 0.

    Raises
    ------
    InputError
        If there is no such product; names the most similar ids.
    CacheError
        If the run is not finished.
    """
    run = open_finished_run(run_dir, verify=()).run
    sample_ids = run.array("embed/sample_id")
    rows = np.flatnonzero(sample_ids == sample_id)
    if len(rows):
        return run, int(rows[0])
    similar = difflib.get_close_matches(
        sample_id, map(str, sample_ids), n=_N_SUGGESTED, cutoff=0.5
    )
    named = similar or [str(other) for other in sample_ids[:_N_SUGGESTED]]
    raise InputError(
        f"--sample-id {sample_id!r}: none of the {len(sample_ids)} products of the run "
        f"{run_dir} has that id. {'The nearest' if similar else 'The first'} are "
        f"{', '.join(map(repr, named))}."
    )


def require_photo(run: Run, row: int) -> None:
    """Refuse to draw on a photo that the run does not have.

    Raises
    ------
    InputError
        If the product was priced without one.
    """
    if not run.array("embed/image_ok")[row]:
        problems = run.run_dir / "embed" / "problems.csv"
        raise InputError(
            f"--image-map: the run {run.run_dir} has no usable photo of this product; "
            f"{problems} says why. Leave the option out."
        )


def folds_of(run: Run, row: int) -> list[int] | None:
    """Return the one fold that never saw a product's price; None: all did not."""
    fold = int(run.array("finetune/folds")[row])
    return None if fold < 0 else [fold]


def read_product(predictor: Predictor, row: int) -> RunProduct:
    """Read a product as it was priced.

    Parameters
    ----------
    predictor : Predictor
        Of the run.
    row : int
        Of the catalog, from 0.

    Raises
    ------
    CatalogError, CacheError
        If the catalog is not the one that was embedded, or an array is damaged.
    """
    run = predictor.run
    catalog = run.catalog()
    photo, source = _photo(predictor, catalog, row)
    true_price = float(run.array("finetune/price")[row])
    chosen = "stacker" if predictor.is_stacked else "network"
    return RunProduct(
        row=row,
        sample_id=str(catalog.sample_id[row]),
        fold=int(run.array("finetune/folds")[row]),
        text=catalog.text[row],
        photo=photo,
        photo_source=source,
        true_price=true_price if np.isfinite(true_price) else None,
        priced_at=float(
            to_price(run.out_of_fold(chosen)[row : row + 1], run.price_unit)[0]
        ),
    )


def _photo(
    predictor: Predictor, catalog: Catalog, row: int
) -> tuple[NDArray[np.uint8] | None, PhotoSource]:
    """Take the file if its thumbnail is the one that the run keeps, else that.

    Frozen features come from the file's pixels, which JPEG changes a little.
    """
    run = predictor.run
    if not run.array("embed/image_ok")[row]:
        return None, "none"
    kept = RaggedRows(run.run_dir / "embed" / "thumbnails.npy")[row].tobytes()
    pixels = _pixels_of_file(predictor, catalog, row)
    if pixels is not None and encode_thumbnail(pixels) == kept:
        return pixels, "file"
    run.array("embed/thumbnails")  # refuses damaged ones, and reads all of them
    return decode_thumbnail(kept), "thumbnail"


def _pixels_of_file(
    predictor: Predictor, catalog: Catalog, row: int
) -> NDArray[np.uint8] | None:
    inputs: dict[str, Any] = predictor.run.embed["inputs"]
    folder = Path(inputs["images_dir"]) if inputs["images_dir"] else None
    if folder is None or not folder.is_dir():
        return None
    path = predictor.inputs(catalog, folder).photos[row]
    if path is None:
        return None
    try:
        return load_image(path, size=predictor.config.image_size)
    except UnreadableImage:  # it was readable once: the thumbnail is of that time
        return None
