import json

import numpy as np
import pytest
from conftest import copy_run

from embed.store.manifest import read_json
from stack.fit import evaluate_run
from stack.judge.doubts import find_doubts
from stack.judge.evaluate import median_of_other_folds
from stack.price.flags import flag_price
from stack.trees.blend import blend_out_of_fold

N, N_FOLDS = 500, 5
FOLDS = np.arange(N) % N_FOLDS
PRICE = np.exp(np.random.default_rng(0).normal(2.7, 0.6, N))


def predict(error=0.2, seed=1):
    return PRICE * np.exp(np.random.default_rng(seed).normal(0, error, N))


def doubts(network, chosen=None, by_network=None):
    predicted = {
        "network": network,
        "chosen": network if chosen is None else chosen,
        "median": median_of_other_folds(PRICE, FOLDS),
    }
    return find_doubts(PRICE, FOLDS, predicted, by_network=by_network)


@pytest.mark.parametrize("seed", range(1, 21))
def test_a_sound_run_raises_no_doubt(seed):
    assert doubts(predict(seed=seed)).sentences == []


def test_scores_of_each_fold_are_those_of_its_products():
    network = predict()
    found = doubts(network).folds
    inside = FOLDS == 3
    assert [fold.fold for fold in found] == [0, 1, 2, 3, 4]
    error = 200 * np.abs(PRICE - network) / (PRICE + network)
    assert found[3].n == inside.sum()
    assert found[3].smape["network"] == pytest.approx(error[inside].mean())


def test_a_network_that_went_wrong_is_named_by_its_fold():
    network = predict()
    network[FOLDS == 3] = predict(error=1.0)[FOLDS == 3]
    (sentence,) = doubts(network, chosen=predict()).sentences
    assert sentence.startswith("Fold 4 of 5 has SMAPE ")
    assert "train with another --seed" in sentence


def test_one_price_that_ran_away_is_counted_with_how_far():
    network = predict()
    network[7] = 53_126
    found = doubts(network)
    wild, average = found.sentences
    assert wild.startswith("1 of 500 prices are more than 2 times outside")
    assert "53,126" in wild
    assert average.startswith("The mean absolute error")
    assert found.outside["chosen"]["above"] >= 1


def test_a_price_in_the_usual_range_has_no_flag():
    assert flag_price(20.0, 1.5, (3.0, 90.0), unlike=False) == []


def test_flags_name_the_reason_and_the_figure():
    assert flag_price(200.0, 4.0, (3.0, 90.0), unlike=False) == [
        "above all trained prices (the dearest is 90.00)",
        "networks disagree by a factor of 4.0",
    ]
    assert flag_price(1.0, 1.0, (3.0, 90.0), unlike=False) == [
        "below all trained prices (the cheapest is 3.00)"
    ]


def test_the_control_blend_stays_near_the_prices_it_was_fitted_on():
    rng = np.random.default_rng(0)
    price = np.exp(rng.normal(2, 1, 60))
    nearly_constant = np.log1p(7 + rng.normal(0, 1e-3, 60))
    blended, weights = blend_out_of_fold(
        np.log1p(price),
        network=nearly_constant,
        other=nearly_constant + rng.normal(0, 1e-4, 60),
        folds=np.arange(60) % 5,
    )
    assert np.abs(weights).max() > 3  # without bounds it would run away
    assert np.expm1(blended).max() <= 2 * price.max() * (1 + 1e-6)
    assert np.expm1(blended).min() >= price.min() / 2 * (1 - 1e-6)


def of_networks(*errors):
    rng = np.random.default_rng(2)
    return np.array([PRICE * np.exp(rng.normal(0, error, N)) for error in errors])


def test_networks_that_agree_are_measured_and_raise_no_doubt():
    prices = of_networks(0.2, 0.2, 0.2, 0.2, 0.2)
    found = doubts(predict(), by_network=prices)
    factor = prices.max(0) / prices.min(0)
    assert found.networks.n == N
    assert found.networks.median_factor == pytest.approx(np.median(factor))
    assert found.networks.n_apart == (factor > 3).sum()
    assert found.sentences == []


def test_a_network_that_disagrees_with_all_others_is_named():
    prices = of_networks(0.2, 0.2, 1.0, 0.2, 0.2)
    found = doubts(predict(), by_network=prices)
    (sentence,) = found.sentences
    assert sentence.startswith("The network of fold 3 is a factor of 3 or more away")
    assert int(np.argmax(found.networks.far)) == 2


def test_of_networks_that_all_disagree_none_is_singled_out():
    found = doubts(predict(), by_network=of_networks(*[0.9] * 5))
    n_apart = found.networks.n_apart
    assert n_apart > N / 2
    (sentence,) = found.sentences
    assert f"on {n_apart} of 500 products" in sentence


@pytest.mark.parametrize("weights", ["random", "photos.safetensors"])
def test_random_weights_are_a_doubt(finished_run, tmp_path, weights):
    run_dir = copy_run(finished_run, tmp_path / "run")
    path = run_dir / "embed" / "manifest.json"
    record = read_json(path)
    record["inputs"]["image_weights"] = weights
    path.write_text(json.dumps(record))
    sentences = " ".join(evaluate_run(run_dir)["doubts"]["sentences"])
    assert ("began with random weights" in sentences) == (weights == "random")
