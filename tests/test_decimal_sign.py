"""One decimal sign of sizes from the catalog of a run to all that prices with it."""

import json
import math

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import copy_run

from embed.__main__ import embed_command
from embed.attributes import ATTRIBUTE_NAMES
from embed.catalog.reader import read_catalog
from embed.chunks import NO_PHOTO_GIVEN, prepare_chunk, prepared_chunks, settle_config
from embed.config import EmbedConfig
from embed.errors import CacheError
from embed.extract import extract
from embed.records import require_embedded
from embed.store.manifest import read_json
from stack.explain.explanation import explain_product
from stack.export.export import export_run
from stack.price.predictor import Predictor
from stack.service.pricing import Pricer, Product

AMBIGUOUS = "Reis 1.500 kg"
TOTAL_G = ATTRIBUTE_NAMES.index("log_total_g")


def write_names(folder, names):
    path = folder / "names.csv"
    lines = [f'{at},"{name}",,{at + 1}' for at, name in enumerate(names)]
    content = "\n".join(("sample_id,catalog_content,image_link,price", *lines))
    path.write_text(content, encoding="utf-8")
    return path


def grams(attributes):
    return math.exp(attributes[TOTAL_G])


@pytest.fixture(scope="module")
def comma_run(finished_run, tmp_path_factory):
    """A finished run whose catalog had decimal commas."""
    run_dir = copy_run(finished_run, tmp_path_factory.mktemp("comma") / "run")
    path = run_dir / "embed" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["config"]["text_decimal_sign"] = ","
    path.write_text(json.dumps(manifest))
    return run_dir


@pytest.fixture(scope="module")
def predictor(comma_run):
    return Predictor(comma_run, n_threads=1)


@pytest.mark.parametrize(
    ("name", "sign", "expected"),
    [
        ("Wein 0,75 l", ",", 1_500_000),
        ("Wine 0.75 l", ".", 1500),
        ("Wein", "unknown", 1500),
    ],
)
def test_the_catalog_settles_the_sign_and_the_manifest_has_it(
    name, sign, expected, tiny_config, tmp_path
):
    catalog = read_catalog(write_names(tmp_path, [name, AMBIGUOUS]))
    manifest = extract(catalog, tmp_path / "run", images_dir=None, config=tiny_config)
    assert manifest.config.text_decimal_sign == sign
    assert require_embedded(tmp_path / "run") == manifest
    attributes = np.load(tmp_path / "run" / "embed" / "attributes.npy")
    assert grams(attributes[1]) == pytest.approx(expected, rel=1e-4)


def test_a_sign_that_is_given_goes_before_the_names_and_into_the_key(
    tiny_config, tmp_path
):
    path = write_names(tmp_path, ["Wein 0,75 l", AMBIGUOUS])
    asked = ["--catalog", path, "--run", tmp_path / "run", "--text-encoder"]
    asked += [tiny_config.text_encoder, "--random-weights", "--image-size", "32"]
    keys = set()
    for sign, expected in ((",", 1_500_000), (".", 1500)):
        more = ["--text-decimal-sign", sign]
        done = CliRunner().invoke(embed_command, [*map(str, asked), *more])
        assert done.exit_code == 0, done.output
        manifest = read_json(tmp_path / "run" / "embed" / "manifest.json")
        assert manifest["config"]["text_decimal_sign"] == sign
        keys.add(manifest["key"])
        attributes = np.load(tmp_path / "run" / "embed" / "attributes.npy")
        assert grams(attributes[1]) == pytest.approx(expected, rel=1e-4)
    assert len(keys) == 2


def test_settling_asks_names_spread_over_the_whole_catalog():
    texts = ["Tea"] * 50_000 + ["Wein 0,75 l"] * 10
    assert settle_config(EmbedConfig(), texts).decimal == ","
    assert settle_config(EmbedConfig(), ["Tea"]).decimal is None
    assert settle_config(EmbedConfig(), []).decimal is None
    given = EmbedConfig(text_decimal_sign="unknown")
    assert settle_config(given, ["Wein 0,75 l"]) is given


def test_predict_reads_a_new_catalog_with_the_sign_of_the_run(predictor, tmp_path):
    catalog = read_catalog(write_names(tmp_path, ["Wine 0.75 l", AMBIGUOUS]))
    inputs = predictor.inputs(catalog, None)
    (chunk,) = prepared_chunks(inputs, predictor.config, 0)
    assert grams(chunk.attributes[1]) == pytest.approx(1_500_000, rel=1e-4)


def test_the_service_reads_a_product_with_the_sign_of_the_run(comma_run, predictor):
    pricer = Pricer(comma_run, n_threads=1)
    (found,) = pricer.price([Product(text=AMBIGUOUS, photo=NO_PHOTO_GIVEN)])
    chunk = prepare_chunk([AMBIGUOUS], [NO_PHOTO_GIVEN], decimal=",")
    expected = pricer.predictor.predict(chunk)
    other = pricer.predictor.predict(prepare_chunk([AMBIGUOUS], [NO_PHOTO_GIVEN]))
    assert found.price == pytest.approx(expected.price[0], rel=1e-4)
    assert other.price[0] != pytest.approx(expected.price[0], rel=1e-3)


def test_explain_states_the_size_that_the_run_reads(predictor):
    found = explain_product(predictor, AMBIGUOUS, None)
    shown = {attribute.name: attribute.value for attribute in found.attributes}
    assert shown["size of one item"] == "1500000 g"
    text = "Wasser 6 x 1,5 l"
    found = explain_product(predictor, text, None)
    shown = {attribute.name: attribute.value for attribute in found.attributes}
    assert shown["pack count"] == "6"
    assert shown["size of one item"] == "1500 ml"
    assert shown["total amount"] == "9000 ml"


def test_an_export_has_the_sign_of_the_run(comma_run, tmp_path):
    export_run(comma_run, tmp_path / "model", check=False)
    assert read_json(tmp_path / "model" / "manifest.json")["decimal"] == ","


def test_a_run_from_before_the_sign_is_refused_with_a_remedy(comma_run, tmp_path):
    run_dir = copy_run(comma_run, tmp_path / "run")
    path = run_dir / "embed" / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["config"]["text_decimal_sign"]
    path.write_text(json.dumps(manifest))
    with pytest.raises(
        CacheError, match=r"text_decimal_sign is missing\. Delete the file"
    ):
        Predictor(run_dir, n_threads=1)
