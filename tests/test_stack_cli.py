import ast
import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from commands import run_command
from conftest import copy_run

from embed.catalog.reader import read_catalog
from embed.photos.files import find_photos
from embed.store.manifest import read_json
from stack.cli import evaluate_main, main

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGES = ("embed", "finetune", "stack")


def call(*arguments, command=main):
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def assert_one_line(result, *parts):
    """Exit code 2, and nothing on the terminal but one line that says `parts`."""
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    lines = result.output.strip().split("\n")
    assert len(lines) == 1, result.output
    assert lines[0].startswith("Error: ")
    assert "Traceback" not in result.output
    for part in parts:
        assert part in lines[0], lines[0]


@pytest.fixture
def run_dir(finished_run, tmp_path):
    return copy_run(finished_run, tmp_path / "run")


def write_catalog(path, text):
    path.write_text(text)
    return path


def test_help_lists_all_commands():
    result = call("--help")
    assert result.exit_code == 0
    stages = ("embed", "finetune", "stack", "evaluate", "predict")
    for command in (*stages, "images", "sample"):
        assert f"\n  {command} " in result.output
        assert call(command, "--help").exit_code == 0


def test_help_imports_no_torch():
    code = (
        "import sys\nfrom stack.cli import evaluate_main\n"
        "try:\n    evaluate_main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'lightgbm', 'transformers'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "--folds" in done.stdout


def test_an_error_of_a_process_is_one_line_and_goes_to_stderr(processes, tmp_path):
    done = run_command(processes, "stack", "--run", tmp_path / "none")
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.strip().split("\n")) == 1, done.stderr
    assert done.stderr.startswith("Error: ")


def evaluate_into_a_closed_pipe(run_dir, stderr_path):
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, 1)
    os.dup2(os.open(stderr_path, os.O_WRONLY | os.O_CREAT), 2)
    evaluate_main(["--run", str(run_dir)])


def test_a_reader_that_goes_away_is_no_error_to_speak_of(
    processes, finished_run, tmp_path
):
    given = (finished_run, tmp_path / "stderr")
    process = processes.Process(target=evaluate_into_a_closed_pipe, args=given)
    process.start()
    process.join()
    assert process.exitcode == 1
    assert (tmp_path / "stderr").read_text() == ""


@pytest.mark.slow
@pytest.mark.parametrize("package", PACKAGES)
def test_an_error_of_python_m_is_one_line(package, tmp_path):
    catalog = ["--catalog", "none.csv"] if package == "embed" else []
    done = subprocess.run(
        [sys.executable, "-m", package, "--run", str(tmp_path / "none"), *catalog],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.strip().split("\n")) == 1, done.stderr
    assert done.stderr.startswith("Error: ")


def test_sample_writes_a_catalog_and_its_photos(tmp_path):
    result = call("sample", "--products", 30, "--out", tmp_path / "sample")
    assert result.exit_code == 0, result.output
    catalog = read_catalog(tmp_path / "sample" / "catalog.csv")
    assert catalog.n_products == 30
    photos = find_photos(catalog, tmp_path / "sample" / "images")
    assert sum(photo is not None for photo in photos) > 15


def test_evaluate_prints_the_comparison(run_dir):
    result = call("--run", run_dir, "--folds", 3, command=evaluate_main)
    assert result.exit_code == 0, result.output
    assert "Out-of-fold scores, 40 products, 3 folds" in result.output
    assert "Verdict:" in result.output
    assert call("evaluate", "--run", run_dir).output == result.output


def test_evaluate_refuses_another_number_of_folds(run_dir):
    result = call("evaluate", "--run", run_dir, "--folds", 5)
    assert_one_line(result, "--folds 5", "has 3 folds", "make finetune stack")


def test_stack_is_up_to_date_or_names_an_unknown_block(run_dir):
    result = call("stack", "--run", run_dir, "--blocks", "text,colour")
    assert_one_line(result, "blocks must be one or more of", "colour")


@pytest.mark.parametrize("command", ["finetune", "stack", "evaluate"])
def test_a_missing_run_says_what_to_run_first(tmp_path, command):
    result = call(command, "--run", tmp_path / "none")
    assert_one_line(result, "none", "not finished", "make embeddings")


def test_a_missing_run_cannot_predict(tmp_path, sample_catalog):
    result = call(
        *("predict", "--run", tmp_path / "none", "--catalog", sample_catalog),
        *("--out", tmp_path / "prices.csv"),
    )
    assert_one_line(result, "not finished", "make embeddings")
    assert not (tmp_path / "prices.csv").exists()


def commands_that_read(catalog_path, run_dir, tmp_path):
    yield ("embed", "--catalog", catalog_path, "--run", tmp_path / "new")
    out = tmp_path / "prices.csv"
    yield ("predict", "--run", run_dir, "--catalog", catalog_path, "--out", out)


BAD_CATALOGS = {
    "column": (
        "sample_id,text,image_link\n1,tea,\n",
        ("bad.csv", "catalog_content"),
    ),
    "id": (
        "sample_id,catalog_content,image_link\n7,tea,\n7,soup,\n",
        ("bad.csv", "7"),
    ),
    "empty": ("", ("bad.csv",)),
}


@pytest.mark.parametrize("kind", BAD_CATALOGS)
def test_a_bad_catalog_is_one_line_in_each_command(finished_run, tmp_path, kind):
    text, parts = BAD_CATALOGS[kind]
    path = write_catalog(tmp_path / "bad.csv", text)
    for arguments in commands_that_read(path, finished_run, tmp_path):
        assert_one_line(call(*arguments), *parts)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.csv"]


def test_a_missing_catalog_is_one_line_in_each_command(finished_run, tmp_path):
    path = tmp_path / "nowhere.csv"
    for arguments in commands_that_read(path, finished_run, tmp_path):
        assert_one_line(call(*arguments), "nowhere.csv")


def test_a_bad_price_in_training_names_the_row_and_the_remedy(embedded_run, tmp_path):
    prices = ["4.50"] * 40
    prices[6] = "twelve"
    run_dir = copy_run(embedded_run, tmp_path / "run", prices=prices)
    result = call("finetune", "--run", run_dir)
    assert_one_line(result, "catalog.csv", "twelve", "7", "--drop-unpriced")


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (("--folds", 1), "--folds must be at least 2"),
        (("--batch-size", 1), "--batch-size must be at least 2"),
        (("--only-fold", 9), "--only-fold must be 1 to 5, got 9"),
        (("--folds", 100), "--folds must be 2 to the number of distinct"),
        (("--folds", 200), "--folds must be"),
        (("--threads", 0), "--threads must be at least 1, got 0"),
        (("--seed", -1), "--seed must be 0 to 2147483647, got -1"),
        (("--set", "text_learning_rate=-1"), "text_learning_rate must be 0 to 1"),
        (("--set", "clip_nrom=2"), "no setting 'clip_nrom'. Do you mean clip_norm?"),
        (("--set", "batch_size=2"), "batch_size has an option of its own"),
        (("--set", "clip_norm"), "must be NAME=VALUE, such as --set clip_norm=1"),
        (("--set", "clip_norm=much"), "clip_norm must be a finite number, got 'much'"),
        (("--set", "use_wide=1"), "use_wide must be true or false, got 1"),
    ],
)
def test_finetune_refuses_settings_that_no_run_can_use(
    embedded_run, tmp_path, monkeypatch, options, part
):
    monkeypatch.setattr("finetune.fold.train_network", None)
    run_dir = copy_run(embedded_run, tmp_path / "run")
    assert_one_line(call("finetune", "--run", run_dir, *options), part)
    assert not (run_dir / "finetune").exists()


def test_predict_writes_a_price_for_each_product(run_dir, sample_catalog, tmp_path):
    out = tmp_path / "prices.csv"
    result = call(
        *("predict", "--run", run_dir, "--catalog", sample_catalog, "--out", out),
        *("--images", sample_catalog.parent / "images", "--threads", 1),
    )
    assert result.exit_code == 0, result.output
    assert "40 prices written to" in result.output
    assert "Placeholders:" in result.output
    assert len(out.read_text().splitlines()) == 41


def test_predict_writes_intervals_when_asked(run_dir, sample_catalog, tmp_path):
    out = tmp_path / "prices.csv"
    arguments = ("predict", "--run", run_dir, "--catalog", sample_catalog, "--out", out)
    result = call(*arguments, "--threads", 1, "--intervals", 80)
    assert result.exit_code == 0, result.output
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["sample_id", "price", "price_low", "price_high"]
    for row in rows:
        low, price, high = map(
            float, (row["price_low"], row["price"], row["price_high"])
        )
        assert 0 < low < price < high
    assert call(*arguments, "--intervals", 100).exit_code == 2


def test_predict_writes_confidence_and_marks_sure_prices_when_asked(
    run_dir, sample_catalog, tmp_path
):
    out = tmp_path / "prices.csv"
    arguments = ("predict", "--run", run_dir, "--catalog", sample_catalog, "--out", out)
    result = call(
        *arguments, "--threads", 1, "--confidence", "--intervals", 60, "--auto-at", 1e-6
    )
    assert result.exit_code == 0, result.output
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        *("sample_id", "price", "price_low", "price_high"),
        *("within_10", "within_20", "unlike", "auto"),
    ]
    assert {row["unlike"] for row in rows} <= {"0", "1"}
    n_auto = sum(row["auto"] == "1" for row in rows)
    assert f"Automatic: {n_auto} of 40 prices are marked. Out of fold," in result.output
    assert all(row["auto"] == "0" for row in rows if row["unlike"] == "1")


def test_predict_takes_the_columns_of_the_run_unless_others_are_named(
    run_dir, tmp_path
):
    path = run_dir / "embed" / "manifest.json"
    manifest = read_json(path)
    manifest["inputs"]["columns"]["text"] = ["title"]
    path.write_text(json.dumps(manifest))
    catalog = write_catalog(
        tmp_path / "new.csv", "sample_id,body,image_link\n1,green tea,\n"
    )
    arguments = ("predict", "--run", run_dir, "--catalog", catalog, "--threads", 1)
    out = ("--out", tmp_path / "prices.csv")
    assert_one_line(call(*arguments, *out), "new.csv", "title")
    result = call(*arguments, *out, "--text-column", "body")
    assert result.exit_code == 0, result.output


def test_predict_finds_out_before_the_work_that_its_folder_is_missing(
    run_dir, tmp_path
):
    catalog = write_catalog(
        tmp_path / "new.csv", "sample_id,catalog_content,image_link\n1,tea,\n"
    )
    result = call(
        *("predict", "--run", run_dir, "--catalog", catalog),
        *("--out", tmp_path / "no" / "prices.csv"),
    )
    assert_one_line(result, "prices.csv", "is not there. Make it")


def test_folds_are_counted_from_one(run_dir, tmp_path):
    out = ("--out", tmp_path / "prices.csv")
    for command in (("finetune",), ("predict", "new.csv", *out), ("serve",)):
        result = call(*command, "--run", run_dir, "--only-fold", 0)
        assert result.exit_code == 2
        assert "folds are counted from 1, got 0. Name the first as 1" in result.output


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield (node.module or "").split(".")[0]


def test_the_store_imports_nothing_that_is_stored():
    allowed = {"embed.errors", "embed.formats", "embed.store"}
    for path in (REPOSITORY / "embed/store").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            module = getattr(node, "module", None) or ""
            if isinstance(node, ast.ImportFrom) and module.startswith("embed."):
                assert ".".join(module.split(".")[:2]) in allowed, f"{path}: {module}"


@pytest.mark.parametrize("package", PACKAGES)
def test_no_package_imports_one_above_it(package):
    above = set(PACKAGES[PACKAGES.index(package) + 1 :])
    for path in (REPOSITORY / package).rglob("*.py"):
        assert not above & set(imports_of(path)), path
        assert not {"tests", "benchmarks", "conftest"} & set(imports_of(path)), path


@pytest.mark.parametrize(
    "path",
    [
        p
        for package in PACKAGES
        for p in sorted((REPOSITORY / package).rglob("__init__.py"))
    ],
)
def test_the_package_file_holds_a_docstring_only(path):
    body = ast.parse(path.read_text()).body
    if (
        path == REPOSITORY / "stack/__init__.py"
    ):  # it finds PriceRegressor when asked for it
        assert [type(part) for part in body[3:]] == [ast.Assign, ast.FunctionDef]
        assert ast.unparse(body[1]) == "from typing import TYPE_CHECKING"
        assert ast.unparse(body[2]).startswith("if TYPE_CHECKING:")
        body = body[:1]
    assert len(body) == 1
    assert isinstance(body[0], ast.Expr)
    assert isinstance(body[0].value, ast.Constant)


@pytest.mark.parametrize("module", ["folds", "score", "config"])
def test_folds_and_scores_need_no_torch(module):
    assert "torch" not in set(imports_of(REPOSITORY / "finetune" / f"{module}.py"))


@pytest.mark.parametrize(
    ("arguments", "option", "place"),
    [
        (("predict", "--catalog", "CATALOG"), "--out", "CATALOG"),
        (("predict", "--catalog", "CATALOG"), "--out", "RUN/finetune/manifest.json"),
        (("report",), "--out", "CATALOG"),
        (("report",), "--out", "RUN/finetune/manifest.json"),
        (("explain", "--sample-id", "1"), "--image-map", "RUN/finetune/manifest.json"),
    ],
)
def test_no_command_writes_over_what_it_reads(
    run_dir, sample_catalog, arguments, option, place
):
    target = Path(
        place.replace("CATALOG", str(sample_catalog)).replace("RUN", str(run_dir))
    )
    before = target.read_bytes()
    words = [word.replace("CATALOG", str(sample_catalog)) for word in arguments]
    result = call(words[0], "--run", run_dir, *words[1:], option, target)
    assert_one_line(result, f"{option} {target}: ", "Name another file.")
    assert target.read_bytes() == before


@pytest.mark.parametrize(
    "arguments",
    [
        ("predict", "--catalog", "c.csv", "--out", "o.csv", "--threads", 0),
        ("explain", "--sample-id", 1, "--threads", -1),
        ("explain", "--sample-id", 1, "--words", 0),
        ("compare", "a", "b", "--seed", -1),
        ("sample", "--out", "s", "--seed", -1),
    ],
)
def test_a_number_that_cannot_be_is_a_usage_error(arguments):
    result = call(*arguments)
    assert result.exit_code == 2
    assert "not in the range" in result.output or "does not exist" in result.output
