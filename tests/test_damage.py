"""What a disk can do to a finished run is found and named before it is used."""

import shutil

import numpy as np
import pytest
from conftest import TINY_STACK, TINY_TRAINING

from embed.errors import CacheError
from embed.store.manifest import (
    read_json,
)
from finetune.out_of_fold import finetune
from stack.fit import evaluate_run, fit_stack
from stack.price.predictor import Predictor

FINETUNE_FILES = (
    "price.npy",
    "folds.npy",
    "groups.npy",
    "anchor_rows.npy",
    "oof_log_price.npy",
    "fused.npy",
    "anchors.npy",
)
MODELS = tuple(f"fold-{fold}/model.safetensors" for fold in range(3))
BOOSTERS = tuple(
    f"{folder}booster-{fold}.txt" for folder in ("", "lightgbm/") for fold in range(3)
)
STACK_FILES = (
    *BOOSTERS,
    "alignment.npy",
    "fused.npy",
    "oof_log_price.npy",
    "lightgbm_log_price.npy",
    "blend_log_price.npy",
    "lightgbm/starts.npy",
)


@pytest.fixture
def run_dir(finished_run, tmp_path):
    return shutil.copytree(finished_run, tmp_path / "run")


def flip_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def cut_short(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


DAMAGES = {"with a flipped bit": flip_bit, "cut short": cut_short}


def stack_anew(run_dir):
    shutil.rmtree(run_dir / "stack")
    fit_stack(run_dir, config=TINY_STACK)


def test_every_file_of_a_finished_run_is_recorded(run_dir):
    for stage, files in (
        ("finetune", {*FINETUNE_FILES, *MODELS}),
        ("stack", STACK_FILES),
    ):
        stage_dir = run_dir / stage
        recorded = set(read_json(stage_dir / "manifest.json")["files"])
        assert recorded >= set(files)
        if stage == "finetune":
            assert "seed_log_price.npy" in recorded  # for people; no stage reads it
        not_arrays = {"manifest.json", "plan.json", "report.json", "history.csv"}
        not_arrays |= {"network.json", "out_of_fold.csv"}
        assert recorded == {
            path.relative_to(stage_dir).as_posix()
            for path in stage_dir.rglob("*")
            if path.is_file()
            and path.name not in not_arrays
            and path.suffix != ".crc32"
        }


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FINETUNE_FILES)
def test_stacking_names_a_damaged_file_of_the_networks(run_dir, name, damage, tally):
    DAMAGES[damage](run_dir / "finetune" / name)
    with pytest.raises(
        CacheError, match=rf"finetune/{name}: .*run `make finetune RUN="
    ):
        stack_anew(run_dir)
    tally(f"files of a run {damage}")


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", STACK_FILES)
def test_evaluating_names_a_damaged_file_of_the_stacker(run_dir, name, damage, tally):
    DAMAGES[damage](run_dir / "stack" / name)
    with pytest.raises(CacheError, match=rf"stack/{name}: .*run `make stack RUN="):
        evaluate_run(run_dir)
    tally(f"files of a run {damage}")


@pytest.mark.parametrize("name", ["price.npy", "folds.npy", "oof_log_price.npy"])
def test_evaluating_names_a_damaged_file_of_the_networks(run_dir, name):
    flip_bit(run_dir / "finetune" / name)
    with pytest.raises(CacheError, match=rf"finetune/{name}: .*run `make finetune"):
        evaluate_run(run_dir)


def test_a_damaged_booster_of_a_stopped_run_is_fitted_again(run_dir, caplog):
    expected = (run_dir / "stack" / "booster-1.txt").read_bytes()
    (run_dir / "stack" / "manifest.json").unlink()
    flip_bit(run_dir / "stack" / "booster-1.txt")
    fit_stack(run_dir, config=TINY_STACK)
    assert "booster-1.txt: is not as it was written, so it is fitted again" in (
        caplog.text
    )
    assert (run_dir / "stack" / "booster-1.txt").read_bytes() == expected


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", [MODELS[1], "../stack/booster-1.txt"])
def test_predicting_refuses_a_damaged_model(run_dir, name, damage):
    DAMAGES[damage](run_dir / "finetune" / name)
    with pytest.raises(CacheError, match=r"1(/model\.safetensors|\.txt): "):
        Predictor(run_dir)


def test_up_to_date_means_that_the_arrays_are_still_there(run_dir):
    (run_dir / "finetune" / "fused.npy").unlink()
    with pytest.raises(CacheError, match=r"fused\.npy: is missing\. Delete the folder"):
        finetune(run_dir, config=TINY_TRAINING)


def test_training_names_damaged_inputs(run_dir):
    flip_bit(run_dir / "embed" / "thumbnails.npy")
    shutil.rmtree(run_dir / "finetune")
    with pytest.raises(CacheError, match=r"thumbnails\.npy: rows \d+ to \d+ \(chunk"):
        finetune(run_dir, config=TINY_TRAINING)


def test_what_a_finished_fold_wrote_is_checked_when_the_last_one_ends(run_dir):
    stage_dir = run_dir / "finetune"
    for path in (stage_dir / "manifest.json", stage_dir / "fold-2" / "manifest.json"):
        path.unlink()
    folds = np.load(stage_dir / "folds.npy")
    rows = np.load(stage_dir / "fused.npy", mmap_mode="r+")
    rows[np.flatnonzero(folds == 0)[0], 0] += 1
    rows.flush()
    with pytest.raises(CacheError, match=r"fused\.npy: has changed since fold 1"):
        finetune(run_dir, config=TINY_TRAINING)
