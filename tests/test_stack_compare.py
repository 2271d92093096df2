import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import copy_run, record_anew

from embed.errors import CacheError
from embed.store.manifest import read_json, write_json
from finetune.score import smape, smape_rows, to_price
from stack.judge.commands import compare_command
from stack.judge.compare import compare_runs
from stack.judge.verdict import paired_bootstrap
from stack.tell.comparison import format_comparison

DRAWS = {"n_bootstrap": 500}


@pytest.fixture(scope="module")
def light_run(finished_run, tmp_path_factory):
    """The finished run without its networks, which no comparison opens."""
    to = tmp_path_factory.mktemp("light") / "run"
    shutil.copytree(finished_run, to, ignore=shutil.ignore_patterns("*.safetensors"))
    return to


@pytest.fixture
def run_a(light_run, tmp_path):
    return copy_run(light_run, tmp_path / "a")


@pytest.fixture
def run_b(light_run, tmp_path):
    return copy_run(light_run, tmp_path / "b")


def put(run_dir, name, array):
    """Change an array of a run as its stage would have written it."""
    stage, _, file = name.partition("/")
    np.save(run_dir / name, array)
    record_anew(run_dir / stage, [file])


def load(run_dir, name):
    return np.load(run_dir / name)


def set_network(run_dir, log_price):
    put(run_dir, "finetune/oof_log_price.npy", log_price.astype(np.float32))


def near_the_truth(run_dir, *, noise, seed=0):
    """Let the network's prices be the true ones with log noise."""
    log_price = np.log1p(load(run_dir, "finetune/price.npy"))
    rng = np.random.default_rng(seed)
    set_network(run_dir, log_price + rng.normal(0, noise, len(log_price)))


def test_the_comparison_is_the_paired_one_computed_by_hand(run_a, run_b):
    near_the_truth(run_a, noise=0.1)
    near_the_truth(run_b, noise=0.5)
    found = compare_runs(run_a, run_b, predictor="network", **DRAWS)
    price = load(run_a, "finetune/price.npy")
    a, b = (to_price(load(run, "finetune/oof_log_price.npy")) for run in (run_a, run_b))
    assert found["n_common"] == 40
    assert found["scores"]["a"]["smape"] == pytest.approx(smape(price, a))
    assert found["scores"]["b"]["smape"] == pytest.approx(smape(price, b))
    groups = load(run_a, "finetune/groups.npy")
    by_hand = paired_bootstrap(price, a, b, n_bootstrap=500, seed=0, groups=groups)
    assert found["difference"] == vars(by_hand)
    closer = (smape_rows(price, a) < smape_rows(price, b)).mean()
    assert found["closer"]["a"] == closer
    assert sum(found["closer"].values()) == pytest.approx(1)
    (note,) = found["notes"]
    assert "not the randomness of training" in note


@pytest.mark.parametrize(
    ("noise_a", "noise_b", "sentence"),
    [
        (0.05, 0.8, "A is better. SMAPE of A minus B on 40 common products: -"),
        (0.8, 0.05, "B is better. SMAPE of A minus B on 40 common products: +"),
        (0.5, 0.5, "The difference is within the noise."),
    ],
)
def test_the_sentence_says_which_is_better_or_that_it_is_noise(
    run_a, run_b, noise_a, noise_b, sentence
):
    near_the_truth(run_a, noise=noise_a, seed=1)
    near_the_truth(run_b, noise=noise_b, seed=2)
    found = compare_runs(run_a, run_b, predictor="network", **DRAWS)
    assert found["sentence"].startswith(sentence)


def test_a_run_against_itself_differs_by_nothing(light_run):
    found = compare_runs(light_run, light_run, **DRAWS)
    assert found["difference"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    assert found["closer"] == {"a": 0.0, "b": 0.0, "same": 1.0}
    assert "within the noise" in found["sentence"]


def test_rows_are_paired_by_sample_id_not_by_place(run_a, run_b):
    near_the_truth(run_b, noise=0.3)
    expected = compare_runs(run_a, run_b, predictor="network", **DRAWS)
    order = np.random.default_rng(3).permutation(40)
    for name in ("price", "folds", "oof_log_price"):
        file = f"finetune/{name}.npy"
        put(run_b, file, load(run_b, file)[order])
    put(run_b, "embed/sample_id.npy", load(run_b, "embed/sample_id.npy")[order])
    found = compare_runs(run_a, run_b, predictor="network", **DRAWS)
    assert found["scores"] == expected["scores"]
    assert found["difference"] == expected["difference"]


def test_only_common_priced_products_count(run_a, run_b):
    ids = load(run_b, "embed/sample_id.npy").astype("U24")
    ids[:10] = [f"elsewhere-{at}" for at in range(10)]
    put(run_b, "embed/sample_id.npy", ids)
    folds = load(run_a, "finetune/folds.npy")
    folds[38:] = -1
    put(run_a, "finetune/folds.npy", folds)
    found = compare_runs(run_a, run_b, predictor="network", **DRAWS)
    assert found["n_common"] == 28
    assert (found["a"]["n_priced"], found["b"]["n_priced"]) == (38, 40)
    assert sum(band["n"] for band in found["bands"]) == 28
    assert sum(part["n"] for part in found["image"].values()) == 28


def test_products_of_different_prices_are_named_and_left_out(run_a, run_b):
    price = load(run_b, "finetune/price.npy")
    price[3:10] *= 1.01
    price[20] *= 1 + 1e-9  # the same price by another way
    put(run_b, "finetune/price.npy", price)
    found = compare_runs(run_a, run_b, **DRAWS)
    ids = load(run_a, "embed/sample_id.npy")[3:8].tolist()
    assert found["price_mismatch"] == {"n": 7, "first_sample_ids": ids}
    assert found["n_common"] == 33
    text = format_comparison(found)
    assert "7 common products are left out" in text
    assert "and 2 more" in text


def test_each_runs_own_choice_is_compared_unless_another_is_named(run_a, run_b):
    for run_dir, chosen in ((run_a, "network"), (run_b, "stacker")):
        path = run_dir / "stack" / "manifest.json"
        write_json(path, read_json(path) | {"chosen": chosen})
    found = compare_runs(run_a, run_b, **DRAWS)
    assert (found["a"]["predictor"], found["b"]["predictor"]) == ("network", "stacker")
    price = load(run_a, "finetune/price.npy")
    for name, file in (
        ("lightgbm", "stack/lightgbm_log_price.npy"),
        ("blend", "stack/blend_log_price.npy"),
        ("stacker", "stack/oof_log_price.npy"),
    ):
        found = compare_runs(run_a, run_b, predictor=name, **DRAWS)
        expected = smape(price, to_price(load(run_a, file)))
        assert found["scores"]["a"]["smape"] == pytest.approx(expected)


def test_photos_are_counted_as_a_has_them(light_run):
    found = compare_runs(light_run, light_run, **DRAWS)["image"]
    image_ok = load(light_run, "embed/image_ok.npy")
    assert found["present"]["n"] == image_ok.sum() > 0
    assert found["absent"]["n"] == (~image_ok).sum()


def test_other_folds_and_catalogs_are_noted_with_what_they_mean(run_a, run_b):
    path = run_b / "embed" / "manifest.json"
    manifest = read_json(path)
    manifest["inputs"]["catalog_sha256"] = "0" * 64
    write_json(path, manifest)
    folds = load(run_b, "finetune/folds.npy")
    put(run_b, "finetune/folds.npy", np.roll(folds, 1))
    _, catalogs, same_number = compare_runs(run_a, run_b, **DRAWS)["notes"]
    assert "The catalogs differ: A has 40 priced products, B 40." in catalogs
    assert same_number.startswith("The folds differ")
    path = run_b / "finetune" / "manifest.json"
    manifest = read_json(path)
    manifest["config"]["n_folds"] = 5
    write_json(path, manifest)
    _, _, other_number = compare_runs(run_a, run_b, **DRAWS)["notes"]
    assert "A has 3, so that a network learns from 67 %" in other_number
    assert "B 5 and 80 %" in other_number


def test_runs_without_a_common_product_are_refused(run_a, run_b):
    ids = load(run_b, "embed/sample_id.npy")
    put(run_b, "embed/sample_id.npy", np.array([f"x{at}" for at in range(len(ids))]))
    with pytest.raises(CacheError, match=r"no priced product has the same sample_id"):
        compare_runs(run_a, run_b)


def test_runs_whose_prices_all_differ_are_refused(run_a, run_b):
    put(run_b, "finetune/price.npy", 80 * load(run_b, "finetune/price.npy"))
    with pytest.raises(CacheError, match=r"all 40 common products have different pri"):
        compare_runs(run_a, run_b)


def test_a_run_without_stacking_is_compared_by_its_network_only(run_a, run_b):
    shutil.rmtree(run_b / "stack")
    with pytest.raises(CacheError, match=r"b/stack: this stage has not finished"):
        compare_runs(run_a, run_b)
    found = compare_runs(run_a, run_b, predictor="network", **DRAWS)
    assert found["difference"]["mean"] == 0


def test_damaged_arrays_are_named(run_a, run_b):
    array = load(run_b, "stack/oof_log_price.npy")
    array[7] += 1
    np.save(run_b / "stack/oof_log_price.npy", array)
    with pytest.raises(CacheError, match=r"b/stack/oof_log_price\.npy: .*not those"):
        compare_runs(run_a, run_b, predictor="stacker")
    put(run_b, "finetune/price.npy", np.ones(7))
    with pytest.raises(CacheError, match=r"must have the shape \(40,\)"):
        compare_runs(run_a, run_b, predictor="network")


def test_the_text_is_at_most_100_columns_wide(run_a, run_b):
    near_the_truth(run_a, noise=0.3)
    price = load(run_b, "finetune/price.npy")
    price[:30] *= 2
    put(run_b, "finetune/price.npy", price)
    found = compare_runs(run_a, run_b, **DRAWS)
    found["a"]["run"] = "runs/" + "a-long-name/" * 12
    text = format_comparison(found)
    assert max(map(len, text.splitlines())) <= 100
    assert text.endswith("\n")
    for part in ("SMAPE by true price", "SMAPE by photo in A", "A is closer", "A - B"):
        assert part in text


def test_the_command_prints_the_text_or_json(light_run):
    arguments = [str(light_run), str(light_run), "--predictor", "network"]
    result = CliRunner().invoke(compare_command, arguments)
    assert result.exit_code == 0, result.output
    found = json.loads(
        CliRunner().invoke(compare_command, [*arguments, "--json"]).output
    )
    assert format_comparison(found) == result.output
    missing = CliRunner().invoke(compare_command, [str(light_run), "none"])
    assert missing.exit_code == 2
    assert len(missing.output.strip().split("\n")) == 1
