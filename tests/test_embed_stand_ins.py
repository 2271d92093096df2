"""One picture for many products of unlike texts is no photo of any of them."""

import csv
import dataclasses
import json
import logging
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from embed import extract as job
from embed.catalog.reader import read_catalog
from embed.extract import extract
from embed.photos import stand_ins
from embed.photos.stand_ins import (
    KNOWN_REASON,
    LEAST_UNLIKE,
    LEAST_UNLIKE_OF_MANY,
    describe_stand_ins,
    shared_by_unlike,
)
from embed.verify import verify_embedding
from finetune.folds import assign_folds
from finetune.products import product_groups
from stack.cli import main

UNLIKE = [
    "Green tea, 20 bags",
    "Cast iron pan with lid",
    "Wool socks, blue",
    "Garden hose 10 m",
    "Chess set of maple",
    "Sun cream factor 50",
    "Desk lamp, brass",
]


def test_the_picture_of_many_unlike_products_is_found():
    keys = ["logo"] * len(UNLIKE) + ["own", ""]
    found = shared_by_unlike(keys, [*UNLIKE, "Bicycle bell", "Bicycle bell"])
    assert found == {"logo": list(range(len(UNLIKE)))}


@pytest.mark.parametrize(
    "texts",
    [
        [f"Basic tee, {colour} {size}" for colour in ("red", "blue") for size in "SML"],
        [f"Tea {grams} g" for grams in range(100, 130)],
        [f"Wool {what}" for what in ("sock", "hat", "scarf", "glove", "vest", "coat")],
        UNLIKE[: LEAST_UNLIKE - 1],
        UNLIKE[: LEAST_UNLIKE_OF_MANY - 1] * 8,
        [""] * 40,
        [f"{number}" for number in range(40)],
    ],
)
def test_variants_few_products_and_products_without_text_may_share_a_photo(texts):
    assert shared_by_unlike(["photo"] * len(texts), texts) == {}


def test_the_brand_of_a_shop_does_not_make_texts_alike():
    texts = [f"Acme Tools {text.split()[0]}" for text in UNLIKE]
    others = [f"Acme Tools {text} steel" for text in UNLIKE] * 2
    assert shared_by_unlike(["x"] * len(texts), texts) == {}
    assert shared_by_unlike(["x"] * len(texts) + [""] * len(others), texts + others)


def test_a_picture_of_a_large_share_needs_fewer_unlike_texts():
    keys = ["x"] * 12 + [""] * 60
    texts = UNLIKE[:LEAST_UNLIKE_OF_MANY] * 4 + ["Bicycle bell"] * 60
    assert shared_by_unlike(keys, texts)
    assert not shared_by_unlike(keys + [""] * 60, texts + ["Bicycle bell"] * 60)


def test_what_is_found_does_not_depend_on_the_order_of_rows():
    rng = np.random.default_rng(0)
    words = np.array(
        [
            "tea",
            "pan",
            "sock",
            "hose",
            "chess",
            "cream",
            "lamp",
            "wool",
            "blue",
            "brass",
        ]
    )
    for _ in range(50):
        texts = [" ".join(rng.choice(words, 3)) for _ in range(9)]
        found = shared_by_unlike(["x"] * 9, texts)
        turned = shared_by_unlike(["x"] * 9, [texts[i] for i in rng.permutation(9)])
        assert bool(found) == bool(turned)


def test_names_in_fields_and_in_scripts_without_spaces_count():
    fields = [f"Item Name: {name}\nBullet Point 1: Free shipping" for name in UNLIKE]
    assert shared_by_unlike(["x"] * len(fields), fields)
    chinese = ["绿茶包", "铸铁锅", "羊毛袜", "花园管", "国际象棋", "防晒霜"]
    assert shared_by_unlike(["x"] * 6, chinese)


N = 20
SHARED = range(4, 18)


@pytest.fixture
def catalog_path(sample_catalog, tmp_path):
    """The first products of the sample; 14 of them have the photo of the first."""
    with sample_catalog.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))[:N]
    images = tmp_path / "images"
    images.mkdir()
    for row, record in enumerate(rows):
        record["image_link"] = ""
        path = images / f"{record['sample_id']}.png"
        colour = (9 * row, 250 - 9 * row, 90)
        photo = Image.new("RGB", (40, 40), colour)
        if row in SHARED:
            photo = Image.radial_gradient("L").resize((40, 40)).convert("RGB")
        # Other bytes, the same pixels.
        photo.save(path, compress_level=row % 10)
    path = tmp_path / "catalog.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        lines = csv.DictWriter(file, list(rows[0]))
        lines.writeheader()
        lines.writerows(rows)
    return path


@pytest.fixture
def embed(catalog_path, tiny_config, tmp_path):
    def run(name="run", **settings):
        config = dataclasses.replace(tiny_config, chunk_size=8, **settings)
        images = catalog_path.parent / "images"
        catalog = read_catalog(catalog_path)
        manifest = extract(catalog, tmp_path / name, images_dir=images, config=config)
        return manifest, tmp_path / name / "embed"

    return run


def contents(folder):
    names = [path for path in sorted(folder.iterdir()) if path.suffix != ".json"]
    return {path.name: path.read_bytes() for path in names}


def test_products_with_a_stand_in_are_embedded_without_photo(embed, catalog_path):
    manifest, stage_dir = embed()
    image_ok = np.load(stage_dir / "image_ok.npy")
    assert np.flatnonzero(~image_ok).tolist() == list(SHARED)
    image = np.load(stage_dir / "image.npy")
    assert not image[list(SHARED)].any()
    assert image[image_ok].any(axis=1).all()
    verify_embedding(stage_dir, manifest)
    assert manifest.substituted.image == len(SHARED)
    catalog = read_catalog(catalog_path)
    with (stage_dir / "problems.csv").open(newline="") as file:
        problems = [row for row in csv.DictReader(file) if row["field"] == "image"]
    assert [row["sample_id"] for row in problems] == [
        str(catalog.sample_id[row]) for row in SHARED
    ]
    assert all("--keep-shared-photos keeps it" in row["reason"] for row in problems)
    first = str(catalog.sample_id[SHARED[0]])
    assert describe_stand_ins(manifest) == (
        f"Stand-ins: 1 picture, shared by 14 products of unlike texts (one is "
        f"sample_id {first!r}), taken for no photo. --keep-shared-photos keeps them."
    )


def test_stand_ins_leave_the_folds_of_equal_size(embed, catalog_path, caplog):
    catalog = read_catalog(catalog_path)
    sizes = {}
    for keep in (False, True):
        _, stage_dir = embed(f"keep {keep}", keep_shared_photos=keep)
        groups = product_groups(catalog, stage_dir, keep_shared=keep)
        folds = assign_folds(catalog.price, groups, n_folds=4, seed=0)
        sizes[keep] = sorted(np.bincount(folds).tolist())
    assert np.ptp(sizes[False]) <= 2  # some have the same text
    assert max(sizes[True]) >= len(SHARED)
    assert "have the same photo" in caplog.text
    assert "leave --keep-shared-photos out and run `pricestack embed`" in caplog.text


def test_kept_pictures_are_photos(embed):
    manifest, stage_dir = embed(keep_shared_photos=True)
    assert np.load(stage_dir / "image_ok.npy").all()
    assert manifest.stand_ins == []
    assert describe_stand_ins(manifest) == ""


def test_a_run_killed_while_stand_ins_are_taken_out_ends_with_the_same_bytes(
    embed, monkeypatch
):
    take_out = stand_ins._take_out

    def stop(*_, **__):
        raise KeyboardInterrupt

    def stop_afterwards(*given, **named):
        take_out(*given, **named)
        raise KeyboardInterrupt

    kills = [
        (stand_ins, "_take_out", stop),
        (stand_ins, "crc_rows", stop),
        (stand_ins, "_take_out", stop_afterwards),
        (job, "_count_placeholders", stop),
    ]
    for place, name, kill in kills:
        with monkeypatch.context() as patch:
            patch.setattr(place, name, kill)
            with pytest.raises(KeyboardInterrupt):
                embed()
    _, stage_dir = embed()
    assert contents(stage_dir) == contents(embed("whole")[1])


def test_a_second_run_is_up_to_date(embed, caplog):
    first, _ = embed()
    with caplog.at_level(logging.INFO):
        second, _ = embed()
    assert "up to date" in caplog.text
    assert second == first


def test_the_command_says_it_in_a_line_and_keeps_them_when_asked(
    catalog_path, tiny_encoder, tmp_path
):
    arguments = ["embed", "--catalog", catalog_path, "--run", tmp_path / "run"]
    arguments += ["--images", catalog_path.parent / "images", "--random-weights"]
    arguments += ["--text-encoder", tiny_encoder, "--image-size", "32"]
    arguments += ["--image-encoder", "none-such", "--threads", "1"]
    result = CliRunner().invoke(main, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    assert "Stand-ins: 1 picture, shared by 14 products" in result.output
    result = CliRunner().invoke(main, [*map(str, arguments), "--keep-shared-photos"])
    assert result.exit_code == 0, result.output
    assert "Stand-ins" not in result.output


def test_a_run_knows_its_stand_in_again(finished_run, sample_catalog, tmp_path):
    from embed.errors import UnreadableImage
    from embed.photos.decode import encode_thumbnail, load_image, thumbnail_sha256
    from embed.photos.files import find_photos
    from stack.price.catalog import predict_prices
    from stack.price.flags import NO_PHOTO
    from stack.price.predictor import Predictor
    from stack.service.pricing import Pricer, Product

    run_dir = tmp_path / "run"
    shutil.copytree(finished_run, run_dir)
    catalog, images = read_catalog(sample_catalog), sample_catalog.parent / "images"
    path = find_photos(catalog, images)[5]
    picture = load_image(path, size=32)
    manifest_path = run_dir / "embed" / "manifest.json"
    manifest = json.loads(manifest_path.read_text())
    known = thumbnail_sha256(encode_thumbnail(picture))
    manifest["stand_ins"] = [{"sha256": known, "n_products": 9, "sample_id": "1"}]
    manifest_path.write_text(json.dumps(manifest))

    predictor = Predictor(run_dir, n_threads=1)
    assert isinstance(predictor.screen(picture), UnreadableImage)
    assert predictor.screen(255 - picture) is not None
    before, after, without = (
        predict_prices(run, catalog, images_dir=folder, n_threads=1)
        for run, folder in ((finished_run, images), (run_dir, images), (run_dir, None))
    )
    assert after.price[5] == pytest.approx(without.price[5])
    assert after.price[5] != before.price[5]
    pricer = Pricer(run_dir, n_threads=1)
    (answer,) = pricer.price([Product(text=catalog.text[5], photo=picture)])
    assert answer.price == pytest.approx(after.price[5])
    (placeholder,) = answer.placeholders
    assert placeholder.reason == KNOWN_REASON
    n_same = sum(path == other for other in find_photos(catalog, images))
    assert after.n_lacking(NO_PHOTO) == before.n_lacking(NO_PHOTO) + n_same
