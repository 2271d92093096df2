import dataclasses
import math

import numpy as np
import pytest
import torch
from conftest import small_image_backbone
from torch import nn
from trainings import CONFIG, FP32, N, plant_products

from embed.attributes import ATTRIBUTE_NAMES
from embed.encoders.towers import load_text_backbone
from finetune.network.model import PriceNetwork
from finetune.training.accumulate import fuse_batch, price_batch
from finetune.training.batch_statistics import estimate_batch_statistics
from finetune.training.guards import TrainingError
from finetune.training.loop import apply_network, train_network
from finetune.training.soundness import TrainingRows, keep_sound_weights

ROWS = np.arange(N)
LEARNED = dataclasses.replace(
    CONFIG,
    smooth_l1_epochs=7,
    smape_epochs=3,
    text_learning_rate=2e-3,
    fusion_learning_rate=3e-3,
    ema_decay=0.5,
)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return plant_products(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def trained(tiny_encoder, planted, tmp_path_factory):
    """A network whose photo tower trains its batch norms, without a wide part."""
    torch.manual_seed(0)
    network = PriceNetwork(
        load_text_backbone(tiny_encoder),
        small_image_backbone(None),
        n_attributes=2 * len(ATTRIBUTE_NAMES),
        freeze_batch_norm=False,
    )
    cache, log_price = planted
    train_network(
        network,
        cache,
        log_price,
        ROWS,
        config=LEARNED,
        arithmetic=FP32,
        fold_dir=tmp_path_factory.mktemp("fold"),
        fold=0,
    )
    return network


@pytest.fixture
def network(trained):
    """The trained network, put back after the test."""
    weights = {name: tensor.clone() for name, tensor in trained.state_dict().items()}
    yield trained
    trained.load_state_dict(weights)
    trained.freeze_batch_norm = False


def batch_norms(module):
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d)
    return [part for part in module.modules() if isinstance(part, kinds)]


def estimate(network, cache, rows=ROWS, seed=0):
    estimate_batch_statistics(
        network,
        cache,
        rows,
        wide=None,
        arithmetic=FP32,
        rng=np.random.default_rng(seed),
    )


def test_statistics_are_those_of_all_training_rows_and_of_no_others(network, planted):
    cache, _ = planted
    for norm in batch_norms(network):
        norm.running_mean.fill_(1e3)
        norm.running_var.fill_(1e6)
    estimate(network, cache)
    inputs = {}

    def record(norm, args):
        inputs[norm] = args[0].detach().clone()

    norms = [*batch_norms(network.image_backbone), network.head[1]]
    hooks = [norm.register_forward_pre_hook(record) for norm in norms]
    with torch.no_grad():
        batch = cache.batch(ROWS)
        price_batch(network, batch, fuse_batch(network, batch))
    for hook in hooks:
        hook.remove()
    for norm in (norms[0], norms[-1]):  # what comes before them has no batch norm
        dims = [0, *range(2, inputs[norm].ndim)]
        torch.testing.assert_close(norm.running_mean, inputs[norm].mean(dims))
        torch.testing.assert_close(norm.running_var, inputs[norm].var(dims))


def test_a_frozen_tower_keeps_its_statistics(network, planted):
    network.freeze_batch_norm = True
    before = [norm.running_var.clone() for norm in batch_norms(network.image_backbone)]
    head = network.head[1].running_var.clone()
    estimate(network, planted[0])
    after = [norm.running_var for norm in batch_norms(network.image_backbone)]
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))
    assert not torch.equal(network.head[1].running_var, head)


@pytest.mark.parametrize("n_photos", [0, 1])
def test_a_tower_without_photos_enough_keeps_its_statistics(network, planted, n_photos):
    cache, _ = planted
    with_photo = ROWS[cache.image_ok[ROWS]][:n_photos]
    rows = np.concatenate([with_photo, ROWS[~cache.image_ok[ROWS]]])
    before = batch_norms(network.image_backbone)[0].running_var.clone()
    estimate(network, cache, rows)
    assert torch.equal(batch_norms(network.image_backbone)[0].running_var, before)


def test_statistics_are_the_same_again(network, planted):
    estimate(network, planted[0])
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    estimate(network, planted[0])
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def keep(network, planted, **candidates):
    cache, log_price = planted
    training = TrainingRows(cache=cache, rows=ROWS, log_price=log_price, wide=None)
    names = {"averaged": "averaged weights", "last": "the last weights"}
    keep_sound_weights(
        network,
        {names[name]: weights for name, weights in candidates.items()},
        training,
        train_smape=10.0,
        arithmetic=FP32,
        seed=[0],
        name="fold 3",
    )
    return apply_network(network, cache, ROWS, arithmetic=FP32)[0]


def changed(network, change):
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    change(weights)
    return weights


def run_away(weights):
    weights["head.8.weight"] *= 30


def lose_statistics(weights):
    for name in weights:
        if name.endswith("running_var"):
            weights[name].fill_(1e-6)


def test_the_averaged_weights_are_kept_if_they_are_sound(network, planted, caplog):
    expected = changed(network, lambda weights: None)
    keep(network, planted, averaged=expected, last=changed(network, run_away))
    assert torch.equal(network.head[8].weight, expected["head.8.weight"])
    assert "kept instead" not in caplog.text


def test_statistics_that_belong_to_no_weights_do_no_harm(network, planted):
    sound = keep(network, planted, averaged=changed(network, lambda weights: None))
    found = keep(network, planted, averaged=changed(network, lose_statistics))
    np.testing.assert_allclose(found, sound, atol=1e-5)


def test_weights_that_run_away_in_service_give_way_to_the_last(
    network, planted, caplog
):
    last = changed(network, lambda weights: None)
    keep(network, planted, averaged=changed(network, run_away), last=last)
    assert torch.equal(network.head[8].weight, last["head.8.weight"])
    assert "fold 3: with averaged weights SMAPE is" in caplog.text
    assert "in training it was 10.0; the last weights are kept instead" in caplog.text


def test_training_stops_with_a_remedy_where_no_weights_are_sound(network, planted):
    wild = changed(network, run_away)
    with pytest.raises(
        TrainingError,
        match=r"fold 3: .* with averaged weights SMAPE is .*; with the last weights "
        r".*a lower --set image_learning_rate or --freeze-image",
    ):
        keep(network, planted, averaged=wild, last=wild)


def test_served_prices_stay_within_twice_what_was_trained_on(network, planted):
    _, log_price = planted
    with torch.no_grad():
        network.head[8].weight *= 1e3
    found, _ = apply_network(network, planted[0], ROWS, arithmetic=FP32)
    price = np.expm1(log_price)
    assert np.expm1(found.max()) == pytest.approx(2 * price.max(), rel=1e-5)
    assert np.expm1(found.min()) == pytest.approx(price.min() / 2, rel=1e-5)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_price_that_is_not_finite_is_not_taken_for_one_at_a_limit(
    network, planted, value
):
    network.head[8].bias.data.fill_(value)
    with pytest.raises(TrainingError, match="not finite"):
        apply_network(network, planted[0], ROWS, arithmetic=FP32)


@pytest.mark.parametrize("normalise", [True, False])
def test_no_photo_is_embedded_a_thousand_times_as_long_as_others(
    tiny_encoder, normalise
):
    torch.manual_seed(0)
    network = PriceNetwork(
        load_text_backbone(tiny_encoder), None, normalise_image=normalise
    )
    features = torch.rand(2, 1280)
    features[1] *= 1000
    usual, extreme = network.project_image(features).norm(dim=1).tolist()
    assert (extreme < 3 * usual) == normalise
