"""A run folder goes on working where its catalog and photos are gone."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import TINY_TRAINING, copy_run

from embed.catalog.reader import read_catalog
from finetune.out_of_fold import finetune
from stack.cli import main
from stack.price.catalog import predict_prices


@pytest.fixture
def moved(finished_run, tmp_path):
    """A copy of the finished run that records folders which are not there."""
    run_dir = copy_run(finished_run, tmp_path / "elsewhere" / "run")
    path = run_dir / "embed" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["inputs"]["catalog_path"] = str(tmp_path / "gone" / "catalog.csv")
    manifest["inputs"]["images_dir"] = str(tmp_path / "gone" / "images")
    path.write_text(json.dumps(manifest))
    return run_dir


def call(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    assert "gone" not in result.output
    return result.output


def test_evaluate_still_knows_the_best_reachable(moved):
    assert "Best reachable: SMAPE" in call("evaluate", "--run", moved)


def test_the_report_is_written(moved, tmp_path):
    call("report", "--run", moved, "--out", tmp_path / "page.html")
    assert "Best reachable" in (tmp_path / "page.html").read_text()


def test_a_product_is_explained_with_its_text_and_thumbnail(moved):
    sample_id = str(np.load(moved / "embed" / "sample_id.npy")[0])
    output = call("explain", "--run", moved, "--sample-id", sample_id)
    assert "its thumbnail was used" in " ".join(output.split())
    assert "The true price is" in output


def test_the_audit_prices_products_again(moved):
    result = CliRunner().invoke(main, ["audit", "--run", str(moved)])
    assert "priced again: 30 products" in result.output
    assert "FAIL  priced again" not in result.output


def test_stages_are_up_to_date(moved):
    before = (moved / "finetune" / "manifest.json").read_text()
    finetune(moved, config=TINY_TRAINING)
    assert (moved / "finetune" / "manifest.json").read_text() == before


def test_new_products_have_the_prices_of_the_run_that_was_not_moved(
    moved, finished_run, small_catalog
):
    catalog = read_catalog(small_catalog)
    prices = [
        predict_prices(run_dir, catalog, images_dir=None, n_threads=1).price
        for run_dir in (finished_run, moved)
    ]
    np.testing.assert_array_equal(*prices)
