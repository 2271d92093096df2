import csv
import dataclasses
import logging
import os
import shutil

import numpy as np
import pytest

from embed import reuse as module
from embed.catalog.reader import CatalogColumns, read_catalog
from embed.encoders.towers import ImageEncoder, TextEncoder
from embed.errors import CacheError
from embed.extract import extract
from embed.features import N_TRIALS
from embed.records import EmbedManifest, require_embedded
from embed.store.manifest import read_json, read_record, write_json
from embed.verify import verify_embedding
from embed.writer import ArrayWriter

N, CHUNK = 20, 6
COLUMNS = CatalogColumns(table="auto")


@pytest.fixture(scope="module")
def records(sample_catalog):
    with sample_catalog.open(newline="", encoding="utf-8") as file:
        records = list(csv.DictReader(file))
    for number, record in enumerate(records):
        record["brand"] = f"brand {number % 4}"
        record["catalog_content"] = f"{number} {record['catalog_content']}"
    records[3]["catalog_content"] = ""
    records[4]["image_link"] = "https://example.com/images/none-such.jpg"
    records[4]["sample_id"] = "without photo"
    records[5]["image_link"] = records[8]["image_link"]
    return records


@pytest.fixture(scope="module")
def config(tiny_config):
    return dataclasses.replace(tiny_config, chunk_size=CHUNK)


@pytest.fixture(scope="module")
def images_dir(sample_catalog):
    return sample_catalog.parent / "images"


def embed_into(run_dir, records, images_dir, config, reuse=None):
    path = run_dir.with_suffix(".csv")
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(records[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
    catalog = read_catalog(path, columns=COLUMNS)
    extract(catalog, run_dir, images_dir=images_dir, config=config, reuse=reuse)
    return run_dir


@pytest.fixture(scope="module")
def old_run(records, images_dir, config, tmp_path_factory):
    """A run of the first 20 products. Read-only."""
    folder = tmp_path_factory.mktemp("old") / "run"
    return embed_into(folder, records[:N], images_dir, config)


@pytest.fixture
def embed(tmp_path, images_dir, config):
    def run(records, name="new", *, images=images_dir, reuse=None, **settings):
        settings = dataclasses.replace(config, **settings)
        return embed_into(tmp_path / name, records, images, settings, reuse)

    return run


@pytest.fixture
def own_run(old_run, tmp_path):
    return shutil.copytree(old_run, tmp_path / "new")


@pytest.fixture
def encoded(monkeypatch):
    """Count what each encoder encodes."""
    counts = {"texts": 0, "photos": 0}

    def count(encoder, name):
        encode = encoder.encode

        def counted(self, inputs):
            counts[name] += len(inputs)
            return encode(self, inputs)

        monkeypatch.setattr(encoder, "encode", counted)

    count(TextEncoder, "texts")
    count(ImageEncoder, "photos")
    return counts


def changed_rows(records):
    """Rows removed, added, moved and changed, against the first 20."""
    rows = [dict(record) for record in (*records[2:18], *records[20:24])]
    rows[7]["catalog_content"] = "Item Name: Rare Tea, 2 Ounce"
    rows[9]["image_link"] = records[20]["image_link"]
    rows[11]["brand"] = "brand 9"
    return rows[::-1]


def contents(run_dir):
    """Return the bytes of all files, without paths and seconds."""
    files = {
        path.name: path.read_bytes()
        for path in sorted((run_dir / "embed").iterdir())
        if path.name != "manifest.json"
    }
    manifest = read_json(run_dir / "embed" / "manifest.json")
    del manifest["seconds"], manifest["inputs"]["catalog_path"]
    del manifest["inputs"]["images_dir"]
    return {**files, "manifest": manifest}


def stop_at_chunk(monkeypatch, k):
    write, calls = ArrayWriter.write, iter(range(1000))

    def stopped(self, chunk):
        if next(calls) == k:
            raise KeyboardInterrupt
        write(self, chunk)

    monkeypatch.setattr(ArrayWriter, "write", stopped)


def test_a_changed_catalog_has_the_bytes_as_from_nothing_and_encodes_what_is_new(
    embed, records, old_run, encoded
):
    rows = changed_rows(records)
    found = embed(rows, reuse=old_run)
    # Four added products and a new text; four added photos.
    assert encoded["texts"] == 5 + N_TRIALS
    assert encoded["photos"] == 4 + N_TRIALS
    assert contents(found) == contents(embed(rows, "from nothing"))


def test_a_changed_catalog_of_the_same_run_reuses_its_own_features(
    embed, records, own_run, encoded, tmp_path
):
    rows = changed_rows(records)
    assert embed(rows) == own_run
    assert encoded["texts"] == 5 + N_TRIALS
    assert not (own_run / module.BEFORE).exists()
    assert contents(own_run) == contents(embed(rows, "from nothing"))


def test_products_that_move_are_not_encoded(embed, records, old_run, encoded):
    rows = records[:N][::-1]
    found = embed(rows, reuse=old_run)
    assert encoded == {"texts": N_TRIALS, "photos": N_TRIALS}
    assert contents(found) == contents(embed(rows, "from nothing"))


def test_a_photo_replaced_under_its_name_size_and_time_is_found(
    embed, records, own_run, images_dir, tmp_path, encoded
):
    images = shutil.copytree(images_dir, tmp_path / "images")
    before = require_embedded(own_run).key
    embed(records[:N], images=images)
    assert require_embedded(own_run).key == before
    first, second = (images / f"{records[row]['sample_id']}.jpg" for row in (0, 1))
    size = max(path.stat().st_size for path in (first, second))
    for path in (first, second):  # a decoder ignores what follows the picture
        path.write_bytes(path.read_bytes().ljust(size, b"\0"))
    embed(records[:N], images=images)
    encoded.update(texts=0, photos=0)
    before = require_embedded(own_run).key
    status = first.stat()
    first.write_bytes(second.read_bytes())
    os.utime(first, ns=(status.st_atime_ns, status.st_mtime_ns))
    embed(records[:N], images=images)
    assert require_embedded(own_run).key == before  # by name and size: up to date
    embed(records[:N], images=images, reuse=own_run)
    assert require_embedded(own_run).key != before
    assert encoded == {"texts": N_TRIALS, "photos": N_TRIALS}
    fresh = embed(records[:N], "from nothing", images=images)
    assert contents(own_run) == contents(fresh)
    image = np.load(own_run / "embed" / "image.npy")
    np.testing.assert_array_equal(image[0], image[1])


def test_the_named_run_itself_is_up_to_date_if_nothing_changed(
    embed, records, own_run, encoded, caplog
):
    with caplog.at_level(logging.INFO):
        embed(records[:N], reuse=own_run)
    assert encoded == {"texts": 0, "photos": 0}
    assert "up to date" in caplog.text


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("k", [0, 2])
def test_a_stopped_stage_keeps_the_old_features_and_goes_on(
    embed, records, own_run, encoded, monkeypatch, k, named
):
    rows = changed_rows(records)
    reuse = own_run if named else None
    with monkeypatch.context() as patch:
        stop_at_chunk(patch, k)
        with pytest.raises(KeyboardInterrupt):
            embed(rows, reuse=reuse)
    kept = own_run / module.BEFORE
    verify_embedding(kept, read_record(kept / "manifest.json", EmbedManifest))
    embed(rows, reuse=reuse)
    assert encoded["texts"] <= 5 + 2 * N_TRIALS
    assert not kept.exists()
    assert contents(own_run) == contents(embed(rows, "from nothing"))


def test_a_stage_stopped_before_it_tidies_up_does_so_later(
    embed, records, own_run, monkeypatch
):
    def stopped(run_dir):
        raise KeyboardInterrupt

    rows = changed_rows(records)
    with monkeypatch.context() as patch:
        patch.setattr(module.shutil, "rmtree", stopped)
        with pytest.raises(KeyboardInterrupt):
            embed(rows)
    assert (own_run / module.BEFORE).exists()
    embed(rows)
    assert not (own_run / module.BEFORE).exists()
    assert contents(own_run) == contents(embed(rows, "from nothing"))


@pytest.mark.parametrize(
    ("settings", "line", "n_texts", "n_photos"),
    [
        ({"image_size": 48}, "photos are not reused: --image-size was 32", N_TRIALS, N),
        ({"seed": 1}, "photos are not reused: --seed was 0, is now 1", N_TRIALS, N),
        ({"max_tokens": 16}, "", N, N_TRIALS),
    ],
)
def test_what_other_settings_change_is_encoded_anew_and_the_line_says_why(
    embed, records, old_run, encoded, caplog, settings, line, n_texts, n_photos
):
    with caplog.at_level(logging.INFO):
        found = embed(records[:N], reuse=old_run, **settings)
    assert line in caplog.text
    assert encoded["texts"] <= n_texts
    assert encoded["photos"] <= n_photos
    assert contents(found) == contents(embed(records[:N], "from nothing", **settings))


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        ({"format": 7}, ["another version of pricestack"] * 2),
        ({"text_weights_sha256": "0"}, ["texts are not reused: the encoder's weights"]),
        ({"image_weights_sha256": "0"}, ["photos are not reused: the encoder's"]),
        ({"dtype": "torch.bfloat16"}, ["the number format was"] * 2),
        ({"backend": "compile"}, ["--backend was compile, is now eager"] * 2),
    ],
)
def test_features_of_another_encoder_are_not_reused(
    embed, records, old_run, caplog, tmp_path, change, lines
):
    other = shutil.copytree(old_run, tmp_path / "other")
    path = other / "embed" / "manifest.json"
    manifest = read_json(path)
    write_json(path, {**manifest, "inputs": {**manifest["inputs"], **change}})
    with caplog.at_level(logging.INFO):
        found = embed(records[:4], reuse=other)
    for line in lines:
        assert line in caplog.text
    assert caplog.text.count("are not reused") == len(lines)
    assert contents(found) == contents(embed(records[:4], "from nothing"))


def test_features_that_this_machine_computes_otherwise_are_not_reused(
    embed, records, old_run, caplog, monkeypatch
):
    encode = TextEncoder.encode
    monkeypatch.setattr(
        TextEncoder, "encode", lambda self, ids: encode(self, ids) * np.float32(1.01)
    )
    rows = changed_rows(records)
    with caplog.at_level(logging.INFO):
        found = embed(rows, reuse=old_run)
    assert "features of texts are not reused: this machine computes" in caplog.text
    assert contents(found) == contents(embed(rows, "from nothing"))


def test_photos_that_are_decoded_otherwise_are_not_reused(
    embed, records, old_run, caplog, monkeypatch
):
    monkeypatch.setattr("embed.photos.decode._THUMBNAIL_QUALITY", 80)
    with caplog.at_level(logging.INFO):
        found = embed(records[:N], reuse=old_run)
    assert "features of photos are not reused: this machine computes" in caplog.text
    assert contents(found) == contents(embed(records[:N], "from nothing"))


@pytest.mark.parametrize("name", ["image.npy", "text_sha256.npy", "thumbnails.npy"])
def test_a_damaged_run_is_refused_by_name_and_left_alone_without(
    embed, records, own_run, tmp_path, name
):
    path = own_run / "embed" / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CacheError, match=f"--reuse .*new: must be whole.*{name}"):
        embed(records, "another", reuse=own_run)
    with pytest.raises(CacheError, match=f"--reuse .*new: must be whole.*{name}"):
        embed(records, reuse=own_run)
    assert (own_run / "embed" / "manifest.json").exists()
    assert contents(embed(records)) == contents(embed(records, "from nothing"))


def test_arrays_of_other_shapes_are_refused(embed, records, own_run, monkeypatch):
    np.save(own_run / "embed" / "text_sha256.npy", np.zeros((N, 8), np.uint8))
    monkeypatch.setattr(module, "verify_embedding", lambda *_: None)  # a forged run
    with pytest.raises(CacheError, match="do not have the shapes"):
        embed(records, "another", reuse=own_run)


def test_a_run_without_features_is_refused_unless_it_is_the_run_itself(
    embed, records, tmp_path
):
    with pytest.raises(CacheError, match="must be a run with a finished embedding"):
        embed(records, reuse=tmp_path / "none")
    assert not (tmp_path / "none").exists()
    found = embed(records[:3], reuse=tmp_path / "new")
    assert require_embedded(found).n_products == 3


def test_a_picture_that_is_no_stand_in_any_more_gets_its_features(
    embed, records, encoded
):
    shared = [dict(record) for record in records[:N]]
    names = ("Tea", "Drill", "Sofa", "Lamp", "Shirt", "Novel", "Kettle", "Rope")
    for record, name in zip(shared, names, strict=False):
        record["image_link"] = records[8]["image_link"]
        record["catalog_content"] = f"Item Name: {name}"
    old = embed(shared, "shared")
    assert not np.load(old / "embed" / "image_ok.npy")[:8].any()
    rows = [shared[0], *shared[8:]]
    found = embed(rows, reuse=old)
    assert np.load(found / "embed" / "image.npy")[0].any()
    assert contents(found) == contents(embed(rows, "from nothing"))


def test_features_do_not_depend_on_the_other_products(embed, records, old_run):
    alone = embed(records[8:9])
    for name in ("text.npy", "image.npy"):
        found = np.load(alone / "embed" / name)[0]
        np.testing.assert_array_equal(found, np.load(old_run / "embed" / name)[8])
