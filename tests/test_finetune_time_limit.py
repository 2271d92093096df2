"""A time limit chooses settings once, by what they cost in accuracy."""

import dataclasses
import json
import logging
import re

import pytest
from click.testing import CliRunner
from conftest import TINY_TRAINING, copy_run
from stages import contents

from embed.errors import CacheError, ConfigError
from finetune.__main__ import finetune_command
from finetune.config import PAPER, FinetuneConfig
from finetune.out_of_fold import finetune as run_finetune
from finetune.timing.cheaper import cheaper_settings, describe_losses, describe_options
from finetune.timing.limit import TimeLimit, choose_settings
from finetune.timing.speed import Speed, SpeedTest

CONFIG = dataclasses.replace(TINY_TRAINING, seed=0, smooth_l1_epochs=2, smape_epochs=1)
PHOTOS, TEXT = {"freeze_image": True}, {"freeze_layers": 6}
TOWERS = [PHOTOS, TEXT]


def changes(config, asked):
    """Settings of a configuration that are not as they were asked for."""
    given = dataclasses.asdict(asked)
    return {n: v for n, v in dataclasses.asdict(config).items() if v != given[n]}


def choices(config=FinetuneConfig(), fixed=(), towers=TOWERS):  # noqa: B008
    cheaper = cheaper_settings(config, towers, fixed=fixed)
    return [changes(other, config) for other in cheaper]


FEWER = {"smooth_l1_epochs": 2}
FEWEST = {"smooth_l1_epochs": 1, "smape_epochs": 1}


def test_photos_are_given_up_first_then_epochs_texts_and_folds():
    towers = [epochs | less for epochs in ({}, FEWER, FEWEST) for less in ({}, PHOTOS)]
    of_five = [*towers, *(less | TEXT for less in towers)]
    folds = [{}, {"n_folds": 4}, {"n_folds": 3}]
    assert choices() == [less | other for less in folds for other in of_five]


def test_text_layers_that_cost_nothing_are_frozen_before_epochs_are_given_up():
    config = dataclasses.replace(FinetuneConfig(), freeze_layers=0)
    four = {"freeze_layers": 4}
    found = choices(config, {"n_folds"}, [PHOTOS, four, TEXT])
    assert found[:5] == [{}, PHOTOS, four, PHOTOS | four, FEWER]
    assert found[-1] == PHOTOS | TEXT | FEWEST
    assert four | TEXT not in found[:12]


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("freeze_image", {}),
        ("freeze_layers", {}),
        ("smooth_l1_epochs", {}),
        ("smape_epochs", {}),
        ("n_folds", {"n_folds": 2}),
    ],
)
def test_what_the_user_chose_is_not_given_up(name, option):
    config = dataclasses.replace(FinetuneConfig(), **option)
    assert any(name in other for other in choices())
    assert not any(name in other for other in choices(config, {name}))


def test_a_user_who_chose_all_has_one_choice():
    names = ("freeze_image", "freeze_layers", "smooth_l1_epochs", "smape_epochs")
    assert choices(fixed=(*names, "n_folds")) == [{}]
    two = dataclasses.replace(FinetuneConfig(), n_folds=2)
    assert choices(two, names) == [{}]


def test_cosine_cycles_stay_whole():
    epochs = [
        (other.get("smooth_l1_epochs", 12), other.get("smape_epochs", 8))
        for other in choices(PAPER, {"n_folds"}, towers=[])
    ]
    assert epochs == [(12, 8), (12, 6), (6, 4), (6, 2)]


def test_a_phase_without_epochs_stays_so():
    one = dataclasses.replace(FinetuneConfig(), smooth_l1_epochs=0, smape_epochs=2)
    assert choices(one, {"n_folds"}, towers=[]) == [{}, {"smape_epochs": 1}]


def test_options_and_losses_are_described():
    asked = FinetuneConfig()
    cheap = dataclasses.replace(
        asked, freeze_image=True, freeze_layers=6, smooth_l1_epochs=1, n_folds=4
    )
    assert describe_options(cheap, asked) == (
        "--freeze-image --freeze-layers 6 --smooth-l1-epochs 1 --folds 4"
    )
    assert describe_losses(cheap, asked) == (
        "training of the photo tower, training of text layers, 2 of 5 epochs, 1 of "
        "5 folds"
    )
    assert describe_options(asked, asked) == describe_losses(asked, asked) == ""


def minutes_of(config):
    """Minutes of a catalog whose products have photos."""
    by_epoch = 1 if config.freeze_image else 8
    by_epoch *= 0.5 if config.freeze_layers == 6 else 1
    return (config.n_folds - 1) * (config.n_epochs * by_epoch + 1)


@pytest.mark.parametrize(
    ("minutes", "given_up", "line"),
    [
        (200, {}, "about 2 h 40 min, nothing is given up"),
        (30, PHOTOS, "about 25 min with --freeze-image, not about 2 h 40 min"),
        (23, PHOTOS | FEWER, "--smooth-l1-epochs 2, not .*tower, 1 of 5 epochs"),
        (9, PHOTOS | TEXT | FEWEST, "--freeze-layers 6 --smooth-l1-epochs 1 --smape"),
        (7, PHOTOS | TEXT | FEWEST | {"n_folds": 4}, "3 of 5 epochs, 1 of 5 folds"),
    ],
)
def test_the_first_settings_that_fit_are_chosen_and_told(
    minutes, given_up, line, caplog
):
    caplog.set_level(logging.INFO)
    asked = FinetuneConfig()
    config = choose_settings(
        cheaper_settings(asked, TOWERS, fixed=()),
        lambda config: 60 * minutes_of(config),
        minutes=minutes,
    )
    assert changes(config, asked) == given_up
    (record,) = caplog.records
    assert re.search(line, record.getMessage())


def test_a_limit_that_is_too_short_is_refused_with_one_that_is_not():
    def choose(minutes):
        return choose_settings(
            cheaper_settings(FinetuneConfig(), TOWERS, fixed={"n_folds"}),
            lambda config: 60 * minutes_of(config),
            minutes=minutes,
        )

    options = "--freeze-image --freeze-layers 6 --smooth-l1-epochs 1 --smape-epochs 1"
    with pytest.raises(ConfigError, match=f"even with {options}, .* 8 min") as refused:
        choose(5)
    enough = int(re.search(r"Give --time-limit (\d+)", str(refused.value))[1])
    assert minutes_of(choose(enough)) <= enough
    with pytest.raises(ConfigError, match="even with"):
        choose(enough - 1)


@pytest.mark.parametrize("minutes", [0, -1, float("nan"), float("inf")])
def test_a_limit_is_a_time(minutes):
    with pytest.raises(ConfigError, match="--time-limit must be"):
        TimeLimit(minutes=minutes)


@pytest.fixture
def seconds(monkeypatch):
    """Seconds of a step, by the number of frozen layers; may be changed."""
    seconds = {None: 10.0, 2: 1.0}

    def measure(self, config):
        parts = {field.name: 0.0 for field in dataclasses.fields(Speed)}
        return Speed(**parts | {"step": seconds[config.freeze_layers]})

    monkeypatch.setattr(SpeedTest, "__init__", lambda *_: None)
    monkeypatch.setattr(SpeedTest, "measure", measure)
    return seconds


@pytest.fixture
def run_dir(embedded_run, tmp_path):
    return copy_run(embedded_run, tmp_path / "run")


# 3 folds train on 80 products in all, for 3 epochs: 40 min, or 4 min if frozen.
SHORT = TimeLimit(minutes=5)
FROZEN = dataclasses.replace(CONFIG, freeze_layers=2)


def test_chosen_settings_give_the_run_that_they_give_as_options(
    embedded_run, run_dir, seconds
):
    manifest = run_finetune(run_dir, config=CONFIG, limit=SHORT)
    assert manifest.config == FROZEN
    as_options = copy_run(embedded_run, run_dir.parent / "options")
    assert run_finetune(as_options, config=FROZEN).key == manifest.key
    limited = contents(run_dir / "finetune")
    assert json.loads(limited.pop("time_limit.json"))["config"]["freeze_layers"] == 2
    assert limited == contents(as_options / "finetune")


def test_a_stopped_run_resumes_with_the_settings_chosen_before(
    run_dir, seconds, monkeypatch, caplog
):
    stop_after(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        run_finetune(run_dir, config=CONFIG, limit=SHORT)
    monkeypatch.undo()
    network = run_dir / "finetune" / "fold-0" / "model.safetensors"
    written = network.stat().st_mtime_ns

    def measure(*_):
        raise AssertionError("is measured again")

    monkeypatch.setattr(SpeedTest, "__init__", measure)
    caplog.set_level(logging.INFO)
    threads = dataclasses.replace(CONFIG, n_threads=2)
    for _ in range(2):
        manifest = run_finetune(run_dir, config=threads, limit=SHORT)
        assert manifest.config.freeze_layers == 2
        assert "Time limit of 5 min, chosen before: --freeze-layers 2" in caplog.text
    assert network.stat().st_mtime_ns == written
    assert "up to date" in caplog.text


def stop_after(monkeypatch, n_networks):
    from finetune.fold import train_network

    trained = []

    def train(*given, **named):
        if len(trained) == n_networks:
            raise KeyboardInterrupt
        trained.append(train_network(*given, **named))

    monkeypatch.setattr("finetune.fold.train_network", train)


def test_another_request_chooses_again(run_dir, seconds):
    def chosen(**limit):
        path = run_dir / "finetune" / "time_limit.json"
        run_finetune(
            run_dir, config=CONFIG, only_fold=0, limit=TimeLimit(minutes=2, **limit)
        )
        return json.loads(path.read_text())["config"]

    assert chosen()["freeze_layers"] == 2
    seconds[None] = 0.1
    assert chosen()["freeze_layers"] == 2
    assert chosen(fixed=frozenset({"batch_size"}))["freeze_layers"] is None


def test_a_limit_for_one_fold_counts_that_fold_and_keeps_the_number_of_folds(
    run_dir, seconds
):
    fixed = frozenset({"freeze_layers", "smooth_l1_epochs", "smape_epochs"})
    limit = TimeLimit(minutes=15, fixed=fixed)  # 13 of 40 minutes
    assert run_finetune(run_dir, config=CONFIG, only_fold=0, limit=limit) is None
    with pytest.raises(ConfigError, match="takes about 25 min"):  # the other two
        run_finetune(run_dir, config=CONFIG, limit=limit)
    limit = TimeLimit(minutes=12, fixed=fixed)
    four = dataclasses.replace(CONFIG, n_folds=4)
    with pytest.raises(ConfigError, match="even with these settings"):
        run_finetune(run_dir, config=four, only_fold=0, limit=limit)


def test_a_finished_run_needs_no_limit(run_dir, seconds, monkeypatch):
    finished = run_finetune(run_dir, config=CONFIG)
    monkeypatch.setattr(SpeedTest, "measure", None)
    assert run_finetune(run_dir, config=CONFIG, limit=SHORT) == finished


def test_a_refused_limit_leaves_a_finished_run_as_it_is(run_dir, seconds):
    run_finetune(run_dir, config=CONFIG)
    before = contents(run_dir / "finetune")
    other = dataclasses.replace(CONFIG, batch_size=9)
    with pytest.raises(ConfigError, match="--time-limit"):
        run_finetune(run_dir, config=other, limit=TimeLimit(minutes=0.01))
    assert contents(run_dir / "finetune") == before


def test_a_damaged_choice_is_named(run_dir, seconds):
    run_finetune(run_dir, config=CONFIG, only_fold=0, limit=SHORT)
    path = run_dir / "finetune" / "time_limit.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"config": {"n_folds": -1}}))
    with pytest.raises(CacheError, match=r"time_limit\.json.*Delete the file"):
        run_finetune(run_dir, config=CONFIG, only_fold=0, limit=SHORT)
    path.unlink()
    run_finetune(run_dir, config=CONFIG, only_fold=0, limit=SHORT)


@pytest.mark.parametrize(
    ("options", "fixed"),
    [
        ("", ()),
        ("--recipe paper", ()),
        ("--folds 5", ("n_folds",)),  # the default, but given
        ("--freeze-image --smape-epochs 1", ("freeze_image", "smape_epochs")),
        ("--set clip_norm=2 --seeds 2", ("clip_norm", "n_seeds")),
    ],
)
def test_options_that_are_given_stay(tmp_path, monkeypatch, options, fixed):
    limits = []

    def begin(*_, limit, **__):
        limits.append(limit)
        raise ConfigError("the stage has begun")

    monkeypatch.setattr("finetune.out_of_fold.finetune", begin)
    line = ["--run", str(tmp_path), *options.split()]
    for minutes in ([], ["--time-limit", "2.5"]):
        result = CliRunner().invoke(finetune_command, [*line, *minutes])
        assert "the stage has begun" in result.output
    assert limits == [None, TimeLimit(minutes=2.5, fixed=frozenset(fixed))]
