import dataclasses
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from trainings import (
    CONFIG,
    FP32,
    N,
    assert_same_weights,
    history_of,
    plant_products,
    train_small,
    without_clock,
)

import finetune.training.loop
from embed.errors import CacheError
from finetune.batches import ProductCache
from finetune.config import RECIPES, FinetuneConfig
from finetune.network.arithmetic import choose_arithmetic
from finetune.network.losses import smape_loss, smooth_l1_loss
from finetune.network.model import PriceNetwork
from finetune.network.wide import WidePart
from finetune.training.checkpoint import TrainingState, remove_checkpoint
from finetune.training.loop import apply_network, learning_rate_factor

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


class Stopped(Exception):
    pass


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return plant_products(tmp_path_factory.mktemp("planted"))


@pytest.fixture
def train(tiny_encoder, planted):
    return partial(train_small, tiny_encoder, planted)


def factors(config, *, per_epoch=100):
    epochs = np.arange(config.n_epochs * per_epoch) / per_epoch
    return np.array([learning_rate_factor(float(epoch), config) for epoch in epochs])


def test_the_default_rate_rises_from_zero_and_falls_along_a_cosine_to_zero():
    config = FinetuneConfig()
    found = factors(config)
    peak = int(config.warmup_fraction * config.n_epochs * 100)
    assert found[0] == 0
    assert found.max() == pytest.approx(1, abs=0.03)
    assert (np.diff(found[: peak + 1]) > 0).all()
    assert (np.diff(found[peak + 1 :]) < 0).all()
    assert found[-1] < 1e-3


def test_the_paper_rate_restarts_after_6_and_6_then_after_each_2_epochs():
    config = RECIPES["paper"]
    assert (config.smooth_l1_epochs, config.smape_epochs) == (12, 8)
    found = factors(config)
    restarts = np.flatnonzero(np.diff(found) > 0) + 1
    assert (restarts / 100).tolist() == [6, 12, 14, 16, 18]
    assert found[[0, *restarts]].tolist() == [1.0] * 6
    assert found[[*(restarts - 1), -1]].max() < 1e-3
    assert found[[300, 900, 1300, 1900]] == pytest.approx(0.5)


def test_history_records_the_mean_rates_of_the_schedule(train, tmp_path):
    train(tmp_path)
    expected = factors(CONFIG, per_epoch=4).reshape(3, 4).mean(axis=1)
    for name, peak in (
        ("learning_rate_factor", 1),
        ("text_learning_rate", CONFIG.text_learning_rate),
        ("image_learning_rate", CONFIG.image_learning_rate),
        ("fusion_learning_rate", CONFIG.fusion_learning_rate),
    ):
        found = [float(row[name]) for row in history_of(tmp_path)]
        assert found == pytest.approx(peak * expected, rel=1e-4), name


def test_the_second_phase_trains_on_smape(train, tmp_path, monkeypatch):
    original, used = finetune.training.loop.accumulate_gradients, []
    one, other = torch.tensor([1.0, 2.0]), torch.tensor([1.5, 3.0])

    def recording(*args, criterion, **kwargs):
        used.append(float(criterion(one, other)))
        return original(*args, criterion=criterion, **kwargs)

    monkeypatch.setattr(finetune.training.loop, "accumulate_gradients", recording)
    train(tmp_path)
    first = float(smooth_l1_loss(one, other, beta=CONFIG.smooth_l1_beta))
    assert used == [first] * 8 + [float(smape_loss(one, other))] * 4
    assert [row["phase"] for row in history_of(tmp_path)] == ["1", "1", "2"]


@pytest.mark.parametrize("decay", [0.9, 0.3])
def test_the_average_of_weights_is_the_one_computed_by_hand(decay):
    toy = nn.Linear(2, 1)
    state = TrainingState(
        network=toy,
        optimizer=torch.optim.SGD(toy.parameters()),
        scaler=FP32.scaler(),
        average={name: t.detach().clone() for name, t in toy.state_dict().items()},
    )
    expected = toy.weight.detach().clone()
    for done in range(20):
        toy.weight.data.normal_()
        state.update_average(decay=decay, updates_done=done)
        keep = min(decay, (1 + done) / (10 + done))
        expected = keep * expected + (1 - keep) * toy.weight.data
    torch.testing.assert_close(state.average["weight"], expected)


def test_without_decay_the_network_ends_with_its_last_weights(train, tmp_path):
    config = dataclasses.replace(CONFIG, ema_decay=0.0)
    network = train(tmp_path, config=config)
    last = load_file(tmp_path / "checkpoint.safetensors")
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    for name, tensor in network.state_dict().items():
        if not name.endswith(statistics):
            assert torch.equal(tensor, last[f"network/{name}"]), name


def test_training_leaves_photos_out_as_it_is_told_to(train, tmp_path, monkeypatch):
    def count(cache, rows, **options):
        batch = load(cache, rows, **options)
        seen.append(len(batch.image_rows))
        return batch

    load, totals = ProductCache.batch, []
    monkeypatch.setattr(ProductCache, "batch", count)
    for share in (0.0, 0.5):
        seen = []
        train(
            tmp_path / f"{share}",
            config=dataclasses.replace(CONFIG, image_dropout=share),
        )
        totals.append(sum(seen))
    assert 0.3 * totals[0] < totals[1] < 0.7 * totals[0]


def test_training_learns_a_planted_signal(train, tmp_path, planted):
    config = dataclasses.replace(
        CONFIG,
        smooth_l1_epochs=7,
        smape_epochs=3,
        text_learning_rate=2e-3,
        fusion_learning_rate=3e-3,
        ema_decay=0.5,
    )
    network = train(tmp_path, config=config)
    loss = [float(row["loss"]) for row in history_of(tmp_path)]
    assert loss[6] < 0.5 * loss[0]
    cache, log_price = planted
    predicted, fused = apply_network(network, cache, np.arange(N), arithmetic=FP32)
    assert np.corrcoef(predicted, log_price)[0, 1] > 0.95
    assert fused.shape == (N, 512)
    assert not network.training


def test_prices_do_not_depend_on_the_rows_they_are_asked_with(train, tmp_path, planted):
    network = train(tmp_path)
    cache, rows = planted[0], np.array([5, 40, 2])
    every = apply_network(network, cache, np.arange(N), arithmetic=FP32)
    some = apply_network(network, cache, rows, arithmetic=FP32)
    np.testing.assert_allclose(some[0], every[0][rows], atol=1e-5)
    np.testing.assert_allclose(some[1], every[1][rows], atol=1e-5)


def test_training_twice_gives_the_same_weights(train, tmp_path):
    one, other = train(tmp_path / "one"), train(tmp_path / "other")
    assert_same_weights(one, other)
    histories = [history_of(tmp_path / name) for name in ("one", "other")]
    assert without_clock(histories[0]) == without_clock(histories[1])


def test_folds_see_their_products_in_different_orders(train, tmp_path):
    one, other = train(tmp_path / "one"), train(tmp_path / "other", fold=1)
    assert not torch.equal(one.head[0].weight, other.head[0].weight)


@pytest.mark.one_in(4)
@pytest.mark.parametrize("epoch", [1, 2, 3])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_run_stopped_at_any_epoch_ends_as_one_never_stopped(
    train, tmp_path, monkeypatch, epoch, moment
):
    whole = train(tmp_path / "whole")
    save = TrainingState.save

    def stopping(state, fold_dir):
        if moment == "after" or state.epochs_done != epoch:
            save(state, fold_dir)
        if state.epochs_done == epoch:
            raise Stopped

    monkeypatch.setattr(TrainingState, "save", stopping)
    with pytest.raises(Stopped):
        train(tmp_path / "stopped")
    monkeypatch.setattr(TrainingState, "save", save)
    assert_same_weights(train(tmp_path / "stopped"), whole)
    histories = [history_of(tmp_path / name) for name in ("whole", "stopped")]
    assert without_clock(histories[0]) == without_clock(histories[1])
    assert len(histories[0]) == 3


def test_a_damaged_checkpoint_is_named(train, tmp_path):
    (tmp_path / "checkpoint.safetensors").write_bytes(b"PK\x03\x04 not all of it")
    with pytest.raises(CacheError, match=r"safetensors: not a checkpoint.*Delete"):
        train(tmp_path)
    remove_checkpoint(tmp_path)
    remove_checkpoint(tmp_path)
    train(tmp_path)


def test_the_chosen_format_is_used():
    for precision, dtype in (
        ("fp32", None),
        ("bf16", torch.bfloat16),
        ("fp16", torch.float16),
    ):
        found = choose_arithmetic(precision, CPU)
        assert (found.autocast_dtype, found.device) == (dtype, CPU)


@pytest.mark.parametrize("has_bf16", [True, False])
def test_auto_is_fp16_on_cuda_and_never_on_a_cpu(monkeypatch, has_bf16):
    monkeypatch.setattr("finetune.network.arithmetic.has_bf16", lambda _: has_bf16)
    on_cpu = choose_arithmetic("auto", CPU).autocast_dtype
    assert on_cpu is (torch.bfloat16 if has_bf16 else None)
    assert choose_arithmetic("auto", CUDA).autocast_dtype is torch.float16


def test_gradients_are_scaled_only_in_fp16(monkeypatch):
    asked = []
    monkeypatch.setattr(
        torch.amp, "GradScaler", lambda *args, **kwargs: asked.append((*args, kwargs))
    )
    for precision in ("fp32", "bf16", "fp16"):
        choose_arithmetic(precision, CUDA).scaler()
    choose_arithmetic("auto", CPU).scaler()
    enabled = [options["enabled"] for _, options in asked]
    assert [device for device, _ in asked] == ["cuda", "cuda", "cuda", "cpu"]
    assert enabled == [False, False, True, False]


def test_the_head_learns_from_nested_prices_and_prices_others_by_the_wide_part(
    train, planted, tmp_path, monkeypatch
):
    fits, learned, applied = [], [], []
    fit, price = WidePart.fit, PriceNetwork.price

    def fitting(wide, *args, **kwargs):
        fits.append(fit(wide, *args, **kwargs))
        return fits[-1]

    def pricing(network, fused, attributes, wide):
        (learned if network.training else applied).append(wide)
        return price(network, fused, attributes, wide)

    monkeypatch.setattr(WidePart, "fit", fitting)
    monkeypatch.setattr(PriceNetwork, "price", pricing)
    cache, _ = planted
    rows, others = np.arange(0, N, 2), np.arange(1, N, 2)
    network = train(tmp_path, rows=rows)
    for wide in applied:  # while statistics are estimated and soundness is checked
        assert np.isin(wide.numpy(), fits[0][rows]).all()
    applied.clear()
    apply_network(network, cache, others, arithmetic=FP32)
    (nested,) = fits
    epochs = torch.cat(learned).numpy().reshape(CONFIG.n_epochs, -1)
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.sort(nested[rows]))
    batch = cache.batch(others)
    expected = network.price_wide(batch.tokens, batch.mask, batch.attributes)
    np.testing.assert_allclose(
        np.sort(torch.cat(applied).numpy()), np.sort(expected.numpy()), atol=1e-5
    )
    in_sample = cache.batch(rows)
    found = network.price_wide(in_sample.tokens, in_sample.mask, in_sample.attributes)
    assert np.abs(found.numpy() - nested[rows]).max() > 1e-3
