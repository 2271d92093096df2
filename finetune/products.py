"""What a run says of its products: their catalog, their duplicates, the anchors."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embed.catalog import Catalog, CatalogColumns, CatalogError, read_catalog
from embed.errors import CacheError
from embed.manifest import MANIFEST_NAME, sha256_strings
from embed.schema import config_from
from finetune.batches import ProductCache
from finetune.folds import duplicate_groups

MAX_ANCHORS = 1500
_LARGE_SHARE = 0.05  # of all products, in one group of duplicates
logger = logging.getLogger(__name__)


def catalog_of_run(embed: dict[str, Any]) -> Catalog:
    """Read the catalog that a run was made from, and refuse a changed one.

    Raises
    ------
    CatalogError
        If the file cannot be read any more.
    CacheError
        If its ids, texts or image links are others than when it was embedded.
    """
    path = Path(embed["inputs"]["catalog_path"])
    if not path.exists():
        raise CatalogError(
            f"{path}: the run's catalog is not there any more. Put it back; "
            f"`pricestack report` takes another place with --catalog."
        )
    catalog = read_catalog(path, columns=columns_of_run(embed))
    if catalog.content_sha256 != embed["inputs"]["catalog_sha256"]:
        raise CacheError(
            f"{path}: its ids, texts or image links have changed since the run was "
            f"embedded. Run `make embeddings` again, with the same RUN."
        )
    return catalog


def columns_of_run(embed: dict[str, Any]) -> CatalogColumns:
    """Return the columns that a run's catalog was read by."""
    return config_from(
        embed["inputs"]["columns"], CatalogColumns, Path("embed") / MANIFEST_NAME
    )


def product_groups(catalog: Catalog, embed_dir: Path) -> NDArray[np.int64]:
    """Group products with the same text, the same photo link or the same photo.

    Returns
    -------
    ndarray of shape (n_products,)
        Group of each product.
    """
    cache = ProductCache(embed_dir, max_tokens=512, image_size=32)
    texts = [" ".join(text.lower().split()) for text in catalog.text]
    links = [link.split("?")[0].rsplit("/", 1)[-1] for link in catalog.image_link]
    photos = [
        sha256_strings([cache.thumbnails[row].tobytes().hex()])
        if cache.image_ok[row]
        else ""
        for row in range(len(cache))
    ]
    groups = duplicate_groups(texts, links, photos)
    _mention_large_group(catalog, groups)
    return groups


def _mention_large_group(catalog: Catalog, groups: NDArray[np.int64]) -> None:
    names, sizes = np.unique(groups, return_counts=True)
    largest = int(sizes.max())
    if largest > max(10, _LARGE_SHARE * len(groups)):
        logger.warning(
            "%d products share a text, a photo or its link with sample_id %r, so they "
            "share a fold. If that is a stand-in picture, leave its link empty.",
            *(largest, str(catalog.sample_id[names[sizes.argmax()]])),
        )


def choose_anchors(cache: ProductCache, seed: int) -> NDArray[np.int64]:
    """Choose the rows that every fold network embeds; half with photo if possible."""
    rng = np.random.default_rng([seed, 1])
    order = rng.permutation(len(cache))
    with_photo = order[np.asarray(cache.image_ok)[order]][: MAX_ANCHORS // 2]
    others = order[~np.isin(order, with_photo)]
    chosen = np.concatenate([with_photo, others[: MAX_ANCHORS - len(with_photo)]])
    return np.sort(chosen)
