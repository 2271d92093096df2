"""`pricestack review`: prices of a run's own catalog that may be wrong."""

import csv

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import copy_run

from stack.cli import main


def review(run_dir, *options):
    return CliRunner().invoke(main, ["review", "--run", str(run_dir), *options])


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_review_writes_a_table_and_a_page(finished_run, tmp_path):
    out, page = tmp_path / "r.csv", tmp_path / "r.html"
    options = ("--level", "80", "--out", str(out), "--page", str(page))
    result = review(finished_run, *options)
    assert result.exit_code == 0, result.output
    rows = rows_of(out)
    print(result.output, rows[:3])
    assert 1 <= len(rows) < 20
