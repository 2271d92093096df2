"""Networks behind backends: what they share is computed once, and nothing changes."""

import copy

import numpy as np
import pytest
import torch
from conftest import TINY_TRAINING, set_wide, small_image_backbone

from embed.attributes import ATTRIBUTE_NAMES
from embed.encoders.towers import TextTower, load_text_backbone, pad_tokens
from finetune.network.build import (
    freeze_text_layers,
    n_frozen_layers,
    use_eager_attention,
)
from finetune.network.model import PriceNetwork
from finetune.serve import ServedNetworks, TextTowers

CPU = torch.device("cpu")


@pytest.fixture
def texts():
    rng = np.random.default_rng(0)
    return [rng.integers(5, 40, size=n).astype(np.int32) for n in (3, 24, 11, 24)]


def tuned(encoder, *, seed, frozen):
    """A backbone as if fine-tuned: all but its frozen part differs by the seed."""
    backbone = load_text_backbone(encoder)
    freeze_text_layers(backbone, frozen)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for parameter in backbone.parameters():
            if parameter.requires_grad:
                parameter += 0.05 * torch.randn_like(parameter)
    return backbone.eval()


@torch.no_grad()
def alone(backbones, inputs):
    return torch.cat([TextTower(each)(*inputs) for each in backbones], dim=1)


@pytest.mark.parametrize("frozen", [0, 1, 2])
@torch.no_grad()
def test_towers_together_find_what_each_finds_alone(tiny_encoder, texts, frozen):
    backbones = [tuned(tiny_encoder, seed=seed, frozen=frozen) for seed in (1, 2, 3)]
    inputs = pad_tokens(texts)
    expected = alone(backbones, inputs)
    found = TextTowers(backbones, n_shared=frozen)(*inputs)
    assert found.shape == (4, 3 * 32)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    if frozen < 2:  # with both layers frozen, all three are the encoder itself
        assert not torch.allclose(found[:, :32], found[:, 32:64], atol=1e-3)


@torch.no_grad()
def test_layers_that_differ_must_not_be_shared(tiny_encoder, texts):
    backbones = [tuned(tiny_encoder, seed=seed, frozen=0) for seed in (1, 2)]
    inputs = pad_tokens(texts)
    found = TextTowers(backbones, n_shared=1)(*inputs)
    assert not torch.allclose(found, alone(backbones, inputs), atol=1e-3)


@torch.no_grad()
def test_of_an_unknown_kind_of_encoder_nothing_is_shared(tiny_encoder, texts):
    backbones = [tuned(tiny_encoder, seed=seed, frozen=1) for seed in (1, 2)]
    for backbone in backbones:
        backbone.config.model_type = "another"
    towers = TextTowers(backbones, n_shared=1)
    assert towers.shared is None
    inputs = pad_tokens(texts)
    torch.testing.assert_close(towers(*inputs), alone(backbones, inputs))


@torch.no_grad()
@pytest.mark.parametrize("use_wide", [False, True])
def test_served_networks_price_as_the_networks_do(tiny_encoder, texts, use_wide):
    networks = [
        PriceNetwork(
            tuned(tiny_encoder, seed=seed, frozen=1),
            small_image_backbone(None, seed=seed),
            n_attributes=2 * len(ATTRIBUTE_NAMES),
            use_wide=use_wide,
        ).eval()
        for seed in (1, 2)
    ]
    for network in networks if use_wide else []:
        set_wide(network.wide)
    rng = np.random.default_rng(1)
    photos = list(rng.integers(0, 256, size=(2, 32, 32, 3), dtype=np.uint8))
    photo_rows = np.array([1, 3])
    attributes = rng.normal(size=(4, len(ATTRIBUTE_NAMES))).astype(np.float32)
    inputs = (
        *pad_tokens(texts),
        torch.from_numpy(np.stack(photos)),
        torch.from_numpy(photo_rows),
    )
    fused = [network.fuse(*inputs) for network in networks]
    known = torch.from_numpy(attributes)
    prices = [
        network.price(each, known, network.price_wide(*inputs[:2], known))
        for network, each in zip(networks, fused, strict=True)
    ]
    served = ServedNetworks(
        copy.deepcopy(networks),
        TINY_TRAINING,
        backend="eager",
        dtype=torch.float32,
        device=CPU,
    )
    encoded = [encode() for encode in served.encoders(texts, photos)]
    assert [len(features) for features in encoded] == [4, 2, 2]
    found = served.price(encoded, texts, photo_rows, attributes)
    for (log_price, embedded), price, each in zip(found, prices, fused, strict=True):
        np.testing.assert_allclose(log_price, price, atol=1e-4)
        np.testing.assert_allclose(embedded, each, atol=1e-4)


@torch.no_grad()
def test_products_without_photo_take_no_image_tower(tiny_encoder, texts):
    network = PriceNetwork(load_text_backbone(tiny_encoder), small_image_backbone(None))
    served = ServedNetworks(
        [network], TINY_TRAINING, backend="eager", dtype=torch.float32, device=CPU
    )
    encoders = served.encoders(texts, [])
    assert len(encoders) == 1
    attributes = np.zeros((4, 0), np.float32)
    [(log_price, _)] = served.price(
        [encoders[0]()], texts, np.zeros(0, np.intp), attributes
    )
    assert np.isfinite(log_price).all()


@torch.no_grad()
def test_attention_by_products_is_the_same_attention(tiny_encoder, texts):
    backbone = load_text_backbone(tiny_encoder).eval()
    inputs = pad_tokens(texts)
    expected = TextTower(backbone)(*inputs)
    use_eager_attention(backbone)
    assert backbone.config._attn_implementation == "eager"
    torch.testing.assert_close(
        TextTower(backbone)(*inputs), expected, atol=1e-5, rtol=0
    )


def test_two_thirds_of_the_layers_are_frozen_unless_told_otherwise(tiny_encoder):
    backbone = load_text_backbone(tiny_encoder)
    assert n_frozen_layers(backbone, None) == 1  # of 2; of MiniLM's 6 it is 4
    assert n_frozen_layers(backbone, 0) == 0
    freeze_text_layers(backbone, None)
    trained = {n for n, p in backbone.named_parameters() if p.requires_grad}
    assert {n.split(".")[2] for n in trained if n.startswith("encoder")} == {"1"}
