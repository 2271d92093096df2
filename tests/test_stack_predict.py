import csv
import dataclasses
import json
import os
import re
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import TINY_STACK, TINY_TRAINING, choose, copy_run
from safetensors.torch import load_file
from threadpoolctl import ThreadpoolController

import stack.price.engine
import stack.price.flags
import stack.price.predictor
from embed.catalog.reader import read_catalog
from embed.chunks import NO_PHOTO_GIVEN, prepare_chunk, prepared_chunks
from embed.encoders.weights import WeightsError
from embed.errors import CacheError
from embed.extract import extract
from embed.records import require_embedded
from embed.store.manifest import (
    read_json,
)
from finetune.averaging import average_log_prices
from finetune.batches import ProductCache
from finetune.network.arithmetic import choose_arithmetic
from finetune.network.saved import load_network
from finetune.out_of_fold import finetune
from finetune.score import PRICE_FLOOR, to_price
from finetune.training.loop import apply_network
from stack.cli import predict_command
from stack.fit import fit_stack
from stack.price.catalog import (
    NO_PHOTO,
    NO_TEXT,
    CatalogPrices,
    predict_prices,
    write_prices,
)
from stack.price.predictor import Predictor


@pytest.fixture(scope="module")
def photos(sample_catalog):
    return sample_catalog.parent / "images"


@pytest.fixture(scope="module")
def run_of(finished_run, tmp_path_factory):
    """Copies of the finished run in which one or the other predictor was chosen."""

    return {
        chosen: choose(
            copy_run(finished_run, tmp_path_factory.mktemp(chosen) / "run"), chosen
        )
        for chosen in ("network", "stacker")
    }


@pytest.fixture(scope="module")
def predicted(run_of, sample_catalog, photos):
    catalog = read_catalog(sample_catalog)
    return {
        name: predict_prices(run_dir, catalog, images_dir=photos, n_threads=1).price
        for name, run_dir in run_of.items()
    }


def as_prices(price):
    return CatalogPrices(
        price=price,
        price_low=price / 2,
        price_high=2 * price,
        within_10=np.full(len(price), 0.25),
        within_20=np.full(len(price), 0.5),
        unlike=np.arange(len(price)) == 1,
        doubts=(("networks disagree",), *[()] * (len(price) - 1)),
        lacks=((NO_PHOTO,), *[()] * (len(price) - 1)),
    )


def write_catalog(path, *rows):
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(("sample_id", "catalog_content", "image_link"))
        lines.writerows(rows)
    return read_catalog(path)


@pytest.fixture
def learned_run(embedded_run, tmp_path):
    """A run whose networks have learned their training prices."""
    run_dir = copy_run(embedded_run, tmp_path / "run")
    config = dataclasses.replace(
        TINY_TRAINING,
        smooth_l1_epochs=12,
        smape_epochs=0,
        text_learning_rate=3e-3,
        fusion_learning_rate=5e-3,
        head_dropout=0.0,
        ema_decay=0.0,
    )
    finetune(run_dir, config=config)
    fit_stack(run_dir, config=TINY_STACK)
    return run_dir


def test_the_prices_of_the_training_catalog_are_found_again(
    learned_run, sample_catalog, photos
):
    catalog = read_catalog(sample_catalog)
    for chosen in ("network", "stacker"):
        choose(learned_run, chosen)
        price = predict_prices(
            learned_run, catalog, images_dir=photos, n_threads=1
        ).price
        found = np.corrcoef(np.log1p(price), np.log1p(catalog.price))[0, 1]
        assert found > 0.6, chosen


@pytest.mark.parametrize("chosen", ["network", "stacker"])
def test_there_is_a_finite_price_above_zero_for_each_product(predicted, chosen):
    price = predicted[chosen]
    assert price.shape == (40,)
    assert np.isfinite(price).all()
    assert (price >= PRICE_FLOOR).all()


def test_the_network_s_price_is_the_average_of_all_folds_in_log_space(
    predicted, finished_run
):
    embed = require_embedded(finished_run)
    cache = ProductCache(finished_run / "embed", max_tokens=24, image_size=32)
    arithmetic = choose_arithmetic("fp32", torch.device("cpu"))
    log_price = [
        apply_network(
            load_network(
                finished_run / "finetune", fold, 0, embed=embed, config=TINY_TRAINING
            ),
            cache,
            np.arange(40),
            arithmetic=arithmetic,
        )[0]
        for fold in range(3)
    ]
    expected = to_price(average_log_prices(np.stack(log_price)))
    np.testing.assert_allclose(predicted["network"], expected, rtol=1e-3)


def test_the_chosen_predictor_is_the_one_that_serves(predicted, finished_run):
    grown = any(
        read_json(finished_run / "stack" / "manifest.json")["rounds"]["stacker"]
    )
    assert grown
    assert not np.array_equal(predicted["network"], predicted["stacker"])


@pytest.mark.parametrize("chosen", ["network", "stacker"])
def test_a_product_with_neither_text_nor_photo_is_priced(run_of, tmp_path, chosen):
    catalog = write_catalog(tmp_path / "new.csv", ("007", "", ""))
    prices = predict_prices(run_of[chosen], catalog, images_dir=None, n_threads=1)
    assert prices.price.shape == (1,)
    assert np.isfinite(prices.price).all()
    assert prices.price[0] > 0
    assert [prices.n_lacking(lack) for lack in (NO_TEXT, NO_PHOTO)] == [1, 1]
    assert prices.lacks[0] == (NO_TEXT, NO_PHOTO)


def test_a_price_does_not_depend_on_the_other_rows_or_their_order(
    run_of, predicted, sample_catalog, photos, tmp_path
):
    with sample_catalog.open(newline="") as file:
        rows = list(csv.DictReader(file))
    chosen = [31, 2, 17]
    catalog = write_catalog(
        tmp_path / "some.csv",
        *(
            (rows[r]["sample_id"], rows[r]["catalog_content"], rows[r]["image_link"])
            for r in chosen
        ),
    )
    price = predict_prices(
        run_of["stacker"], catalog, images_dir=photos, n_threads=1
    ).price
    # Frozen features are kept as float16, and a batch of another size rounds otherwise.
    np.testing.assert_allclose(price, predicted["stacker"][chosen], rtol=0.02)


def test_the_file_has_every_id_once_and_in_order(predicted, sample_catalog, tmp_path):
    catalog = read_catalog(sample_catalog)
    path = tmp_path / "prices.csv"
    write_prices(path, catalog, as_prices(predicted["network"]))
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["sample_id"] for row in rows] == catalog.sample_id.tolist()
    written = np.array([float(row["price"]) for row in rows])
    np.testing.assert_allclose(written, predicted["network"], atol=1e-4)
    assert (written > 0).all()
    assert [p.name for p in tmp_path.iterdir()] == ["prices.csv"]


def test_leading_zeros_of_an_id_are_written_as_they_were(tmp_path):
    catalog = write_catalog(tmp_path / "new.csv", ("007", "tea", ""), ("7", "tea", ""))
    write_prices(tmp_path / "out.csv", catalog, as_prices(np.array([1.0, 2.5])))
    lines = (tmp_path / "out.csv").read_text().split()
    assert lines == ["sample_id,price", "007,1.0000", "7,2.5000"]
    prices = as_prices(np.array([1.0, 2.5]))
    write_prices(tmp_path / "out.csv", catalog, prices, intervals=True)
    lines = (tmp_path / "out.csv").read_text().split()
    assert lines[0] == "sample_id,price,price_low,price_high"
    assert lines[1] == "007,1.0000,0.5000,2.0000"


def test_flags_are_a_column_on_request_with_reasons_apart(tmp_path):
    catalog = write_catalog(tmp_path / "new.csv", ("007", "tea", ""), ("7", "tea", ""))
    prices = as_prices(np.array([1.0, 2.5]))
    write_prices(tmp_path / "out.csv", catalog, prices, flags=True)
    with (tmp_path / "out.csv").open(newline="") as file:
        flags = [row["flags"] for row in csv.DictReader(file)]
    assert flags == ["networks disagree; no usable photo", ""]
    assert prices.n_doubtful == 1


@pytest.mark.parametrize("flags", [True, False])
def test_a_price_that_ran_away_is_not_written_unmarked(
    run_of, sample_catalog, photos, tmp_path, monkeypatch, flags
):
    averaged = stack.price.engine.average_log_prices

    def run_away(log_prices):
        log_prices[0, 3] += 20
        return averaged(log_prices) + 9 * (np.arange(log_prices.shape[1]) == 3)

    monkeypatch.setattr(stack.price.engine, "average_log_prices", run_away)
    # Networks of a few steps differ by more than those that have learned.
    monkeypatch.setattr(stack.price.flags, "DISAGREEMENT", 1000.0)
    path = tmp_path / "prices.csv"
    arguments = [str(sample_catalog), "--run", str(run_of["network"])]
    arguments += ["--images", str(photos), "--out", str(path)]
    result = CliRunner().invoke(predict_command, arguments + ["--flags"] * flags)
    assert result.exit_code == 0, result.output
    n_doubtful = int(re.search(r"Doubtful: (\d+) of 40 prices", result.output)[1])
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if flags:
        assert "above all trained prices (the dearest is " in rows[3]["flags"]
        assert "networks disagree by a factor of " in rows[3]["flags"]
        assert n_doubtful == sum(
            "trained prices" in row["flags"] or "disagree" in row["flags"]
            for row in rows
        )
    else:
        assert n_doubtful >= 1
        assert "give --flags to see which and why" in result.output
        assert "flags" not in rows[3]


def test_the_fold_of_a_product_alone_gives_its_out_of_fold_price(
    run_of, sample_catalog, photos
):
    catalog = read_catalog(sample_catalog)
    for chosen, array in (("network", "finetune"), ("stacker", "stack")):
        run_dir = run_of[chosen]
        folds = np.load(run_dir / "finetune" / "folds.npy")
        expected = np.load(run_dir / array / "oof_log_price.npy")
        predictor = Predictor(run_dir, n_threads=1, folds=[1])
        inputs = predictor.inputs(catalog, photos)
        found = np.concatenate(
            [
                predictor.predict(chunk).log_price
                for chunk in prepared_chunks(inputs, predictor.config, 0)
            ]
        )
        # Boosters step where float16 rounds otherwise.
        np.testing.assert_allclose(found[folds == 1], expected[folds == 1], atol=0.02)
        assert not np.allclose(found[folds != 1], expected[folds != 1], atol=0.02)


def test_only_one_fold_prices_its_products_out_of_fold(
    run_of, sample_catalog, photos, tmp_path
):
    run_dir, out = run_of["stacker"], tmp_path / "prices.csv"
    given = ["--run", run_dir, "--catalog", sample_catalog, "--images", photos]
    command = [*map(str, given), "--out", str(out), "--threads", "1", "--only-fold"]
    told = CliRunner().invoke(predict_command, [*command, "2"])
    assert told.exit_code == 0, told.output
    with out.open(newline="") as file:
        found = np.log1p([float(row["price"]) for row in csv.DictReader(file)])
    inside = np.load(run_dir / "finetune" / "folds.npy") == 1
    expected = np.load(run_dir / "stack" / "oof_log_price.npy")
    np.testing.assert_allclose(found[inside], expected[inside], atol=0.02)
    refused = CliRunner().invoke(predict_command, [*command, "9"])
    assert refused.exit_code == 2
    assert "--only-fold must be 1 to 3, got 9. Leave it out" in refused.output
    assert "Traceback" not in refused.output


@pytest.mark.parametrize("chosen", ["network", "stacker"])
def test_a_prediction_says_what_it_was_made_from(
    run_of, sample_catalog, photos, chosen
):
    predictor = Predictor(run_of[chosen], n_threads=1)
    inputs = predictor.inputs(read_catalog(sample_catalog), photos)
    chunk = next(prepared_chunks(inputs, predictor.config, 0))
    predicted = predictor.predict(chunk)
    np.testing.assert_array_equal(predicted.price, predictor.price(chunk))
    assert predicted.blocks["fused"].shape == (16, 512)
    if chosen == "network":
        assert set(predicted.blocks) == {"fused", "attributes", "network"}
        np.testing.assert_array_equal(predicted.log_price, predicted.network_log_price)
        return
    added = np.mean(
        [
            booster.predict(predictor.matrix(predicted.blocks).rows(slice(0, 16)))
            for booster in predictor.boosters
        ],
        axis=0,
    )
    np.testing.assert_allclose(
        predicted.network_log_price + added, predicted.log_price, atol=1e-6
    )


def test_encoders_are_found_by_name_where_they_lie_elsewhere_now(
    run_of, predicted, sample_catalog, photos, tmp_path, monkeypatch
):
    run_dir = copy_run(run_of["stacker"], tmp_path / "run")
    path = run_dir / "embed" / "manifest.json"
    manifest = read_json(path)
    manifest["inputs"]["text_weights"] = str(tmp_path / "of another machine")
    path.write_text(json.dumps(manifest))
    # The run began with a random photo tower: no weights are looked for.
    monkeypatch.setattr("embed.encoders.embedder._image_weights", None)
    catalog = read_catalog(sample_catalog)
    price = predict_prices(run_dir, catalog, images_dir=photos, n_threads=1).price
    np.testing.assert_array_equal(price, predicted["stacker"])
    manifest["config"]["text_encoder"] = str(tmp_path / "nowhere")
    path.write_text(json.dumps(manifest))
    with pytest.raises(
        WeightsError, match=r"sha256 [0-9a-f]{12} found.*machine': not there.*nowhere'"
    ):
        predict_prices(run_dir, catalog, images_dir=photos, n_threads=1)


def test_catalogs_and_photos_may_lie_in_a_folder_that_is_not_utf_8(
    sample_catalog, tiny_config, tmp_path
):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    shutil.copytree(sample_catalog.parent, folder)
    catalog, images_dir = read_catalog(folder / "catalog.csv"), folder / "images"
    run_dir = tmp_path / "run"
    extract(catalog, run_dir, images_dir=images_dir, config=tiny_config)
    finetune(run_dir, config=dataclasses.replace(TINY_TRAINING, n_folds=2))
    fit_stack(run_dir, config=TINY_STACK)
    prices = predict_prices(run_dir, catalog, images_dir=images_dir, n_threads=1)
    assert np.isfinite(prices.price).all()
    write_prices(folder / "prices.csv", catalog, prices)
    assert len((folder / "prices.csv").read_text().splitlines()) == 41


def test_an_unfinished_run_cannot_predict(embedded_run, sample_catalog):
    with pytest.raises(CacheError, match=r"finetune: this stage has not finished"):
        predict_prices(embedded_run, read_catalog(sample_catalog), images_dir=None)


def test_a_lost_network_or_booster_is_named(finished_run, sample_catalog, tmp_path):
    run_dir = copy_run(finished_run, tmp_path / "run")
    (run_dir / "finetune" / "fold-0" / "model.safetensors").unlink()
    with pytest.raises(CacheError, match=r"fold-0.*make finetune"):
        predict_prices(
            run_dir, read_catalog(sample_catalog), images_dir=None, n_threads=1
        )


@pytest.mark.slow
def test_a_run_with_a_frozen_photo_tower_trains_stacks_and_predicts(
    embedded_run, sample_catalog, photos, tmp_path
):
    run_dir = copy_run(embedded_run, tmp_path / "run")
    config = dataclasses.replace(TINY_TRAINING, freeze_image=True, freeze_layers=1)
    finetune(run_dir, config=config)
    weights = load_file(run_dir / "finetune" / "fold-0" / "model.safetensors")
    assert not any(name.startswith("image_backbone") for name in weights)
    fit_stack(run_dir, config=TINY_STACK)
    catalog = read_catalog(sample_catalog)
    for chosen in ("network", "stacker"):
        choose(run_dir, chosen)
        price = predict_prices(run_dir, catalog, images_dir=photos, n_threads=1).price
        assert np.isfinite(price).all()
        blind = predict_prices(run_dir, catalog, images_dir=None, n_threads=1).price
        with_photo = np.load(run_dir / "embed" / "image_ok.npy")
        assert not np.isclose(price, blind, rtol=1e-6)[with_photo].any()
        np.testing.assert_allclose(price[~with_photo], blind[~with_photo], rtol=0.02)


def n_blas_threads():
    libraries = ThreadpoolController().info()
    return max(of["num_threads"] for of in libraries if of["user_api"] == "blas")


def set_blas_threads(n_threads):
    """Set them in a thread that ends: threadpoolctl then lets others set them."""
    blas = ThreadpoolController().select(user_api="blas")
    with ThreadPoolExecutor(1) as thread:
        for library in blas.lib_controllers:
            thread.submit(library.set_num_threads, n_threads).result()


@pytest.fixture
def two_blas_threads():
    """Give BLAS two threads, as a process by itself has them on two cores."""
    before = n_blas_threads()
    set_blas_threads(2)
    yield
    set_blas_threads(before)


@pytest.mark.usefixtures("two_blas_threads")
def test_calls_that_overlap_leave_blas_as_many_threads_as_there_were(
    run_of, monkeypatch
):
    predictor = Predictor(run_of["network"], n_threads=1)
    chunk = prepare_chunk(["green tea"], [NO_PHOTO_GIVEN])
    first_is_in, second_is_in = threading.Event(), threading.Event()
    found = []

    def stay(*args, **kwargs):
        found.append(n_blas_threads())
        if not first_is_in.is_set():
            first_is_in.set()
            second_is_in.wait(1)  # it is let in only if calls may overlap
        else:
            second_is_in.set()
            first.join()

    monkeypatch.setattr(predictor, "_predict", stay)
    first, second = (
        threading.Thread(target=predictor.predict, args=[chunk]) for _ in range(2)
    )
    first.start()
    assert first_is_in.wait(60)
    second.start()
    second.join()
    assert found == [1, 1]
    assert n_blas_threads() == 2
