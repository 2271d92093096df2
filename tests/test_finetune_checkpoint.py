import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from embed.errors import CacheError
from finetune.records import HISTORY_COLUMNS, HistoryRow
from finetune.training.checkpoint import TrainingState, remove_checkpoint

NAME = "checkpoint.safetensors"


def toy(*, seed, width=3, in_fp16=False, channels_last=False):
    """A small network some updates into its training."""
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(2, width, 3), nn.BatchNorm2d(width), nn.Flatten(), nn.LazyLinear(1)
    )
    photos = torch.randn(8, 2, 5, 5)
    network(photos)
    if channels_last:
        network = network.to(memory_format=torch.channels_last)
    state = TrainingState(
        network=network,
        optimizer=torch.optim.AdamW(
            [
                {"params": network[0].parameters(), "initial_lr": 0.1},
                {"params": network[3].parameters(), "weight_decay": 0.0},
            ],
            fused=True,
        ),
        scaler=torch.amp.GradScaler("cpu", enabled=in_fp16),
        average={k: v.detach().clone() for k, v in network.state_dict().items()},
    )
    return state, photos


def update(state, photos, *, epochs=1):
    for _ in range(epochs):
        loss = state.network(photos).square().mean()
        state.scaler.scale(loss).backward()
        state.scaler.step(state.optimizer)
        state.scaler.update()
        state.optimizer.zero_grad()
        state.update_average(decay=0.9, updates_done=state.epochs_done)
        state.epochs_done += 1
        state.history.append(HistoryRow(**dict.fromkeys(HISTORY_COLUMNS, 1 / 3)))


def contents(state, folder):
    folder.mkdir(exist_ok=True)
    state.save(folder)
    return (folder / NAME).read_bytes()


@pytest.fixture
def saved(tmp_path):
    state, photos = toy(seed=0)
    update(state, photos, epochs=3)
    state.save(tmp_path)
    return tmp_path


@pytest.mark.parametrize("in_fp16", [False, True])
@pytest.mark.parametrize("channels_last", [False, True])
def test_training_that_goes_on_is_training_that_never_stopped(
    tmp_path, in_fp16, channels_last
):
    options = {"in_fp16": in_fp16, "channels_last": channels_last}
    whole, photos = toy(seed=0, **options)
    update(whole, photos, epochs=3)
    whole.save(tmp_path)
    resumed, _ = toy(seed=1, **options)
    resumed.resume(tmp_path)
    for state in (whole, resumed):
        update(state, photos, epochs=2)
    assert contents(whole, tmp_path / "a") == contents(resumed, tmp_path / "b")
    assert resumed.epochs_done == len(resumed.history) == 5
    for group, other in zip(
        whole.optimizer.param_groups, resumed.optimizer.param_groups, strict=True
    ):
        for one, two in zip(group["params"], other["params"], strict=True):
            was, found = whole.optimizer.state[one], resumed.optimizer.state[two]
            assert was.keys() == found.keys() == {"step", "exp_avg", "exp_avg_sq"}
            assert found["exp_avg"].stride() == was["exp_avg"].stride()
            assert float(found["step"]) == 5


def test_the_scale_of_fp16_gradients_survives(tmp_path):
    state, photos = toy(seed=0, in_fp16=True)
    update(state, photos)
    state.scaler.update(512.0)
    state.save(tmp_path)
    other, _ = toy(seed=1, in_fp16=True)
    other.resume(tmp_path)
    assert other.scaler.get_scale() == 512.0


def test_the_settings_of_the_optimizer_are_its_own_not_the_files(saved):
    state, _ = toy(seed=1)
    state.optimizer.param_groups[0]["lr"] = 0.5
    state.resume(saved)
    assert state.optimizer.param_groups[0]["lr"] == 0.5
    assert state.optimizer.param_groups[0]["initial_lr"] == 0.1


def test_without_a_checkpoint_nothing_changes(tmp_path):
    state, _ = toy(seed=0)
    state.resume(tmp_path)
    assert (state.epochs_done, state.history) == (0, [])
    remove_checkpoint(tmp_path)


def test_a_checkpoint_cut_off_anywhere_is_refused(saved):
    whole = (saved / NAME).read_bytes()
    for share in range(12):
        (saved / NAME).write_bytes(whole[: len(whole) * share // 12])
        state, _ = toy(seed=1)
        with pytest.raises(CacheError, match=r"checkpoint\.safetensors: .*Delete it"):
            state.resume(saved)
        assert (state.epochs_done, state.history) == (0, [])


def test_a_checkpoint_of_another_network_is_refused(saved):
    other, _ = toy(seed=0, width=4)
    with pytest.raises(CacheError, match=r"0\.weight is torch\.float32\[3, 2, 3, 3\]"):
        other.resume(saved)


def rewrite(folder, *, drop=(), put=None, **record):
    """Change a checkpoint as someone who knows its format would."""
    tensors = load_file(folder / NAME)
    with safe_open(folder / NAME, framework="pt") as file:
        old = json.loads(file.metadata()["training"])
    tensors = {k: v for k, v in tensors.items() if k not in drop} | (put or {})
    text = json.dumps({k: v for k, v in (old | record).items() if v is not None})
    save_file(tensors, folder / NAME, metadata={"training": text})


ROW = dict.fromkeys(HISTORY_COLUMNS, 1)
# Of a checkpoint from before these columns were recorded.
OLD_COLUMNS = [
    "epoch",
    "phase",
    "loss",
    "train_smape",
    "learning_rate_factor",
    "seconds",
]
OLD_ROW = dict.fromkeys(OLD_COLUMNS, 1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"drop": ["network/0.weight"]}, "tensor 0.weight is not in both"),
        ({"drop": ["average/3.bias"]}, "tensor 3.bias is not in both"),
        ({"put": {"network/more": torch.zeros(1)}}, "tensor more is not in both"),
        (
            {"put": {"average/3.bias": torch.zeros(7)}},
            r"3\.bias is torch\.float32\[7\], the network's torch\.float32\[1\]",
        ),
        ({"put": {"optimizer/9/step": torch.zeros(())}}, "list index out of range"),
        ({"put": {"optimizer/-1/step": torch.zeros(())}}, "optimizer/-1 is not the"),
        ({"put": {"optimizer/x/step": torch.zeros(())}}, "optimizer/x is not the"),
        ({"put": {"optimizer/0/exp_avg": torch.zeros(2)}}, r"0/exp_avg is .*\[2\]"),
        ({"put": {"optimizer/0/step": torch.zeros(2)}}, r"0/step is .*\[2\]"),
        ({"epochs_done": None}, "epochs_done is missing"),
        ({"epochs_done": "3"}, "epochs_done must be a whole number"),
        ({"epochs_done": -3}, "epochs_done must be a whole number"),
        ({"epochs_done": 4}, "epochs_done and the rows of its history differ"),
        ({"history": [1, 2, 3]}, r"history\[0\] must be an object"),
        ({"history": [ROW, ROW, {}]}, r"history\[2\]\.epoch is missing"),
        ({"history": [OLD_ROW] * 3}, r"history\[0\]\.held_out_smape is missing"),
        ({"history": [{**ROW, "loss": None}] * 3}, r"history\[0\]\.loss must be a"),
        ({"scaler": {"scale": "x"}}, r"scaler\.scale must be a finite number"),
        ({"scaler": []}, "scaler must be an object"),
    ],
)
def test_a_checkpoint_that_was_changed_is_refused(saved, change, reason):
    rewrite(saved, **change)
    state, _ = toy(seed=1)
    with pytest.raises(CacheError, match=rf"not a checkpoint of this .*{reason}"):
        state.resume(saved)


def test_values_that_are_not_known_survive(saved):
    row = {**ROW, "held_out_smape": None, "gradient_norm": None}
    rewrite(saved, history=[row] * 3)
    state, _ = toy(seed=1)
    state.resume(saved)
    assert state.history == [HistoryRow(**row)] * 3


def test_a_checkpoint_of_fp32_is_not_taken_up_in_fp16(saved):
    state, _ = toy(seed=1, in_fp16=True)
    with pytest.raises(CacheError, match="source state dict is empty"):
        state.resume(saved)


def test_more_columns_of_history_are_left_out(saved):
    rewrite(saved, history=[{**ROW, "more": 2}] * 3)
    state, _ = toy(seed=1)
    state.resume(saved)
    assert state.history == [HistoryRow(**ROW)] * 3
