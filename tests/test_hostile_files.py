"""A pickle that would run code, in every place where a file is read."""

import contextlib
import dataclasses
import gzip
import io
import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import TINY_STACK, TINY_TRAINING, choose, copy_run
from PIL import Image
from torchvision.models import efficientnet_b0

from embed.catalog.reader import read_catalog
from embed.encoders.describe_text import describe_text_encoder
from embed.encoders.files import load_tokenizer
from embed.encoders.towers import load_image_backbone, load_text_backbone
from embed.encoders.weights import (
    WeightsError,
    find_text_weights,
    read_image_weights,
    weights_key,
)
from embed.errors import InputError, UnreadableImage
from embed.extract import extract
from embed.photos.decode import load_image
from embed.records import require_embedded
from embed.sample.law import best_reachable_prices
from embed.store.arrays import RaggedRows, read_rows
from embed.store.checksums import record_files
from embed.store.manifest import read_json
from finetune.network.arithmetic import Arithmetic
from finetune.network.saved import load_network
from finetune.out_of_fold import finetune
from finetune.training.checkpoint import TrainingState
from stack.fit import evaluate_run, fit_stack
from stack.price.catalog import predict_prices
from stack.trees.boosters import load_boosters

COUNTER = "places where a planted pickle did not run"
AUTO_MAP = {"AutoConfig": "planted.Config", "AutoModel": "planted.Model"}


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def as_pickle(bomb):
    return pickle.dumps(bomb)


def as_torch(bomb):
    buffer = io.BytesIO()
    torch.save({"features.0.0.weight": bomb}, buffer)
    return buffer.getvalue()


def as_old_torch(bomb):
    buffer = io.BytesIO()
    torch.save({"w": bomb}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def as_npy(bomb):
    buffer = io.BytesIO()
    np.save(buffer, np.array([bomb, bomb], dtype=object), allow_pickle=True)
    return buffer.getvalue()


KINDS = {
    "pickle": as_pickle,
    "torch": as_torch,
    "old torch": as_old_torch,
    "npy": as_npy,
}


@pytest.fixture
def marker(tmp_path):
    return tmp_path / "it-ran"


@pytest.fixture(autouse=True)
def nothing_executes(marker):
    yield
    assert not marker.exists()


@pytest.fixture
def planted(marker):
    """Every kind of bytes that would create the marker."""
    return [make(Bomb(marker)) for make in KINDS.values()]


@pytest.fixture
def encoder(tiny_encoder, tmp_path):
    return shutil.copytree(tiny_encoder, tmp_path / "encoder")


def refused(read, *names, kind=InputError):
    """Assert that reading ends in one line that names the file."""
    with pytest.raises(kind) as caught:
        read()
    message = str(caught.value)
    assert "\n" not in message
    for name in names:
        assert name in message
    return message


@pytest.mark.parametrize(
    ("kind", "load"),
    [
        ("pickle", pickle.loads),
        ("torch", lambda b: torch.load(io.BytesIO(b), weights_only=False)),
        ("old torch", lambda b: torch.load(io.BytesIO(b), weights_only=False)),
        ("npy", lambda b: np.load(io.BytesIO(b), allow_pickle=True)),
    ],
)
def test_what_is_planted_would_run(kind, load, marker):
    load(KINDS[kind](Bomb(marker)))
    assert marker.exists()
    marker.unlink()


# One reader after the other, given every kind of pickle.


@pytest.mark.parametrize("name", ["c.csv", "c.csv.gz", "c.parquet", "c.pq"])
def test_a_catalog(planted, name, tmp_path, tally):
    path = tmp_path / name
    for content in planted:
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        refused(lambda: read_catalog(path), name)
    tally(COUNTER)


def test_a_parquet_column_of_a_python_type(marker, tmp_path, tally):
    # pyarrow once unpickled the name of such a type.
    metadata = {
        "ARROW:extension:name": "arrow.py_extension_type",
        "ARROW:extension:metadata": pickle.dumps(Bomb(marker)),
    }
    columns = [
        pa.field("sample_id", pa.string(), metadata=metadata),
        pa.field("catalog_content", pa.string()),
    ]
    rows = [pa.array(["a", "b"]), pa.array(["one", "two"])]
    pq.write_table(pa.table(rows, pa.schema(columns)), tmp_path / "c.parquet")
    assert read_catalog(tmp_path / "c.parquet").n_products == 2
    tally(COUNTER)


@pytest.mark.parametrize("name", ["photo.jpg", "photo.png", "photo"])
def test_a_photo(planted, name, tmp_path, tally):
    for content in planted:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UnreadableImage):
            load_image(tmp_path / name, size=32)
    tally(COUNTER)


def test_a_pickle_after_a_photo(planted, tmp_path, tally):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "JPEG")
    for content in planted:
        (tmp_path / "photo.jpg").write_bytes(buffer.getvalue() + content)
        assert load_image(tmp_path / "photo.jpg", size=32).shape == (32, 32, 3)
    tally(COUNTER)


def test_the_law_of_a_sample(planted, tmp_path, tally):
    for content in planted:
        (tmp_path / "law.csv").write_bytes(content)
        refused(lambda: best_reachable_prices(tmp_path / "catalog.csv"), "law.csv")
    tally(COUNTER)


def test_a_text_encoders_config(planted, encoder, tally):
    for content in planted:
        (encoder / "config.json").write_bytes(content)
        refused(
            lambda: describe_text_encoder(encoder), "config.json", kind=WeightsError
        )
        refused(lambda: load_text_backbone(encoder), "config.json", kind=WeightsError)
    tally(COUNTER)


def test_a_text_encoders_tokenizer(planted, encoder, tally):
    for content in planted:
        (encoder / "tokenizer.json").write_bytes(content)
        refused(lambda: load_tokenizer(encoder), "tokenizer.json", kind=WeightsError)
    tally(COUNTER)


def test_a_tokenizer_where_a_catalog_is_embedded(
    encoder, sample_catalog, tiny_config, marker, tmp_path, tally
):
    (encoder / "tokenizer.json").write_bytes(as_pickle(Bomb(marker)))
    config = dataclasses.replace(tiny_config, text_encoder=str(encoder))
    catalog, run_dir = read_catalog(sample_catalog), tmp_path / "run"
    refused(
        lambda: extract(catalog, run_dir, images_dir=None, config=config),
        "tokenizer.json",
    )
    tally(COUNTER)


def test_a_text_encoders_weights(planted, encoder, tally):
    for content in planted:
        (encoder / "model.safetensors").write_bytes(content)
        refused(lambda: load_text_backbone(encoder), str(encoder), kind=WeightsError)
    tally(COUNTER)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "training_args.bin", "model.pt"])
def test_pickles_beside_a_text_encoder_are_not_read(
    planted, encoder, tiny_encoder, name, tally
):
    expected = load_text_backbone(tiny_encoder).state_dict()
    for content in planted:
        (encoder / name).write_bytes(content)
        found = load_text_backbone(encoder).state_dict()
        assert all(torch.equal(found[part], expected[part]) for part in expected)
    (encoder / "model.safetensors").unlink()
    for content in planted:
        (encoder / name).write_bytes(content)
        refused(lambda: find_text_weights(str(encoder)), "lacks model.safetensors")
        refused(lambda: load_text_backbone(encoder), str(encoder), kind=WeightsError)
    tally(COUNTER)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w.pt"])
def test_image_weights(planted, name, tmp_path, tally):
    for content in planted:
        (tmp_path / name).write_bytes(content)
        refused(lambda: read_image_weights(tmp_path / name), name, kind=WeightsError)
        refused(lambda: load_image_backbone(tmp_path / name), name, kind=WeightsError)
    tally(COUNTER)


def test_image_weights_with_a_pickle_among_the_tensors(marker, tmp_path, tally):
    state = {**efficientnet_b0().state_dict(), "extra": Bomb(marker)}
    torch.save(state, tmp_path / "w.pth")
    refused(lambda: load_image_backbone(tmp_path / "w.pth"), "w.pth")
    tally(COUNTER)


@pytest.mark.parametrize("mode", ["r", "r+"])
def test_an_array(planted, mode, tmp_path, tally):
    for content in planted:
        (tmp_path / "a.npy").write_bytes(content)
        refused(lambda: read_rows(tmp_path / "a.npy", mode=mode), "a.npy")
    tally(COUNTER)


@pytest.mark.parametrize("name", ["a.npy", "a_offsets.npy"])
def test_a_ragged_array(planted, name, tmp_path, tally):
    np.save(tmp_path / "a.npy", np.zeros(3, np.uint8))
    np.save(tmp_path / "a_offsets.npy", np.array([0, 3]))
    for content in planted:
        (tmp_path / name).write_bytes(content)
        refused(lambda: RaggedRows(tmp_path / "a.npy"), name)
    tally(COUNTER)


def test_a_manifest(planted, tmp_path, tally):
    (tmp_path / "embed").mkdir()
    path = tmp_path / "embed" / "manifest.json"
    for content in planted:
        path.write_bytes(content)
        refused(lambda: read_json(path), "manifest.json")
        refused(lambda: require_embedded(tmp_path), "manifest.json")
    tally(COUNTER)


def test_a_checkpoint(planted, tmp_path, tally):
    network = torch.nn.Linear(2, 1)
    state = TrainingState(
        network=network,
        optimizer=torch.optim.AdamW(network.parameters()),
        scaler=Arithmetic(device=torch.device("cpu"), autocast_dtype=None).scaler(),
        average=dict(network.state_dict()),
    )
    for content in planted:
        (tmp_path / "checkpoint.safetensors").write_bytes(content)
        refused(lambda: state.resume(tmp_path), "checkpoint.safetensors")
        assert state.epochs_done == 0
    tally(COUNTER)


def test_a_booster(planted, tmp_path, tally):
    for content in planted:
        (tmp_path / "booster-0.txt").write_bytes(content)
        refused(lambda: load_boosters(tmp_path, feature_names=["a"]), "booster-0.txt")
    tally(COUNTER)


# A text encoder that brings Python along.


def write_code(folder, marker):
    text = f"from pathlib import Path\nPath({str(marker)!r}).touch()\n"
    text += "class Config: pass\nclass Model: pass\n"
    (folder / "planted.py").write_text(text)
    (folder / "__init__.py").write_text(text)


def change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def answer_yes(*_):
    raise AssertionError("asked on the terminal")


@pytest.mark.parametrize(
    "changes",
    [
        {"auto_map": AUTO_MAP},
        {"auto_map": AUTO_MAP, "model_type": "planted"},
        {"auto_map": {k: f"someone/repo--{v}" for k, v in AUTO_MAP.items()}},
        {"auto_map": AUTO_MAP, "model_type": "planted", "trust_remote_code": True},
        {"architectures": ["planted.Model"], "model_type": "planted"},
        {"auto_map": {"AutoTokenizer": ["planted.Model", None]}},
        {"attn_implementation": "someone/kernel"},
        {"_attn_implementation": "someone/kernel:flash"},
        {"text_config": [{"attn_implementation": {"": "someone/kernel"}}]},
        {"custom_generate": "planted", "custom_pipelines": {"x": {"impl": "planted"}}},
    ],
)
def test_code_beside_a_text_encoder_does_not_run(changes, encoder, marker, monkeypatch):
    monkeypatch.setattr("builtins.input", answer_yes)
    write_code(encoder, marker)
    change_config(encoder, **changes)
    # It may be a model that transformers knows without the code.
    for load in (load_text_backbone, describe_text_encoder, load_tokenizer):
        with contextlib.suppress(WeightsError):
            load(encoder)
    assert not marker.exists()


def test_code_in_place_of_a_known_model_is_refused(encoder, marker, monkeypatch):
    monkeypatch.setattr("builtins.input", answer_yes)
    write_code(encoder, marker)
    change_config(encoder, auto_map=AUTO_MAP, model_type="planted")
    for load in (load_text_backbone, describe_text_encoder):
        refused(lambda load=load: load(encoder), str(encoder), kind=WeightsError)


def test_a_tokenizer_with_its_own_code_is_data(encoder, marker):
    write_code(encoder, marker)
    config = {"tokenizer_class": "planted.Model", "auto_map": AUTO_MAP}
    (encoder / "tokenizer_config.json").write_text(json.dumps(config))
    assert load_tokenizer(encoder).encode("honey").ids


def test_an_adapter_beside_a_text_encoder_is_refused(encoder):
    adapter = {"base_model_name_or_path": "someone/model", "peft_type": "LORA"}
    (encoder / "adapter_config.json").write_text(json.dumps(adapter))
    refused(lambda: load_text_backbone(encoder), "adapter_config.json", "Merge it")


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_size": "32"},
        {"hidden_size": None},
        {"hidden_size": 0},
        {"vocab_size": -1},
        {"hidden_act": "os.system"},
        {"id2label": 5},
        {"dtype": "os"},
        {"model_type": ["bert"]},
        {"num_attention_heads": 0},
    ],
)
def test_a_config_with_wrong_values_is_refused_in_one_line(encoder, changes):
    change_config(encoder, **changes)
    refused(lambda: load_text_backbone(encoder), str(encoder), kind=WeightsError)


def test_a_tokenizer_with_more_tokens_than_the_encoder_is_refused(encoder):
    change_config(encoder, vocab_size=7)
    refused(lambda: load_tokenizer(encoder), "tokenizer.json: has", "beside it 7")


# A whole run folder from elsewhere: its checksums fit what was planted.


@pytest.fixture(scope="module")
def whole_run(finished_run, tmp_path_factory):
    run_dir = copy_run(finished_run, tmp_path_factory.mktemp("whole") / "run")
    return choose(run_dir, "stacker")  # so that `predict` reads the boosters too


@pytest.fixture
def run_dir(whole_run, tmp_path):
    return shutil.copytree(whole_run, tmp_path / "run")


@pytest.fixture
def stages(sample_catalog, tiny_config, run_dir):
    """What reads the run: each stage as it goes on, and what uses a finished run."""

    def embed():
        images = sample_catalog.parent / "images"
        catalog = read_catalog(sample_catalog)
        extract(catalog, run_dir, images_dir=images, config=tiny_config)

    def again(stage, *names):
        for name in ("manifest.json", *names):
            (run_dir / stage / name).unlink(missing_ok=True)

    def go_on_embedding():
        again("embed")
        embed()

    def go_on_training():
        again("finetune")
        finetune(run_dir, config=TINY_TRAINING)

    def stack():
        again("stack", "plan.json")
        fit_stack(run_dir, config=TINY_STACK)

    def predict():
        images = sample_catalog.parent / "images"
        catalog = read_catalog(sample_catalog)
        predict_prices(run_dir, catalog, images_dir=images, n_threads=1)

    return {
        "embed": embed,
        "go on embedding": go_on_embedding,
        "train": lambda: finetune(run_dir, config=TINY_TRAINING),
        "go on training": go_on_training,
        "stack": stack,
        "evaluate": lambda: evaluate_run(run_dir),
        "predict": predict,
    }


def plant(run_dir, name, content):
    """Put content in a file's place, with checksums that fit it."""
    path = run_dir / name
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    stage, _, inside = name.partition("/")
    manifest_path = run_dir / stage / "manifest.json"
    if path == manifest_path:
        return
    manifest = json.loads(manifest_path.read_text())
    if inside in manifest["files"]:
        (file,) = record_files(run_dir / stage, [inside]).values()
        manifest["files"][inside] = file.as_json()
        manifest_path.write_text(json.dumps(manifest))


EMBED_ARRAYS = (
    *("text", "image", "text_ok", "image_ok", "attributes", "checksums"),
    *("tokens", "tokens_offsets", "thumbnails", "thumbnails_offsets"),
)
PLACES = [
    *((f"embed/{name}.npy", "embed") for name in EMBED_ARRAYS),
    ("embed/catalog.parquet", "evaluate"),
    ("embed/catalog.parquet", "train"),
    ("embed/manifest.json", "embed"),
    ("embed/manifest.json", "train"),
    ("embed/manifest.json", "predict"),
    ("embed/progress.json", "go on embedding"),
    *(
        (f"finetune/{name}.npy", "stack")
        for name in ("fused", "folds", "anchor_rows", "anchors", "price", "groups")
    ),
    ("finetune/oof_log_price.npy", "evaluate"),
    ("finetune/manifest.json", "train"),
    ("finetune/manifest.json", "stack"),
    ("finetune/plan.json", "go on training"),
    ("finetune/fold-0/manifest.json", "go on training"),
    ("finetune/fold-1/model.safetensors", "predict"),
    ("finetune/fold-1/model.safetensors", "go on training"),
    ("stack/manifest.json", "evaluate"),
    ("stack/manifest.json", "predict"),
    ("stack/plan.json", "go on stacking"),
    ("stack/report.json", "evaluate"),
    ("stack/lightgbm_log_price.npy", "evaluate"),
    ("stack/blend_log_price.npy", "evaluate"),
    ("stack/oof_log_price.npy", "evaluate"),
    ("stack/alignment.npy", "predict"),
    ("stack/booster-1.txt", "predict"),
    ("stack/lightgbm/booster-2.txt", "predict"),
    ("stack/lightgbm/starts.npy", "predict"),
]


@pytest.mark.parametrize(("name", "reader"), PLACES)
def test_a_file_of_a_run(name, reader, run_dir, stages, marker, tally):
    if reader == "go on stacking":
        (run_dir / "stack" / "manifest.json").write_text('{"files": {}}')

        def read():
            (run_dir / "stack" / "manifest.json").unlink()
            fit_stack(run_dir, config=TINY_STACK)

    else:
        read = stages[reader]
    kind = {".npy": as_npy, ".safetensors": as_torch}.get(Path(name).suffix, as_pickle)
    plant(run_dir, name, kind(Bomb(marker)))
    refused(read, Path(name).name)
    assert not marker.exists()
    tally(COUNTER)


@pytest.mark.parametrize(
    ("name", "reader"),
    [
        ("embed/problems.csv", "embed"),
        ("finetune/fold-0/history.csv", "train"),
        ("finetune/fold-0/checkpoint.pt", "go on training"),
        ("finetune/fold-0/checkpoint.safetensors", "go on training"),
        ("finetune/unpriced_log_price.npy", "evaluate"),
        ("stack/fused.npy", "evaluate"),
        ("conftest.py", "evaluate"),
        ("stack/sitecustomize.py", "evaluate"),
    ],
)
def test_a_file_that_is_not_read(name, reader, run_dir, stages, marker, tally):
    path = run_dir / name
    path.write_bytes(as_pickle(Bomb(marker)))
    if name.partition("/")[2] in ("problems.csv", "fused.npy"):
        plant(run_dir, name, as_npy(Bomb(marker)))
    if name.endswith(".py"):
        path.write_text(f"open({str(marker)!r}, 'w')")
    stages[reader]()
    assert not marker.exists()
    tally(COUNTER, not name.endswith(".py"))


def test_a_checkpoint_of_a_fold_that_goes_on(run_dir, stages, marker, tally):
    for record in ("manifest.json", "network.json"):
        (run_dir / "finetune" / "fold-1" / record).unlink()
    path = run_dir / "finetune" / "fold-1" / "checkpoint.safetensors"
    path.write_bytes(as_torch(Bomb(marker)))
    refused(stages["go on training"], "checkpoint.safetensors", "Delete it")
    tally(COUNTER)


def change_manifest(run_dir, stage, change):
    path = run_dir / stage / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize("reader", ["go on training", "predict"])
def test_a_run_that_names_an_encoder_with_code(
    reader, run_dir, stages, encoder, marker, monkeypatch
):
    monkeypatch.setattr("builtins.input", answer_yes)
    write_code(encoder, marker)
    change_config(encoder, auto_map=AUTO_MAP, model_type="planted")

    def name_it(manifest):
        manifest["inputs"]["text_weights"] = str(encoder)
        manifest["inputs"]["text_weights_sha256"] = weights_key(encoder)

    change_manifest(run_dir, "embed", name_it)
    (run_dir / "finetune" / "fold-1" / "manifest.json").unlink()
    refused(stages[reader], str(encoder))
    assert not marker.exists()


def test_a_run_that_names_image_weights_with_code(whole_run, planted, tmp_path, tally):
    path, embed = tmp_path / "w.pth", require_embedded(whole_run)
    path.write_bytes(planted[1])
    weights = {"image_weights": str(path), "image_weights_sha256": weights_key(path)}
    inputs = embed.inputs.model_copy(update=weights)
    embed = embed.model_copy(update={"inputs": inputs})
    stage_dir = whole_run / "finetune"

    def load():
        load_network(stage_dir, 0, 0, embed=embed, config=TINY_TRAINING)

    refused(load, "w.pth", kind=WeightsError)
    tally(COUNTER)


def test_the_network_of_a_fold(whole_run, planted, tmp_path, tally):
    embed = require_embedded(whole_run)
    (tmp_path / "fold-0").mkdir()

    def load():
        load_network(tmp_path, 0, 0, embed=embed, config=TINY_TRAINING)

    for content in planted:
        (tmp_path / "fold-0" / "model.safetensors").write_bytes(content)
        refused(load, "model.safetensors")
    tally(COUNTER)


def test_links_inside_a_run_are_followed_as_data(run_dir, tmp_path, stages):
    elsewhere = tmp_path / "elsewhere"
    for name in ("embed/text.npy", "finetune/price.npy", "finetune/fold-0"):
        target = elsewhere / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(run_dir / name, target)
        os.symlink(target, run_dir / name)
    stages["embed"]()
    stages["train"]()
    stages["evaluate"]()
    assert (run_dir / "finetune" / "fold-0").is_symlink()


@pytest.mark.parametrize(
    "name",
    ["embed/manifest.json", "finetune/manifest.json", "finetune/price.npy"],
)
def test_a_folder_in_a_files_place_is_named(name, run_dir, stages):
    (run_dir / name).unlink()
    (run_dir / name).mkdir()
    refused(stages["evaluate"], Path(name).name)
