import dataclasses
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter

from embed.config import EmbedConfig
from embed.encoders.specs import EFFICIENTNET_B0
from embed.errors import CacheError, ConfigError
from embed.records import EmbedManifest, EmbedProgress
from embed.store.records import Manifest, check_record
from finetune.config import FinetuneConfig
from finetune.records import FinetuneManifest, FoldRecord, PlanRecord
from stack.config import StackConfig
from stack.records import StackManifest

CRC = {"bytes": 10, "crc32": [1]}
EMBED = {
    "stage": "embed",
    "key": "0" * 64,
    "config": dataclasses.asdict(EmbedConfig()),
    "inputs": {
        "catalog_path": "catalog.csv",
        "catalog_sha256": "0",
        "columns": {
            "sample_id": "sample_id",
            "text": ["catalog_content"],
            "image": "image_link",
            "price": "price",
        },
        "images_dir": None,
        "text_weights": "folder",
        "text_weights_sha256": "0",
        "image_weights": "random",
        "image_weights_sha256": "random",
        "text_spec": {
            "model_type": "bert",
            "dim": 32,
            "n_layers": 2,
            "max_tokens": 512,
            "pooling": ["mean"],
            "prefix": "",
            "pad_id": 0,
        },
        "image_spec": EFFICIENTNET_B0.as_json(),
    },
    "n_products": 5,
    "attribute_names": ["log_value"],
    "substituted": {"text": 0, "image": 0},
    "files": {"sample_id.npy": CRC},
    "seconds": 1.5,
    "written by a later version": True,
}
FOLD_RECORD = {
    "fold": 0,
    "key": "0",
    "n_train": 3,
    "n_held_out": 2,
    "held_out_smape": 40.0,
    "models_sha256": ["0"],
    "seed_smape": [1.0],
    "checksums": {"fused.npy": 7},
    "seconds": {"train": 1.0},
}
FINETUNE = {
    "stage": "finetune",
    "key": "0",
    "embed_key": "0",
    "config": dataclasses.asdict(FinetuneConfig()),
    "n_products": 5,
    "n_unpriced_dropped": 0,
    "smape": 40.0,
    "folds": [FOLD_RECORD],
    "files": {"fold-0/model.safetensors": CRC},
    "seconds": 1,
}
STACK = {
    "stage": "stack",
    "key": "0",
    "finetune_key": "0",
    "config": {},
    "chosen": "network",
    "confidence": {
        "blocks": ["network"],
        "has_boosters": False,
        "usual_size": 0.4,
        "unknown_size": 0.8,
        "limits": {"neighbours-text-distance": 0.5},
    },
    "files": {},
    "seconds": 1,
}
PROGRESS_RECORD = {
    "key": "0",
    "rows": 3,
    "problem_bytes": 0,
    "backends": {"text": None, "image": "eager fp32"},
    "seconds": 0.0,
}
GOOD = {
    "embed": (EmbedManifest, EMBED),
    "finetune": (FinetuneManifest, FINETUNE),
    "stack": (StackManifest, STACK),
    "fold": (FoldRecord, FOLD_RECORD),
    "progress": (EmbedProgress, PROGRESS_RECORD),
    "plan": (PlanRecord, {"key": "0"}),
}
WRONG = (None, True, -1, 1.5, "x", [], {}, [None], math.nan, 10**30, [[]], {"": []})
JARGON = re.compile(r"[Ii]nput should|pydantic|Manifest|Record\b|Config|type=|https?:")


def fault_of(kind, record):
    """The line that refuses a record, or None if it fits."""
    try:
        check_record(record, Path("m.json"), kind)
    except CacheError as error:
        return str(error)
    return None


def places(record, before=()):
    """Yield the way to every value of a record."""
    for name, value in record.items() if isinstance(record, dict) else ():
        yield (*before, name)
        yield from places(value, (*before, name))


def with_value(record, way, value):
    """Copy a record with one value changed, or (value None-like `...`) removed."""
    changed = json.loads(json.dumps(record))
    inner = changed
    for name in way[:-1]:
        inner = inner[name]
    if value is ...:
        del inner[way[-1]]
    else:
        inner[way[-1]] = value
    return changed


@pytest.mark.parametrize("name", GOOD)
def test_what_the_stages_write_fits(name, tmp_path):
    kind, record = GOOD[name]
    path = tmp_path / "manifest.json"
    check_record(record, path, kind)
    for wrong in (None, [], "text", 3):
        with pytest.raises(CacheError, match=r"manifest\.json: must be an object"):
            check_record(wrong, path, kind)


@pytest.mark.parametrize("name", GOOD)
def test_a_missing_key_is_named(name, tmp_path):
    kind, record = GOOD[name]
    n_required = 0
    for way in places(record):
        changed = with_value(record, way, ...)
        if fault_of(kind, changed) is None:  # a key of a part that any key may stand in
            continue
        with pytest.raises(CacheError) as caught:
            check_record(changed, tmp_path / "manifest.json", kind)
        message = str(caught.value)
        assert way[0] in message
        assert f".{way[-1]} is missing. Delete the file" in message.replace(": ", ".")
        n_required += 1
    assert n_required >= len(record) - 1 - (name == "embed")


@pytest.mark.parametrize("name", GOOD)
def test_a_value_of_another_type_is_refused_or_harmless(name):
    kind, record = GOOD[name]
    n_refused = 0
    for way in places(record):
        for wrong in WRONG:
            changed = with_value(record, way, wrong)
            fault = fault_of(kind, changed)  # raises nothing else, whatever is given
            if fault is None:
                continue
            assert fault.startswith(f"m.json: {way[0]}")
            assert fault.endswith(". Delete the file and run the stage again.")
            assert "\n" not in fault
            assert not JARGON.search(fault), fault
            n_refused += 1
    required = [n for n in record if fault_of(kind, with_value(record, [n], ...))]
    assert n_refused >= 7 * len(required)


@pytest.mark.parametrize(
    ("way", "value", "rule"),
    [
        (("n_products",), -1, "n_products must be a whole number, 1 to"),
        (("n_products",), 5.0, "n_products must be a whole number"),
        (("n_products",), True, "n_products must be a whole number"),
        (
            ("config", "chunk_size"),
            0,
            "config.chunk_size: the chunk size must be at least 1, found 0",
        ),
        (("inputs", "columns", "text"), "title", "text must be a list, found 'title'"),
        (("files",), {"../../x": CRC}, r"must be the name of a file inside"),
        (("files",), {"/etc/x": CRC}, r"must be the name of a file inside"),
        (("files",), {"a.npy": {"bytes": -1, "crc32": []}}, "bytes must be a whole"),
        (("seconds",), math.inf, "seconds must be a finite number, found inf"),
        (("seconds",), 10**400, "seconds must be a finite number, found 1000"),
        (("stage",), "stack", "stage must be one of embed, found 'stack'"),
    ],
)
def test_the_rule_and_what_was_found_are_named(way, value, rule, tmp_path):
    record = with_value(EMBED, way[:1], EMBED[way[0]])
    with pytest.raises(CacheError, match=rf"manifest\.json: .*{rule}.*run the stage"):
        check_record(
            with_value(record, way, value), tmp_path / "manifest.json", EmbedManifest
        )


def test_progress_beyond_the_catalog_is_refused(tmp_path):
    progress = EmbedProgress(**PROGRESS_RECORD)
    progress.require_within(3, tmp_path / "p")
    with pytest.raises(CacheError, match=r"rows must be a whole number, 0 to 2, found"):
        progress.require_within(2, tmp_path / "p")


@pytest.mark.parametrize("name", GOOD)
def test_a_record_is_written_as_it_was_read(name, tmp_path):
    kind, record = GOOD[name]
    again = check_record(record, tmp_path / "m.json", kind).as_json()
    expected = json.loads(json.dumps(record))
    # Settings that an older version lacks have their defaults.
    for part in ("config", "columns"):
        for found, given in ((again, expected), *zip_inputs(again, expected)):
            if part in given:
                settings = plain(found.pop(part))
                assert {**settings, **given.pop(part)} == settings
    assert plain(again) == expected


def zip_inputs(*records):
    return [[record["inputs"] for record in records]] if "inputs" in records[0] else []


def plain(record):
    return json.loads(json.dumps(record))


def test_every_manifest_names_its_stage():
    stages = {kind.STAGE: kind for kind in Manifest.__subclasses__()}
    assert {"embed", "finetune", "stack"} == stages.keys()
    assert all(fault_of(kind, {"stage": "other"}) for kind in stages.values())


def test_a_path_that_is_not_utf8_is_kept(tmp_path):
    record = with_value(EMBED, ("inputs", "catalog_path"), "caf\udce9.csv")
    found = check_record(record, tmp_path / "m.json", EmbedManifest)
    assert found.as_json()["inputs"]["catalog_path"] == "caf\udce9.csv"


def test_a_whole_number_in_place_of_a_float_stays_whole(tmp_path):
    record = check_record({**FINETUNE, "seconds": 1}, tmp_path / "m", FinetuneManifest)
    assert repr(record.seconds) == "1"


@pytest.mark.parametrize("name", ["\0", "a/\0", "..", "a/../../b", "", "/", "//a"])
def test_a_name_outside_the_folder_is_refused(name):
    record = {**FOLD_RECORD, "checksums": {name: 1}}
    assert "must be the name of a file inside the stage's" in fault_of(
        FoldRecord, record
    )


@pytest.mark.parametrize("cls", [EmbedConfig, FinetuneConfig, StackConfig])
def test_settings_come_back_from_their_record(cls):
    record = json.loads(json.dumps(dataclasses.asdict(cls())))
    read = TypeAdapter(cls).validate_python
    assert read(record) == read({}) == cls()
    assert dataclasses.replace(cls(), seed=3).seed == 3


def test_columns_come_back_from_their_manifest(tmp_path):
    columns = {**EMBED["inputs"]["columns"], "text": ["title", "body"]}
    record = with_value(EMBED, ("inputs", "columns"), columns)
    found = check_record(record, tmp_path / "m.json", EmbedManifest)
    assert found.inputs.columns.text == ("title", "body")
    for wrong in ({"colour": 1}, {"parse_prices": 1}, {"text": "title"}, {"text": [1]}):
        record["inputs"]["columns"] = {**columns, **wrong}
        assert "m.json: inputs.columns" in fault_of(EmbedManifest, record)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"os": 1}, r"config\.os is not a setting\."),
        ({"n_folds": "5"}, r"config\.n_folds must be a whole number, found '5'"),
        ({"n_folds": 1}, r"config\.n_folds: --folds must be at least 2 .*, found 1"),
        ({"precision": "fp8"}, r"precision must be one of auto, fp32, bf16, fp16"),
        ({"clip_norm": math.nan}, "clip_norm must be a finite number, found nan"),
        ({"clip_norm": 0}, r"config\.clip_norm must be above 0, found 0"),
        ({"freeze_image": 1}, "freeze_image must be true or false, found 1"),
        ({"freeze_layers": True}, "freeze_layers must be a whole number, found True"),
        ({"__class__": []}, r"config\.__class__ is not a setting\."),
        ({"smape_epochs": 0, "smooth_l1_epochs": 0}, "config: epochs must be at least"),
    ],
)
def test_a_configuration_that_is_none_is_refused(change, rule):
    fault = fault_of(FinetuneManifest, {**FINETUNE, "config": {"n_folds": 5, **change}})
    assert re.search(rf"m\.json: .*{rule}", fault), fault
    assert not JARGON.search(fault)


@pytest.mark.parametrize("record", [None, [], "text", 5, [["n_folds", 5]]])
def test_a_configuration_that_is_no_object_is_refused(record):
    fault = fault_of(FinetuneManifest, {**FINETUNE, "config": record})
    assert fault.startswith("m.json: config must be an object, found")


def test_blocks_that_do_not_exist_are_refused():
    for blocks in (["fused", "os"], "fused", ["fused", "fused"], []):
        fault = fault_of(StackManifest, {**STACK, "config": {"blocks": blocks}})
        assert re.search(r": config\b.*blocks", fault), fault


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        ({"n_folds": "3"}, "n_folds must be a whole number, got '3'"),
        (
            {"n_folds": np.int64(3)},
            r"n_folds must be a whole number, got np.int64\(3\)",
        ),
        ({"n_folds": True}, "n_folds must be a whole number, got True"),
        ({"clip_norm": -0.5}, "clip_norm must be above 0, got -0.5"),
        ({"colour": 1}, "colour is not a setting"),
        ({"recipe": "ours"}, "recipe must be one of default, paper, got 'ours'"),
    ],
)
def test_settings_from_python_are_refused_in_plain_words(values, rule):
    with pytest.raises(ConfigError, match=f"^{rule}$") as caught:
        FinetuneConfig(**values)
    assert caught.value.__cause__ is None
