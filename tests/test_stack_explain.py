import dataclasses
import json
import math

import numpy as np
import pytest
from conftest import copy_run

from embed.attributes import ATTRIBUTE_NAMES
from embed.catalog.reader import read_catalog
from embed.chunks import NO_PHOTO_GIVEN, prepare_chunk
from embed.errors import ConfigError, UnreadableImage
from embed.photos.decode import load_image
from embed.photos.files import find_photos
from embed.store.manifest import read_json
from stack.explain.explanation import explain_product
from stack.explain.parts import ALL_ALIKE, NETWORK, build_up, contributions
from stack.explain.variants import _ATTRIBUTE_GROUPS, make_variants
from stack.price.predictor import Predictor

ROW = 3


@pytest.fixture(scope="module")
def catalog(sample_catalog):
    return read_catalog(sample_catalog)


@pytest.fixture(scope="module")
def predictors(finished_run, tmp_path_factory):
    """Of runs in which one or the other predictor was chosen."""
    found = {}
    for chosen in ("network", "stacker"):
        run_dir = copy_run(finished_run, tmp_path_factory.mktemp(chosen) / "run")
        path = run_dir / "stack" / "manifest.json"
        path.write_text(json.dumps({**read_json(path), "chosen": chosen}))
        found[chosen] = Predictor(run_dir, n_threads=1)
    return found


@pytest.fixture(scope="module")
def photo(catalog, sample_catalog):
    path = find_photos(catalog, sample_catalog.parent / "images")[ROW]
    return load_image(path, size=32)


@pytest.fixture(scope="module")
def explained(predictors, catalog, photo):
    return {
        chosen: explain_product(
            predictor,
            catalog.text[ROW],
            photo,
            n_words=100,
            image_grid=3,
            n_similar=4,
            exclude_group_of=ROW,
        )
        for chosen, predictor in predictors.items()
    }


@pytest.mark.parametrize("chosen", ["network", "stacker"])
def test_the_parts_add_up_to_the_price(predictors, catalog, photo, explained, chosen):
    found = explained[chosen]
    parts = [part.log_price for part in found.parts]
    assert sum(parts) == pytest.approx(found.log_price, abs=1e-6)
    product = math.prod(part.factor for part in found.parts)
    assert product == pytest.approx(1 + found.price, rel=1e-6)
    alone = predictors[chosen].predict(prepare_chunk([catalog.text[ROW]], [photo]))
    # Frozen features are kept as float16, and a batch of another size rounds otherwise.
    assert found.log_price == pytest.approx(alone.log_price[0], abs=0.01)


def test_a_network_that_serves_alone_is_the_only_part(explained):
    found = explained["network"]
    assert [part.name for part in found.parts] == [NETWORK]
    assert found.features == []


def test_the_boosters_parts_are_their_blocks(predictors, explained):
    blocks = predictors["stacker"]._stack_config.blocks
    names = [part.name for part in explained["stacker"].parts]
    assert names[:2] == [NETWORK, ALL_ALIKE]
    assert len(names) == len(set(names)) == 2 + len(blocks)
    assert {"text", "image", "fused", "attributes", "lightgbm"} < set(names)


def test_what_a_block_adds_is_the_sum_over_its_features(predictors, catalog, photo):
    predictor = predictors["stacker"]
    predicted = predictor.predict(prepare_chunk([catalog.text[ROW]], [photo]))
    parts, features = build_up(predictor, predicted, n_features=10_000)
    by_block = {}
    for feature in features:
        by_block[feature.block] = by_block.get(feature.block, 0) + feature.log_price
    in_order = predictor._stack_config.blocks
    assert by_block
    for part, block in zip(parts[2:], in_order, strict=True):
        assert part.log_price == pytest.approx(by_block.get(block, 0), abs=1e-9)
    sizes = [abs(feature.log_price) for feature in features]
    assert sizes == sorted(sizes, reverse=True)
    names = predictor.matrix(predicted.blocks).feature_names
    assert {feature.name for feature in features} <= set(names)


def test_contributions_are_the_average_and_trees_that_are_not_there_add_nothing(
    predictors, catalog, photo
):
    predictor = predictors["stacker"]
    predicted = predictor.predict(prepare_chunk([catalog.text[ROW]], [photo]))
    matrix = predictor.matrix(predicted.blocks)
    grown = [b for b in predictor.boosters if b.num_trees()]
    bare = [b for b in predictor.boosters if not b.num_trees()]
    one = contributions(grown[:1], matrix)
    assert one.sum() == pytest.approx(grown[0].predict(matrix.rows([0]))[0], abs=1e-9)
    assert np.abs(one).sum() > 0
    twice = contributions([grown[0], grown[0]], matrix)
    np.testing.assert_allclose(twice, one, atol=1e-12)
    if bare:
        halved = contributions([grown[0], bare[0]], matrix)
        np.testing.assert_allclose(halved, one / 2, atol=1e-12)


@pytest.mark.parametrize("chosen", ["network", "stacker"])
def test_the_change_without_a_word_is_that_of_the_text_without_it(
    predictors, catalog, photo, explained, chosen
):
    text = catalog.text[ROW]
    name = text.split("\n")[0].removeprefix("Item Name: ").split()
    word = next(w for w in name if text.split().count(w) == 1)
    chunk = prepare_chunk([text, text.replace(word, "", 1)], [photo, photo])
    with_it, without = predictors[chosen].predict(chunk).price
    (effect,) = [e for e in explained[chosen].words if e.text == word]
    # A hundredth of a percent to a tenth comes of rounding.
    assert effect.change_percent == pytest.approx(100 * (without / with_it - 1), abs=1)
    assert effect.change_percent != 0


def test_the_largest_effects_come_first_and_only_so_many(
    predictors, catalog, explained
):
    sizes = [abs(word.change_percent) for word in explained["network"].words]
    assert sizes == sorted(sizes, reverse=True)
    assert len(sizes) > 3
    few = explain_product(
        predictors["network"], catalog.text[ROW], None, n_words=3, n_similar=0
    )
    assert len(few.words) == 3
    assert few.similar == []
    assert few.image is None


def test_a_size_is_left_out_by_itself(predictors, catalog, photo, explained):
    text = catalog.text[ROW]
    chunk = prepare_chunk([text, text], [photo, photo])
    columns = [ATTRIBUTE_NAMES.index(c) for c in _ATTRIBUTE_GROUPS["value"]]
    assert np.isfinite(chunk.attributes[1, columns]).any()
    chunk.attributes[1, columns] = np.nan
    with_it, without = predictors["network"].predict(chunk).price
    (effect,) = [e for e in explained["network"].attributes if e.name == "value"]
    assert effect.change_percent == pytest.approx(100 * (without / with_it - 1), abs=1)
    value = next(line for line in text.split("\n") if line.startswith("Value:"))
    assert float(effect.value) == pytest.approx(float(value.split()[1]), rel=1e-3)


def test_the_sizes_are_told_in_words_and_unknown_ones_are_not_there():
    text = "Item Name: Tea, 12 oz (Pack of 6)\nValue: 72\nUnit: Ounce"
    variants = make_variants(text, None, n_phrases=24, max_words=128, image_grid=0)
    told = {of.name: of.value for of in variants.attributes}
    assert told == {
        "value": "72",
        "unit": "mass",
        "pack count": "6",
        "size of one item": "340.2 g",
        "total amount": "2041 g",
        "largest number in the name": "12",
    }
    bare = make_variants("Tea", None, n_phrases=24, max_words=128, image_grid=0)
    assert bare.attributes == []


def test_each_variant_lacks_only_what_it_is_to_lack(photo):
    text = "Item Name: Tea, 12 oz\nValue: 12\nUnit: Ounce"
    variants = make_variants(text, photo, n_phrases=24, max_words=128, image_grid=2)
    chunk, n_words = variants.chunk, len(variants.phrases)
    n_attributes = len(variants.attributes)
    assert len(chunk.texts) == 1 + n_words + n_attributes + 1 + 4
    same = {0, *range(1 + n_words, len(chunk.texts))}
    assert {chunk.texts[row] for row in same} == {chunk.texts[0]}
    assert not {chunk.texts[row] for row in range(1, 1 + n_words)} & {chunk.texts[0]}
    for row in range(1 + n_words + n_attributes):
        assert chunk.thumbnails[row] is photo
    first = 1 + n_words + n_attributes
    assert isinstance(chunk.thumbnails[first], UnreadableImage)
    white = [np.flatnonzero((p != photo).any(2)) for p in chunk.thumbnails[first + 1 :]]
    assert not set(white[0]) & set(white[1]) & set(white[2]) & set(white[3])
    upper_left = chunk.thumbnails[first + 1]
    assert (upper_left[:16, :16] == 255).all()
    np.testing.assert_array_equal(upper_left[16:], photo[16:])
    np.testing.assert_array_equal(upper_left[:, 16:], photo[:, 16:])
    for row in (0, *range(first, len(chunk.texts))):
        np.testing.assert_array_equal(chunk.attributes[row], chunk.attributes[0])


def test_the_photo_s_patches_are_those_of_the_map(
    predictors, catalog, photo, explained
):
    patched = photo.copy()
    patched[:10, 10:21] = 255  # 32 pixels in three: 0, 10, 21
    text = catalog.text[ROW]
    chunk = prepare_chunk([text] * 3, [photo, patched, NO_PHOTO_GIVEN])
    whole, without_patch, without_photo = predictors["network"].predict(chunk).price
    image = explained["network"].image
    assert [len(row) for row in image.grid] == [3, 3, 3]
    assert image.grid[0][1] == pytest.approx(
        100 * (without_patch / whole - 1), abs=0.05
    )
    assert image.without_photo_percent == pytest.approx(
        100 * (without_photo / whole - 1), abs=0.05
    )
    assert len({round(c, 6) for row in image.grid for c in row}) > 3


def test_a_grid_that_no_photo_has_is_refused(predictors, photo):
    with pytest.raises(ConfigError, match=r"--grid must be 0 .no map. to 16.*got 17"):
        explain_product(predictors["network"], "Tea", photo, image_grid=17)
    with pytest.raises(ValueError, match=r"shape \(32, 32, 3\).*got \(16, 32, 3\)"):
        explain_product(predictors["network"], "Tea", photo[:16])


def test_a_text_of_the_run_finds_its_twin_there_first(predictors, catalog, photo):
    found = explain_product(
        predictors["network"], catalog.text[ROW], photo, n_words=0, n_similar=3
    )
    assert found.similar[0].sample_id == str(catalog.sample_id[ROW])
    assert found.similar[0].price == catalog.price[ROW]
    cosines = [other.similarity for other in found.similar]
    assert cosines == sorted(cosines, reverse=True)


def test_a_product_of_the_run_is_not_similar_to_itself(explained, catalog):
    for found in explained.values():
        assert len(found.similar) == 4
        ids = [other.sample_id for other in found.similar]
        assert str(catalog.sample_id[ROW]) not in ids


def test_json_has_the_promised_keys_and_finite_numbers(explained):
    for found in explained.values():
        record = found.as_dict()
        assert json.loads(json.dumps(record, allow_nan=False)) == record
        assert list(record) == [
            *("price", "log_price", "price_unit", "flags", "intervals", "within"),
            *(
                "unlike",
                "parts",
                "features",
                "words",
                "attributes",
                "table",
                "image",
                "similar",
            ),
        ]
        assert list(record["intervals"]) == ["80", "90"]
        low, high = record["intervals"]["90"]
        assert 0 < low <= record["price"] <= high
        assert 0 < record["within"]["10"] <= record["within"]["20"] < 1
        assert set(record["parts"][0]) == {"name", "log_price", "factor"}
        assert record["parts"][0]["name"] == "network"
        assert set(record["words"][0]) == {"text", "change_percent"}
        assert set(record["attributes"][0]) == {"name", "value", "change_percent"}
        assert set(record["image"]) == {"without_photo_percent", "grid"}
        keys = {"sample_id", "text", "price", "similarity"}
        assert set(record["similar"][0]) == keys
    feature = explained["stacker"].as_dict()["features"][0]
    assert set(feature) == {"name", "block", "log_price"}


@pytest.mark.parametrize("chosen", ["network", "stacker"])
def test_a_product_with_neither_text_nor_photo_is_explained(predictors, chosen):
    found = explain_product(predictors[chosen], "", None, image_grid=7)
    assert found.words == []
    assert found.attributes == []
    assert found.image is None
    assert sum(p.log_price for p in found.parts) == pytest.approx(
        found.log_price, abs=1e-6
    )
    json.dumps(found.as_dict(), allow_nan=False)


def test_the_quick_answer_prices_few_texts(predictors, monkeypatch, photo):
    chunks = []

    class Spy:
        def __getattr__(self, name):
            return getattr(predictors["network"], name)

        def predict(self, chunk):
            chunks.append(chunk)
            return predictors["network"].predict(chunk)

    text = "Item Name: " + " ".join(f"word{n}" for n in range(300))
    explain_product(Spy(), text, photo)
    (chunk,) = chunks
    assert len(set(chunk.texts)) <= 25
    assert len({id(p) for p in chunk.thumbnails}) == 2


def test_an_explanation_cannot_be_changed(explained):
    with pytest.raises(dataclasses.FrozenInstanceError):
        explained["network"].price = 1.0
