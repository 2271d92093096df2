import csv
import hashlib
from dataclasses import replace

import numpy as np
import pytest

from embed.catalog.reader import CatalogError, read_catalog
from embed.errors import UnreadableImage
from embed.photos.decode import load_image
from embed.photos.files import find_image
from embed.photos.index import index_images
from embed.sample.law import (
    BRANDS,
    CATEGORIES,
    FINISHES,
    LAW_NOISE,
    SampleProduct,
    best_reachable_prices,
    compose_content,
    photo_of,
    photo_part,
    shared_part,
    text_part,
    write_sample,
)

N_PRODUCTS = 400
PRODUCT = SampleProduct(
    category="Honey", brand="Hartwell", size=8, pack=2, finish="blue", n_dots=1
)


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def digests(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def smape_rows(price, predicted):
    return 200 * np.abs(predicted - price) / (predicted + price)


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    return write_sample(tmp_path_factory.mktemp("sample"), n_products=N_PRODUCTS)


@pytest.fixture(scope="module")
def law(sample):
    return rows_of(sample.with_name("law.csv"))


@pytest.fixture(scope="module")
def prices(sample):
    return np.array([float(row["price"]) for row in rows_of(sample)])


def test_catalog_and_law_have_the_same_rows_in_the_same_order(sample, law):
    catalog = read_catalog(sample)
    assert catalog.n_products == N_PRODUCTS
    assert [row["sample_id"] for row in law] == catalog.sample_id.tolist()
    assert list(rows_of(sample)[0]) == [
        "sample_id",
        "catalog_content",
        "image_link",
        "price",
    ]


def test_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path):
    first, second, other = (tmp_path / name for name in "abc")
    write_sample(first, n_products=20, seed=1)
    write_sample(second, n_products=20, seed=1)
    write_sample(other, n_products=20, seed=2)
    assert digests(first) == digests(second)
    assert digests(first)["catalog.csv"] != digests(other)["catalog.csv"]


def test_text_tells_nothing_of_what_only_the_photo_shows():
    text = compose_content(PRODUCT)
    for change in ({"finish": "gold"}, {"n_dots": 3}, {"pose": 9}):
        assert compose_content(replace(PRODUCT, **change)) == text
    for wording in range(100):
        words = compose_content(replace(PRODUCT, wording=wording)).lower().split()
        assert not set(FINISHES) & set(words)


def test_photo_tells_nothing_of_what_only_the_text_says():
    photo = photo_of(PRODUCT).tobytes()
    for change in ({"brand": "Millbrook"}, {"size": 24}, {"pack": 6}, {"wording": 9}):
        assert photo_of(replace(PRODUCT, **change)).tobytes() == photo


@pytest.mark.parametrize(
    ("change", "moved"),
    [
        ({"category": "Soup"}, shared_part),
        ({"brand": "Millbrook"}, text_part),
        ({"size": 24}, text_part),
        ({"pack": 6}, text_part),
        ({"finish": "gold"}, photo_part),
        ({"n_dots": 3}, photo_part),
    ],
)
def test_each_property_moves_its_own_part_and_shows_where_it_should(change, moved):
    changed = replace(PRODUCT, **change)
    for part in (shared_part, text_part, photo_part):
        assert (part(changed) != part(PRODUCT)) == (part is moved)
    in_text = compose_content(changed) != compose_content(PRODUCT)
    in_photo = photo_of(changed).tobytes() != photo_of(PRODUCT).tobytes()
    assert in_text == (moved is not photo_part)
    assert in_photo == (moved is not text_part)


def test_wording_and_pose_do_not_move_the_law():
    changed = replace(PRODUCT, wording=5, pose=5)
    for part in (shared_part, text_part, photo_part):
        assert part(changed) == part(PRODUCT)
    assert compose_content(changed) != compose_content(PRODUCT)
    assert photo_of(changed).tobytes() != photo_of(PRODUCT).tobytes()


def test_content_is_in_the_form_of_the_challenge():
    names = [line.split(":")[0] for line in compose_content(PRODUCT).splitlines()]
    assert names == [
        "Item Name",
        "Bullet Point 1",
        "Bullet Point 2",
        "Product Description",
        "Value",
        "Unit",
    ]
    assert "Value: 16.0\nUnit: Ounce\n" in compose_content(PRODUCT)


def test_every_part_matters_and_prices_stay_in_range(law, prices):
    for part in ("shared", "text_only", "photo_only"):
        assert 0.35 < np.std([float(row[part]) for row in law]) < 0.55
    assert 1.5 < prices.min() < 5
    assert 80 < prices.max() < 300


def test_best_reachable_smape_is_that_of_the_noise(sample, law, prices):
    best = best_reachable_prices(sample)
    predicted = np.array([best[row["sample_id"]] for row in law])
    errors = smape_rows(prices, predicted)
    noise = np.random.default_rng(0).normal(0, LAW_NOISE, 200_000)
    expected = 200 * np.tanh(np.abs(noise) / 2).mean()
    readable = np.array([row["damage"] in ("", "duplicate") for row in law])
    standard_error = errors[readable].std() / np.sqrt(readable.sum())
    assert abs(errors[readable].mean() - expected) < 3 * standard_error
    assert errors[~readable].mean() > 1.5 * expected
    assert errors.mean() < expected + 3


def test_damage_is_what_the_law_says(sample, law):
    catalog = read_catalog(sample)
    index = index_images(sample.parent / "images")
    count = dict.fromkeys(("no photo", "broken photo", "no text", "duplicate", ""), 0)
    first_of = {}
    for i, row in enumerate(law):
        damage, key = row["damage"], (catalog.text[i], catalog.image_link[i])
        path = find_image(
            index,
            image_link=catalog.image_link[i],
            sample_id=str(catalog.sample_id[i]),
        )
        count[damage] += 1
        assert (path is None) == (damage == "no photo")
        assert (catalog.text[i] == "") == (damage == "no text")
        if damage == "broken photo":
            with pytest.raises(UnreadableImage, match=r"truncated|not a photo"):
                load_image(path, size=16)
        first_of.setdefault(key, []).append(damage)
    groups = [sorted(group) for group in first_of.values() if len(group) > 1]
    assert groups == [["", "duplicate"]] * 4
    assert count == {
        "no photo": 8,
        "broken photo": 4,
        "no text": 4,
        "duplicate": 4,
        "": 380,
    }


def test_colour_dominates_the_photo():
    for category in CATEGORIES:
        means = [
            np.asarray(
                photo_of(replace(PRODUCT, category=category, finish=f)), float
            ).mean((0, 1))
            for f in FINISHES
        ]
        gaps = [
            np.linalg.norm(a - b) for i, a in enumerate(means) for b in means[i + 1 :]
        ]
        assert min(gaps) > 15, category


def test_earlier_sample_is_replaced_whole(tmp_path):
    write_sample(tmp_path, n_products=40)
    (tmp_path / "images" / "mine.jpg").touch()
    write_sample(tmp_path, n_products=20, seed=3)
    (tmp_path / "images" / "mine.jpg").unlink()
    write_sample(tmp_path / "fresh", n_products=20, seed=3)
    fresh = digests(tmp_path / "fresh")
    again = {k: v for k, v in digests(tmp_path).items() if not k.startswith("fresh")}
    assert again == fresh


def test_another_catalog_is_not_overwritten(tmp_path):
    (tmp_path / "catalog.csv").write_text("mine")
    with pytest.raises(FileExistsError, match=r"no sample.*Choose another folder"):
        write_sample(tmp_path)
    assert (tmp_path / "catalog.csv").read_text() == "mine"


def test_too_few_products_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must have at least 20 products.*got 19"):
        write_sample(tmp_path, n_products=19)
    assert not list(tmp_path.iterdir())


def test_best_reachable_prices_are_known_for_samples_only(tmp_path):
    assert best_reachable_prices(tmp_path / "catalog.csv") is None
    (tmp_path / "law.csv").write_text("section,penalty\n1,2\n")
    with pytest.raises(CatalogError, match=r"law\.csv: must have .* section, penalty"):
        best_reachable_prices(tmp_path / "catalog.csv")


def test_every_brand_and_category_is_centred():
    assert sum(CATEGORIES.values()) == pytest.approx(0)
    assert sum(BRANDS.values()) == pytest.approx(0)
    assert sum(FINISHES.values()) == pytest.approx(0)
