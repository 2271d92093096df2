"""Write the products of a DataFrame as a catalog and a folder of photos."""

import csv
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embed.store.durable import write_bytes
from stack.notebook.photo_links import gather_photos
from stack.notebook.products import Products

CATALOG_NAME = "catalog.csv"
PHOTOS_NAME = "photos"


def write_inputs(
    products: Products, price: NDArray[np.float64], folder: Path
) -> tuple[Path, Path | None]:
    """Write products as a catalog and a folder of photos, which the commands read.

    Photos are linked, or copied where the file system cannot.

    Returns
    -------
    catalog_path : Path
    images_dir : Path or None
        None if no product has a photo.

    Raises
    ------
    ConfigError
        If the folder of photos contains a file that no fit put there, or a photo of X.
    """
    text = io.StringIO()
    lines = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    columns = products.columns
    roles = (columns.sample_id, *columns.text, columns.image, columns.price)
    lines.writerow((*roles, *products.table))
    lines.writerows(
        zip(
            products.sample_id,
            products.text,
            products.photo_name,
            map(repr, price.tolist()),
            *products.table.values(),
            strict=True,
        )
    )
    images_dir = folder / PHOTOS_NAME
    has_photos = any(products.photo)
    if has_photos or images_dir.is_dir():  # of an earlier fit
        gather_photos(products.photo_of_name, images_dir)
    content = text.getvalue().encode()
    path = folder / CATALOG_NAME
    if not (path.is_file() and path.read_bytes() == content):
        write_bytes(path, content)
    return path, images_dir if has_photos else None
