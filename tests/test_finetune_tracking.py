import csv
import dataclasses
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import TINY_TRAINING, copy_run
from safetensors.torch import load_file
from trainings import (
    CONFIG,
    FP32,
    N,
    assert_same_weights,
    history_of,
    plant_products,
    train_small,
    without_clock,
)

import finetune.training.loop
from embed.errors import CacheError
from finetune.__main__ import finetune_command
from finetune.config import RECIPES
from finetune.out_of_fold import finetune as run_finetune
from finetune.records import HISTORY_COLUMNS, HistoryRow
from finetune.score import smape, to_price
from finetune.training.checkpoint import TrainingState
from finetune.training.guards import TrainingError
from finetune.training.loop import apply_network
from finetune.training.tensorboard import (
    events_dir,
    remove_events,
    update_events,
    write_stage_events,
)
from finetune.training.tracking import (
    EpochTally,
    Tracking,
    read_history,
    write_history,
)

ROWS = np.flatnonzero(np.arange(N) % 3 > 0)
HELD_OUT = np.flatnonzero(np.arange(N) % 3 == 0)
CHECKPOINT = "checkpoint.safetensors"
# Batch statistics that move, and dropout: what a pass over other rows could disturb.
SHAKY = dataclasses.replace(CONFIG, freeze_batch_norm=False, smooth_l1_epochs=1)
EVERYTHING = Tracking(held_out=True, tensorboard=True)


class Stopped(Exception):
    pass


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return plant_products(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def train(tiny_encoder, planted):
    return partial(train_small, tiny_encoder, planted, rows=ROWS, config=SHAKY)


@pytest.fixture(scope="module")
def plain(train, tmp_path_factory):
    """A training of which no more is recorded than always is."""
    fold_dir = tmp_path_factory.mktemp("plain") / "fold-0"
    return train(fold_dir), fold_dir


@pytest.fixture(scope="module")
def tracked(train, tmp_path_factory):
    fold_dir = tmp_path_factory.mktemp("tracked") / "fold-0"
    return train(fold_dir, tracking=EVERYTHING), fold_dir


def rows_of(n_epochs, **values):
    row = dict.fromkeys(HISTORY_COLUMNS, 0.25) | values
    return [HistoryRow(**{**row, "epoch": epoch + 1}) for epoch in range(n_epochs)]


def scalars_of(folder):
    """What TensorBoard itself reads of a folder: steps and values by name."""
    from tensorboard.backend.event_processing.event_accumulator import (
        EventAccumulator,
    )

    events = EventAccumulator(str(folder))
    events.Reload()
    tags = events.Tags()["scalars"] + events.Tags()["tensors"]
    assert not events.Tags()["tensors"]
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags}


def test_history_has_all_that_is_asked_of_an_epoch(plain):
    history = history_of(plain[1])
    assert [row["epoch"] for row in history] == ["1", "2"]
    for row in history:
        assert tuple(row) == HISTORY_COLUMNS
        assert row.pop("held_out_smape") == ""
        assert all(np.isfinite(float(cell)) for cell in row.values())
        assert float(row["products_per_second"]) > 0
        assert 0 < float(row["gradient_norm"]) < 1e6


def test_tracking_held_out_products_changes_no_byte_of_the_training(plain, tracked):
    assert_same_weights(tracked[0], plain[0])
    one, other = (load_file(folder / CHECKPOINT) for _, folder in (plain, tracked))
    assert one.keys() == other.keys()
    assert {part.split("/")[0] for part in one} == {"network", "average", "optimizer"}
    assert any("running_mean" in name for name in one)
    for name in one:
        assert one[name].numpy().tobytes() == other[name].numpy().tobytes(), name
    for was, found in zip(*(map(history_of, (plain[1], tracked[1]))), strict=True):
        assert float(found.pop("held_out_smape")) > 0
        assert was.pop("held_out_smape") == ""
        assert without_clock([was]) == without_clock([found])


def test_the_last_held_out_smape_is_that_of_the_finished_network(tracked, planted):
    network, fold_dir = tracked
    cache, log_price = planted
    predicted, _ = apply_network(network, cache, HELD_OUT, arithmetic=FP32)
    expected = smape(np.expm1(log_price[HELD_OUT]), to_price(predicted))
    found = [float(row["held_out_smape"]) for row in history_of(fold_dir)]
    assert found[-1] == pytest.approx(expected, abs=1e-3)
    assert found[0] != found[-1]


def test_held_out_prices_reach_the_record_only(train, tracked, planted, tmp_path):
    log_price = planted[1].copy()
    log_price[HELD_OUT] += 2
    log_price[HELD_OUT[0]] = np.nan
    fold_dir = tmp_path / "fold-0"
    other = train(fold_dir, log_price=log_price, tracking=Tracking(held_out=True))
    assert_same_weights(other, tracked[0])
    was, found = history_of(tracked[1]), history_of(fold_dir)
    for one, two in zip(was, found, strict=True):
        assert one["train_smape"] == two["train_smape"]
        assert one["held_out_smape"] != two["held_out_smape"]


def test_what_cannot_be_scored_leaves_an_empty_cell_and_training_goes_on(
    train, plain, tmp_path, monkeypatch, caplog
):
    def failing(*args, **kwargs):
        raise TrainingError("not finite for 3 products")

    monkeypatch.setattr(finetune.training.loop, "apply_network", failing)
    network = train(tmp_path / "fold-0", tracking=Tracking(held_out=True))
    assert_same_weights(network, plain[0])
    assert [row["held_out_smape"] for row in history_of(tmp_path / "fold-0")] == [
        ""
    ] * 2
    assert "No held-out SMAPE of this epoch: not finite for 3" in caplog.text


@pytest.mark.parametrize("moment", ["before the checkpoint", "before the events"])
def test_a_run_stopped_beside_an_event_ends_as_one_never_stopped(
    train, tracked, tmp_path, monkeypatch, moment
):
    def stopping(*args, **kwargs):
        raise Stopped

    fold_dir = tmp_path / "fold-0"
    with monkeypatch.context() as patch:
        if moment == "before the checkpoint":
            patch.setattr(TrainingState, "save", stopping)
        else:
            patch.setattr(finetune.training.loop, "update_events", stopping)
        with pytest.raises(Stopped):
            train(fold_dir, tracking=EVERYTHING)
    assert_same_weights(train(fold_dir, tracking=EVERYTHING), tracked[0])
    assert without_clock(history_of(fold_dir)) == without_clock(history_of(tracked[1]))
    found = scalars_of(events_dir(fold_dir))
    assert [step for step, _ in found["loss"]] == [1, 2]
    assert found["loss"] == scalars_of(events_dir(tracked[1]))["loss"]


def test_tensorboard_reads_the_names_and_values_of_history(tracked):
    history = read_history(tracked[1] / "history.csv")
    found = scalars_of(tracked[1].parent / "tensorboard" / "fold-0")
    assert set(found) == set(HISTORY_COLUMNS) - {"epoch"}
    for name, events in found.items():
        assert [step for step, _ in events] == [1, 2]
        expected = [getattr(row, name) for row in history]
        assert [value for _, value in events] == pytest.approx(expected, rel=1e-6)


def test_values_that_are_not_known_have_no_event(tmp_path):
    fold_dir = tmp_path / "fold-0"
    update_events(fold_dir, rows_of(2, held_out_smape=None))
    found = scalars_of(events_dir(fold_dir))
    assert "held_out_smape" not in found
    assert len(found["loss"]) == 2


def test_an_epoch_is_written_once_and_never_again(tmp_path):
    fold_dir = tmp_path / "fold-0"
    update_events(fold_dir, rows_of(1))
    (first,) = events_dir(fold_dir).iterdir()
    content = first.read_bytes()
    update_events(fold_dir, rows_of(12, loss=9.0))
    assert first.read_bytes() == content
    found = scalars_of(events_dir(fold_dir))["loss"]
    assert found == [(1, 0.25), *((step, 9.0) for step in range(2, 13))]


def test_wall_times_go_back_from_now_by_the_seconds_of_each_epoch(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import (
        EventAccumulator,
    )

    update_events(tmp_path / "fold-0", rows_of(3, seconds=60.0))
    events = EventAccumulator(str(events_dir(tmp_path / "fold-0")))
    events.Reload()
    times = [event.wall_time for event in events.Scalars("loss")]
    assert np.diff(times) == pytest.approx([60, 60])


def test_a_fold_begun_anew_drops_the_events_of_the_old_one(train, tmp_path):
    fold_dir = tmp_path / "fold-0"
    update_events(fold_dir, rows_of(9))
    train(fold_dir, config=dataclasses.replace(SHAKY, smape_epochs=0))
    assert list(events_dir(fold_dir).iterdir()) == []
    remove_events(tmp_path / "fold-never")


def test_events_of_finished_folds_are_made_from_history_alone(tmp_path):
    for fold in range(3):
        (tmp_path / f"fold-{fold}").mkdir()
        write_history(tmp_path / f"fold-{fold}" / "history.csv", rows_of(2))
    for finished in (0, 2):
        (tmp_path / f"fold-{finished}" / "network.json").write_text("{}")
    write_stage_events(tmp_path)
    names = sorted(path.name for path in (tmp_path / "tensorboard").iterdir())
    assert names == ["fold-0", "fold-2"]
    assert len(scalars_of(tmp_path / "tensorboard" / "fold-2")["loss"]) == 2


def test_a_full_disk_while_events_are_written_names_the_file(tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"No space left.*epoch-1\.part"):
        update_events(tmp_path / "fold-0", rows_of(1))


def test_an_epoch_is_summed_up_as_by_hand():
    tally = EpochTally(started=0.0)
    tally.add(loss=1.0, smape=40.0, size=3, factor=0.0, norm=2.0)
    tally.add(loss=2.0, smape=80.0, size=1, factor=0.5, norm=float("inf"))
    tally.add(loss=6.0, smape=20.0, size=4, factor=1.0, norm=5.0)
    row = tally.history_row(2, CONFIG)
    assert (row.epoch, row.phase) == (3, 2)
    assert (row.loss, row.train_smape, row.gradient_norm) == (3.0, 35.0, 3.5)
    assert row.fusion_learning_rate == CONFIG.fusion_learning_rate / 2
    assert row.products_per_second == pytest.approx(8 / row.seconds, abs=0.01)


def test_an_epoch_whose_gradients_all_overflowed_has_no_norm():
    tally = EpochTally()
    tally.add(loss=1.0, smape=40.0, size=3, factor=1.0, norm=float("inf"))
    assert tally.history_row(0, CONFIG).gradient_norm is None


def test_history_read_is_history_written(tmp_path):
    rows = rows_of(3, held_out_smape=None, loss=1 / 3)
    write_history(tmp_path / "history.csv", rows)
    assert read_history(tmp_path / "history.csv") == rows


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"loss": "much"}, "loss must be a finite number, found 'much'"),
        ({"loss": "nan"}, "loss must be a finite number, found nan"),
        ({"loss": ""}, "loss must be a finite number, found None"),
        ({"gradient_norm": None}, "gradient_norm is missing"),
    ],
)
def test_a_history_that_is_not_ours_is_named(tmp_path, change, reason):
    row = dict.fromkeys(HISTORY_COLUMNS, "1") | change
    row = {name: cell for name, cell in row.items() if cell is not None}
    path = tmp_path / "history.csv"
    with path.open("w", newline="") as file:
        lines = csv.DictWriter(file, list(row))
        lines.writeheader()
        lines.writerow(row)
    with pytest.raises(CacheError, match=rf"history\.csv: epoch 1: {reason}.*delete"):
        read_history(path)


def test_a_missing_extra_is_one_line_before_any_work(tmp_path, monkeypatch):
    module = "tensorboard.summary.writer.record_writer"
    monkeypatch.setitem(sys.modules, module, None)
    arguments = ["--run", str(tmp_path / "none"), "--tensorboard"]
    result = CliRunner().invoke(finetune_command, arguments)
    assert result.exit_code == 2
    (line,) = result.output.strip().split("\n")
    assert "--tensorboard needs the package tensorboard" in line
    assert "pip install tensorboard`, or install pricestack with its extra" in line
    assert list(tmp_path.iterdir()) == []


def test_the_options_are_asked_for_without_torch_or_tensorboard():
    code = (
        "import sys\nimport finetune.training.tracking, finetune.training.tensorboard\n"
        "from finetune.__main__ import finetune_command\n"
        "assert not {'torch', 'tensorboard'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_stage_is_the_same_and_its_key_too_whatever_is_recorded(
    embedded_run, tmp_path
):
    config = dataclasses.replace(TINY_TRAINING, n_folds=2)
    runs = [copy_run(embedded_run, tmp_path / name) for name in ("plain", "tracked")]
    plain = run_finetune(runs[0], config=config)
    tracked = run_finetune(runs[1], config=config, tracking=EVERYTHING)
    assert tracked.key == plain.key
    assert tracked.files == plain.files
    for fold in tracked.folds:
        fold_dir = runs[1] / "finetune" / f"fold-{fold.fold}"
        last = read_history(fold_dir / "history.csv")[-1].held_out_smape
        assert last == pytest.approx(fold.held_out_smape, abs=1e-3)
        assert len(list(events_dir(fold_dir).iterdir())) == 2
    again = run_finetune(runs[0], config=config, tracking=EVERYTHING)
    assert again == plain
    assert not (runs[0] / "finetune" / "tensorboard").exists()


def test_the_command_makes_events_of_folds_that_were_finished_without(
    finished_run, tmp_path, monkeypatch
):
    run_dir = copy_run(finished_run, tmp_path / "run")
    monkeypatch.setitem(RECIPES, "default", TINY_TRAINING)
    arguments = ["--run", str(run_dir), "--tensorboard", "--threads", "1"]
    arguments += ["--folds", "3", "--precision", "fp32"]
    result = CliRunner().invoke(finetune_command, arguments)
    assert result.exit_code == 0, result.output
    for fold in range(3):
        folder = run_dir / "finetune" / "tensorboard" / f"fold-{fold}"
        assert len(scalars_of(folder)["loss"]) == 2
