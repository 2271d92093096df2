from functools import partial

import pytest
import torch
from conftest import small_image_backbone

from embed.attributes import ATTRIBUTE_NAMES
from embed.encoders.towers import load_text_backbone
from finetune.batches import Batch
from finetune.network.arithmetic import Arithmetic
from finetune.network.losses import smape_loss, smooth_l1_loss
from finetune.network.model import PriceNetwork
from finetune.training.accumulate import accumulate_gradients, fuse_batch, price_batch

N = 11
FP32 = Arithmetic(device=torch.device("cpu"), autocast_dtype=None)
SMOOTH_L1 = partial(smooth_l1_loss, beta=0.5)


def build(tiny_encoder, *, encoder_dropout=0.0, freeze_batch_norm=True):
    torch.manual_seed(0)
    network = PriceNetwork(
        load_text_backbone(tiny_encoder, dropout=encoder_dropout),
        small_image_backbone(None),
        n_attributes=2 * len(ATTRIBUTE_NAMES),
        use_wide=True,
        freeze_batch_norm=freeze_batch_norm,
    )
    return network.train()


def draw_batch(image_rows=(0, 1, 3, 4, 7, 8, 10)):
    rng = torch.Generator().manual_seed(1)
    mask = (torch.arange(16) < torch.randint(5, 17, (N, 1), generator=rng)).long()
    rows = torch.tensor(image_rows, dtype=torch.long)
    size = (len(rows), 32, 32, 3)
    return Batch(
        tokens=torch.randint(4, 40, (N, 16), generator=rng) * mask,
        mask=mask,
        photos=torch.randint(0, 256, size, generator=rng, dtype=torch.uint8),
        image_rows=rows,
        attributes=torch.randn(N, len(ATTRIBUTE_NAMES), generator=rng),
        wide=torch.randn(N, generator=rng),
    )


TARGET = torch.linspace(-1, 4, N).exp().log1p()


def gradients(network, batch, *, micro_batch_size, criterion=SMOOTH_L1, seed=7):
    """Gradients by name, loss and predictions, by `accumulate_gradients`."""
    torch.manual_seed(seed)
    network.zero_grad()
    loss, predicted = accumulate_gradients(
        network,
        batch,
        TARGET,
        criterion=criterion,
        arithmetic=FP32,
        scaler=FP32.scaler(),
        micro_batch_size=micro_batch_size,
    )
    return named_gradients(network), loss, predicted


def gradients_in_one_graph(network, batch, *, micro_batch_size, seed=7):
    """Return the same, with the graph of all micro-batches in memory at once."""
    torch.manual_seed(seed)
    network.zero_grad()
    parts = [fuse_batch(network, part) for part in batch.split(micro_batch_size)]
    predicted = network.price(torch.cat(parts), batch.attributes, batch.wide)
    loss = SMOOTH_L1(predicted, TARGET)
    loss.backward()
    return named_gradients(network), float(loss.detach()), predicted.detach()


def named_gradients(network):
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for name, p in network.named_parameters()
    }


def assert_same(one, other, *, atol=1e-5):
    assert one[1] == pytest.approx(other[1], abs=1e-5)
    torch.testing.assert_close(one[2], other[2], atol=1e-5, rtol=1e-4)
    assert one[0].keys() == other[0].keys()
    for name, gradient in one[0].items():
        torch.testing.assert_close(
            gradient, other[0][name], atol=atol, rtol=1e-3, msg=lambda m, n=name: n + m
        )


@pytest.mark.parametrize("micro_batch_size", [1, 2, 3, 5, 10])
@pytest.mark.parametrize("criterion", [SMOOTH_L1, smape_loss])
def test_micro_batches_give_the_gradient_of_the_whole_batch(
    tiny_encoder, micro_batch_size, criterion
):
    network, batch = build(tiny_encoder), draw_batch()
    whole = gradients(network, batch, micro_batch_size=N, criterion=criterion)
    parts = gradients(
        network, batch, micro_batch_size=micro_batch_size, criterion=criterion
    )
    assert_same(parts, whole)
    assert sum(float(g.abs().sum()) for g in whole[0].values()) > 1


@pytest.mark.parametrize("micro_batch_size", [2, 3, 10])
def test_the_second_pass_repeats_the_dropout_of_the_first(
    tiny_encoder, micro_batch_size
):
    # Masks are drawn micro-batch by micro-batch, so the reference is the same parts
    # in one graph, and not the whole batch, whose masks are others.
    network, batch = build(tiny_encoder, encoder_dropout=0.3), draw_batch()
    assert_same(
        gradients(network, batch, micro_batch_size=micro_batch_size),
        gradients_in_one_graph(network, batch, micro_batch_size=micro_batch_size),
    )


def test_the_generator_goes_on_as_if_nothing_had_been_done_twice(tiny_encoder):
    network, batch = build(tiny_encoder, encoder_dropout=0.3), draw_batch()
    gradients(network, batch, micro_batch_size=3)
    after = torch.get_rng_state()
    gradients_in_one_graph(network, batch, micro_batch_size=3)
    assert torch.equal(torch.get_rng_state(), after)


def test_one_update_by_micro_batches_is_that_of_the_whole_batch(tiny_encoder):
    batch, after = draw_batch(), {}
    for micro_batch_size in (N, 4):
        network = build(tiny_encoder)
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
        found = gradients(network, batch, micro_batch_size=micro_batch_size)
        optimizer.step()
        after[micro_batch_size] = network, found[0]
    whole, gradient = after[N]
    for name, tensor in after[4][0].named_parameters():
        # AdamW's first step is the gradient's sign, which rounding decides where the
        # gradient is 0: biases before a normalisation.
        told = gradient[name].abs() > 1e-5
        expected = dict(whole.named_parameters())[name]
        torch.testing.assert_close(tensor[told], expected[told], atol=2e-5, rtol=0)
    with torch.no_grad():
        prices = [
            price_batch(n.eval(), batch, fuse_batch(n, batch))
            for n, _ in after.values()
        ]
    torch.testing.assert_close(*prices, atol=2e-3, rtol=0)


def test_the_head_counts_a_batch_once(tiny_encoder):
    statistics = []
    for micro_batch_size in (N, 3):
        network = build(tiny_encoder)
        gradients(network, draw_batch(), micro_batch_size=micro_batch_size)
        statistics.append(network.head[1].running_mean.clone())
        assert int(network.head[1].num_batches_tracked) == 1
    torch.testing.assert_close(*statistics)


def test_without_frozen_statistics_the_photo_tower_normalises_by_micro_batch(
    tiny_encoder,
):
    # The one difference from the whole batch: each micro-batch has its own statistics,
    # as it has wherever a batch is accumulated.
    network, batch = build(tiny_encoder, freeze_batch_norm=False), draw_batch()
    parts = gradients(network, batch, micro_batch_size=4)
    assert_same(parts, gradients_in_one_graph(network, batch, micro_batch_size=4))
    whole = gradients(network, batch, micro_batch_size=N)
    assert (parts[2] - whole[2]).abs().max() > 1e-3


def test_without_photos_nothing_differs_from_the_whole_batch(tiny_encoder):
    network = build(tiny_encoder, freeze_batch_norm=False)
    batch = draw_batch(image_rows=())
    whole = gradients(network, batch, micro_batch_size=N)
    assert_same(gradients(network, batch, micro_batch_size=4), whole)


def test_the_second_pass_leaves_running_statistics_and_their_momentum(tiny_encoder):
    batch = draw_batch()
    network = build(tiny_encoder, freeze_batch_norm=False)
    gradients(network, batch, micro_batch_size=4)
    once = build(tiny_encoder, freeze_batch_norm=False)
    gradients_in_one_graph(once, batch, micro_batch_size=4)
    norm, expected = network.image_backbone[1], once.image_backbone[1]
    torch.testing.assert_close(norm.running_mean, expected.running_mean)
    torch.testing.assert_close(norm.running_var, expected.running_var)
    assert norm.momentum == expected.momentum == 0.1


def test_gradients_add_up_over_calls_until_they_are_cleared(tiny_encoder):
    network, batch = build(tiny_encoder), draw_batch()
    once = gradients(network, batch, micro_batch_size=4)[0]
    network.head.eval()
    once = gradients(network, batch, micro_batch_size=4)[0]
    accumulate_gradients(
        network,
        batch,
        TARGET,
        criterion=SMOOTH_L1,
        arithmetic=FP32,
        scaler=FP32.scaler(),
        micro_batch_size=4,
    )
    for name, gradient in named_gradients(network).items():
        torch.testing.assert_close(gradient, 2 * once[name], atol=1e-5, rtol=1e-3)
