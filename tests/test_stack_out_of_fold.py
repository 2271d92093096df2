import csv
import shutil

import numpy as np

from stack.fit import evaluate_run
from stack.judge.out_of_fold import COLUMNS, CSV_NAME
from stack.run import open_finished_run


def read_rows(run_dir):
    with (run_dir / "stack" / CSV_NAME).open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_row_for_each_priced_product_with_its_prices(finished_run):
    rows, finished = read_rows(finished_run), open_finished_run(finished_run)
    folds = np.load(finished_run / "finetune" / "folds.npy")
    assert tuple(rows[0]) == COLUMNS
    assert [int(row["fold"]) for row in rows] == folds[folds >= 0].tolist()
    log_price = finished.run.out_of_fold("stacker")[folds >= 0]
    stacker = [float(row["stacker"]) for row in rows]
    np.testing.assert_allclose(stacker, np.expm1(log_price), rtol=1e-3)
    for row in rows:
        assert 0 < float(row["low"]) < float(row["high"])
        assert 0 < float(row["within_20"]) < 1


def test_flags_are_those_of_predict(finished_run):
    has_photo = np.load(finished_run / "embed" / "image_ok.npy")
    folds = np.load(finished_run / "finetune" / "folds.npy")
    flags = [row["flags"] for row in read_rows(finished_run)]
    named = ["no usable photo" in reasons for reasons in flags]
    assert named == (~has_photo[folds >= 0]).tolist()


def test_evaluate_writes_it_again(finished_run, tmp_path):
    run_dir = shutil.copytree(finished_run, tmp_path / "run")
    path = run_dir / "stack" / CSV_NAME
    content = path.read_bytes()
    path.unlink()
    evaluate_run(run_dir)
    assert path.read_bytes() == content
