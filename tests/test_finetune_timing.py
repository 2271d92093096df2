"""How long a training takes is measured, estimated and told before it begins."""

import dataclasses
import itertools
import logging

import numpy as np
import pytest
from conftest import TINY_TRAINING, copy_run

from finetune.config import FinetuneConfig
from finetune.job import prepare_job
from finetune.out_of_fold import finetune as run_finetune
from finetune.timing import notice, speed
from finetune.timing.cheaper import freezable_towers
from finetune.timing.estimate import (
    Work,
    describe_duration,
    duration_of,
    estimate_seconds,
    work_of,
)
from finetune.timing.speed import Speed, SpeedTest
from finetune.training.tracking import UNTRACKED, Tracking

CONFIG = dataclasses.replace(TINY_TRAINING, seed=0, n_folds=2)
NOTHING = Speed(hidden=0, network=0, wide_start=0, wide=0, step=0, epoch=0, price=0)
PARTS = [field.name for field in dataclasses.fields(Speed)]


@pytest.fixture
def run_dir(embedded_run, tmp_path):
    return copy_run(embedded_run, tmp_path / "run")


def job_of(run_dir, config=CONFIG, tracking=UNTRACKED):
    return prepare_job(run_dir, config, False, tracking)


@pytest.mark.parametrize(
    ("part", "count"),
    [
        ("hidden", 1100),  # every text, once for all networks
        ("network", 10),
        ("wide_start", 10),
        ("wide", 10 * 800),
        ("step", 10 * 5 * 800),
        ("epoch", 10 * 5),
        ("price", 10 * (2 * 800 + 200 + 50 + 100)),
    ],
)
def test_an_estimate_counts_each_part_of_a_training(part, count):
    config = FinetuneConfig(n_folds=5, n_seeds=2)
    work = Work(n_products=1100, n_priced=1000, n_anchors=50)
    second = dataclasses.replace(NOTHING, **{part: 1.0})
    assert estimate_seconds(config, second, work) == count
    one_fold = dataclasses.replace(work, one_fold=True)
    by_fold = count if part == "hidden" else count / 5
    assert estimate_seconds(config, second, one_fold) == by_fold
    trained = dataclasses.replace(work, n_trained=9)
    left = count if part == "hidden" else count / 10
    assert estimate_seconds(config, second, trained) == left
    assert not estimate_seconds(config, second, dataclasses.replace(work, n_trained=10))


def test_tracking_prices_products_after_each_epoch():
    work = Work(n_products=1000, n_priced=1000, n_anchors=0, tracks_held_out=True)
    second = dataclasses.replace(NOTHING, price=1.0)
    untracked = dataclasses.replace(work, tracks_held_out=False)
    config = FinetuneConfig()
    more = estimate_seconds(config, second, work)
    more -= estimate_seconds(config, second, untracked)
    assert more == 5 * 5 * 1000


def test_the_work_is_that_of_the_run_without_trained_networks(run_dir):
    job = job_of(run_dir, tracking=Tracking(held_out=True))
    expected = Work(
        n_products=40, n_priced=40, n_anchors=40, n_trained=0, tracks_held_out=True
    )
    assert work_of(job, None) == expected
    assert run_finetune(run_dir, config=CONFIG, only_fold=1) is None
    assert work_of(job_of(run_dir), None).n_trained == 1
    assert work_of(job_of(run_dir), 0) == dataclasses.replace(
        expected, one_fold=True, tracks_held_out=False
    )
    other = dataclasses.replace(CONFIG, batch_size=9)
    assert not work_of(job_of(run_dir, other), None).n_trained


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (3, "1 min"),
        (9 * 60 + 20, "9 min"),
        (9 * 60 + 40, "10 min"),
        (38 * 60, "40 min"),
        (58 * 60, "1 h"),
        (3.33 * 3600, "3 h 20 min"),
        (9.97 * 3600, "10 h"),
        (30.2 * 3600, "30 h"),
    ],
)
def test_a_duration_is_rounded(seconds, words):
    assert describe_duration(seconds) == words


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"freeze_image": True},
        {"freeze_layers": 0},
        {"use_wide": False},
        {"inputs": "text"},
        {"inputs": "image"},
        {"encoder_dropout": 0.1, "batch_size": 64, "micro_batch_size": 4},
    ],
    ids=str,
)
def test_all_parts_of_a_training_are_measured(run_dir, tmp_path, change, monkeypatch):
    ticks = itertools.count()
    monkeypatch.setattr(speed, "perf_counter", lambda: float(next(ticks)))
    job = job_of(run_dir, dataclasses.replace(CONFIG, **change))
    (tmp_path / "copy").mkdir()
    measured = SpeedTest(job, tmp_path / "copy").measure(job.config)
    assert measured.network == measured.epoch == 1
    assert measured.hidden == 1 / 40
    assert measured.price == 1 / 40
    assert 0 < measured.step <= 8 / 32
    has_wide = job.config.use_wide and job.config.sees_text
    assert measured.wide_start == (1 if has_wide else 0)  # as long for any number
    assert measured.wide == 0


def test_the_sample_has_short_and_long_texts_and_its_share_of_photos(
    run_dir, tmp_path, monkeypatch
):
    monkeypatch.setattr(speed, "_LEAST_SAMPLE", 10)
    monkeypatch.setattr(speed, "_N_BATCHES", 1)
    job = job_of(run_dir)
    test = SpeedTest(job, tmp_path)
    rows = test._rows
    assert len(np.unique(rows)) == len(rows) == 10
    assert abs(job.cache.image_ok[rows].mean() - job.cache.image_ok.mean()) <= 0.1
    assert {job.cache.lengths.min(), job.cache.lengths.max()} & set(
        job.cache.lengths[rows]
    )
    copied = test._cache(CONFIG)
    assert copied.lengths.tolist() == job.cache.lengths[rows].tolist()
    np.testing.assert_array_equal(
        copied.batch(np.arange(10)).tokens, job.cache.batch(rows).tokens
    )


@pytest.fixture
def measured(monkeypatch):
    """Configurations that are measured, each as fast as a table says."""
    seconds = {(False, None): 10.0, (True, None): 1.0, (False, 2): 4.0, (True, 2): 0.5}
    measured = []

    def measure(self, config):
        measured.append(config)
        key = (config.freeze_image, config.freeze_layers)
        return dataclasses.replace(NOTHING, step=seconds[key])

    monkeypatch.setattr(SpeedTest, "__init__", lambda *_: None)
    monkeypatch.setattr(SpeedTest, "measure", measure)
    return measured


@pytest.fixture
def photo_weights(monkeypatch):
    """Let the photo tower of the runs have weights."""
    from finetune.timing import cheaper

    found = cheaper.weights_of_run
    monkeypatch.setattr(
        cheaper, "weights_of_run", lambda embed: (found(embed)[0], "weights")
    )


def test_towers_are_measured_once(run_dir, tmp_path, measured):
    duration = duration_of(job_of(run_dir), None, tmp_path)
    longer = dataclasses.replace(CONFIG, smape_epochs=3, n_folds=4)
    assert duration(CONFIG) == 2 * 2 * 20 * 10
    assert duration(longer) == 4 * 4 * 30 * 10
    assert len(measured) == 1


def test_a_photo_tower_with_random_weights_is_not_to_be_frozen(
    run_dir, monkeypatch, request
):
    assert freezable_towers(job_of(run_dir)) == [{"freeze_layers": 2}]
    request.getfixturevalue("photo_weights")
    both = [{"freeze_image": True}, {"freeze_layers": 2}]
    assert freezable_towers(job_of(run_dir)) == both
    paper = dataclasses.replace(CONFIG, freeze_layers=0)
    two_thirds = {"freeze_layers": 1}
    assert freezable_towers(job_of(run_dir, paper)) == [both[0], two_thirds, both[1]]
    frozen = dataclasses.replace(CONFIG, freeze_image=True, freeze_layers=2)
    assert freezable_towers(job_of(run_dir, frozen)) == []
    texts = dataclasses.replace(CONFIG, inputs="text")
    assert freezable_towers(job_of(run_dir, texts)) == both[1:]
    photos = dataclasses.replace(CONFIG, inputs="image")
    assert freezable_towers(job_of(run_dir, photos)) == both[:1]


def lines_of(caplog, job, only_fold=None):
    caplog.clear()
    caplog.set_level(logging.INFO)
    notice.tell_duration(job, only_fold)
    return [record.getMessage() for record in caplog.records]


CHOOSES = "--time-limit MINUTES chooses settings for the time that you have."


def test_a_long_training_and_the_cheaper_way_are_told(
    run_dir, measured, photo_weights, monkeypatch, caplog
):
    monkeypatch.setattr(notice, "_SLOW_TEXT", 1e4)
    assert lines_of(caplog, job_of(run_dir)) == []  # 13 minutes
    monkeypatch.setattr(notice, "LONG_SECONDS", 700.0)
    assert lines_of(caplog, job_of(run_dir)) == [
        "Training takes about 15 min, for 2 folds.",
        f"With --freeze-image it takes about 1 min. {CHOOSES}",
    ]
    seeds = dataclasses.replace(CONFIG, n_seeds=4)
    assert lines_of(caplog, job_of(run_dir, seeds), only_fold=1)[0] == (
        "Training takes about 25 min, for this fold, 4 seeds each."
    )
    run_finetune(run_dir, config=CONFIG, only_fold=0)
    assert lines_of(
        caplog, job_of(run_dir, dataclasses.replace(CONFIG, n_seeds=4))
    ) == ["Training takes about 45 min more, for 2 folds, 4 seeds each."]


def test_a_short_training_is_not_measured(run_dir, measured, caplog):
    assert lines_of(caplog, job_of(run_dir)) == []
    assert measured == []


def test_a_way_that_saves_little_is_not_told(
    run_dir, measured, photo_weights, monkeypatch, caplog
):
    monkeypatch.setattr(notice, "_SLOW_TEXT", 1e4)
    monkeypatch.setattr(notice, "LONG_SECONDS", 700.0)
    monkeypatch.setattr(notice, "_WORTH_NAMING", 0.05)
    lines = lines_of(caplog, job_of(run_dir))
    assert lines == ["Training takes about 15 min, for 2 folds.", CHOOSES]


def test_measuring_changes_no_byte_of_a_run(embedded_run, run_dir, monkeypatch, caplog):
    plain = copy_run(embedded_run, run_dir.parent / "plain")
    run_finetune(plain, config=CONFIG)
    monkeypatch.setattr(notice, "_SLOW_TEXT", 1e4)
    monkeypatch.setattr(notice, "LONG_SECONDS", 0.0)
    caplog.set_level(logging.INFO)
    run_finetune(run_dir, config=CONFIG)
    assert "Training takes about 1 min" in caplog.text
    for name in ("oof_log_price.npy", "fused.npy", "fold-1/model.safetensors"):
        told, untold = (folder / "finetune" / name for folder in (run_dir, plain))
        assert told.read_bytes() == untold.read_bytes()
