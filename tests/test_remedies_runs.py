"""Advice on unfinished, damaged and moved runs, taken."""

import json
import re
import shutil

import numpy as np
import pytest
from conftest import (
    choose,
    record_anew,
    small_image_backbone,
    use_photo_tower,
    write_tiny_encoder,
)
from remedies import advice, commands_in, options_in, rows_of, write_rows
from remedies import run_dir as run_dir
from remedies import shell as shell


def follow(shell, message):
    """Delete what a message says, and run the one command that it names."""
    for path in re.findall(r"(?:elete|and) the (?:folder|file) (.+?) and", message):
        shutil.rmtree(path) if "manifest" not in path else None
    (command,) = commands_in(message)
    shell.follow(command, CATALOG=shell.catalog)


@advice("this stage has not finished in the run")
def test_the_advice_leads_from_nothing_to_a_finished_run(shell, tmp_path):
    run = tmp_path / "my run"
    for _ in ("embed", "finetune", "stack"):
        follow(shell, shell.refused("evaluate", "--run", run))
    assert "SMAPE" in shell.accepted("evaluate", "--run", run)
    catalog = json.loads((run / "embed" / "manifest.json").read_text())["inputs"]
    assert catalog["images_dir"] == str(shell.images)


@advice("this stage has not finished in the run")
def test_another_run_is_named(shell, run_dir):
    assert "or name another run" in shell.refused("evaluate", "--run", "other")
    shell.accepted("evaluate", "--run", run_dir)


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


DAMAGED = {  # file: the command that finds it
    "embed/tokens.npy": "finetune",
    "embed/catalog.parquet": "finetune",
    "finetune/oof_log_price.npy": "evaluate",
    "finetune/fold-1/model.safetensors": "export",
    "stack/booster-0.txt": "evaluate",
    "stack/lightgbm/booster-1.txt": "predict",
    "stack/fused.npy": "report",
}


def command_on(name, run_dir, shell):
    more = {
        "predict": (shell.catalog, "--out", "prices.csv"),
        "export": ("--no-check", "--out", "model"),
    }
    return (name, "--run", run_dir, *more.get(name, ()))


@advice("Delete the folder")
@pytest.mark.one_in(3)
@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_stage_is_made_anew(shell, run_dir, name):
    evaluate = ("evaluate", "--run", run_dir)
    table = shell.accepted(*evaluate)
    command = command_on(DAMAGED[name], run_dir, shell)
    flip(run_dir / name)
    message = shell.refused(*command)
    assert f"Delete the folder {run_dir / name.partition('/')[0]} and" in message
    follow(shell, message)
    shell.accepted(*command, *(["--folds", 2] if command[0] == "finetune" else []))
    assert shell.accepted(*evaluate) == table


REWRITTEN = {  # file: what it then holds
    "finetune/fold-0/model.safetensors": "no weights",
    "stack/booster-0.txt": "no trees",
    "stack/lightgbm/booster-1.txt": "stack/booster-1.txt",
}


@advice("Delete the folder")
@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", REWRITTEN)
def test_a_stage_whose_file_was_exchanged_is_made_anew(shell, run_dir, name):
    choose(run_dir, "stacker")
    stage, _, file = name.partition("/")
    other = run_dir / REWRITTEN[name]
    content = other.read_bytes() if other.is_file() else REWRITTEN[name].encode()
    (run_dir / name).write_bytes(content)
    record_anew(run_dir / stage, [file])
    predict = command_on("predict", run_dir, shell)
    message = shell.refused(*predict)
    assert f"{name}: " in message
    follow(shell, message)
    shell.accepted(*predict)


@advice("Delete the folder")
@pytest.mark.parametrize("name", ["booster-*.txt", "blocks/statistics/keys.json"])
def test_a_stage_without_a_file_that_it_did_not_record_is_made_anew(
    shell, run_dir, name
):
    path = choose(run_dir, "stacker") / "stack" / "manifest.json"
    manifest = json.loads(path.read_text())
    for found in (run_dir / "stack").glob(name):
        found.unlink()
        del manifest["files"][found.relative_to(path.parent).as_posix()]
    path.write_text(json.dumps(manifest))
    predict = command_on("predict", run_dir, shell)
    follow(shell, shell.refused(*predict))
    shell.accepted(*predict)


RECORDS = ("embed", "finetune", "stack")


@pytest.mark.one_in(4)
@pytest.mark.parametrize("content", ["{", "[]", '{"stage": "all"}'])
@pytest.mark.parametrize("stage", RECORDS)
@advice()
def test_a_damaged_record_is_deleted_and_its_stage_run_again(
    shell, run_dir, stage, content
):
    evaluate = ("evaluate", "--run", run_dir)
    table = shell.accepted(*evaluate)
    path = run_dir / stage / "manifest.json"
    path.write_text(content)
    message = shell.refused(*evaluate)
    assert message.startswith(f"{path}: ")
    assert re.search(r"Delete (it|the file) and run (the stage )?again", message)
    path.unlink()
    target = "embeddings" if stage == "embed" else stage
    shell.follow(f"make {target} RUN='{run_dir}' CATALOG='{shell.catalog}'")
    assert shell.accepted(*evaluate) == table


@advice("made from inputs with key")
def test_later_stages_are_made_anew_after_another_one(shell, run_dir):
    embed = ("embed", shell.catalog, "--run", run_dir, "--max-tokens", 16)
    shell.accepted(*embed)
    evaluate = ("evaluate", "--run", run_dir)
    for target in ("finetune", "stack"):
        message = shell.refused(*evaluate)
        assert f"make {target} " in message
        follow(shell, message)
    shell.accepted(*evaluate)


@advice("another version of pricestack read this run's texts")
def test_a_run_of_another_version_is_made_anew(shell, run_dir):
    path = run_dir / "embed" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["inputs"]["text_format"] = 1
    path.write_text(json.dumps({**manifest, "key": "of another version"}))
    evaluate = ("evaluate", "--run", run_dir)
    message = shell.refused(*evaluate)
    assert "Run all stages again, beginning with" in message
    follow(shell, message)
    for _ in range(2):
        if shell._run(*evaluate).exit_code:
            follow(shell, shell.refused(*evaluate))
    shell.accepted(*evaluate)


@advice("encoder of the run: no weights of sha256")
@pytest.mark.parametrize("kind", ["text", "image"])
@pytest.mark.parametrize("way", ["put back", "again"])
def test_encoders_that_are_gone_are_put_back_or_others_named(
    shell, tmp_path, monkeypatch, kind, way
):
    import torch

    use_photo_tower(monkeypatch, small_image_backbone)
    (tmp_path / "at").mkdir()
    own = {"text": tmp_path / "at" / "text", "image": tmp_path / "at" / "image.pth"}
    write_tiny_encoder(own["text"])
    torch.save(small_image_backbone(None).state_dict(), own["image"])
    options = [w for kind in own for w in (f"--{kind}-encoder", own[kind])]
    embed = ("embed", shell.catalog, "--images", shell.images, "--run", "run", *options)
    shell.accepted(*embed)
    (tmp_path / "at").rename(tmp_path / "gone")
    (tmp_path / "at").mkdir()
    other = own["image" if kind == "text" else "text"]
    (tmp_path / "gone" / other.name).rename(other)
    finetune = ("finetune", "--folds", 2, "--run", "run")
    message = shell.refused(*finetune)
    if way == "put back":
        place = re.search(r"Put its files back at (.+?),", message)[1]
        assert place == str(own[kind])
        (tmp_path / "gone" / own[kind].name).rename(place)
    else:
        assert commands_in(message) == ["pricestack embed"]
        (option,) = options_in(message)
        shell.accepted(*embed, option, tmp_path / "gone" / own[kind].name)
    shell.accepted(*finetune)


@advice("Copy it from where the run was made, or delete")
@pytest.mark.parametrize("way", ["copy", "make anew"])
def test_a_lost_history_is_copied_or_its_fold_trained_again(shell, run_dir, way):
    history = run_dir / "finetune" / "fold-1" / "history.csv"
    other = run_dir / "finetune" / "fold-0" / "model.safetensors"
    was, written = history.read_text(), other.stat().st_mtime_ns
    history.unlink()
    report = ("report", "--run", run_dir)
    message = shell.refused(*report)
    assert message.startswith(f"{history}: is missing")
    if way == "copy":
        history.write_text(was)
    else:
        folder, file = re.search(
            r"delete the folder (.+) and the file (.+) and run", message
        ).groups()
        shutil.rmtree(folder)
        (run_dir / file).unlink()
        shell.follow(*commands_in(message))
    shell.accepted(*report)
    assert other.stat().st_mtime_ns == written


def without_stacker(report):
    rows = [row for row in report["predictors"] if row["name"] != "stacker"]
    return {**report, "predictors": rows}


REPORT = {  # command: what becomes of the report
    "export": None,
    "report": None,
    "runs": None,
    "report ": without_stacker,
    "runs ": without_stacker,
}


@advice("`, which writes it again", "pricestack evaluate --run \0")
@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", REPORT)
def test_the_report_of_a_run_is_written_anew(shell, run_dir, tmp_path, name):
    path = run_dir / "stack" / "report.json"
    was = json.loads(path.read_text())
    path.unlink()
    if change := REPORT[name]:
        path.write_text(json.dumps(change(was)))
    if name.strip() == "runs":
        listed = shell.accepted("runs", tmp_path)
        message = " ".join(listed.partition("or damaged:")[2].split())
        follow(shell, message)
        assert "damaged" not in shell.accepted("runs", tmp_path)
    else:
        command = command_on(name.strip(), run_dir, shell)
        follow(shell, shell.refused(*command))
        shell.accepted(*command)
    assert json.loads(path.read_text()) == was


@advice("this stage has not finished in the run")
def test_a_command_in_the_table_of_runs_can_be_copied(shell, run_dir, tmp_path):
    long = tmp_path / "-".join(["a-long-name"] * 8) / "run"
    shutil.copytree(run_dir, long)
    shutil.rmtree(long / "stack")
    listed = shell.accepted("runs", long.parent)
    follow(shell, re.sub(r"\n +", " ", listed.partition("or damaged:")[2]))
    assert "Not finished" not in shell.accepted("runs", long.parent)


@advice("is not a folder. Name the one that holds")
def test_the_folder_of_runs_is_named(shell, run_dir, tmp_path):
    message = shell.refused("runs", tmp_path / "ruins")
    (example,) = commands_in(message)
    run_dir.rename(tmp_path / "mine")
    (tmp_path / "runs").mkdir()
    (tmp_path / "mine").rename(tmp_path / "runs" / "mine")
    name, *words = example.removeprefix("pricestack ").split()
    assert "mine" in shell.accepted(name, *words)


@advice("`pricestack compare A B` judges on common")
def test_two_runs_are_compared(shell, run_dir, tmp_path):
    other = shutil.copytree(run_dir, tmp_path / "other")
    (example,) = commands_in(" ".join(shell.accepted("runs", tmp_path).split()))
    name = example.split()[1]
    assert "24 common products" in shell.accepted(name, run_dir, other)


@advice("folds, and each needs networks of its own")
@pytest.mark.parametrize("way", ["the run's", "trained so"])
def test_another_number_of_folds_is_asked_for_or_trained(shell, run_dir, way):
    evaluate = ("evaluate", "--run", run_dir, "--folds")
    message = shell.refused(*evaluate, 3)
    if way == "the run's":
        n_folds = re.search(r"Evaluate with --folds (\d+)", message)[1]
    else:
        follow(shell, message)
        n_folds = 3
    assert "SMAPE" in shell.accepted(*evaluate, n_folds)


@advice(
    "that network went wrong, or its", "learned too little. Train with another --seed"
)
@pytest.mark.slow
def test_a_doubtful_network_is_trained_with_another_seed(shell, run_dir):
    finetune = ("finetune", "--run", run_dir, "--folds", 4)
    shell.accepted(*finetune)
    shell.accepted("stack", "--run", run_dir)
    stage_dir = run_dir / "finetune"
    prices = np.load(stage_dir / "oof_log_price.npy")
    prices[np.load(stage_dir / "folds.npy") == 0] += 4
    np.save(stage_dir / "oof_log_price.npy", prices)
    anchors = np.load(stage_dir / "anchor_log_price.npy")
    anchors[0] += 4
    np.save(stage_dir / "anchor_log_price.npy", anchors)
    record_anew(stage_dir, ["oof_log_price.npy", "anchor_log_price.npy"])
    evaluate = ("evaluate", "--run", run_dir)
    doubts = " ".join(shell.accepted(*evaluate).split())
    shell.heard.append(doubts)
    assert set(options_in(doubts)) == {"--seed"}
    shell.accepted(*finetune, "--seed", 1)
    shell.accepted("stack", "--run", run_dir)
    assert "--seed" not in shell.accepted(*evaluate)


@advice("Rounding does not change a price that much")
def test_the_audit_checks_a_price_that_cannot_be_explained(shell, run_dir):
    path = run_dir / "finetune" / "oof_log_price.npy"
    np.save(path, np.load(path) + 1)
    record_anew(path.parent, [path.name])
    has_photo = np.load(run_dir / "embed" / "image_ok.npy")
    product = rows_of(shell.catalog)[has_photo.argmin()]["sample_id"]
    explain = ("explain", "--run", run_dir, "--sample-id", product)
    command = commands_in(shell.accepted(*explain))[-1]
    assert command == "pricestack audit"
    audit = shell._run("audit", "--run", run_dir)
    assert audit.exit_code == 1
    assert "FAIL  priced again" in audit.output
    np.save(path, np.load(path) - 1)
    record_anew(path.parent, [path.name])
    assert "Rounding" not in shell.accepted(*explain)


GROUPS = ("text", "photo", "link")


@advice("products count as duplicates of sample_id")
@pytest.mark.one_in(3)
@pytest.mark.parametrize("kind", GROUPS)
def test_a_large_group_of_duplicates_is_told_apart(shell, tmp_path, kind):
    rows = rows_of(shell.catalog)
    photos = shutil.copytree(shell.images, tmp_path / "photos")
    keep = []
    if kind == "text":
        alike = [{**row, "catalog_content": "Item Name: tea"} for row in rows[:14]]
    elif kind == "link":
        alike = [{**r, "image_link": "http://x/1.jpg"} for r in rows[:14]]
        photos, keep = tmp_path / "none", ["--keep-shared-photos"]
        photos.mkdir()
    else:
        alike, keep = rows[:14], ["--keep-shared-photos"]
        for row in alike[1:]:
            shutil.copy(photos / "100001.jpg", photos / f"{row['sample_id']}.jpg")
    catalog = write_rows(tmp_path / "c.csv", [*alike, *rows[14:]])
    embed = ("embed", catalog, "--images", photos, "--run", "run")
    finetune = ("finetune", "--run", "run", "--folds", 2)
    shell.accepted(*embed, *keep)
    warned = shell.accepted(*finetune)
    assert f"have the same {kind}. " in warned
    assert commands_in(warned) == ["pricestack embed"]
    if kind == "photo":
        assert options_in(warned) == keep
        keep = []
    else:
        catalog = write_rows(catalog, rows)
    shell.accepted(*embed, *keep)
    assert "count as duplicates" not in shell.accepted(*finetune)


@advice("must be a run with a finished embedding stage")
def test_another_run_to_reuse_is_named_or_none(shell, run_dir, tmp_path):
    embed = ("embed", shell.catalog, "--images", shell.images, "--run")
    message = shell.refused(*embed, "new", "--reuse", "none")
    assert "Name another run, or leave --reuse out" in message
    assert "encoded 0 texts" in shell.accepted(*embed, "new", "--reuse", run_dir)
    shell.accepted(*embed, "another")


@advice("must be whole, however", "Delete the folder")
def test_a_damaged_run_to_reuse_is_made_anew_or_left_out(shell, run_dir):
    embed = ("embed", shell.catalog, "--images", shell.images, "--run")
    flip(run_dir / "embed" / "text.npy")
    message = shell.refused(*embed, "new", "--reuse", run_dir)
    assert "Or leave --reuse out" in message
    shell.accepted(*embed, "another")
    follow(shell, message)
    assert "encoded 0 texts" in shell.accepted(*embed, "new", "--reuse", run_dir)
