"""Advice on training that goes wrong, and on what reads a file, taken."""

import re
import shutil
import sys

import pytest
from conftest import choose, small_image_backbone, use_photo_tower
from remedies import advice, commands_in, options_in, rows_of, write_rows
from remedies import run_dir as run_dir
from remedies import script as script
from remedies import shell as shell
from test_embed_catalog_xlsx import write_xlsx
from torch import nn

from finetune.timing import cheaper, notice

OUT = ("--out", "prices.csv")


def train(run_dir):
    return ("finetune", "--run", run_dir, "--folds", 2, "--smooth-l1-epochs", 4)


@advice("the fused embedding has diverged")
@pytest.mark.parametrize("too_high", ["fusion_learning_rate", "all"])
def test_an_embedding_that_runs_away_is_held_by_lower_rates(shell, run_dir, too_high):
    rates = [f"{name}_learning_rate" for name in ("text", "image", "fusion")]
    high = [too_high] if too_high != "all" else rates
    message = shell.refused(*train(run_dir), *set_to_one(high))
    lower = re.search(r"Lower (\S+) and (\S+) by (\S+) NAME=VALUE;", message).groups()
    assert set(lower) == {*rates[1:], "--set"}
    high = [name for name in high if name not in lower]
    shell.accepted(*train(run_dir), *set_to_one(high))


def set_to_one(names):
    return [word for name in names for word in ("--set", f"{name}=1")]


class Loud(nn.Module):
    """Makes the photo tower's activations as large as those of one that ran away."""

    def forward(self, maps):
        return 1e5 * maps


@advice("the fused embedding has diverged")
def test_a_photo_tower_that_runs_away_is_frozen(shell, run_dir, monkeypatch):
    def load(weights, spec=None, *, seed=0):
        return small_image_backbone(weights, seed=seed).append(Loud())

    use_photo_tower(monkeypatch, load)
    finetune = (*train(run_dir), "--recipe", "paper")
    message = shell.refused(*finetune)
    option = re.search(r"at their defaults, give (\S+)\.$", message)[1]
    shell.accepted(*finetune, option)


@advice("MINUTES chooses settings for the time")
@pytest.mark.parametrize("option", ["--freeze-image", "--time-limit"])
def test_a_long_training_becomes_shorter(shell, run_dir, monkeypatch, option):
    monkeypatch.setattr(notice, "LONG_SECONDS", 0.0)
    monkeypatch.setattr(notice, "_WORTH_NAMING", 1e9)
    weights = (shell.encoder, shell.encoder)
    monkeypatch.setattr(cheaper, "weights_of_run", lambda embed: weights)
    finetune = (*train(run_dir), "--batch-size", 9)
    told = shell.accepted(*finetune, "--only-fold", 1)
    assert option in options_in(told)
    given = (option, 9) if option == "--time-limit" else (option,)
    shell.accepted(*finetune, *given)


@advice("the training takes about")
def test_a_time_limit_that_is_too_short_is_raised(shell, run_dir):
    finetune = (*train(run_dir), "--batch-size", 9)
    message = shell.refused(*finetune, "--time-limit", 1e-5)
    minutes = re.search(r"Give --time-limit (\d+) or more", message)[1]
    assert "nothing is given up" in shell.accepted(*finetune, "--time-limit", minutes)


@advice("Leave --inputs out, or embed with an encoder")
@pytest.mark.parametrize("way", ["leave out", "embed"])
def test_networks_of_an_input_without_encoder(shell, way):
    embed = ("embed", shell.catalog, "--run", "run")
    shell.accepted(*embed, "--image-encoder", "none")
    message = shell.refused(*train("run"), "--inputs", "image")
    assert options_in(message) == ["--inputs", "--image-encoder", "--inputs"]
    if way == "leave out":
        shell.accepted(*train("run"))
    else:
        shell.accepted(*embed)
        shell.accepted(*train("run"), "--inputs", "image")


@advice("outputs of the text tower's frozen layers take")
@pytest.mark.parametrize("way", ["room", "--max-tokens", "--freeze-layers"])
def test_the_outputs_of_frozen_layers_need_room(shell, run_dir, way):
    full = shutil.disk_usage(run_dir)._replace(free=24 * 2 * 32 * 10)  # ten tokens each
    finetune = (*train(run_dir), "--freeze-layers", 1, "--seed", 5)
    with pytest.MonkeyPatch.context() as patch:
        disk = "finetune.training.frozen_layers.shutil.disk_usage"
        patch.setattr(disk, lambda _: full)
        message = shell.refused(*finetune)
        assert set(options_in(message)) == {"--max-tokens", "--freeze-layers"}
        if way != "room":
            limit = {"--max-tokens": 8, "--freeze-layers": 0}[way]
            shell.accepted(*finetune, way, limit)
    if way == "room":
        shell.accepted(*finetune)


@advice("this encoder cannot be written as ONNX")
def test_a_run_that_cannot_be_exported_prices_by_predict(shell, run_dir, monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("no such operation")

    monkeypatch.setattr("torch.onnx.export", fails)
    message = shell.refused("export", "--run", run_dir, "--out", "model")
    (command,) = commands_in(message)
    products = ("--catalog", shell.catalog, *OUT)
    shell.accepted(command.split()[1], "--run", run_dir, *products)


READERS = {  # part of the message: the module that reads, the file's suffix
    "reading Parquet needs pyarrow": ("pyarrow", ".parquet"),
    "reading Excel needs python-calamine": ("python_calamine", ".xlsx"),
}


def write_catalog(path, rows):
    if path.suffix == ".csv":
        return write_rows(path, rows)
    cells = [list(rows[0]), *(list(row.values()) for row in rows)]
    if path.suffix == ".xlsx":
        return write_xlsx(path, A=cells)
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.Table.from_pylist(rows), path)
    return path


@advice(*READERS)
@pytest.mark.parametrize("part", READERS)
@pytest.mark.parametrize("way", ["install", "CSV"])
def test_a_catalog_is_read_by_a_package_or_given_as_csv(
    shell, script, tmp_path, part, way
):
    module, suffix = READERS[part]
    pytest.importorskip(module)
    rows = rows_of(shell.catalog)[:3]
    rows = [{**row, "catalog_content": f"Tea {n}"} for n, row in enumerate(rows)]
    catalog = write_catalog(tmp_path / f"c{suffix}", rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, module, None)
        code, message = script("--catalog", catalog, *OUT)
        assert code == 2
        if way == "CSV":
            assert re.search("CSV file|'CSV UTF-8'", message)
            catalog = write_catalog(tmp_path / "c.csv", rows)
            assert script("--catalog", catalog, *OUT) == (0, "")
    install = commands_in(message)
    assert install == [f"pip install {module.replace('_', '-')}"]
    if way == "install":
        assert script("--catalog", catalog, *OUT) == (0, "")
    assert len(rows_of(tmp_path / "prices.csv")) == 3


@advice("the trees of this model need lightgbm")
def test_an_exported_stacker_needs_lightgbm(shell, run_dir, request):
    choose(run_dir, "stacker")
    shell.accepted("export", "--run", run_dir, "--no-check", "--out", "model")
    script = request.getfixturevalue("script")
    line = ("--catalog", shell.catalog, *OUT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "lightgbm", None)
        code, message = script(*line)
    assert code == 2
    assert commands_in(message) == ["pip install lightgbm"]
    assert script(*line) == (0, "")


@advice("or install pricestack with its extra")
def test_photos_are_downloaded_by_a_package(shell, tmp_path):
    pytest.importorskip("httpx2")
    images = ("images", shell.catalog, "--out", "photos", "--retries", 0)
    catalog = write_rows(
        tmp_path / "c.csv",
        [{**row, "image_link": "http://127.0.0.1/a.png"} for row in rows_of(images[1])],
    )
    images = ("images", catalog, *images[2:])
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "httpx2", None)
        message = shell.refused(*images)
    assert commands_in(message) == ["pip install httpx2", "images"]
    assert "0 products have their photo" in shell.accepted(*images)
