"""Advice on training that begins from a former run, taken."""

import shutil
from pathlib import Path

import pytest
from remedies import advice, options_in, rows_of, write_rows
from remedies import run_dir as run_dir
from remedies import shell as shell

NEW = ("--run", "new")


@pytest.fixture
def new_run(run_dir) -> Path:
    """A run with the same embedding stage, not trained."""
    return Path(shutil.copytree(run_dir / "embed", "new/embed")).parent


def start(run_dir, *options):
    return ("finetune", *NEW, "--start-from", run_dir, *options)


@advice("must be another run than --run")
def test_a_changed_catalog_gets_a_run_of_its_own(shell, run_dir):
    own = ("finetune", "--run", run_dir, "--start-from", run_dir)
    message = shell.refused(*own)
    reuse = options_in(message)[-1]
    embed = ("embed", shell.catalog, "--images", shell.images, *NEW)
    shell.accepted(*embed, reuse, run_dir)
    shell.accepted(*start(run_dir))


@advice("must be a run with a finished finetune stage")
@pytest.mark.parametrize("way", ["name it", "leave out"])
def test_a_former_run_that_was_moved_is_named_or_left_out(shell, run_dir, new_run, way):
    shell.accepted(*start(run_dir, "--only-fold", 1))
    moved = run_dir.rename("moved run")
    message = shell.refused(*start(run_dir, "--only-fold", 2))
    assert "Name the run where it is now" in message
    if way == "name it":
        assert "Fold 2" not in shell.accepted(*start(moved, "--only-fold", 2))
    else:
        shell.accepted("finetune", *NEW, "--folds", 2)


@advice("its networks do not fit this run")
@pytest.mark.parametrize("way", ["same", "leave out"])
def test_settings_of_the_former_run_are_kept_or_it_is_left_out(
    shell, run_dir, new_run, way
):
    message = shell.refused(*start(run_dir, "--folds", 3))
    assert "--folds was 2, is now 3" in message
    if way == "same":
        shell.accepted(*start(run_dir, "--folds", 2))
    else:
        shell.accepted("finetune", *NEW, "--folds", 3)


@advice("--time-limit and --start-from exclude")
def test_a_former_run_leaves_no_time_limit(shell, run_dir, new_run):
    message = shell.refused(*start(run_dir, "--time-limit", 9))
    assert options_in(message)[-1] == "--time-limit"
    shell.accepted(*start(run_dir))


@pytest.fixture
def dated(shell, tmp_path):
    """Embed the catalog with dates, the given one for the last row; return options."""

    def embed(run: str, last: str) -> None:
        rows = [
            {**row, "sold": f"2024-01-{1 + number:02d}"}
            for number, row in enumerate(rows_of(shell.catalog))
        ]
        rows[0]["sold"] = last
        path = write_rows(tmp_path / f"{run}.csv", rows)
        shell.accepted("embed", path, "--time-column", "sold", "--run", run)

    return embed


@advice("its networks were trained on products dated until")
@pytest.mark.parametrize("way", ["later", "leave out"])
def test_a_test_begins_after_what_was_trained_on(shell, dated, way):
    dated("old", "2024-01-01")
    dated("new", "2024-01-01")
    train = ("finetune", "--folds", 2)
    shell.accepted(*train, "--run", "old", "--test-from", "2024-01-20")
    message = shell.refused(*start("old", "--test-from", "2024-01-15"))
    assert "until 2024-01-19, the test begins on 2024-01-15" in message
    if way == "later":
        shell.accepted(*start("old", options_in(message)[1], "2024-01-21"))
        shell.accepted(*start("old"))  # the former date
    else:
        shell.accepted(*train, *NEW, "--test-from", "2024-01-15")


@advice("products that are held out now. Hold out")
@pytest.mark.parametrize("way", ["others", "leave out"])
def test_a_product_that_was_trained_on_is_not_held_out(shell, dated, way):
    dated("old", "2024-01-01")
    dated("new", "2024-01-22")
    train = ("finetune", "--folds", 2)
    shell.accepted(*train, "--run", "old", "--test-from", "2024-01-20")
    message = shell.refused(*start("old"))
    assert "trained on 1 of the" in message
    if way == "others":
        shell.accepted(*start("old", "--test-from", "2024-01-23"))
    else:
        shell.accepted(*train, *NEW)
