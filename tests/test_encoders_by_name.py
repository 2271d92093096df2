"""Encoders of many kinds, and runs without one: described, split, trained, exported."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
import transformers
from click.testing import CliRunner
from conftest import TINY_STACK, TINY_TRAINING, choose
from safetensors.torch import load_file, save_file
from tiny_encoders import (
    TEXT_KINDS,
    VISION_KINDS,
    write_text_encoder,
    write_vision_encoder,
)
from torchvision.models import get_model

from embed.catalog.reader import CatalogColumns, read_catalog
from embed.config import EmbedConfig
from embed.encoders.describe_text import describe_text_encoder
from embed.encoders.embedder import Embedder, resolve_encoders
from embed.encoders.pooling import pool_tokens
from embed.encoders.towers import (
    ImageTower,
    TextTower,
    load_image_backbone,
    load_text_backbone,
    normalise_images,
    pad_tokens,
)
from embed.encoders.vision import describe_image_encoder
from embed.encoders.weights import (
    WeightsError,
    find_image_weights,
    find_text_weights,
    split_image_name,
    weights_of_run,
)
from embed.errors import ConfigError, InputError
from embed.extract import extract
from embed.records import require_embedded
from embed.store.arrays import RaggedRows, read_rows
from finetune.network.build import freeze_text_layers, n_frozen_layers
from finetune.network.layers import can_be_split, lower_layers, upper_layers
from finetune.out_of_fold import finetune
from stack.audit.checks import audit_run
from stack.cli import main
from stack.explain.explanation import explain_product
from stack.export import graphs
from stack.export.export import export_run
from stack.export.graphs import write_image_tower, write_text_tower
from stack.fit import fit_stack
from stack.price.catalog import predict_prices
from stack.price.onnx_model import Model
from stack.price.predictor import Predictor

pytestmark = pytest.mark.slow
IDS = [np.arange(4, 20), np.arange(5, 12)]
SPLIT_KINDS = [kind for kind in TEXT_KINDS if kind != "electra"]
BLOCKS = ("fused", "attributes", "network", "start", "kernel", "lexical", "lightgbm")


# Text encoders.


@pytest.fixture(params=TEXT_KINDS)
def kind(request):
    return request.param


def test_text_features_are_the_mean_of_transformers_own(kind, tmp_path):
    folder = write_text_encoder(tmp_path / kind, kind)
    spec = describe_text_encoder(folder)
    assert (spec.model_type, spec.dim, spec.n_layers) == (kind, 32, 3)
    assert (spec.pooling, spec.prefix) == (["mean"], "")
    assert spec.pad_id == (
        1 if "<pad>" in (folder / "tokenizer.json").read_text() else 0
    )
    backbone = load_text_backbone(folder, dropout=0.0)
    with torch.no_grad():
        found = TextTower(backbone)(*pad_tokens(IDS, spec.pad_id))
        for ids, features in zip(IDS, found, strict=True):
            alone = transformers.AutoModel.from_pretrained(folder).eval()
            hidden = alone(input_ids=torch.tensor(ids[None])).last_hidden_state
            torch.testing.assert_close(features, hidden[0].mean(0), atol=1e-5, rtol=0)
    dropouts = {m.p for m in backbone.modules() if isinstance(m, torch.nn.Dropout)}
    assert dropouts <= {0.0}


@pytest.mark.parametrize("kind", SPLIT_KINDS)
@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_an_encoder_in_two_parts_is_the_whole_and_its_lower_part_is_frozen(
    kind, n_layers, tmp_path
):
    folder = write_text_encoder(tmp_path / kind, kind)
    backbone = load_text_backbone(folder, dropout=0.0)
    assert can_be_split(backbone)
    assert n_frozen_layers(backbone, None) == 2
    freeze_text_layers(backbone, n_layers)
    tokens, mask = pad_tokens(IDS, describe_text_encoder(folder).pad_id)
    whole = backbone(input_ids=tokens, attention_mask=mask).last_hidden_state
    low = lower_layers(backbone, n_layers)(input_ids=tokens, attention_mask=mask)
    hidden = low.last_hidden_state
    assert not hidden.requires_grad  # nothing that it depends on is trained
    upper = upper_layers(backbone, n_layers)
    found = upper(inputs_embeds=hidden, attention_mask=mask).last_hidden_state
    torch.testing.assert_close(found[mask.bool()], whole[mask.bool()])


def test_an_encoder_of_a_kind_that_is_not_known_is_not_split(tmp_path):
    folder = write_text_encoder(tmp_path / "electra", "electra")
    assert not can_be_split(load_text_backbone(folder))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cls", lambda h: h[0]),
        ("max", lambda h: h.amax(0)),
        ("mean", lambda h: h.mean(0)),
        ("mean_sqrt_len_tokens", lambda h: h.sum(0) / len(h) ** 0.5),
        ("lasttoken", lambda h: h[-1]),
        (
            "weightedmean",
            lambda h: (
                (h * torch.arange(1.0, len(h) + 1)[:, None]).sum(0)
                / (len(h) * (len(h) + 1) / 2)
            ),
        ),
    ],
)
def test_a_pooling_is_what_its_name_says_and_ignores_padding(name, expected):
    hidden = torch.randn(2, 8, 3, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(2, 8, dtype=torch.long)
    mask[0, 5:] = 0
    pooled = pool_tokens(hidden, mask, [name, "mean"])
    assert pooled.shape == (2, 6)
    torch.testing.assert_close(pooled[0, :3], expected(hidden[0, :5]))
    torch.testing.assert_close(pooled[1, :3], expected(hidden[1]))


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ("pooling_mode_cls_token", ["cls"]),
        ("pooling_mode_mean_tokens", ["mean"]),
        ("pooling_mode_max_tokens", ["max"]),
    ],
)
def test_pooling_and_prompt_are_those_that_the_encoder_records(
    pooling, expected, tmp_path
):
    prompts = {"query": "query: ", "document": "passage: "}
    folder = write_text_encoder(
        tmp_path / "e", "bert", pooling=pooling, prompts=prompts
    )
    spec = describe_text_encoder(folder)
    assert (spec.pooling, spec.prefix) == (expected, "passage: ")
    assert describe_text_encoder(folder, prefix="").prefix == ""
    path = folder / "1_Pooling" / "config.json"
    path.write_text(json.dumps({"pooling_mode": ["cls", "mean"]}))
    spec = describe_text_encoder(folder)
    assert (spec.pooling, spec.dim) == (["cls", "mean"], 64)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("1_Pooling/config.json", '{"pooling_mode": "magic"}', "found 'magic'"),
        ("1_Pooling/config.json", "[]", "not readable as JSON"),
        ("1_Pooling/config.json", '{"include_prompt": false}', "--text-prefix ''"),
        ("modules.json", '[{"type": "st.LSTM"}]', "the module LSTM is not supported"),
        ("modules.json", "[3]", "the module None is not supported"),
        ("config_sentence_transformers.json", "3", "not readable as JSON"),
    ],
)
def test_a_record_of_pooling_or_prompts_that_cannot_be_used_is_refused(
    name, content, message, tmp_path
):
    folder = write_text_encoder(
        tmp_path / "e",
        "bert",
        pooling="pooling_mode_cls_token",
        prompts={"passage": "passage: "},
    )
    (folder / name).write_text(content)
    with pytest.raises(WeightsError, match=message) as caught:
        describe_text_encoder(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    if "prefix" in message:
        assert describe_text_encoder(folder, prefix="").prefix == ""


def test_a_tokenizer_that_adds_no_special_tokens_is_refused(tmp_path):
    folder = write_text_encoder(tmp_path / "e", "bert")
    path = folder / "tokenizer.json"
    record = {**json.loads(path.read_text()), "post_processor": None}
    path.write_text(json.dumps(record))
    with pytest.raises(WeightsError, match="adds 0 special tokens to a text"):
        describe_text_encoder(folder)


def test_a_model_without_token_vectors_is_refused_in_one_line(tmp_path):
    folder = write_text_encoder(tmp_path / "e", "bert")
    config = transformers.T5Config(
        vocab_size=93, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2
    )
    transformers.T5Model(config).save_pretrained(folder)
    with pytest.raises(WeightsError, match="not a model that transformers loads") as e:
        load_text_backbone(folder)
    assert "\n" not in str(e.value)


# Photo encoders.


@pytest.mark.parametrize("kind", VISION_KINDS)
def test_photo_features_are_transformers_own(kind, tmp_path):
    folder = write_vision_encoder(tmp_path / kind, kind)
    spec = describe_image_encoder(str(folder), folder)
    assert (spec.library, spec.name, spec.size) == ("transformers", kind, 32)
    assert (spec.mean, spec.std) == ([0.4, 0.5, 0.6], [0.2, 0.25, 0.3])
    backbone = load_image_backbone(find_image_weights(str(folder)), spec)
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8))
    whole = transformers.AutoModel.from_pretrained(folder).eval()
    vision = getattr(whole, "vision_model", whole)
    with torch.no_grad():
        tower = ImageTower(backbone, size=32, spec=spec)
        found = tower(pixels)
        images = normalise_images(pixels, spec.mean, spec.std)
        expected = vision(pixel_values=images).pooler_output
        assert found.shape == (2, spec.dim)
        torch.testing.assert_close(found, expected.reshape(2, -1))
        assert tower(pixels[:, :24, :24]).shape == (2, spec.dim)  # resized


@pytest.mark.parametrize(
    ("name", "dim", "size"),
    [("resnet18", 512, 224), ("swin_t", 768, 224), ("efficientnet_b1", 1280, 240)],
)
def test_a_network_of_torchvision_is_described_and_loaded_by_its_name(
    name, dim, size, tmp_path
):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        whole = get_model(name, weights=None).eval()
    save_file(whole.state_dict(), tmp_path / "w.safetensors")
    given = f"{name}={tmp_path / 'w.safetensors'}"
    spec = describe_image_encoder(given, find_image_weights(given))
    assert (spec.library, spec.name, spec.dim, spec.size) == (
        *("torchvision", name),
        *(dim, size),
    )
    backbone = load_image_backbone(find_image_weights(given), spec)
    pixels = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    pixels[:, 10:30] = 200
    last = [m for m in whole.modules() if isinstance(m, torch.nn.Linear)][-1]
    seen = []
    last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        whole(normalise_images(pixels, spec.mean, spec.std))
        found = ImageTower(backbone, size=64, spec=spec)(pixels)
    torch.testing.assert_close(found, seen[0], rtol=1e-3, atol=1e-4)


def test_weights_of_another_network_are_refused_naming_the_network(tmp_path):
    save_file({"fc.weight": torch.zeros(2, 2)}, tmp_path / "w.safetensors")
    given = f"resnet18={tmp_path / 'w.safetensors'}"
    spec = describe_image_encoder(given, find_image_weights(given))
    with pytest.raises(WeightsError, match=r"must be torchvision's resnet18; \d+ ten"):
        load_image_backbone(tmp_path / "w.safetensors", spec)


def test_a_network_that_its_library_lacks_is_refused(tmp_path):
    (tmp_path / "w.pth").touch()
    given = f"resnet19={tmp_path / 'w.pth'}"
    with pytest.raises(WeightsError, match="torchvision has no such network"):
        describe_image_encoder(given, find_image_weights(given))


def test_a_text_encoder_is_no_photo_encoder(tmp_path):
    folder = write_text_encoder(tmp_path / "e", "bert")
    write_vision_encoder(tmp_path / "v", "dinov2")
    shutil.copy(tmp_path / "v" / "preprocessor_config.json", folder)
    with pytest.raises(WeightsError, match=r"image encoder .* not a model that trans"):
        describe_image_encoder(str(folder), folder)


def test_a_network_of_timm_is_described_and_loaded(tmp_path):
    timm = pytest.importorskip("timm")
    whole = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    given = f"timm/tf_efficientnet_lite0={tmp_path / 'w.safetensors'}"
    save_file(whole.state_dict(), tmp_path / "w.safetensors")
    spec = describe_image_encoder(given, find_image_weights(given))
    assert (spec.library, spec.dim, spec.mean) == ("timm", 1280, [0.5, 0.5, 0.5])
    loaded = load_image_backbone(tmp_path / "w.safetensors", spec).state_dict()
    expected = whole.state_dict()
    assert all(torch.equal(loaded[name], expected[name]) for name in loaded)
    folder = tmp_path / "hub"  # as timm writes it for the hub
    folder.mkdir()
    shutil.move(tmp_path / "w.safetensors", folder / "model.safetensors")
    record = {"input_size": [3, 96, 96], "mean": spec.mean, "std": spec.std}
    config = {"architecture": "tf_efficientnet_lite0", "pretrained_cfg": record}
    (folder / "config.json").write_text(json.dumps(config))
    spec = describe_image_encoder(str(folder), find_image_weights(str(folder)))
    assert (spec.library, spec.size) == ("timm", 96)
    again = load_image_backbone(folder, spec).state_dict()
    assert all(torch.equal(loaded[name], again[name]) for name in loaded)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_mean": None}, "must have image_mean"),
        ({"image_std": [0.5]}, "must have image_mean"),
        ({"crop_size": "big", "size": {}}, "must have image_mean"),
    ],
)
def test_a_folder_that_does_not_record_its_photos_is_refused(change, message, tmp_path):
    folder = write_vision_encoder(tmp_path / "e", "dinov2")
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(WeightsError, match=message):
        describe_image_encoder(str(folder), folder)
    path.unlink()
    with pytest.raises(WeightsError, match=r"preprocessor_config\.json: not read"):
        describe_image_encoder(str(folder), folder)


def test_a_name_is_split_from_its_file(tmp_path):
    assert split_image_name("resnet50") == ("resnet50", "resnet50")
    assert split_image_name("timm/a=b.pth") == ("timm/a", "b.pth")
    (tmp_path / "a=b.pth").touch()
    path = str(tmp_path / "a=b.pth")
    assert split_image_name(path) == ("efficientnet_b0", path)


# Whole runs.


def embed_run(run_dir, catalog, *, text, image, **settings):
    config = EmbedConfig(
        text_encoder=str(text),
        image_encoder=str(image),
        chunk_size=16,
        precision="fp32",
        backend="eager",
        n_threads=1,
        **{"max_tokens": 32, "image_size": 32, **settings},
    )
    images_dir = catalog.path.parent / "images"
    return extract(catalog, run_dir, images_dir=images_dir, config=config)


def finish(run_dir, *, blocks=BLOCKS, **settings):
    finetune(run_dir, config=dataclasses.replace(TINY_TRAINING, **settings))
    fit_stack(run_dir, config=dataclasses.replace(TINY_STACK, blocks=blocks))
    return choose(run_dir, "stacker")


def prices_of(run_dir, catalog):
    images_dir = catalog.path.parent / "images"
    found = predict_prices(run_dir, catalog, images_dir=images_dir, n_threads=1)
    assert np.isfinite(found.price).all()
    return found.price


@pytest.fixture(scope="module")
def catalog(sample_catalog):
    return read_catalog(sample_catalog)


@pytest.mark.parametrize(
    ("text", "image", "settings"),
    [
        ("mpnet", "clip", {"freeze_image": True}),
        ("deberta-v2", "dinov2", {}),
        ("modernbert", "resnet", {"freeze_batch_norm": False}),
        ("distilbert", "siglip", {"freeze_layers": 3}),
    ],
)
def test_a_run_with_other_encoders_is_trained_stacked_and_prices(
    text, image, settings, catalog, tmp_path
):
    texts = write_text_encoder(
        tmp_path / text,
        text,
        pooling="pooling_mode_cls_token",
        prompts={"passage": "a"},
    )
    photos = write_vision_encoder(tmp_path / image, image)
    run_dir = tmp_path / "run"
    manifest = embed_run(run_dir, catalog, text=texts, image=photos)
    assert read_rows(run_dir / "embed" / "text.npy").shape == (40, 32)
    assert manifest.inputs.image_spec.dim == manifest.image_dim
    assert read_rows(run_dir / "embed" / "image.npy").shape == (40, manifest.image_dim)
    finish(run_dir, **settings)
    state = load_file(run_dir / "finetune" / "fold-0" / "model.safetensors")
    assert state["text_projection.weight"].shape == (256, 32)
    assert state["image_projection.weight"].shape == (256, manifest.image_dim)
    new = prices_of(run_dir, catalog)
    moved = run_dir.rename(tmp_path / "moved")
    texts.rename(tmp_path / "text elsewhere")
    with pytest.raises(
        WeightsError, match="text encoder of the run: no weights of sha"
    ):
        Predictor(moved)
    (tmp_path / "text elsewhere").rename(texts)
    np.testing.assert_array_equal(prices_of(moved, catalog), new)


def test_encoders_and_their_settings_are_part_of_the_key(catalog, tmp_path):
    folder = write_text_encoder(tmp_path / "e", "bert")
    first = embed_run(tmp_path / "run", catalog, text=folder, image="none")
    again = embed_run(tmp_path / "run", catalog, text=folder, image="none")
    other = embed_run(
        tmp_path / "run", catalog, text=folder, image="none", text_prefix="x: "
    )
    assert first.key == again.key != other.key
    assert other.inputs.text_spec.prefix == "x: "


def test_more_tokens_than_the_encoder_has_positions_are_refused(catalog, tmp_path):
    folder = write_text_encoder(tmp_path / "e", "mpnet")
    with pytest.raises(ConfigError, match="--max-tokens must be 8 to 512, the pos"):
        embed_run(tmp_path / "r", catalog, text=folder, image="none", max_tokens=513)


def test_thumbnails_have_the_size_of_the_photo_encoder(catalog, tmp_path):
    folder = write_vision_encoder(tmp_path / "e", "dinov2")
    run_dir = tmp_path / "run"
    manifest = embed_run(run_dir, catalog, text="none", image=folder, image_size=None)
    assert manifest.config.image_size == 32
    plain = EmbedConfig(image_encoder="resnet18", text_encoder="none")
    assert (plain.image_size, plain.photo_size) == (None, 224)


@pytest.mark.parametrize("without", ["text", "image", "both"])
def test_a_run_without_an_encoder_is_no_special_case(without, catalog, tmp_path):
    text = image = "none"
    if without == "image":
        text = write_text_encoder(tmp_path / "t", "bert")
    if without == "text":
        image = write_vision_encoder(tmp_path / "v", "dinov2")
    run_dir = tmp_path / "run"
    manifest = embed_run(run_dir, catalog, text=text, image=image)
    embed_dir = run_dir / "embed"
    assert weights_of_run(require_embedded(run_dir)) == (
        None if text == "none" else text,
        None if image == "none" else image,
    )
    problems = (embed_dir / "problems.csv").read_text()
    if image == "none":
        assert read_rows(embed_dir / "image.npy").shape == (40, 0)
        assert not read_rows(embed_dir / "image_ok.npy").any()
        assert manifest.substituted.image == 0
        assert ",image," not in problems
    if text == "none":
        assert read_rows(embed_dir / "text.npy").shape == (40, 0)
        assert RaggedRows(embed_dir / "tokens.npy").lengths.sum() == 0
        assert manifest.substituted.text == 0
    # Sizes are read from the text in any case.
    assert np.isfinite(read_rows(embed_dir / "attributes.npy")[:, 0]).any()
    finish(run_dir, freeze_image=without == "text")
    prices = prices_of(run_dir, catalog)
    assert len(set(prices.round(6))) > 20
    assert export_run(run_dir, tmp_path / "model") < 1e-3
    model = Model(tmp_path / "model")
    assert ("tokenizer.json" in model.settings["files"]) == (text != "none")
    explained = explain_product(Predictor(run_dir), catalog.text[0], None)
    assert explained.price > 0
    checks = {check.name: check for check in audit_run(run_dir, n_products=3)}
    assert checks["ids"].passed, checks["ids"].detail
    card = (tmp_path / "model" / "MODEL_CARD.md").read_text()
    assert "tower: none" in card


def test_a_photo_changes_no_price_of_a_run_without_photo_encoder(catalog, tmp_path):
    folder = write_text_encoder(tmp_path / "e", "bert")
    run_dir = tmp_path / "run"
    embed_run(run_dir, catalog, text=folder, image="none")
    finish(run_dir, blocks=("network", "attributes"))
    predictor = Predictor(run_dir)
    photo = np.zeros((224, 224, 3), np.uint8)
    assert "no photo encoder" in str(predictor.screen(photo))
    without = explain_product(predictor, catalog.text[0], None)
    size = predictor.config.photo_size
    given = explain_product(
        predictor, catalog.text[0], np.zeros((size, size, 3), np.uint8)
    )
    assert given.price == without.price


def test_networks_of_an_input_that_the_run_lacks_are_refused(catalog, tmp_path):
    embed_run(tmp_path / "run", catalog, text="none", image="none")
    for inputs in ("text", "image"):
        config = dataclasses.replace(TINY_TRAINING, inputs=inputs)
        with pytest.raises(ConfigError, match=f"embedded with --{inputs}-encoder none"):
            finetune(tmp_path / "run", config=config)


def test_no_weights_are_looked_for_without_encoders(monkeypatch):
    monkeypatch.setattr("embed.encoders.embedder.find_text_weights", None)
    monkeypatch.setattr("embed.encoders.embedder.find_image_weights", None)
    config = EmbedConfig(text_encoder="none", image_encoder="none")
    embedder = Embedder(resolve_encoders(config), config)
    assert (embedder.text.dim, embedder.image.dim, embedder.backends()) == (0, 0, {})
    assert [len(ids) for ids in embedder.tokenize(["a b", ""])] == [0, 0]


def test_a_catalog_without_texts_and_photos_runs_by_the_command(
    sample_catalog, tmp_path
):
    run_dir, columns = str(tmp_path / "run"), CatalogColumns(text=())
    assert columns.text == ()
    words = ["embed", str(sample_catalog), "--run", run_dir, "--text-column", ""]
    words += ["--text-encoder", "none", "--image-encoder", "none"]
    words += ["--image-column", "", "--category-column", "image_link"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    assert "Placeholders" not in result.output


# Exports.


@pytest.mark.parametrize("kind", TEXT_KINDS)
def test_a_text_tower_is_exported(kind, tmp_path):
    import onnxruntime

    folder = write_text_encoder(tmp_path / kind, kind)
    backbone, path = load_text_backbone(folder), tmp_path / "text.onnx"
    write_text_tower(backbone, path, ["cls"])
    session = onnxruntime.InferenceSession(path)
    for ids in IDS:
        mask = np.ones_like(ids)
        (found,) = session.run(None, {"tokens": ids[None], "mask": mask[None]})
        with torch.no_grad():
            tensors = torch.from_numpy(ids[None]), torch.from_numpy(mask[None])
            expected = TextTower(backbone, ["cls"])(*tensors)
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("kind", VISION_KINDS)
def test_a_photo_tower_is_exported(kind, tmp_path):
    import onnxruntime

    folder = write_vision_encoder(tmp_path / kind, kind)
    spec = describe_image_encoder(str(folder), folder)
    backbone, path = load_image_backbone(folder, spec), tmp_path / "image.onnx"
    write_image_tower(backbone, path, size=24, spec=spec)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 24, 24, 3), dtype=np.uint8)
    (found,) = onnxruntime.InferenceSession(path).run(None, {"pixels": pixels})
    with torch.no_grad():
        tower = ImageTower(backbone, size=24, spec=spec)
        expected = tower(torch.from_numpy(pixels))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_an_encoder_that_onnx_cannot_express_is_refused_in_one_line(
    tmp_path, monkeypatch
):
    def fails(*_, **__):
        raise RuntimeError("no such operator\nlong story")

    backbone = load_text_backbone(write_text_encoder(tmp_path / "e", "bert"))
    monkeypatch.setattr(graphs.torch.onnx, "export", fails)
    with pytest.raises(InputError, match=r"cannot be written as ONNX \(RuntimeError"):
        write_text_tower(backbone, tmp_path / "text.onnx")


def test_the_way_out_of_missing_weights_includes_none(tmp_path):
    for find in (find_text_weights, find_image_weights):
        with pytest.raises(WeightsError, match="none in place of the name"):
            find(str(tmp_path / "nowhere"))
