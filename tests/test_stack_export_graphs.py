import numpy as np
import onnxruntime
import pytest
import torch
from conftest import set_wide
from torch import nn

from embed.encoders.towers import (
    IMAGE_DIM,
    ImageTower,
    TextTower,
    load_image_backbone,
    load_text_backbone,
    pad_tokens,
)
from finetune.network.model import FUSED_DIM, PriceNetwork
from stack.export.graphs import write_head, write_image_tower, write_text_tower
from stack.export.target import whole_folder
from stack.trees.alignment import align


def run(path, **inputs):
    return onnxruntime.InferenceSession(path).run(None, inputs)


@pytest.fixture(scope="module")
def rng():
    return np.random.default_rng(0)


def test_a_text_graph_takes_any_number_of_texts_of_any_length(
    tiny_encoder, tmp_path, rng
):
    tower = TextTower(load_text_backbone(tiny_encoder))
    write_text_tower(tower.backbone, tmp_path / "text.onnx")
    for lengths in ([1], [5, 30], [512], [3, 3, 17]):
        ids = [rng.integers(4, 40, size=length) for length in lengths]
        tokens, mask = pad_tokens(ids)
        with torch.no_grad():
            expected = tower(tokens, mask).numpy()
        (found,) = run(tmp_path / "text.onnx", tokens=tokens.numpy(), mask=mask.numpy())
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_an_image_graph_gives_efficientnet_s_features_for_any_number_of_photos(
    tmp_path, rng
):
    write_image_tower(load_image_backbone(None), tmp_path / "image.onnx", size=40)
    tower = ImageTower(load_image_backbone(None), size=40)
    for n_photos in (1, 3):
        pixels = rng.integers(0, 256, size=(n_photos, 40, 40, 3), dtype=np.uint8)
        with torch.no_grad():
            expected = tower(torch.from_numpy(pixels)).numpy()
        (found,) = run(tmp_path / "image.onnx", pixels=pixels)
        np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("n_attributes", "use_wide"), [(0, False), (0, True), (15, True)]
)
def test_a_head_graph_prices_and_aligns_with_and_without_photo(
    tmp_path, rng, n_attributes, use_wide
):
    backbone = nn.Module()
    backbone.config = type("Config", (), {"hidden_size": 32})
    network = PriceNetwork(
        backbone, None, n_attributes=2 * n_attributes, use_wide=use_wide
    )
    if use_wide:
        set_wide(network.wide)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    network.price_scale.fill_(2.0)
    network.eval()
    alignment = rng.normal(size=(FUSED_DIM + 1, FUSED_DIM))
    write_head(network, alignment, tmp_path / "head.onnx", n_attributes=15)
    text = rng.normal(size=(4, 32)).astype(np.float32)
    image = rng.normal(size=(4, IMAGE_DIM)).astype(np.float32)
    attributes = rng.normal(size=(4, 15)).astype(np.float32)
    attributes[1, 0] = np.nan
    has_photo = np.array([True, False, False, True])
    tokens = torch.from_numpy(rng.integers(4, 40, size=(4, 13)))
    mask = (torch.arange(13) < torch.tensor([13, 2, 7, 1])[:, None]).long()
    with torch.no_grad():
        fused = network.combine(
            torch.from_numpy(text),
            torch.from_numpy(image[has_photo]),
            torch.from_numpy(np.flatnonzero(has_photo)),
        )
        known = torch.from_numpy(attributes)
        wide = network.price_wide(tokens, mask, known)
        log_price = network.price(fused, known, wide).numpy()
    given = {"text": text, "image": image, "has_photo": has_photo}
    if n_attributes:
        given["attributes"] = attributes
    if use_wide:
        given |= {"tokens": tokens.numpy(), "mask": mask.numpy()}
    found_price, found_fused = run(tmp_path / "head.onnx", **given)
    np.testing.assert_allclose(found_price, log_price, atol=1e-5)
    expected = align(fused.numpy(), has_photo, alignment)
    np.testing.assert_allclose(found_fused, expected, atol=1e-4)
    assert not found_fused[1, FUSED_DIM // 2 :].any()


def test_an_export_that_was_moved_away_by_a_killed_one_is_put_back(tmp_path):
    (tmp_path / ".model.former").mkdir()
    (tmp_path / ".model.former" / "predict.py").write_text("earlier")
    (tmp_path / ".model.part").mkdir()

    def stop():
        with whole_folder(tmp_path / "model"):
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        stop()
    assert (tmp_path / "model" / "predict.py").read_text() == "earlier"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
