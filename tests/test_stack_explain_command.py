import json

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import copy_run
from PIL import Image

from embed.store.manifest import read_json
from finetune.score import to_price
from stack.explain.command import explain_command
from stack.explain.explanation import (
    AttributeEffect,
    Explanation,
    ImageEffect,
    WordEffect,
)
from stack.explain.image_map import write_image_map
from stack.explain.parts import part
from stack.explain.product import RunProduct, find_product, read_product
from stack.explain.text_report import format_explanation
from stack.price.predictor import Predictor
from stack.price.similar import SimilarProduct
from stack.tell.lines import WIDTH


def call(*arguments):
    return CliRunner().invoke(explain_command, [str(a) for a in arguments])


def assert_one_line(result, *parts):
    """Exit code 2, and nothing on the terminal but one line that says `parts`."""
    assert result.exit_code == 2, result.output
    lines = result.output.strip().split("\n")
    assert len(lines) == 1, result.output
    for words in parts:
        assert words in lines[0], lines[0]


@pytest.fixture(scope="module")
def arrays(finished_run):
    names = ("embed/sample_id", "embed/image_ok", "finetune/folds", "finetune/price")
    return {n.split("/")[1]: np.load(finished_run / f"{n}.npy") for n in names}


@pytest.fixture(scope="module")
def asked(arrays):
    """A product with a photo, of the last fold."""
    row = int(np.flatnonzero(arrays["image_ok"] & (arrays["folds"] == 2))[0])
    return row, str(arrays["sample_id"][row])


@pytest.fixture(scope="module")
def record(finished_run, asked):
    result = call(
        *("--run", finished_run, "--sample-id", asked[1], "--json", "--grid", 0),
        *("--threads", 1),
    )
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_text_says_all_sections_in_100_columns(finished_run, asked, tmp_path):
    map_path = tmp_path / "map.png"
    result = call(
        *("--run", finished_run, "--sample-id", asked[1], "--grid", 3),
        *("--threads", 1, "--image-map", map_path),
    )
    assert result.exit_code == 0, result.output
    lines = result.stdout.split("\n")
    assert max(map(len, lines)) <= 100 + len(str(tmp_path))
    assert max(len(line) for line in lines if str(tmp_path) not in line) <= 100
    for words in (
        *(f"Product {asked[1]}: ", "the 90 % interval", "The true price is "),
        *("without fold 3", "What the price is made of", "left out", "photo"),
        *("Most similar products", "Computed in "),
    ):
        assert words in result.stdout
    with Image.open(map_path) as drawn:
        assert drawn.format == "PNG"
        assert drawn.width >= 400


def test_json_holds_the_product_and_its_explanation(record, asked, arrays):
    row, sample_id = asked
    assert record["sample_id"] == sample_id
    assert record["row"] == row
    assert record["fold"] == 2
    assert record["true_price"] == arrays["price"][row]
    assert record["photo_source"] == "file"
    assert "photo" not in record
    assert {"parts", "words", "attributes", "image", "similar"} <= set(record)
    assert record["image"]["grid"] is None


def test_the_explained_price_is_the_out_of_fold_price(record, finished_run, asked):
    chosen = read_json(finished_run / "stack" / "manifest.json")["chosen"]
    stage = "stack" if chosen == "stacker" else "finetune"
    held = np.load(finished_run / stage / "oof_log_price.npy")[[asked[0]]]
    assert record["log_price"] == pytest.approx(held[0], abs=0.02)
    assert record["priced_at"] == pytest.approx(to_price(held)[0], rel=1e-6)


def test_no_duplicate_of_the_product_is_among_the_similar(record, finished_run, asked):
    groups = np.load(finished_run / "finetune" / "groups.npy")
    sample_id = np.load(finished_run / "embed" / "sample_id.npy")
    own = set(sample_id[groups == groups[asked[0]]].tolist())
    assert asked[1] in own
    assert not own & {other["sample_id"] for other in record["similar"]}


def test_a_changed_photo_file_gives_way_to_the_thumbnail(
    finished_run, asked, tmp_path, sample_catalog
):
    run_dir = copy_run(finished_run, tmp_path / "run")
    path = run_dir / "embed" / "manifest.json"
    manifest = read_json(path)
    predictor = Predictor(run_dir, n_threads=1, folds=[2])
    assert read_product(predictor, asked[0]).photo_source == "file"
    manifest["inputs"]["images_dir"] = None
    path.write_text(json.dumps(manifest))
    predictor.run = find_product(run_dir, asked[1])[0]
    product = read_product(predictor, asked[0])
    assert product.photo_source == "thumbnail"
    assert product.photo.shape == (32, 32, 3)


def test_an_unknown_id_is_answered_with_the_nearest(finished_run, asked):
    typed = asked[1] + "0"
    result = call("--run", finished_run, "--sample-id", typed)
    assert_one_line(result, f"'{typed}'", "The nearest are", f"'{asked[1]}'")
    result = call("--run", finished_run, "--sample-id", "\N{SNOWMAN}")
    assert_one_line(result, "none of the 40 products", "The first are")


def test_an_unfinished_run_is_refused_in_one_line(embedded_run, tmp_path):
    result = call("--run", embedded_run, "--sample-id", "1")
    assert_one_line(result, "finetune", "has not finished")
    result = call("--run", tmp_path / "none", "--sample-id", "1")
    assert_one_line(result, str(tmp_path / "none"))


def test_a_map_without_photo_folder_or_grid_is_refused_before_the_work(
    finished_run, arrays, asked, tmp_path
):
    assert not arrays["image_ok"].all()
    blind = str(arrays["sample_id"][np.flatnonzero(~arrays["image_ok"])[0]])
    ask = ("--run", finished_run, "--sample-id")
    result = call(*ask, blind, "--image-map", tmp_path / "map.png")
    assert_one_line(result, "--image-map", "no usable photo", "problems.csv")
    result = call(*ask, asked[1], "--image-map", tmp_path / "none" / "map.png")
    assert_one_line(result, "the folder", "is not there")
    result = call(*ask, asked[1], "--image-map", tmp_path / "map.png", "--grid", 0)
    assert_one_line(result, "--grid 1 or more")
    result = call(*ask, asked[1], "--grid", -1)
    assert_one_line(result, "--grid", "got -1")
    assert list(tmp_path.iterdir()) == []


def explanation(**changed):
    values = {
        "price": 12_345_678.9,
        "log_price": 16.3,
        "price_unit": 1.0,
        "flags": ["networks disagree by a factor of 9.9"],
        "intervals": {"80": [9e6, 2e7], "90": [8e6, 3e7]},
        "within": {"10": 0.123, "20": 0.456},
        "unlike": False,
        "parts": [part("network", 16.0), part("all products alike", 0.3)],
        "features": [],
        "words": [WordEffect(text="\x1b[2Jword " * 40, change_percent=-99.9)],
        "attributes": [],
        "table": [AttributeEffect(name="a\nb", value="v " * 99, change_percent=-1.0)],
        "image": ImageEffect(
            without_photo_percent=1.0, grid=[[-99.99, 123456.7] * 8] * 16
        ),
        "similar": [
            SimilarProduct(sample_id="i" * 80, text="t" * 500, price=1e30, similarity=1)
        ],
    }
    return Explanation(**{**values, **changed})


def product(**changed):
    values = {
        "row": 0,
        "sample_id": "a\nb\x1b[2J" + "x" * 200,
        "fold": 1,
        "text": "Item Name: " + "word " * 400,
        "photo": None,
        "cells": {},
        "other_cells": False,
        "photo_source": "thumbnail",
        "true_price": 5e6,
        "priced_at": 1e6,
    }
    return RunProduct(**{**values, **changed})


def test_the_longest_values_fit_and_move_no_cursor():
    found = format_explanation(product(), explanation())
    assert max(map(len, found.split("\n"))) <= WIDTH
    assert all(c.isprintable() or c == "\n" for c in found)
    assert "below the 90 % interval" in found
    unpriced = product(fold=-1, true_price=None)
    found = format_explanation(unpriced, explanation(image=None, similar=[]))
    assert "no price of its own" in found
    assert "The price in the run" not in found
    assert "true price" not in found


def test_the_intervals_are_said_to_hold_for_all_new_products_together():
    found = " ".join(format_explanation(product(), explanation()).split())
    assert "the 80 % interval is 9,000,000.00 to 20,000,000.00, the 90 %" in found
    assert "of all new products together; `evaluate` shows how many by price)" in found


@pytest.mark.parametrize(
    ("source", "price", "said", "unsaid"),
    [
        ("thumbnail", 12e6, "file is missing or has changed, so its thum", "rounding"),
        ("file", 1.02e6, "00.00: rounding, or other versions", "thumbnail"),
        ("none", 1.02e6, "00.00: rounding, or other versions", "thumbnail"),
        ("file", 12e6, "Rounding does not change a price that much", "thumbnail"),
    ],
)
def test_another_price_than_the_run_s_is_laid_to_what_changed_it(
    source, price, said, unsaid
):
    found = format_explanation(product(photo_source=source), explanation(price=price))
    found = " ".join(found.split())
    assert "The price in the run is 1,000,000.00" in found
    assert said in found
    assert unsaid not in found


def test_reasons_to_doubt_a_price_are_named():
    found = format_explanation(product(), explanation())
    assert "DOUBT: networks disagree by a factor of 9.9." in found
    assert "DOUBT" not in format_explanation(product(), explanation(flags=[]))


def test_the_true_price_is_placed_in_the_narrowest_interval():
    for true_price, words in (
        (1e7, "inside the 80 % interval"),
        (2.5e7, "inside the 90 % interval"),
        (4e7, "above the 90 % interval"),
    ):
        found = format_explanation(product(true_price=true_price), explanation())
        assert words in found


def test_a_network_alone_has_no_table_of_parts():
    found = format_explanation(product(), explanation(parts=[part("network", 16.3)]))
    assert "The network alone serves" in found
    assert "TreeSHAP" not in found


def test_boosters_without_trees_are_said_to_add_nothing():
    bare = [part("network", 16.3), part("text", 0.0)]
    words = "the boosters add nothing"
    assert words in format_explanation(product(), explanation(parts=bare))
    assert words not in format_explanation(product(), explanation())


def test_the_steps_of_the_parts_end_at_the_price():
    parts = [part("network", 5.0), part("text", 0.25), part("fused", -0.1)]
    found = format_explanation(product(), explanation(parts=parts))
    (last,) = [line for line in found.split("\n") if line.strip().startswith("fused")]
    price = float(last.split()[-1].replace(",", ""))
    assert price == pytest.approx(np.expm1(5.15), abs=0.006)


def test_the_map_is_blue_where_the_price_falls_and_orange_where_it_rises(tmp_path):
    grey = np.full((64, 64, 3), 128, np.uint8)
    write_image_map(tmp_path / "map.png", grey, [[-8.0, 0.0], [0.0, 8.0]])
    with Image.open(tmp_path / "map.png") as drawn:
        pixels = np.asarray(drawn).astype(int)
    side = drawn.width
    upper_left, upper_right = pixels[20, 20], pixels[20, side - 20]
    lower_right = pixels[side - 20, side - 20]
    assert upper_left[2] > 140 > 100 > upper_left[0]
    assert lower_right[0] > 160 > 100 > lower_right[2]
    np.testing.assert_array_equal(upper_right, [128, 128, 128])
    assert [p.name for p in tmp_path.iterdir()] == ["map.png"]
