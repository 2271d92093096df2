import csv
import dataclasses
import importlib.util
import json
import logging
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import efficientnet_b0

from embed import chunks
from embed import extract as job
from embed.catalog.own_copy import read_run_catalog
from embed.catalog.reader import CatalogColumns, read_catalog
from embed.config import EmbedConfig
from embed.encoders.towers import ImageEncoder, TextEncoder, normalise_images
from embed.encoders.weights import WeightsError
from embed.errors import CacheError, ConfigError, UnreadableImage
from embed.extract import extract
from embed.photos.decode import decode_thumbnail, load_image
from embed.records import require_embedded
from embed.store.arrays import RaggedRows
from embed.store.manifest import read_json
from embed.writer import ArrayWriter

N = 20
CHUNK = 6
HEADER = ("sample_id", "catalog_content", "image_link", "price")
FEATURES = ("text.npy", "image.npy", "attributes.npy")


def write_catalog(path, records):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, HEADER, lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
    return path


@pytest.fixture(scope="module")
def images_dir(sample_catalog):
    return sample_catalog.parent / "images"


@pytest.fixture(scope="module")
def records(sample_catalog):
    """The first products of the sample, with one of each kind of trouble."""
    with sample_catalog.open(newline="", encoding="utf-8") as file:
        records = list(csv.DictReader(file))[:N]
    records[3]["catalog_content"] = ""
    records[4]["image_link"] = "https://example.com/images/none-such.jpg"
    records[4]["sample_id"] = "without photo"
    records[9] |= {key: records[8][key] for key in ("catalog_content", "image_link")}
    records[15] |= {key: records[8][key] for key in ("catalog_content", "image_link")}
    return records


@pytest.fixture(scope="module")
def image_weights(images_dir, tmp_path_factory):
    """Weights that tell photos apart: random ones, normalised by some photos."""
    torch.manual_seed(0)
    network = efficientnet_b0().train()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    pixels = [load_image(path, size=64) for path in sorted(images_dir.iterdir())[:5]]
    with torch.no_grad():
        network(normalise_images(torch.from_numpy(np.stack(pixels))))
    path = tmp_path_factory.mktemp("weights") / "efficientnet.safetensors"
    save_file(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def config(tiny_config, image_weights):
    return dataclasses.replace(
        tiny_config,
        chunk_size=CHUNK,
        n_threads=1,
        image_encoder=str(image_weights),
        random_weights=False,
    )


@pytest.fixture
def embed(tmp_path, images_dir, config):
    """Write a catalog of records and embed it; returns the stage's folder."""

    def run(records, *, run="run", name="catalog.csv", images=images_dir, **settings):
        catalog = read_catalog(write_catalog(tmp_path / name, records))
        settings = dataclasses.replace(config, **settings)
        extract(catalog, tmp_path / run, images_dir=images, config=settings)
        return tmp_path / run / "embed"

    return run


@pytest.fixture(scope="module")
def whole(records, images_dir, config, tmp_path_factory):
    """The stage's folder of a run that was never stopped. Read-only."""
    run_dir = tmp_path_factory.mktemp("whole")
    catalog = read_catalog(write_catalog(run_dir / "catalog.csv", records))
    extract(catalog, run_dir, images_dir=images_dir, config=config)
    return run_dir / "embed"


@pytest.fixture
def no_encoding(monkeypatch):
    """Any attempt to encode fails the test."""

    def encode(*_, **__):
        raise AssertionError("encoded although the stage was up to date")

    monkeypatch.setattr(TextEncoder, "encode", encode)
    monkeypatch.setattr(ImageEncoder, "encode", encode)


HOLDS_PRICES = ("manifest.json", "catalog.parquet")


def contents(stage_dir, *, leave_out=("manifest.json",)):
    return {
        path.name: path.read_bytes()
        for path in sorted(stage_dir.iterdir())
        if path.name not in leave_out
    }


def manifest_of(stage_dir):
    return json.loads((stage_dir / "manifest.json").read_text(encoding="utf-8"))


def problems_of(stage_dir):
    with (stage_dir / "problems.csv").open(newline="", encoding="utf-8") as file:
        return [tuple(row.values()) for row in csv.DictReader(file)]


def assert_close(found, expected):
    # float16 at rest, and batches of another make-up
    np.testing.assert_allclose(
        found.astype(float), expected.astype(float), atol=2e-3, rtol=2e-3
    )


def stop_at_chunk(monkeypatch, k, *, before):
    """Raise in the k-th chunk, before or after its rows are written."""
    write, calls = ArrayWriter.write, iter(range(1000))

    def stopped(self, chunk):
        last = next(calls) == k
        if not (last and before):
            write(self, chunk)
        if last:
            raise KeyboardInterrupt

    monkeypatch.setattr(ArrayWriter, "write", stopped)


def test_the_stage_holds_what_the_design_says(whole):
    shapes = {name: np.load(whole / name).shape for name in FEATURES}
    n_attributes = len(manifest_of(whole)["attribute_names"])
    assert shapes == {
        "text.npy": (N, 32),
        "image.npy": (N, 1280),
        "attributes.npy": (N, n_attributes),
    }
    assert np.load(whole / "text.npy").dtype == np.float16
    assert len(RaggedRows(whole / "tokens.npy")) == N
    assert len(RaggedRows(whole / "thumbnails.npy")) == N
    assert not (whole / "progress.json").exists()


def test_features_follow_their_product_when_the_catalog_is_shuffled(
    embed, records, whole
):
    order = np.random.default_rng(0).permutation(N)
    found = embed([records[row] for row in order])
    sample_id = np.load(found / "sample_id.npy")
    assert sample_id.tolist() == [records[row]["sample_id"] for row in order]
    for name in (*FEATURES, "text_ok.npy", "image_ok.npy"):
        assert_close(np.load(found / name), np.load(whole / name)[order])
    for name in ("tokens.npy", "thumbnails.npy"):
        a, b = RaggedRows(found / name), RaggedRows(whole / name)
        assert all(np.array_equal(a[i], b[row]) for i, row in enumerate(order))


def test_equal_inputs_are_encoded_once_and_have_equal_features(
    embed, records, monkeypatch
):
    counts = {TextEncoder: 0, ImageEncoder: 0}

    def count(encoder):
        encode = encoder.encode

        def counted(self, inputs):
            counts[encoder] += len(inputs)
            return encode(self, inputs)

        monkeypatch.setattr(encoder, "encode", counted)

    count(TextEncoder)
    count(ImageEncoder)
    found = embed(records)
    assert counts[TextEncoder] == len({r["catalog_content"] for r in records}) == N - 2
    seen = np.flatnonzero(np.load(found / "image_ok.npy"))
    assert counts[ImageEncoder] == len({records[row]["image_link"] for row in seen})
    for name in FEATURES:
        rows = np.load(found / name)
        np.testing.assert_array_equal(rows[9], rows[8])
        np.testing.assert_array_equal(rows[15], rows[8])


@pytest.mark.parametrize("chunk_size", [4, 20])  # in a later chunk, in the same
def test_a_shared_photo_that_could_be_read_only_later_has_features(
    embed, records, whole, monkeypatch, chunk_size
):
    real, asked, shared = chunks.load_image, [], records[8]["sample_id"]

    def first_fails(path, *, size):
        asked.append(path.stem)
        if path.stem == shared and asked.count(shared) == 1:
            raise UnreadableImage("busy")
        return real(path, size=size)

    monkeypatch.setattr(chunks, "load_image", first_fails)
    found = embed(records, chunk_size=chunk_size)
    rows = np.array([8, 9, 15])
    is_read = np.load(found / "image_ok.npy")[rows]
    assert is_read.tolist() in ([False, True, True], [True, False, True])  # two threads
    image, expected = np.load(found / "image.npy"), np.load(whole / "image.npy")
    assert not image[rows[~is_read]].any()
    assert_close(image[rows[is_read]], expected[rows[is_read]])


def test_missing_inputs_get_a_placeholder_and_are_recorded(whole, records):
    text_ok, image_ok = np.load(whole / "text_ok.npy"), np.load(whole / "image_ok.npy")
    problems = problems_of(whole)
    assert np.flatnonzero(~text_ok).tolist() == [3]
    assert not image_ok[4]
    ids = [record["sample_id"] for record in records]
    expected = [("text", row) for row in np.flatnonzero(~text_ok)]
    expected += [("image", row) for row in np.flatnonzero(~image_ok)]
    assert {(i, field) for i, field, _ in problems} == {
        (ids[row], field) for field, row in expected
    }
    assert len(problems) == len(expected)
    assert (ids[3], "text", "no usable text") in problems
    reason = (
        "no photo named 'none-such.jpg' (last part of the link) or 'without photo' "
        "(sample_id) in the images folder"
    )
    assert ("without photo", "image", reason) in problems
    assert manifest_of(whole)["substituted"] == {
        "text": 1,
        "image": int((~image_ok).sum()),
    }
    thumbnails = RaggedRows(whole / "thumbnails.npy")
    for row, ok in enumerate(image_ok):
        assert (thumbnails.lengths[row] > 0) == ok
        assert np.load(whole / "image.npy")[row].any() == ok
    assert np.load(whole / "text.npy")[3].any()


def test_a_photo_whose_link_is_broken_is_a_placeholder(
    embed, records, tmp_path, images_dir
):
    images = shutil.copytree(images_dir, tmp_path / "photos")
    photo = images / f"{records[8]['sample_id']}.jpg"
    photo.unlink()
    photo.symlink_to(tmp_path / "nowhere")
    found = embed(records, images=images)
    assert (records[8]["sample_id"], "image", "no such file") in problems_of(found)
    assert not np.load(found / "image_ok.npy")[[8, 9, 15]].any()


def test_a_second_run_is_up_to_date_and_writes_nothing(
    embed, records, no_encoding, whole, tmp_path, caplog
):
    def dates(folder):
        found = {path.name: path.stat() for path in folder.iterdir()}
        return {name: (s.st_mtime_ns, s.st_ino) for name, s in found.items()}

    stage_dir = shutil.copytree(whole, tmp_path / "run" / "embed")
    embed(records)  # the catalog lies elsewhere than that of `whole`
    before = dates(stage_dir)
    with caplog.at_level(logging.INFO):
        embed(records)
    assert "embed: up to date" in caplog.text
    assert dates(stage_dir) == before
    assert contents(stage_dir) == contents(whole)


def test_changed_prices_alone_leave_the_stage_up_to_date(
    embed, records, whole, no_encoding, tmp_path
):
    shutil.copytree(whole, tmp_path / "run" / "embed")
    changed = [{**record, "price": "7.77"} for record in records]
    assert contents(embed(changed), leave_out=HOLDS_PRICES) == contents(
        whole, leave_out=HOLDS_PRICES
    )
    catalog = read_run_catalog(tmp_path / "run", require_embedded(tmp_path / "run"))
    assert set(catalog.price_text) == {"7.77"}


def test_no_feature_knows_a_price(embed, records, whole):
    changed = [{**record, "price": str(3 * i + 1)} for i, record in enumerate(records)]
    assert contents(embed(changed), leave_out=HOLDS_PRICES) == contents(
        whole, leave_out=HOLDS_PRICES
    )


def test_an_up_to_date_run_learns_where_its_prices_lie_now(
    records, whole, config, images_dir, tmp_path, no_encoding
):
    shutil.copytree(whole, tmp_path / "run" / "embed")
    path = write_catalog(tmp_path / "moved.csv", records)
    path.write_text(path.read_text().replace("link,price", "link,cost", 1))
    columns = CatalogColumns(price="cost")
    catalog = read_catalog(path, columns=columns)
    extract(catalog, tmp_path / "run", images_dir=images_dir, config=config)
    inputs = manifest_of(tmp_path / "run" / "embed")["inputs"]
    assert inputs["catalog_path"] == str(path.resolve())
    assert inputs["columns"]["price"] == "cost"
    assert manifest_of(tmp_path / "run" / "embed")["key"] == manifest_of(whole)["key"]


@pytest.mark.parametrize("field", ["catalog_content", "image_link", "sample_id"])
def test_a_changed_input_is_embedded_anew(embed, records, whole, tmp_path, field):
    shutil.copytree(whole, tmp_path / "run" / "embed")
    changed = [dict(record) for record in records]
    changed[0][field] = "Item Name: Rare Tea, 2 Ounce"
    found = embed(changed)
    assert manifest_of(found)["key"] != manifest_of(whole)["key"]
    fresh = embed(changed, run="fresh")
    assert contents(found) == contents(fresh)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("k", range(-(-N // CHUNK)))
def test_a_stopped_run_goes_on_to_the_same_bytes(
    embed, records, whole, monkeypatch, k, before
):
    with monkeypatch.context() as patch:
        stop_at_chunk(patch, k, before=before)
        with pytest.raises(KeyboardInterrupt):
            embed(records)
    found = embed(records)
    assert contents(found) == contents(whole)
    a, b = manifest_of(found), manifest_of(whole)
    for manifest in (a, b):
        del manifest["seconds"], manifest["inputs"]["catalog_path"]
    assert a == b


def test_only_the_chunks_that_are_missing_are_encoded(embed, records, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at_chunk(patch, 2, before=False)
        with pytest.raises(KeyboardInterrupt):
            embed(records)
    seen = []
    write = ArrayWriter.write

    def watched(self, chunk):
        seen.append(chunk.rows)
        write(self, chunk)

    monkeypatch.setattr(ArrayWriter, "write", watched)
    embed(records)
    assert seen == [range(12, 18), range(18, 20)]


def test_progress_of_one_catalog_does_not_outlive_a_run_of_another(
    embed, records, whole, monkeypatch
):
    changed = [dict(record) for record in records]
    changed[0]["catalog_content"] = "Item Name: Rare Tea, 2 Ounce"
    for given, k in ((records, 2), (changed, 0)):
        with monkeypatch.context() as patch:
            stop_at_chunk(patch, k, before=True)
            with pytest.raises(KeyboardInterrupt):
                embed(given)
    assert contents(embed(records)) == contents(whole)


@pytest.mark.parametrize("name", ["text.npy", "tokens.npy", "thumbnails_offsets.npy"])
def test_a_stopped_run_that_lost_a_file_says_so(
    embed, records, monkeypatch, tmp_path, name
):
    with monkeypatch.context() as patch:
        stop_at_chunk(patch, 2, before=True)
        with pytest.raises(KeyboardInterrupt):
            embed(records)
    (tmp_path / "run" / "embed" / name).unlink()
    with pytest.raises(CacheError, match=f"{name}: is missing. Delete the folder"):
        embed(records)


def test_a_catalog_without_any_photo_is_embedded(embed, records):
    found = embed([{**record, "image_link": ""} for record in records], images=None)
    assert not np.load(found / "image_ok.npy").any()
    assert not np.load(found / "image.npy").any()
    assert RaggedRows(found / "thumbnails.npy").lengths.tolist() == [0] * N
    assert manifest_of(found)["substituted"]["image"] == N


def test_one_product_is_embedded_as_among_others(embed, records, whole):
    found = embed(records[8:9])
    for name in FEATURES:
        assert_close(np.load(found / name)[0], np.load(whole / name)[8])
    jpeg = RaggedRows(found / "thumbnails.npy")[0].tobytes()
    assert decode_thumbnail(jpeg).shape == (32, 32, 3)


def test_random_weights_are_used_only_when_asked_for(embed, records, whole, caplog):
    with pytest.raises(WeightsError, match="--random-weights"):
        embed(records[:1], image_encoder="none-such")
    with caplog.at_level(logging.WARNING, job.__name__):
        found = embed(records[:1], image_encoder="none-such", random_weights=True)
    assert "RANDOM numbers" in caplog.text
    assert manifest_of(found)["inputs"]["image_weights"] == "random"
    assert manifest_of(whole)["inputs"]["image_weights"] != "random"


@pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None,
    reason="the package openvino (an extra) is not installed",
)
def test_openvino_s_features_are_those_of_pytorch_and_the_same_each_time(
    embed, records, whole
):
    found = embed(records, backend="openvino")
    manifest = read_json(found / "manifest.json")
    assert manifest["backends"] == {"text": "openvino fp32", "image": "openvino fp32"}
    for name in FEATURES:
        expected = np.load(whole / name).astype(np.float32)
        features = np.load(found / name).astype(np.float32)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(features / scale, expected / scale, atol=5e-3)
    again = embed(records, run="again", backend="openvino")
    assert contents(again) == contents(found)


def test_the_manifest_says_what_computed_the_features(whole, embed, records):
    manifest = read_json(whole / "manifest.json")
    assert manifest["backends"] == {"text": "eager fp32", "image": "eager fp32"}
    without = embed(records, images=None, run="without photos")
    manifest = read_json(without / "manifest.json")
    assert manifest["backends"] == {"text": "eager fp32", "image": None}


@pytest.mark.parametrize(
    ("setting", "rule"),
    [
        ({"n_threads": 0}, "--threads must be at least 1, got 0"),
        ({"n_workers": 0}, "--workers must be at least 1, got 0"),
        ({"chunk_size": 0}, "the chunk size must be at least 1, got 0"),
        ({"max_tokens": 7}, "--max-tokens must be 8 to 512 .*, got 7"),
        ({"image_size": 31}, "--image-size must be 32 to 1024 pixels, got 31"),
    ],
)
def test_a_setting_that_no_run_can_use_is_refused_by_its_option(setting, rule):
    with pytest.raises(ConfigError, match=rule):
        EmbedConfig(**setting)
