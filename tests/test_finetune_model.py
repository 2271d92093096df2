import numpy as np
import pytest
import torch
from conftest import small_image_backbone
from torch import nn

from embed.encoders.towers import load_text_backbone
from embed.errors import ConfigError
from finetune.config import RECIPES
from finetune.network.build import build_network, freeze_text_layers
from finetune.network.model import FUSED_DIM, PriceNetwork
from finetune.network.parts import TOWER_DIM

N_ATTRIBUTES = 3
NO_PHOTO = torch.zeros((0, 32, 32, 3), dtype=torch.uint8)
NO_ROWS = torch.zeros(0, dtype=torch.long)


@pytest.fixture
def network(tiny_encoder):
    torch.manual_seed(0)
    return PriceNetwork(
        load_text_backbone(tiny_encoder),
        small_image_backbone(None),
        n_attributes=2 * N_ATTRIBUTES,
    ).eval()


def inputs(n=6, seed=0):
    rng = torch.Generator().manual_seed(seed)
    tokens = torch.randint(4, 40, (n, 16), generator=rng)
    pixels = torch.randint(0, 256, (n, 32, 32, 3), generator=rng, dtype=torch.uint8)
    return tokens, torch.ones_like(tokens), pixels


def fuse(network, *, text_seed=0, photo_seed=0, image_rows=(0, 1, 2, 3, 4, 5)):
    tokens, mask, _ = inputs(seed=text_seed)
    rows = torch.tensor(image_rows, dtype=torch.long)
    return network.fuse(tokens, mask, inputs(seed=photo_seed)[2][rows], rows).detach()


def test_the_fused_embedding_is_the_text_half_then_the_photo_half(network):
    fused = fuse(network)
    other_text, other_photo = fuse(network, text_seed=1), fuse(network, photo_seed=1)
    assert fused.shape == (6, FUSED_DIM) == (6, 256 + 256)
    assert (fused != other_text)[:, :TOWER_DIM].any(1).all()
    assert torch.equal(fused[:, TOWER_DIM:], other_text[:, TOWER_DIM:])
    assert (fused != other_photo)[:, TOWER_DIM:].any(1).all()
    torch.testing.assert_close(fused[:, :TOWER_DIM], other_photo[:, :TOWER_DIM])


def test_padding_does_not_reach_the_text_half(network):
    tokens, mask, _ = inputs()
    mask[:, 10:] = 0
    other = tokens.clone()
    other[:, 10:] = 7
    one = network.fuse(tokens, mask, NO_PHOTO, NO_ROWS)
    torch.testing.assert_close(one, network.fuse(other, mask, NO_PHOTO, NO_ROWS))


def test_only_products_with_a_photo_enter_the_image_tower(network):
    entered = []
    network.image_backbone.register_forward_pre_hook(
        lambda _, args: entered.append(len(args[0]))
    )
    fuse(network, image_rows=(1, 4))
    fuse(network, image_rows=())
    assert entered == [2]


def test_products_without_a_photo_get_the_learned_vector(network):
    learned = torch.linspace(-1, 1, TOWER_DIM)
    network.missing_image.data.copy_(learned)
    fused = fuse(network, image_rows=(1, 4))
    for row in (0, 2, 3, 5):
        assert torch.equal(fused[row, TOWER_DIM:], learned)
    for row in (1, 4):
        assert not torch.equal(fused[row, TOWER_DIM:], learned)
    other = fuse(network, image_rows=(1, 4), photo_seed=9)
    assert torch.equal(fused[[0, 2, 3, 5]], other[[0, 2, 3, 5]])


def test_the_learned_vector_is_learned_from_products_without_a_photo(network):
    tokens, mask, _ = inputs()
    network.fuse(tokens, mask, NO_PHOTO, NO_ROWS).sum().backward()
    assert network.missing_image.grad.abs().min() > 0


def layers(head, kind):
    return [layer for layer in head if isinstance(layer, kind)]


def widths(network):
    return [
        (layer.in_features, layer.out_features)
        for layer in layers(network.head, nn.Linear)
    ]


def test_the_head_of_the_paper_is_512_256_64_1(tiny_encoder):
    config = RECIPES["paper"]
    network = build_network(
        tiny_encoder,
        None,
        n_attributes=0,
        head_dropout=config.head_dropout,
        encoder_dropout=config.encoder_dropout,
        freeze_batch_norm=config.freeze_batch_norm,
        seed=0,
    )
    assert widths(network) == [(512, 256), (256, 64), (64, 1)]
    assert [n.num_features for n in layers(network.head, nn.BatchNorm1d)] == [256, 64]
    assert [d.p for d in layers(network.head, nn.Dropout)] == [0.25, 0.25]
    assert len(layers(network.head, nn.GELU)) == 2
    assert network.text_projection.out_features == 256
    assert network.image_projection.in_features == 1280


def test_attributes_join_the_head_after_the_512(network):
    assert widths(network)[0] == (FUSED_DIM + 2 * N_ATTRIBUTES, 256)
    seen = []
    network.head.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    fused = fuse(network)
    attributes = torch.tensor([[0.5, -1.0, float("nan")]]).repeat(6, 1)
    network.price(fused, attributes)
    assert torch.equal(seen[0][:, :FUSED_DIM], fused)
    assert seen[0][0, FUSED_DIM:].tolist() == [0.5, -1.0, 0.0, 1.0, 1.0, 0.0]


def test_an_untrained_network_predicts_near_the_median(network):
    rng = np.random.default_rng(0)
    log_price = rng.normal(7.0, 0.3, 500)
    network.fit_scales(log_price, rng.normal(size=(500, N_ATTRIBUTES)))
    predicted = network.price(fuse(network), torch.zeros(6, N_ATTRIBUTES))
    assert predicted.shape == (6,)
    assert (predicted - np.median(log_price)).abs().max() < 0.3


def test_one_price_for_all_products_keeps_the_scale_above_zero(network):
    network.fit_scales(np.full(9, 2.0), np.ones((9, N_ATTRIBUTES)))
    predicted = network.price(fuse(network), torch.ones(6, N_ATTRIBUTES))
    torch.testing.assert_close(predicted, torch.full((6,), 2.0), atol=0.01, rtol=0)


def test_unknown_attributes_give_finite_prices_and_gradients(network):
    known = np.random.default_rng(0).normal(50, 9, (40, N_ATTRIBUTES))
    known[:, 1] = np.nan  # never known in training
    known[::2, 0] = np.nan
    network.train().fit_scales(np.linspace(1, 3, 40), known)
    attributes = torch.tensor(known[:6], dtype=torch.float32)
    attributes[3] = float("nan")
    attributes[4] = 1e30
    predicted = network.price(fuse(network), attributes)
    predicted.sum().backward()
    assert predicted.isfinite().all()
    assert all(p.grad.isfinite().all() for p in network.head.parameters())


def test_attributes_are_standardised_by_the_training_rows(network):
    known = np.random.default_rng(0).normal(50, 9, (400, N_ATTRIBUTES))
    network.fit_scales(np.linspace(1, 3, 400), known)
    np.testing.assert_allclose(network.attribute_mean, known.mean(0), rtol=1e-5)
    np.testing.assert_allclose(network.attribute_scale, known.std(0), rtol=1e-5)


def test_each_parameter_has_the_learning_rate_of_its_part(network):
    groups = network.parameter_groups(text=1.0, image=2.0, fusion=3.0, weight_decay=0.1)
    rate = {id(p): group["lr"] for group in groups for p in group["params"]}
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(rate)
    expected = {"text_backbone": 1.0, "image_backbone": 2.0}
    for name, parameter in network.named_parameters():
        assert rate.pop(id(parameter)) == expected.get(name.split(".")[0], 3.0), name
        assert decay[id(parameter)] == (0.1 if parameter.ndim > 1 else 0.0), name
    assert not rate


@pytest.mark.parametrize("frozen", [True, False])
def test_freeze_batch_norm_keeps_the_running_statistics(network, frozen):
    network.freeze_batch_norm = frozen
    network.train()
    norm, head_norm = network.image_backbone[1], network.head[1]
    before = norm.running_mean.clone(), head_norm.running_mean.clone()
    network.price(fuse(network), torch.zeros(6, N_ATTRIBUTES))
    assert torch.equal(norm.running_mean, before[0]) == frozen
    assert not torch.equal(head_norm.running_mean, before[1])
    assert norm.weight.requires_grad


def test_the_seed_decides_the_new_weights_and_leaves_the_generator_alone(tiny_encoder):
    def build(seed):
        return build_network(
            tiny_encoder,
            None,
            n_attributes=1,
            head_dropout=0.0,
            encoder_dropout=0.0,
            freeze_batch_norm=True,
            seed=seed,
        )

    state = torch.get_rng_state()
    one, again, other = build(1), build(1), build(2)
    assert torch.equal(torch.get_rng_state(), state)
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    assert not torch.equal(one.head[0].weight, other.head[0].weight)


def test_frozen_layers_and_the_embedding_below_them_are_not_trained(tiny_encoder):
    backbone = load_text_backbone(tiny_encoder)
    freeze_text_layers(backbone, 1)
    trained = {n for n, p in backbone.named_parameters() if p.requires_grad}
    assert {n.split(".")[2] for n in trained if n.startswith("encoder")} == {"1"}
    assert not any(n.startswith("embeddings") for n in trained)
    network = PriceNetwork(backbone, small_image_backbone(None))
    groups = network.parameter_groups(text=1, image=1, fusion=1, weight_decay=0)
    text_parameters = sum(len(g["params"]) for g in groups[:2])
    assert text_parameters == len(trained)


def test_no_layer_is_frozen_unless_asked_and_no_more_than_there_are(tiny_encoder):
    backbone = load_text_backbone(tiny_encoder)
    freeze_text_layers(backbone, 0)
    assert all(p.requires_grad for p in backbone.parameters())
    with pytest.raises(ConfigError, match=r"--freeze-layers must be 0 to 2, .*got 3"):
        freeze_text_layers(backbone, 3)


def test_without_an_image_backbone_frozen_features_stand_in_for_photos(tiny_encoder):
    network = PriceNetwork(load_text_backbone(tiny_encoder), None).eval()
    tokens, mask, _ = inputs()
    rng = torch.Generator().manual_seed(0)
    features = torch.rand((2, 1280), generator=rng)
    rows = torch.tensor([1, 4])
    fused = network.fuse(tokens, mask, features, rows)
    projected = network.project_image(features)
    torch.testing.assert_close(fused[rows, TOWER_DIM:], projected)
    assert network.train().training  # it has no batch statistics to keep


def test_the_head_learns_a_vector_of_each_category(tiny_encoder):
    torch.manual_seed(0)
    network = PriceNetwork(
        load_text_backbone(tiny_encoder),
        None,
        n_attributes=2 * 1,
        category_sizes=(4, 3),
        head_dropout=0.0,
    )
    # one value, then two codes; the last product has a code that no other has
    attributes = torch.tensor(
        [[0.5, 2, 1], [0.5, 3, 1], [torch.nan, torch.nan, 2], [0.5, 1, 2]]
    )
    fused = torch.zeros(4, FUSED_DIM)
    network.train()
    network.price(fused[:3], attributes[:3]).square().sum().backward()
    first, second = (vectors.weight.grad for vectors in network.category_vectors)
    assert (first.abs().sum(1) > 0).tolist() == [True, False, True, True]
    assert (second.abs().sum(1) > 0).tolist() == [False, True, True]

    network.eval()
    before = network.price(fused, attributes)
    network.category_vectors[0].weight.data[3] += 1
    after = network.price(fused, attributes)
    assert (before != after).tolist() == [False, True, False, False]
    groups = network.parameter_groups(text=1, image=1, fusion=1, weight_decay=0)
    trained = {id(p) for group in groups for p in group["params"]}
    assert {id(v.weight) for v in network.category_vectors} <= trained
