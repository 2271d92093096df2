from copy import deepcopy

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer
from torchvision.transforms import v2
from transformers import AutoModel, BertConfig, BertModel

from embed.encoders.backends import FrozenTower
from embed.encoders.pooling import mean_pool
from embed.encoders.towers import (
    IMAGE_DIM,
    ImageEncoder,
    ImageTower,
    TextEncoder,
    TextTower,
    load_image_backbone,
    load_text_backbone,
    normalise_images,
    pad_tokens,
    token_batches,
)
from embed.machine import has_bf16
from embed.sample.photos import draw_photo

CPU = torch.device("cpu")
TEXTS = (
    "6 ounces of honey",
    "a",
    "olive oil, cold pressed, from the first harvest of the year (pack of 12)",
    "soup & crackers",
    "ice cream",
)


def photos(size=32):
    categories = ("Soup", "Honey", "Coffee", "Juice", "Crackers", "Olive Oil")
    finishes = ("grey", "blue", "green", "red", "gold", "red")
    drawn = (
        draw_photo(category, finish, n_dots=pose % 4, pose=pose)
        for pose, (category, finish) in enumerate(
            zip(categories, finishes, strict=True)
        )
    )
    return [np.asarray(p.resize((size, size), Image.Resampling.BOX)) for p in drawn]


def frozen(load, dtype=torch.float32):
    return FrozenTower(load, name="test", backend="eager", dtype=dtype, device=CPU)


def encoder_of_texts(backbone, *, batch_tokens=256, dtype=torch.float32):
    tower = frozen(lambda: TextTower(deepcopy(backbone)), dtype)
    dim = backbone.config.hidden_size
    return TextEncoder(tower, dim=dim, batch_tokens=batch_tokens)


def encoder_of_photos(backbone, *, batch_images=6, dtype=torch.float32):
    tower = frozen(lambda: ImageTower(deepcopy(backbone), size=32), dtype)
    return ImageEncoder(tower, batch_images=batch_images)


@pytest.fixture(scope="module")
def tokenizer(tiny_encoder):
    return Tokenizer.from_file(str(tiny_encoder / "tokenizer.json"))


@pytest.fixture(scope="module")
def token_ids(tokenizer):
    return [np.array(encoding.ids) for encoding in tokenizer.encode_batch(TEXTS)]


@pytest.fixture(scope="module")
def text_backbone(tiny_encoder):
    return load_text_backbone(tiny_encoder)


@pytest.fixture(scope="module")
def image_backbone():
    """EfficientNet-B0 that normalises by the statistics of a few photos.

    Untouched random weights bring every photo to the same few numbers near 0.
    """
    backbone = load_image_backbone(None).train()
    for module in backbone.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        backbone(normalise_images(torch.from_numpy(np.stack(photos(64)))))
    return backbone.eval()


def cosines(a, b):
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def test_pooling_ignores_padding():
    hidden = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]])
    pooled = mean_pool(hidden, mask)
    torch.testing.assert_close(pooled[0], hidden[0, :2].mean(0))
    torch.testing.assert_close(pooled[1], hidden[1].mean(0))
    hidden[0, 2:] = 1e6
    torch.testing.assert_close(mean_pool(hidden, mask), pooled)


def test_tokens_are_padded_to_a_multiple_of_eight():
    tokens, mask = pad_tokens([np.arange(1, 10), np.arange(1, 3)])
    assert tokens.shape == mask.shape == (2, 16)
    assert mask.sum(1).tolist() == [9, 2]
    assert tokens[1].tolist() == [1, 2] + [0] * 14
    assert pad_tokens([np.arange(8)])[0].shape == (1, 8)


@pytest.mark.parametrize("budget", [8, 64, 10_000])
def test_token_batches_hold_every_row_once_and_keep_to_the_budget(budget):
    lengths = np.random.default_rng(0).integers(2, 40, size=200).tolist()
    batches = token_batches(lengths, budget)
    assert sorted(np.concatenate(batches)) == list(range(200))
    for rows in batches:
        padded = -(-max(lengths[row] for row in rows) // 8) * 8
        assert len(rows) == 1 or len(rows) * padded <= budget
    if budget == 10_000:
        assert len(batches) == 1
    assert token_batches([], budget) == []


@pytest.mark.parametrize("batch_tokens", [1, 90, 1000])
def test_text_features_are_those_of_one_text_at_a_time_through_transformers(
    tiny_encoder, text_backbone, token_ids, batch_tokens
):
    plain = AutoModel.from_pretrained(tiny_encoder).eval()
    encoder = encoder_of_texts(text_backbone, batch_tokens=batch_tokens)
    found = encoder.encode(token_ids)
    assert found.dtype == np.float32
    for ids, features in zip(token_ids, found, strict=True):
        with torch.no_grad():
            hidden = plain(input_ids=torch.tensor(ids[None])).last_hidden_state
        np.testing.assert_allclose(features, hidden[0].mean(0), atol=1e-5)


def test_text_features_do_not_depend_on_the_order_or_the_batch(
    text_backbone, token_ids
):
    found = encoder_of_texts(text_backbone, batch_tokens=90).encode(token_ids)
    order = [3, 0, 4, 2, 1]
    other = encoder_of_texts(text_backbone, batch_tokens=200)
    turned = other.encode([token_ids[row] for row in order])
    np.testing.assert_allclose(turned, found[order], atol=1e-4)


def test_image_features_do_not_depend_on_the_order_or_the_batch(image_backbone):
    thumbnails = photos()
    found = encoder_of_photos(image_backbone, batch_images=2).encode(thumbnails)
    order = [3, 0, 4, 5, 2, 1]
    other = encoder_of_photos(image_backbone, batch_images=5)
    turned = other.encode([thumbnails[row] for row in order])
    scale = np.abs(found).max()
    np.testing.assert_allclose(turned / scale, found[order] / scale, atol=1e-4)
    assert np.abs(found[0] - found[1]).max() > 1e-2 * scale


def test_nothing_to_encode_gives_no_rows(text_backbone, image_backbone):
    assert encoder_of_texts(text_backbone).encode([]).shape == (0, 32)
    assert encoder_of_photos(image_backbone).encode([]).shape == (0, IMAGE_DIM)


def test_fused_normalisation_equals_the_unfused_network(image_backbone):
    thumbnails = photos()
    with torch.no_grad():
        images = normalise_images(torch.from_numpy(np.stack(thumbnails)))
        unfused = image_backbone(images).mean((2, 3)).numpy()
    fused = encoder_of_photos(image_backbone).encode(thumbnails)
    scale = np.abs(unfused).max()
    np.testing.assert_allclose(fused / scale, unfused / scale, atol=1e-3)
    tower = ImageTower(deepcopy(image_backbone), size=32)
    assert "BatchNorm2d" not in {type(m).__name__ for m in tower.modules()}


def test_normalised_images_are_those_of_torchvision():
    pixels = np.stack(photos())
    expected = v2.Compose(
        [
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        ]
    )(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    found = normalise_images(torch.from_numpy(pixels))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_random_weights_depend_on_the_seed_alone():
    def first(seed):
        return next(load_image_backbone(None, seed=seed).parameters())

    before = torch.get_rng_state()
    assert torch.equal(first(3), first(3))
    assert not torch.equal(first(3), first(4))
    assert torch.equal(torch.get_rng_state(), before)


def test_dropout_can_be_set_for_training(tiny_encoder):
    backbone = load_text_backbone(tiny_encoder, dropout=0.25)
    rates = {m.p for m in backbone.modules() if isinstance(m, torch.nn.Dropout)}
    assert rates == {0.25}


@pytest.mark.skipif(not has_bf16(CPU), reason="this processor has no bf16 arithmetic")
def test_text_features_in_bf16_point_the_same_way():
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=1000,
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1536,
    )
    backbone = BertModel(config)
    rng = np.random.default_rng(0)
    token_ids = [rng.integers(1000, size=length) for length in (5, 40, 64, 17)]
    exact, fast = (
        encoder_of_texts(backbone, dtype=dtype).encode(token_ids)
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert cosines(exact, fast).min() >= 0.998


@pytest.mark.skipif(not has_bf16(CPU), reason="this processor has no bf16 arithmetic")
def test_image_features_in_bf16_point_the_same_way(image_backbone):
    thumbnails = photos()
    exact, fast = (
        encoder_of_photos(image_backbone, dtype=dtype).encode(thumbnails)
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert cosines(exact, fast).min() >= 0.998
