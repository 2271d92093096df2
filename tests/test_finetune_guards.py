import copy
import dataclasses
import math
import shutil

import numpy as np
import pytest
import torch
from conftest import TINY_TRAINING, small_image_backbone, write_product_cache
from safetensors.torch import save

import finetune.training.loop
from embed.encoders.towers import load_text_backbone
from finetune.batches import ProductCache
from finetune.network.arithmetic import Arithmetic
from finetune.network.losses import smooth_l1_loss
from finetune.network.model import PriceNetwork
from finetune.training.guards import EXPLODED_NORM, TrainingError
from finetune.training.loop import apply_network

N, CHECKPOINT = 48, "checkpoint.safetensors"
FP32 = Arithmetic(device=torch.device("cpu"), autocast_dtype=None)
CONFIG = dataclasses.replace(
    TINY_TRAINING, seed=0, smooth_l1_epochs=2, smape_epochs=0, batch_size=12
)
SAMPLE_IDS = np.array([f"id-{row}" for row in range(N)])


class Fp16(Arithmetic):
    """fp16 on the CPU, with a scaler that three overflows bring below 1."""

    first_scale = 4.0

    def scaler(self):
        return torch.amp.GradScaler("cpu", init_scale=self.first_scale)


class Fp16FromHigh(Fp16):
    first_scale = 2.0**20


FP16 = Fp16(device=torch.device("cpu"), autocast_dtype=torch.float16)


@pytest.fixture(scope="module")
def products(tmp_path_factory):
    """Products, half of them with a photo, all with two attributes."""
    rng = np.random.default_rng(0)
    texts = [[2, *rng.integers(5, 40, rng.integers(2, 9)), 3] for _ in range(N)]
    photos = [
        rng.integers(0, 255, (32, 32, 3), dtype=np.uint8) if row % 2 else None
        for row in range(N)
    ]
    folder = write_product_cache(
        tmp_path_factory.mktemp("products"), texts, photos, rng.normal(size=(N, 2))
    )
    cache = ProductCache(folder, max_tokens=16, image_size=32)
    return cache, rng.normal(2.5, 0.7, N)


@pytest.fixture(scope="module")
def build(tiny_encoder):
    def build():
        torch.manual_seed(0)
        return PriceNetwork(
            load_text_backbone(tiny_encoder), small_image_backbone(None), n_attributes=4
        )

    return build


@pytest.fixture(scope="module")
def train(build, products):
    def train(fold_dir, *, arithmetic=FP32, config=CONFIG, cache=None, log_price=None):
        network = build()
        finetune.training.loop.train_network(
            network,
            cache or products[0],
            products[1] if log_price is None else log_price,
            np.arange(N),
            config=config,
            arithmetic=arithmetic,
            fold_dir=fold_dir,
            fold=0,
            sample_ids=SAMPLE_IDS,
        )
        return save({k: v.contiguous() for k, v in network.state_dict().items()})

    return train


def stop_after_one_epoch(monkeypatch):
    """Let training end as a killed process does, after its first checkpoint."""
    original = finetune.training.loop.TrainingState.save

    def stopping(state, fold_dir):
        original(state, fold_dir)
        raise KeyboardInterrupt

    monkeypatch.setattr(finetune.training.loop.TrainingState, "save", stopping)


@pytest.fixture(scope="module")
def begun(train, tmp_path_factory):
    """By number format: a folder with one epoch done, and how an undisturbed run ends.

    A run of two epochs and one that goes on after the first end alike.
    """
    found = {}
    for arithmetic in (FP32, FP16):
        folder = tmp_path_factory.mktemp("begun")
        with pytest.MonkeyPatch.context() as monkeypatch:
            stop_after_one_epoch(monkeypatch)
            with pytest.raises(KeyboardInterrupt):
                train(folder, arithmetic=arithmetic)
        whole = tmp_path_factory.mktemp("whole")
        found[arithmetic] = folder, train(whole, arithmetic=arithmetic)
    return found


@pytest.fixture
def goes_wrong_and_recovers(begun, train, tmp_path):
    """Train the second epoch with a fault, then without; return the fault's message."""

    def run(plant, *, arithmetic=FP32, **given):
        before, whole = begun[arithmetic]
        folder = tmp_path / "fold"
        shutil.copytree(before, folder)
        kept = {path.name: path.read_bytes() for path in folder.iterdir()}
        with pytest.MonkeyPatch.context() as monkeypatch:
            plant(monkeypatch)
            with pytest.raises(TrainingError) as caught:
                train(folder, arithmetic=arithmetic, **given)
        assert {p.name: p.read_bytes() for p in folder.iterdir()} == kept
        assert train(folder, arithmetic=arithmetic) == whole
        assert (folder / CHECKPOINT).read_bytes() != kept[CHECKPOINT]
        message = str(caught.value)
        assert "\n" not in message
        return message

    return run


def at_batch(number, change):
    """Plant a loss that is ours in one batch (0: every batch) of what is trained."""

    def plant(monkeypatch):
        calls = []

        def changed(predicted, target, *, beta):
            calls.append(1)
            loss = smooth_l1_loss(predicted, target, beta=beta)
            is_now = number in (0, len(calls))
            return change(predicted, loss) if is_now else loss

        monkeypatch.setattr(finetune.training.loop, "smooth_l1_loss", changed)

    return plant


def damaged(change, *, number=3):
    """Plant a change of the network before a batch."""

    def plant(monkeypatch):
        original, calls = finetune.training.loop.accumulate_gradients, []

        def changing(network, *args, **kwargs):
            calls.append(1)
            if len(calls) == number:
                change(network)
            return original(network, *args, **kwargs)

        monkeypatch.setattr(finetune.training.loop, "accumulate_gradients", changing)

    return plant


def endless_slope(predicted, loss):
    return loss + (predicted - predicted.detach()).sqrt().sum()


def slope_that_is_no_number(predicted, loss):
    return loss + (predicted - predicted.detach()).abs().sqrt().sum()


@pytest.mark.parametrize("times", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_and_names_its_products(
    goes_wrong_and_recovers, tally, times, caplog
):
    message = goes_wrong_and_recovers(at_batch(3, lambda _, loss: loss * times))
    assert "fold 1, epoch 2, batch 3 of 4 ('id-" in message
    assert f"and 7 more): the loss is {times}." in message
    assert "Epoch 1 is kept" in message
    assert "lower the learning rates, or try --precision fp32." in message
    (line,) = [text for text in caplog.messages if "holds" in text]
    assert line.count("'id-") == 12
    assert message.count("'id-") == 5
    tally("ways for training to go wrong")


# The planted value goes through means and spreads of all products.
@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_price_that_is_not_finite_stops_the_batch_that_holds_it(
    goes_wrong_and_recovers, products, tally, value, caplog
):
    log_price = products[1].copy()
    log_price[20] = value
    message = goes_wrong_and_recovers(lambda _: None, log_price=log_price)
    assert "fold 1, epoch 2" in message
    assert "the loss is" in message
    assert "'id-20'" in next(text for text in caplog.messages if "holds" in text)
    tally("ways for training to go wrong")


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
def test_an_infinite_attribute_stops_the_first_batch(train, tmp_path, products, tally):
    cache = copy.copy(products[0])
    cache.attributes = np.array(cache.attributes)
    cache.attributes[20, 0] = np.inf
    with pytest.raises(
        TrainingError, match=r"epoch 1, batch 1 of 4.*the loss is nan.*No epoch was"
    ):
        train(tmp_path, cache=cache)
    assert list(tmp_path.iterdir()) == []
    tally("ways for training to go wrong")


def test_weights_that_are_damaged_in_memory_stop_the_next_batch(
    goes_wrong_and_recovers, tally
):
    def change(network):
        network.head[4].weight.data[0, 0] = math.nan

    message = goes_wrong_and_recovers(damaged(change))
    assert "batch 3 of 4" in message
    assert "the loss is nan" in message
    tally("ways for training to go wrong")


@pytest.mark.parametrize("slope", [endless_slope, slope_that_is_no_number])
def test_a_gradient_that_is_not_finite_is_not_followed(
    goes_wrong_and_recovers, tally, slope
):
    message = goes_wrong_and_recovers(at_batch(2, slope))
    assert "fold 1, epoch 2, batch 2 of 4 ('id-" in message
    assert "the norm of the gradient is nan, above 1e+06" in message
    tally("ways for training to go wrong")


@pytest.mark.parametrize("times", [1e9, 1e25])
def test_a_gradient_that_explodes_is_not_followed(
    goes_wrong_and_recovers, tally, times
):
    message = goes_wrong_and_recovers(at_batch(4, lambda _, loss: loss * times))
    assert "batch 4 of 4" in message
    assert "the norm of the gradient is" in message
    assert "Look at these products, or lower the learning rates" in message
    tally("ways for training to go wrong")


def test_ordinary_gradients_are_far_from_the_limit(train, tmp_path, monkeypatch):
    original, norms = finetune.training.loop.require_sound_gradient, []

    def recording(norm, place, *, scaler):
        norms.append(norm)
        original(norm, place, scaler=scaler)

    monkeypatch.setattr(finetune.training.loop, "require_sound_gradient", recording)
    wild = dataclasses.replace(
        CONFIG, smape_epochs=1, fusion_learning_rate=0.03, text_learning_rate=0.01
    )
    train(tmp_path, config=wild)
    assert len(norms) == 12
    assert 0 < max(norms) < EXPLODED_NORM / 1000


def test_a_scaler_that_collapses_stops(goes_wrong_and_recovers, tally):
    message = goes_wrong_and_recovers(at_batch(0, endless_slope), arithmetic=FP16)
    assert "fold 1, epoch 2, batch 3 of 4 ('id-" in message
    assert "the scale of fp16 gradients has fallen to 0.5" in message
    assert "--precision fp32" in message
    tally("ways for training to go wrong")


def test_a_scaler_without_any_update_stops(train, tmp_path, monkeypatch, tally):
    at_batch(0, endless_slope)(monkeypatch)
    high = Fp16FromHigh(device=torch.device("cpu"), autocast_dtype=torch.float16)
    with pytest.raises(TrainingError, match=r"fold 1: no batch could be learned from"):
        train(tmp_path, arithmetic=high)
    tally("ways for training to go wrong")


def test_a_batch_that_the_scaler_skips_does_not_stop(train, tmp_path, monkeypatch):
    at_batch(2, endless_slope)(monkeypatch)
    train(tmp_path, arithmetic=FP16)
    assert len((tmp_path / "history.csv").read_text().splitlines()) == 3


def test_an_epoch_that_leaves_infinity_in_the_weights_is_not_kept(
    goes_wrong_and_recovers, tally
):
    def change(network):
        network.head[1].running_var.fill_(math.inf)

    message = goes_wrong_and_recovers(damaged(change))
    assert "fold 1, epoch 2: 2 tensors of the network are not finite" in message
    assert "the first: head.1.running_var. Epoch 1 is kept" in message
    tally("ways for training to go wrong")


def test_an_embedding_that_runs_away_is_not_kept(goes_wrong_and_recovers, tally):
    def change(network):
        with torch.no_grad():
            network.image_projection.weight *= 1e6

    message = goes_wrong_and_recovers(damaged(change))
    assert "fold 1, epoch 2: the fused embedding has diverged, its variance" in message
    assert "Epoch 1 is kept" in message
    assert "by --set NAME=VALUE; at their defaults, give --freeze-image" in message
    tally("ways for training to go wrong")


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e5])
def test_weights_that_give_no_price_are_refused_at_evaluation(
    build, products, tally, value
):
    network = build()
    network.head[8].bias.data.fill_(value)
    with pytest.raises(
        TrainingError, match=r"not finite for 3 of 3 products, the first: 'id-4', 'id-"
    ):
        apply_network(
            network,
            products[0],
            np.array([4, 7, 30]),
            arithmetic=FP32,
            sample_ids=SAMPLE_IDS,
        )
    tally("ways for training to go wrong")


def test_without_sample_ids_the_rows_are_named(build, products, tally):
    network = build()
    network.missing_image.data.fill_(math.nan)
    with pytest.raises(TrainingError, match=r"for 1 of 2 products, the first: row 4\."):
        apply_network(network, products[0], np.array([4, 7]), arithmetic=FP32)
    tally("ways for training to go wrong")
