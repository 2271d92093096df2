"""A product of a run as it was priced: its text, its photo and its fold."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

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
    """Inputs, fold and prices of a product of a run."""

    row: int
    """Row of the catalog, from 0."""

    sample_id: str

    fold: int
    """Fold whose models were not trained on the product; -1 without a price."""

    text: str

    photo: NDArray[np.uint8] | None
    """Shape (size, size, 3)."""

    cells: dict[str, str]
    """Cells by table column."""

    other_cells: bool
    """Whether a cell differs from the run's, so the price may differ too."""

    photo_source: PhotoSource
    """`file`: the photo that was priced; `thumbnail`: the run's copy, after JPEG,
    because the file is missing or has changed; `none`: no usable photo."""

    true_price: float | None
    """Catalog currency."""

    priced_at: float
    """Out-of-fold price in the run, by the predictor it chose. For fold -1 the
    embedding is by the first fold's network alone."""


def find_product(run_dir: Path, sample_id: str) -> tuple[Run, int]:
    """Open a finished run and find a product in it.

    Returns
    -------
    run : Run
    row : int
        Row of the catalog, from 0.

    Raises
    ------
    InputError
        If the run has no such product; the message lists similar ids.
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
    suggested = similar or [*map(str, sample_ids[:_N_SUGGESTED])]
    raise InputError(
        f"--sample-id {sample_id!r}: none of the {len(sample_ids)} products of the run "
        f"{run_dir} has that id. {'The nearest' if similar else 'The first'} are "
        f"{', '.join(map(repr, suggested))}."
    )


def require_photo(run: Run, row: int) -> None:
    """Raise if the run has no photo to draw on.

    Raises
    ------
    InputError
        If the product was priced without one.
    """
    if not run.array("embed/image_ok")[row]:
        problems = run.run_dir / "embed" / "problems.csv"
        raise InputError(
            f"--image-map: the run {run.run_dir} has no usable photo of this product; "
            f"{problems} gives the reason. Leave the option out."
        )


def folds_of(run: Run, row: int) -> list[int] | None:
    """Return the fold of a product, in a list; None for a product without a price."""
    fold = int(run.array("finetune/folds")[row])
    return None if fold < 0 else [fold]


def read_product(
    predictor: Predictor, row: int, *, cells: Mapping[str, str] | None = None
) -> RunProduct:
    """Read a product as it was priced.

    Parameters
    ----------
    predictor : Predictor
        Predictor of the run.
    row : int
        Row of the catalog, from 0.
    cells : mapping of str to str, optional
        Cells of table columns in place of the run's.

    Raises
    ------
    CatalogError, CacheError
        If the catalog is not the one that was embedded, or an array is damaged.
    """
    run = predictor.run
    catalog = run.catalog()
    photo, source = _photo(predictor, catalog, row)
    own_cells = {name: column[row] for name, column in catalog.table.items()}
    all_cells = own_cells | dict(cells or {})
    true_price = float(run.array("finetune/price")[row])
    chosen = "stacker" if predictor.is_stacked else "network"
    return RunProduct(
        row=row,
        sample_id=str(catalog.sample_id[row]),
        fold=int(run.array("finetune/folds")[row]),
        text=catalog.text[row],
        photo=photo,
        cells=all_cells,
        other_cells=all_cells != own_cells,
        photo_source=source,
        true_price=true_price if np.isfinite(true_price) else None,
        priced_at=float(
            to_price(run.out_of_fold(chosen)[row : row + 1], run.price_unit)[0]
        ),
    )


def _photo(
    predictor: Predictor, catalog: Catalog, row: int
) -> tuple[NDArray[np.uint8] | None, PhotoSource]:
    """Return the file's pixels if they have the run's thumbnail, else the thumbnail.

    Frozen features come from the file's pixels, which JPEG changes a little.
    """
    run = predictor.run
    if not run.array("embed/image_ok")[row]:
        return None, "none"
    jpeg = RaggedRows(run.run_dir / "embed" / "thumbnails.npy")[row].tobytes()
    pixels = _pixels_of_file(predictor, catalog, row)
    if pixels is not None and encode_thumbnail(pixels) == jpeg:
        return pixels, "file"
    run.array("embed/thumbnails")  # raises if the array is damaged
    return decode_thumbnail(jpeg), "thumbnail"


def _pixels_of_file(
    predictor: Predictor, catalog: Catalog, row: int
) -> NDArray[np.uint8] | None:
    images_dir = predictor.run.embed.inputs.images_dir
    folder = Path(images_dir) if images_dir else None
    if folder is None or not folder.is_dir():
        return None
    path = predictor.inputs(catalog, folder).photos[row]
    if path is None:
        return None
    try:
        return load_image(path, size=predictor.config.photo_size)
    except UnreadableImage:  # it was readable once: use the thumbnail
        return None
