"""Advice on options, packages and places to write to, taken."""

import itertools
import re
import socket
import subprocess
import sys
from importlib.metadata import metadata, version

import numpy as np
import pytest
from conftest import record_anew
from remedies import advice, commands_in, options_in, rows_of, without, write_rows
from remedies import run_dir as run_dir
from remedies import script as script
from remedies import shell as shell

from embed.errors import InputError

ONE_FOLD = ("--only-fold", 1)
LIMITS = {  # part of the message: options that break the rule, and the limit to give
    "--seeds must be 1 to 20": ("--seeds 0", 1),
    "--folds must be at least 2": ("--folds 1", 2),
    "--batch-size must be at least 2": ("--batch-size 1", 2),
    "--max-tokens must be 8 to": ("--max-tokens 7", 8),
    "--image-size must be 32 to": ("--image-size 31", 32),
    "--freeze-layers must be 0 to": ("--freeze-layers 3", 2),
    "--only-fold must be 1 to \0, got \0": ("--only-fold 6", 5),
    "--folds must be 2 to the number": ("--folds 25", 23),
}


@advice(*LIMITS)
@pytest.mark.parametrize("part", LIMITS)
def test_a_setting_of_training_at_the_limit_that_is_named_is_taken(
    shell, run_dir, part
):
    broken, limit = LIMITS[part]
    option = broken.split()[0]
    finetune = ("finetune", "--run", run_dir, *ONE_FOLD)
    message = shell.refused(*finetune, *broken.split())
    assert options_in(message)[0] == option
    assert str(limit) in re.findall(r"\d+", message.rpartition("got")[0])
    if "batch" in option:  # what it goes with
        assert "and --set micro_batch_size at least 1" in message
    shell.accepted(*finetune, option, limit)


SETTINGS = {  # part of the message: command, option, a bad and a good value
    "--threads must be at least 1": ("finetune", "--threads", 0, 1),
    "--seed must be 0 to 2147483647": ("finetune", "--seed", -1, 0),
    "--freeze-layers must be 0 or": ("finetune", "--freeze-layers", -1, 0),
    "--time-limit must be above 0": ("finetune", "--time-limit", 0, 0.5),
    "--workers must be at least 1": ("embed", "--workers", 0, 1),
    "--concurrency must be at least 1": ("images", "--concurrency", 0, 1),
    "--per-host must be at least 1": ("images", "--per-host", 0, 1),
    "--retries must be at least 0": ("images", "--retries", -1, 0),
    "--timeout must be a positive": ("images", "--timeout", 0, 0.5),
    "--exact-up-to must be at least 100": ("stack", "--exact-up-to", 99, 100),
    "--seeds must be at least 1": ("stack", "--seeds", 0, 1),
    "--blocks must be one or more": ("stack", "--blocks", "fused,fused", "fused"),
    "--blocks must have \0 beside": ("stack", "--blocks", "start", "start,kernel"),
}


@advice(*SETTINGS)
@pytest.mark.parametrize("part", SETTINGS)
def test_a_setting_that_keeps_the_rule_reaches_the_stage(shell, monkeypatch, part):
    def begin(*_, **__):
        raise InputError("the stage has begun")

    for stage in (
        "embed.extract.extract",
        "embed.download.job.download_images",
        "finetune.out_of_fold.finetune",
        "stack.fit.fit_stack",
    ):
        monkeypatch.setattr(stage, begin)
    command, option, broken, good = SETTINGS[part]
    needed = {"embed": [shell.catalog], "images": [shell.catalog, "--out", "photos"]}
    line = (command, *needed.get(command, ()), option)
    assert options_in(shell.refused(*line, broken))[0] == option
    assert shell.refused(*line, good) == "the stage has begun"


@advice("--folds must be 2 to the number")
def test_more_products_allow_more_folds(shell, tmp_path):
    rows = rows_of(shell.catalog)
    few, all_rows = (write_rows(tmp_path / f"{n}.csv", rows[:n]) for n in (6, 24))
    finetune = ("finetune", "--run", "run", "--folds", 8, *ONE_FOLD)
    shell.accepted("embed", few, "--run", "run")
    assert "Use fewer folds or more products" in shell.refused(*finetune)
    shell.accepted("embed", all_rows, "--run", "run")
    shell.accepted(*finetune)


PREDICT = ("--out", "prices.csv", "--threads", 1)


@advice("Leave it out to use all")
@pytest.mark.parametrize("way", ["limit", "all"])
def test_prices_come_from_a_fold_that_there_is_or_from_all(shell, run_dir, way):
    predict = ("predict", shell.catalog, "--run", run_dir, *PREDICT)
    message = shell.refused(*predict, "--only-fold", 3)
    limit = re.search(r"--only-fold must be 1 to (\d+),", message)[1]
    shell.accepted(*predict, *(("--only-fold", limit) if way == "limit" else ()))


@advice("give --flags to see which and why")
def test_flags_tell_which_prices_are_doubtful(shell, run_dir, tmp_path):
    path = run_dir / "finetune" / "price.npy"
    prices = np.load(path)
    np.save(path, np.where(prices > 20, np.nan, prices))
    record_anew(path.parent, [path.name])
    predict = ("predict", shell.catalog, "--run", run_dir, *PREDICT)
    (option,) = options_in(shell.accepted(*predict))
    n_doubtful = re.search(r"Doubtful: (\d+) of", shell.accepted(*predict, option))[1]
    flags = [row["flags"] for row in rows_of(tmp_path / "prices.csv")]
    assert sum("trained" in flag for flag in flags) == int(n_doubtful) > 0


OF_EXTRA = "or install pricestack with its extra `\0`."
PACKAGES = {  # command and option: packages as they are installed, part of the message
    "stack --tune 1": (["optuna"], "--tune needs Optuna"),
    "finetune --tensorboard": (["tensorboard"], "--tensorboard needs the package"),
    "export --out model": (["onnx", "onnxruntime"], OF_EXTRA),
    "serve --port 0": (["fastapi", "python-multipart"], OF_EXTRA),
    "report": (["jinja2", "matplotlib"], OF_EXTRA),
}


@advice(*(part for _, part in PACKAGES.values()))
@pytest.mark.parametrize(
    ("line", "packages", "part"), [(line, *found) for line, found in PACKAGES.items()]
)
@pytest.mark.one_in(3)
@pytest.mark.parametrize("way", ["install", "leave out"])
def test_a_package_is_installed_or_done_without(
    shell, run_dir, monkeypatch, line, packages, part, way
):
    monkeypatch.setattr("stack.service.server._run", lambda _, port: port.close())
    command, *options = line.split()
    more = ("--run", run_dir, *(("--folds", 2) if command == "finetune" else ()))
    with pytest.MonkeyPatch.context() as patch:
        without(patch, *(name.replace("-", "_") for name in packages))
        if packages == ["tensorboard"]:
            patch.setitem(sys.modules, "tensorboard.summary.writer.record_writer", None)
        message = shell.refused(command, *more, *options)
        if way == "leave out" and options[:1] in (["--tune"], ["--tensorboard"]):
            shell.accepted(command, *more)
    install, *extra = commands_in(message)
    assert install.split() == ["pip", "install", *packages]
    assert all(version(name) for name in packages)  # as the index names them
    assert set(extra) <= set(metadata("pricestack").get_all("Provides-Extra"))
    if way == "install":
        shell.accepted(command, *more, *options)


def explain(shell, run_dir, *options, row=0):
    product = rows_of(shell.catalog)[row]["sample_id"]
    few = ("--words", 1, "--similar", 0, "--threads", 1)
    return ("explain", "--run", run_dir, "--sample-id", product, *few, *options)


@advice("`evaluate` shows how many by price")
def test_evaluate_shows_how_many_prices_the_intervals_hold(shell, run_dir):
    said = " ".join(shell.accepted(*explain(shell, run_dir)).split())
    assert "`evaluate` shows how many by price" in said
    shell.heard.append(said)
    table = shell.accepted("evaluate", "--run", run_dir)
    assert re.search(r"Coverage by true price.*\n-+\n80 % intervals", table)


@advice("the surest prices of the run")
def test_a_rate_of_right_prices_that_the_run_reaches_is_named(shell, run_dir, tmp_path):
    command = ("predict", "--run", run_dir, "--catalog", shell.catalog, "--threads", 1)
    command = (*command, "--out", tmp_path / "prices.csv")
    message = shell.refused(*command, "--auto-at", 0.999)
    named = re.search(r"Give ([\d.]+) or less", message)
    said = shell.accepted(*command, *(("--auto-at", named[1]) if named else ()))
    assert not named or "prices are marked. Out of fold" in said


@advice("products of the run")
@pytest.mark.parametrize("wrong", ["1000001", "tea"])
def test_a_product_that_there_is_is_explained(shell, run_dir, wrong):
    command = explain(shell, run_dir)
    message = shell.refused(*command, "--sample-id", wrong)
    named = re.search(r"(?:The nearest|The first) are '([^']+)'", message)[1]
    shell.accepted(*command, "--sample-id", named)


@advice("--image-map needs --grid 1 or more")
@pytest.mark.parametrize("way", ["no map", "no grid"])
def test_one_of_map_and_grid_is_left_out(shell, run_dir, way):
    photo = int(np.load(run_dir / "embed" / "image_ok.npy").argmax())
    command = explain(shell, run_dir, row=photo)
    options = {"--image-map": "map.png", "--grid": 0}
    message = shell.refused(*command, *itertools.chain(*options.items()))
    assert set(options_in(message)) == set(options)
    del options["--image-map" if way == "no map" else "--grid"]
    shell.accepted(*command, *itertools.chain(*options.items()))


@advice("--grid must be 0 (no map) to")
def test_the_grid_is_as_fine_as_is_allowed(shell, run_dir):
    command = explain(shell, run_dir)
    message = shell.refused(*command, "--grid", 1000)
    finest = re.search(r"to (\d+) patches", message)[1]
    photo = int(np.load(run_dir / "embed" / "image_ok.npy").argmax())
    command = explain(shell, run_dir, row=photo)
    shell.accepted(*command, "--grid", finest)


@advice("has no usable photo of this product")
def test_a_product_without_a_photo_is_explained_without_a_map(shell, run_dir):
    row = int(np.load(run_dir / "embed" / "image_ok.npy").argmin())
    command = explain(shell, run_dir, row=row)
    message = shell.refused(*command, "--image-map", "map.png")
    where = re.search(r"product; (.+) gives the reason", message)[1]
    reasons = {row["sample_id"] for row in rows_of(run_dir / "embed" / "problems.csv")}
    assert where == str(run_dir / "embed" / "problems.csv")
    assert rows_of(shell.catalog)[row]["sample_id"] in reasons
    shell.accepted(*command)


TAKEN = {  # part of the message: what to do there
    "is a file. Name a folder": "elsewhere",
    "must be new, empty or an earlier export": "elsewhere",
    "an earlier export is replaced only if": "move",
    "an earlier export is replaced only if it": "elsewhere",
}


@advice(*TAKEN)
@pytest.mark.one_in(2)
@pytest.mark.parametrize("part", TAKEN)
def test_a_model_goes_where_nothing_is_lost(shell, run_dir, tmp_path, part):
    out = tmp_path / "model"
    export = ("export", "--run", run_dir, "--no-check", "--out")
    if "earlier export is replaced" in part:
        shell.accepted(*export, out)
    if "is a file" in part:
        out.write_text("mine")
    else:
        out.mkdir(exist_ok=True)
        (out / "mine.txt").write_text("mine")
    message = shell.refused(*export, out)
    if TAKEN[part] == "move":
        name = re.search(r"but '(.+)' is there too", message)[1]
        (out / name).rename(tmp_path / name)
        shell.accepted(*export, out)
    else:
        shell.accepted(*export, tmp_path / "other")
        assert (out if out.is_file() else out / "mine.txt").read_text() == "mine"


@advice("the exported model's log price differs")
def test_an_inexact_model_is_written_without_a_check(shell, run_dir, monkeypatch):
    monkeypatch.setattr("stack.export.check.MOST_DIFFERENCE", -1)
    export = ("export", "--run", run_dir, "--out", "model")
    (option,) = options_in(shell.refused(*export))
    shell.accepted(*export, option)


@advice("python model/predict.py --catalog new.csv", "is not there. Make it")
def test_the_exported_script_prices_as_its_card_says(shell, script, tmp_path):
    card = (tmp_path / "model" / "MODEL_CARD.md").read_text()
    shell.heard.append(card)
    (line,) = re.findall(r"python model/predict\.py (.*)", card)
    own = {"new.csv": shell.catalog, "photos": shell.images, "prices.csv": "a/p.csv"}
    words = [own.get(word, word) for word in line.split()]
    code, error = script(*words)
    assert code == 2
    (tmp_path / re.search(r"the folder (.+) is not there", error)[1]).mkdir()
    assert script(*words) == (0, "")
    assert len(rows_of(tmp_path / "a" / "p.csv")) == 24


def renamed(rows, column, name):
    return [{name if n == column else n: cell for n, cell in r.items()} for r in rows]


UNREADABLE = {  # an option that a message on a catalog names: what makes it needed
    "--id-column sku": lambda rows: (renamed(rows, "sample_id", "sku"), {}),
    "--text-column title": lambda rows: (renamed(rows, "catalog_content", "title"), {}),
    "--encoding windows-1251": lambda rows: (
        [{**row, "catalog_content": "чай"} for row in rows],
        {"encoding": "windows-1251"},
    ),
    "--delimiter ^": lambda rows: (rows, {"delimiter": "^"}),
    "--export none --id-column Handle --text-column Handle": lambda rows: (
        [dict.fromkeys(PHOTO_COLUMNS, "") | {"Handle": n} for n in range(3)],
        {},
    ),
}
PHOTO_COLUMNS = ("Title", "Option1 Name", "Option1 Value", "Variant Price", "Image Src")


@advice()
@pytest.mark.one_in(3)
@pytest.mark.parametrize("options", UNREADABLE)
def test_the_exported_script_has_the_options_that_its_messages_name(
    shell, script, tmp_path, options
):
    rows, form = UNREADABLE[options](rows_of(shell.catalog))
    line = ("--catalog", write_rows(tmp_path / "c.csv", rows, **form), *PREDICT[:2])
    code, error = script(*line)
    assert code == 2
    message = error.rpartition("error: ")[2]
    assert set(options_in(options)) <= set(options_in(message))
    assert script(*line, *options.split())[0] == 0
    assert len(rows_of(tmp_path / "prices.csv")) == len(rows)


@pytest.fixture
def serve(run_dir, monkeypatch):
    """Return the command that serves a run; it ends once its port is open."""
    monkeypatch.setattr("stack.service.server._run", lambda _, port: port.close())
    return ("serve", "--run", run_dir)


@advice("must be a free port of this machine")
@pytest.mark.parametrize("way", ["stop", "another"])
def test_a_port_that_is_free_is_listened_on(shell, serve, way):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        message = shell.refused(*serve, "--port", port)
        assert "Stop what listens there, or choose another" in message
        if way == "another":
            shell.accepted(*serve, "--port", 0)
    if way == "stop":
        assert f":{port}" in shell.accepted(*serve, "--port", port)


@advice("must be an address of this machine, found ''")
@pytest.mark.parametrize("which", [0, 1])
def test_an_address_of_this_machine_is_listened_on(shell, serve, which):
    message = shell.refused(*serve, "--host", "", "--port", 0)
    address = re.search(r"Give (\S+), or (\S+) for", message).groups()[which]
    assert address in shell.accepted(*serve, "--host", address, "--port", 0)


@advice("must be a code of three capital letters")
@pytest.mark.parametrize("way", ["USD", "INR", ""])
def test_a_currency_is_given_by_its_code_or_left_out(shell, serve, way):
    message = shell.refused(*serve, "--port", 0, "--currency", "$")
    assert way in message
    shell.accepted(*serve, "--port", 0, *(("--currency", way) if way else ()))


@advice("must be a path without a slash at its end", "must be a scheme and a host")
def test_a_prefix_and_an_origin_are_given_as_the_message_does(shell, serve):
    for option, wrong in (
        ("--root-path", "/prices/"),
        ("--allow-origin", "https://shop.example/"),
    ):
        message = shell.refused(*serve, "--port", 0, option, wrong)
        right = re.search(r"Give for example ([^ ,]+)", message).group(1)
        shell.accepted(*serve, "--port", 0, option, right)


@advice("must contain one line of at least")
def test_a_key_is_made_by_the_command(shell, serve, tmp_path):
    path = tmp_path / "key.txt"
    path.write_text("short")
    message = shell.refused(*serve, "--port", 0, "--api-key-file", path)
    command = re.search(r"`(.+)`", message).group(1)
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)  # noqa: S602
    shell.accepted(*serve, "--port", 0, "--api-key-file", path)


UNLISTED = {  # part of the message: what --set is given, and what it is to be given
    "has an option of its own": ("batch_size=2", None),
    "must be NAME=VALUE, such as": ("clip_norm", "clip_norm=1"),
    "there is no setting \0": ("clip_nrom=2", "clip_norm=2"),
}


@advice(*UNLISTED)
@pytest.mark.parametrize("part", UNLISTED)
def test_a_setting_without_an_option_is_set(shell, run_dir, part):
    wrong, right = UNLISTED[part]
    finetune = ("finetune", "--run", run_dir, "--folds", 2, "--only-fold", 1)
    message = shell.refused(*finetune, "--set", wrong)
    if right is None:
        assert "see --help" in message
        assert f"--{wrong.partition('=')[0].replace('_', '-')}" in shell.accepted(
            "finetune", "--help"
        )
        return
    assert right.partition("=")[0] in message
    shell.accepted(*finetune, "--set", right)


@advice(
    "is read for --units-column alone",
    "must contain numbers with one decimal sign",
    "the run has no table column of this name",
)
def test_units_sold_come_from_the_file_and_column_that_are_named(shell, run_dir):
    rows = rows_of(shell.catalog)
    sales = write_rows(
        run_dir.parent / "sales.csv",
        [{"sample_id": row["sample_id"], "sold": "12", "shop": "Acme"} for row in rows],
    )
    review = ("review", "--run", run_dir)
    message = shell.refused(*review, "--units-column", "sold")
    assert options_in(message) == ["--units-column", "--catalog"]
    message = shell.refused(*review, "--catalog", sales)
    assert options_in(message) == ["--catalog", "--units-column", "--catalog"]
    shell.accepted(*review)
    units = (*review, "--catalog", sales, "--units-column")
    assert options_in(shell.refused(*units, "shop")) == ["--units-column"]
    shell.accepted(*units, "sold")
