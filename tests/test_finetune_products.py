"""Which products count as duplicates: by content, not by the end of a link."""

import numpy as np
import pytest
from conftest import write_product_cache

from embed.catalog.reader import read_catalog
from finetune.folds import assign_folds
from finetune.products import product_groups

N = 12
SHOP = "https://shop.example"
NAMES = [
    "tea",
    "pan",
    "sock",
    "hose",
    "chess",
    "cream",
    "lamp",
    "bell",
    "rope",
    "vase",
    "drum",
    "fork",
]


@pytest.fixture
def groups_of(tmp_path):
    """Group products with these links and photos; each has a text of its own."""

    def run(links, photos=None, texts=None, **options):
        lines = ["sample_id,catalog_content,image_link,price"]
        texts = texts or [f"{name} of {name}wood" for name in NAMES]
        lines += [f"{i},{texts[i]},{link},{i + 1}" for i, link in enumerate(links)]
        path = tmp_path / "catalog.csv"
        path.write_text("\n".join(lines) + "\n")
        n = len(links)
        write_product_cache(tmp_path / "embed", [[2, 3]] * n, photos or [None] * n)
        catalog = read_catalog(path)
        return catalog, product_groups(catalog, tmp_path / "embed", **options)

    return run


def photos(n=N):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (32, 32, 3), dtype=np.uint8) for _ in range(n)]


@pytest.mark.parametrize(
    "link",
    [
        SHOP + "/P{}/main.jpg",
        "https://cdn.example/account/{}/public",
        SHOP + "/image.php?IMAGE_ID={}",
        SHOP + "/up/20{:02}/01/image-0.jpg",
    ],
)
@pytest.mark.parametrize("with_photo", [True, False])
def test_links_that_end_alike_make_no_duplicates(groups_of, link, with_photo):
    links = [link.format(10 + i) for i in range(N)]
    catalog, groups = groups_of(links, photos() if with_photo else None)
    assert groups.tolist() == list(range(N))
    folds = assign_folds(catalog.price, groups, n_folds=4, seed=0)
    assert np.bincount(folds).tolist() == [3, 3, 3, 3]


def test_one_photo_under_two_links_makes_duplicates(groups_of):
    links = [f"{SHOP}/{i}.jpg" for i in range(N)]
    found = photos()
    found[7] = found[2].copy()
    assert groups_of(links, found)[1][7] == 2


def test_the_same_link_makes_duplicates_unless_the_photos_differ(groups_of):
    links = [f"{SHOP}/{i}.jpg" for i in range(N)]
    links[7], links[5] = f"{SHOP}/2.jpg?v=3", links[4]
    found = photos()
    found[7] = None
    groups = groups_of(links, found)[1]
    assert groups[7] == 2
    assert groups[5] == 5


def test_one_link_of_many_unlike_products_makes_no_duplicates(groups_of):
    links = [f"{SHOP}/no-photo.jpg"] * N
    assert groups_of(links)[1].tolist() == list(range(N))
    assert groups_of(links, keep_shared=True)[1].tolist() == [0] * N


def test_one_link_of_many_variants_makes_duplicates(groups_of, caplog):
    texts = [f"Basic tee size {i}" for i in range(N)]
    assert groups_of([f"{SHOP}/tee.jpg"] * N, texts=texts)[1].tolist() == [0] * N
    assert "12 products count as duplicates of sample_id '0'" in caplog.text
