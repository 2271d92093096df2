import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from stack.judge.commands import runs_command
from stack.judge.run_list import RunSummary, Score, find_runs, format_runs, list_runs

REPOSITORY = Path(__file__).resolve().parents[1]


def call(*arguments):
    return CliRunner().invoke(runs_command, [str(argument) for argument in arguments])


def copy_records(run_dir, to, *, stages=("embed", "finetune", "stack")):
    """Copy the JSON files of a run: all that a list of runs may need."""
    for stage in stages:
        (to / stage).mkdir(parents=True)
        for path in (run_dir / stage).glob("*.json"):
            shutil.copy2(path, to / stage)
    return to


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.fixture
def runs(finished_run, tmp_path):
    """A finished run, one more in a nested folder, and one that has only begun."""
    folder = tmp_path / "runs"
    copy_records(finished_run, folder / "mine")
    copy_records(finished_run, folder / "older" / "first")
    copy_records(finished_run, folder / "begun", stages=("embed",))
    return folder


def scored(name, smape, *, chosen="network"):
    score = Score(smape=smape, smape_se=0.5)
    return RunSummary(
        name=name,
        finished=("embed", "finetune", "stack"),
        problem=None,
        network=score,
        stacker=score,
        chosen=chosen,
        chosen_score=score,
    )


def test_a_finished_run_is_listed_with_what_its_report_says(runs, finished_run):
    (found,) = [run for run in list_runs(runs) if run.name == "mine"]
    report = json.loads((finished_run / "stack" / "report.json").read_text())
    manifests = [
        json.loads((finished_run / stage / "manifest.json").read_text())
        for stage in ("embed", "finetune", "stack")
    ]
    scores = {row["name"]: row for row in report["predictors"]}
    for name, score in (
        ("network", found.network),
        ("stacker", found.stacker),
        ("chosen", found.chosen_score),
    ):
        assert (score.smape, score.smape_se) == (
            scores[name]["smape"],
            scores[name]["smape_se"],
        )
    assert found.chosen == report["verdict"]["chosen"]
    assert found.minutes == pytest.approx(sum(m["seconds"] for m in manifests) / 60)
    assert found.n_photos == 40 - manifests[0]["substituted"]["image"]
    assert (found.n_products, found.n_folds, found.recipe) == (40, 3, "default")
    assert found.finished == ("embed", "finetune", "stack")
    assert found.problem is None


def test_nested_runs_are_found_and_stages_are_not_searched(runs, finished_run):
    copy_records(finished_run, runs / "mine" / "stack" / "inner")
    copy_records(finished_run, runs / ".hidden" / "run")
    (runs / "mine" / "stack" / "linked").symlink_to(runs / "older")
    (runs / "linked").symlink_to(runs / "older")
    found = {path.relative_to(runs).as_posix() for path in find_runs(runs)}
    assert found == {"mine", "older/first", "begun"}


def test_a_run_folder_itself_may_be_named(runs):
    (found,) = list_runs(runs / "mine")
    assert (found.name, found.problem) == (".", None)


def test_the_best_run_comes_first_and_those_without_a_score_last(runs):
    report = json.loads((runs / "older/first/stack/report.json").read_text())
    for row in report["predictors"]:
        row["smape"] -= 1
    (runs / "older/first/stack/report.json").write_text(json.dumps(report))
    assert [run.name for run in list_runs(runs)] == ["older/first", "mine", "begun"]


def test_a_run_that_has_only_begun_says_what_to_run_next(runs, finished_run):
    copy_records(finished_run, runs / "trained", stages=("embed", "finetune"))
    (runs / "new" / "embed").mkdir(parents=True)
    (runs / "new" / "embed" / "progress.json").write_text("{}")
    found = {run.name: run for run in list_runs(runs)}
    for name, finished, stage in (
        ("new", (), "embeddings"),
        ("begun", ("embed",), "finetune"),
        ("trained", ("embed", "finetune"), "stack"),
    ):
        assert found[name].finished == finished
        assert "has not finished" in found[name].problem
        assert f"make {stage} RUN={runs / name}" in found[name].problem
    assert found["trained"].network.smape > 0
    assert found["trained"].network.smape_se is None
    assert found["trained"].chosen_score is None
    assert found["new"].minutes is None


def test_the_date_is_that_of_the_last_stage(runs):
    for day, stage in enumerate(("embed", "finetune", "stack")):
        noon = 1_700_000_000 + day * 86_400  # 14 November 2023 and on
        path = runs / "mine" / stage / "manifest.json"
        os.utime(path, (noon, noon))
    (found,) = [run for run in list_runs(runs) if run.name == "mine"]
    assert found.date in ("2023-11-16", "2023-11-17")  # by the time zone


DAMAGE = {
    "manifest is not JSON": (
        lambda run: (run / "stack/manifest.json").write_bytes(b"\xff{"),
        "not readable as JSON",
    ),
    "manifest is a list": (
        lambda run: (run / "finetune/manifest.json").write_text("[]"),
        "must be a JSON object",
    ),
    "manifest is a folder": (
        lambda run: (
            (run / "embed/manifest.json").unlink()
            or (run / "embed/manifest.json").mkdir()
        ),
        "not readable as JSON",
    ),
    "a field is gone": (
        lambda run: (run / "embed/manifest.json").write_text("{}"),
        "stage is missing",
    ),
    "a field has another type": (
        lambda run: change(run / "stack/manifest.json", seconds="long"),
        "seconds must be a finite number",
    ),
    "a setting is unknown": (
        lambda run: change(
            run / "finetune/manifest.json", config={"n_folds": 3, "colour": 1}
        ),
        "colour is not a setting",
    ),
    "made from other inputs": (
        lambda run: change(run / "finetune/manifest.json", embed_key="f" * 64),
        "made from inputs with key ffffffffffff",
    ),
    "report is gone": (
        lambda run: (run / "stack/report.json").unlink(),
        "evaluate --run",
    ),
    "report is empty": (
        lambda run: (run / "stack/report.json").write_text("{}"),
        "predictors is missing",
    ),
    "report lacks a score": (
        lambda run: change(run / "stack/report.json", predictors=[]),
        "has no scores of the network",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_run_is_listed_with_what_is_wrong(runs, kind):
    damage, reason = DAMAGE[kind]
    damage(runs / "mine")
    found = {run.name: run for run in list_runs(runs)}
    assert found.keys() == {"mine", "begun", "older/first"}
    assert reason in found["mine"].problem
    assert found["mine"].chosen_score is None
    assert found["older/first"].problem is None
    result = call(runs)
    assert result.exit_code == 0, result.output
    assert "Not finished, or damaged:" in result.output


def test_the_table_is_at_most_100_columns_wide_and_names_are_whole():
    runs = [
        scored("short", 40.125),
        scored("flipkart/frozen-image/seed-12", 55.5, chosen="stacker"),
        scored("a-very-long-name/" * 9 + "end", 199.0),
        RunSummary(name="new", finished=(), problem="is not " * 40),
    ]
    text = format_runs(runs)
    assert max(map(len, text.splitlines())) <= 100
    assert "flipkart/frozen-image/seed-12\n" in text
    assert "*40.12 ± 0.50" in text
    assert text.count("*199.00 ± 0.50") == 1
    assert "".join(text.split()).count("a-very-long-name/") == 9


def test_no_runs_is_no_error(tmp_path):
    assert call(tmp_path).output == "No runs.\n"
    assert json.loads(call(tmp_path, "--json").output) == []


def test_json_holds_the_same_as_the_list(runs):
    found = json.loads(call(runs, "--json").output)
    assert [run["name"] for run in found] == [run.name for run in list_runs(runs)]
    assert found[0]["chosen_score"].keys() == {"smape", "smape_se"}
    assert found[-1]["finished"] == ["embed"]


def test_a_missing_folder_is_one_line(tmp_path):
    result = call(tmp_path / "none")
    assert result.exit_code == 2
    (line,) = result.output.strip().split("\n")
    assert "none: is not a folder" in line


def test_listing_and_comparing_import_no_torch(runs):
    code = (
        "import sys\nfrom stack.judge.commands import runs_command, compare_command\n"
        "try:\n    runs_command(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'lightgbm', 'transformers', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(runs)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "older/first" in done.stdout
