import dataclasses

import numpy as np
import pytest
import torch
from conftest import TINY_TRAINING, copy_run

from embed.encoders.towers import load_text_backbone
from embed.records import require_embedded
from finetune.batches import ProductCache
from finetune.network.arithmetic import choose_arithmetic
from finetune.network.layers import lower_layers, upper_layers
from finetune.network.saved import network_of_run
from finetune.out_of_fold import finetune
from finetune.training import frozen_layers
from finetune.training.frozen_layers import HIDDEN_NAME, skip_frozen_layers

CPU = torch.device("cpu")
EXACT = choose_arithmetic("fp32", CPU)


@pytest.fixture
def cache(embedded_run):
    return ProductCache(embedded_run / "embed", max_tokens=24, image_size=32)


def fresh_network(embedded_run, **settings):
    config = dataclasses.replace(TINY_TRAINING, **settings)
    return network_of_run(require_embedded(embedded_run), config).eval()


def skip(network, cache, folder, *, key="a", **settings):
    skip_frozen_layers(
        network,
        cache,
        config=dataclasses.replace(TINY_TRAINING, **settings),
        arithmetic=EXACT,
        stage_dir=folder,
        key=key,
    )


def fuse(network, batch, hidden):
    return network.fuse(
        batch.tokens, batch.mask, batch.photos, batch.image_rows, hidden=hidden
    )


def test_two_parts_of_an_encoder_say_what_the_whole_does(tiny_encoder):
    whole = load_text_backbone(tiny_encoder).eval()
    tokens, mask = torch.arange(2, 18).reshape(2, 8), torch.ones(2, 8, dtype=torch.long)
    mask[1, 5:] = 0
    with torch.no_grad():
        expected = whole(input_ids=tokens, attention_mask=mask).last_hidden_state
        low = lower_layers(whole, 1)(input_ids=tokens, attention_mask=mask)
        hidden = low.last_hidden_state
        found = upper_layers(whole, 1)(inputs_embeds=hidden, attention_mask=mask)
    assert not torch.allclose(hidden, expected, atol=0.01)
    torch.testing.assert_close(found.last_hidden_state[0], expected[0])
    torch.testing.assert_close(found.last_hidden_state[1, :5], expected[1, :5])


def test_the_parts_learn_with_the_whole(tiny_encoder):
    whole = load_text_backbone(tiny_encoder)
    upper = upper_layers(whole, 1)
    assert whole.encoder.layer[1] is upper.encoder.layer[0]
    assert len(whole.encoder.layer) == 2
    assert "word_embeddings.weight" in whole.embeddings.state_dict()


def test_a_network_above_its_frozen_layers_embeds_and_learns_the_same(
    embedded_run, cache, tmp_path
):
    network = fresh_network(embedded_run)
    names = list(network.state_dict())
    rows = np.arange(0, len(cache), 3)
    whole = cache.batch(rows)
    assert whole.hidden is None
    skip(network, cache, tmp_path)
    assert list(network.state_dict()) == names
    batch = cache.batch(rows)
    assert batch.hidden.shape == (*batch.tokens.shape, 32)
    found = {}
    for name, hidden in (("whole", None), ("above", batch.hidden)):
        network.zero_grad()
        fused = fuse(network, batch, hidden)
        fused.square().sum().backward()
        weight = network.text_backbone.encoder.layer[1].output.dense.weight
        found[name] = fused.detach(), weight.grad.clone()
    for one, other in zip(found["whole"], found["above"], strict=True):
        torch.testing.assert_close(one, other, rtol=5e-3, atol=5e-3)  # float16
    parts = [part.hidden for part in batch.split(4)]
    torch.testing.assert_close(torch.cat(parts), batch.hidden)


def test_hidden_states_are_kept_and_made_anew_where_they_do_not_fit(
    embedded_run, cache, tmp_path, monkeypatch, caplog
):
    network = fresh_network(embedded_run)
    written = []
    honest = frozen_layers.write_hidden_states
    monkeypatch.setattr(
        frozen_layers,
        "write_hidden_states",
        lambda *given: written.append(1) or honest(*given),
    )

    def again(key="a"):
        cache.hidden = None
        skip(network, cache, tmp_path, key=key)
        return len(written)

    assert again() == 1
    content = (tmp_path / HIDDEN_NAME).read_bytes()
    assert again() == 1
    assert again(key="b") == 2
    (tmp_path / HIDDEN_NAME).write_bytes(content[:-2] + b"\xff\x7f")
    assert again(key="b") == 3
    assert "computed again" in caplog.text
    assert (tmp_path / HIDDEN_NAME).read_bytes() == content


@pytest.mark.parametrize("settings", [{"freeze_layers": 0}, {"encoder_dropout": 0.1}])
def test_layers_that_may_change_are_not_skipped(
    embedded_run, cache, tmp_path, settings
):
    skip(fresh_network(embedded_run, **settings), cache, tmp_path, **settings)
    assert cache.hidden is None
    assert not list(tmp_path.iterdir())


def test_a_run_prices_alike_with_and_without_and_leaves_nothing(
    embedded_run, tmp_path, monkeypatch
):
    found = {}
    for name in ("above", "whole"):
        run_dir = copy_run(embedded_run, tmp_path / name)
        if name == "whole":
            monkeypatch.setattr(frozen_layers, "can_be_split", lambda _: False)
        finetune(run_dir, config=TINY_TRAINING)
        found[name] = np.load(run_dir / "finetune" / "oof_log_price.npy")
        assert not list((run_dir / "finetune").glob("hidden*"))
    assert found["whole"].std() > 0.01
    assert (found["above"] != found["whole"]).any()  # by rounding
    np.testing.assert_allclose(found["above"], found["whole"], atol=0.02)
