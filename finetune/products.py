"""Find a run's duplicates and choose its anchors."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embed.catalog.reader import Catalog
from embed.catalog.split_columns import group_names
from embed.photos.decode import thumbnail_sha256
from embed.photos.links import parse_link
from embed.photos.stand_ins import shared_by_unlike
from finetune.batches import ProductCache
from finetune.folds import duplicate_groups

MAX_ANCHORS = 1500
_LARGE_SHARE = 0.05  # of all products, in one group of duplicates
logger = logging.getLogger(__name__)


def product_keys(
    catalog: Catalog, embed_dir: Path, *, keep_shared: bool = False
) -> dict[str, list[str]]:
    """Return what identifies each product: text, photo, link, cells of group columns.

    Photos are compared by their pixels, links as whole strings. A link does not join
    products whose photos differ. Nor does it join products of unlike texts, as such
    products share the link of a placeholder.

    Parameters
    ----------
    catalog : Catalog
    embed_dir : Path
        Folder of the finished embedding stage.
    keep_shared : bool
        Whether links also join products of unlike texts.

    Returns
    -------
    dict of str to list of str
        Keys of each kind, one per product; "" if a product has none. Products with the
        same key are duplicates.
    """
    cache = ProductCache(embed_dir, max_tokens=512, image_size=32)
    texts = [" ".join(text.lower().split()) for text in catalog.text]
    photos = [
        thumbnail_sha256(cache.thumbnails[row].tobytes()) if cache.image_ok[row] else ""
        for row in range(len(cache))
    ]
    links = _joining_links(catalog, photos, keep_shared=keep_shared)
    own_groups = {
        f"cell of {name!r}": group_names(cells)
        for name, cells in catalog.groups.items()
    }
    return {"text": texts, "photo": photos, "link": links, **own_groups}


def product_groups(
    catalog: Catalog, embed_dir: Path, *, keep_shared: bool = False
) -> NDArray[np.int64]:
    """Group products that share a key of `product_keys`, whose parameters these are.

    Returns
    -------
    ndarray of shape (n_products,)
        Group of each product.
    """
    keys = product_keys(catalog, embed_dir, keep_shared=keep_shared)
    return group_products(catalog, keys, keep_shared=keep_shared)


def group_products(
    catalog: Catalog, keys: Mapping[str, Sequence[str]], *, keep_shared: bool = False
) -> NDArray[np.int64]:
    """Group products that share a key, and warn if a group is large.

    Parameters
    ----------
    catalog : Catalog
    keys : mapping of str to sequence of str
        Keys from `product_keys`.
    keep_shared : bool
        Whether links also join products of unlike texts.

    Returns
    -------
    ndarray of shape (n_products,)
        Group of each product.
    """
    groups = duplicate_groups(*keys.values())
    _mention_large_group(catalog, groups, keys, keep_shared=keep_shared)
    return groups


def _joining_links(
    catalog: Catalog, photos: Sequence[str], *, keep_shared: bool
) -> list[str]:
    """Return each product's link if it identifies one photo, else ""."""
    links = [parse_link(link).identity if link else "" for link in catalog.image_link]
    photo_of: dict[str, str] = {}
    refused = set()
    for link, photo in zip(links, photos, strict=True):
        if photo and photo_of.setdefault(link, photo) != photo:
            refused.add(link)
    if not keep_shared:
        refused.update(shared_by_unlike(links, catalog.text))
    return ["" if link in refused else link for link in links]


def _mention_large_group(
    catalog: Catalog,
    groups: NDArray[np.int64],
    keys: Mapping[str, Sequence[str]],
    *,
    keep_shared: bool,
) -> None:
    names, sizes = np.unique(groups, return_counts=True)
    largest = int(sizes.max())
    if largest <= max(10, _LARGE_SHARE * len(groups)):
        return
    first = names[sizes.argmax()]
    rows = np.flatnonzero(groups == first).tolist()
    counts = {
        kind: max(
            Counter(values[row] for row in rows if values[row]).values(), default=0
        )
        for kind, values in keys.items()
    }
    shared = max(counts, key=counts.__getitem__)
    change = "leave --keep-shared-photos out" if keep_shared else "delete its files"
    remedy = {
        "photo": f"If it is a picture that stands in for photos, {change}",
        "text": "If they are different products, tell their texts apart",
        "link": "If they have photos of their own, mend their links",
    }
    by_group = "If that is no reason to share a fold, leave its --group-column out"
    logger.warning(
        "%d products count as duplicates of sample_id %r and share a fold, so folds "
        "differ in size: up to %d have the same %s. %s and run `pricestack embed` "
        "again.",
        largest,
        str(catalog.sample_id[first]),
        counts[shared],
        shared,
        remedy.get(shared, by_group),
    )


def choose_anchors(cache: ProductCache, seed: int) -> NDArray[np.int64]:
    """Choose the rows that every fold's network embeds; half with photo if possible."""
    rng = np.random.default_rng([seed, 1])
    order = rng.permutation(len(cache))
    with_photo = order[np.asarray(cache.image_ok)[order]][: MAX_ANCHORS // 2]
    others = order[~np.isin(order, with_photo)]
    anchors = np.concatenate([with_photo, others[: MAX_ANCHORS - len(with_photo)]])
    return np.sort(anchors)
