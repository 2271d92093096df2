import dataclasses
import json
import math

import pytest

from embed.catalog.columns import CatalogColumns
from embed.config import EmbedConfig
from embed.errors import CacheError
from embed.store.schema import (
    FOLD,
    PLAN,
    PROGRESS,
    STAGES,
    check_record,
    config_from,
    progress_of,
)
from finetune.config import FinetuneConfig
from stack.config import StackConfig

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
    "intervals": {"80": [-0.5, 0.5], "90": [-0.9, 1.0]},
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
    "embed": (STAGES["embed"], EMBED),
    "finetune": (STAGES["finetune"], FINETUNE),
    "stack": (STAGES["stack"], STACK),
    "fold": (FOLD, FOLD_RECORD),
    "progress": (PROGRESS, PROGRESS_RECORD),
    "plan": (PLAN, {"key": "0"}),
}
WRONG = (None, True, -1, 1.5, "x", [], {}, [None], math.nan, 10**30, [[]], {"": []})


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
    schema, record = GOOD[name]
    path = tmp_path / "manifest.json"
    check_record(record, path, schema)
    for wrong in (None, [], "text", 3):
        with pytest.raises(CacheError, match=r"manifest\.json: must be an object"):
            check_record(wrong, path, schema)


@pytest.mark.parametrize("name", GOOD)
def test_a_missing_key_is_named(name, tmp_path):
    schema, record = GOOD[name]
    n_required = 0
    for way in places(record):
        changed = with_value(record, way, ...)
        if schema(changed) is None:  # a key of a part that any key may stand in
            continue
        with pytest.raises(CacheError) as caught:
            check_record(changed, tmp_path / "manifest.json", schema)
        message = str(caught.value)
        assert way[0] in message
        assert f".{way[-1]} is missing. Delete the file" in message.replace(": ", ".")
        n_required += 1
    assert n_required >= len(record) - 1 - (name == "embed")


@pytest.mark.parametrize("name", GOOD)
def test_a_value_of_another_type_is_refused_or_harmless(name, tmp_path):
    schema, record = GOOD[name]
    n_refused = 0
    for way in places(record):
        for wrong in WRONG:
            changed = with_value(record, way, wrong)
            fault = schema(changed)  # raises nothing, whatever it is given
            if fault is None:
                continue
            with pytest.raises(CacheError) as caught:
                check_record(changed, tmp_path / "m.json", schema)
            assert way[0] in str(caught.value)
            assert "\n" not in str(caught.value)
            n_refused += 1
    required = [name for name in record if schema(with_value(record, [name], ...))]
    assert n_refused >= 7 * len(required)


@pytest.mark.parametrize(
    ("way", "value", "rule"),
    [
        (("n_products",), -1, "n_products must be a whole number, 1 to"),
        (("n_products",), 5.0, "n_products must be a whole number"),
        (("n_products",), True, "n_products must be a whole number"),
        (("config", "chunk_size"), 0, r"config\.chunk_size must be a whole number"),
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
            with_value(record, way, value), tmp_path / "manifest.json", STAGES["embed"]
        )


def test_progress_beyond_the_catalog_is_refused(tmp_path):
    check_record(PROGRESS_RECORD, tmp_path / "p", progress_of(3))
    with pytest.raises(CacheError, match=r"rows must be a whole number, 0 to 2, found"):
        check_record(PROGRESS_RECORD, tmp_path / "p", progress_of(2))


@pytest.mark.parametrize("cls", [EmbedConfig, FinetuneConfig, StackConfig])
def test_a_configuration_comes_back_from_its_manifest(cls, tmp_path):
    record = json.loads(json.dumps(dataclasses.asdict(cls())))
    assert config_from(record, cls, tmp_path) == cls()
    assert config_from({}, cls, tmp_path) == cls()


def test_columns_come_back_from_their_manifest(tmp_path):
    columns = CatalogColumns(text=("title", "body"))
    record = json.loads(json.dumps(dataclasses.asdict(columns)))
    assert config_from(record, CatalogColumns, tmp_path) == columns


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"os": 1}, r"config\.os is not a setting\."),
        ({"n_folds": "5"}, r"config\.n_folds must be a whole number"),
        ({"n_folds": 1}, "config: --folds must be at least 2"),
        ({"precision": "fp8"}, r"precision must be one of auto, fp32, bf16, fp16"),
        ({"clip_norm": math.nan}, "clip_norm must be a finite number, found nan"),
        ({"freeze_image": 1}, "freeze_image must be true or false, found 1"),
        ({"__class__": []}, r"config\.__class__ is not a setting\."),
    ],
)
def test_a_configuration_that_is_none_is_refused(change, rule, tmp_path):
    path = tmp_path / "manifest.json"
    with pytest.raises(CacheError, match=rf"manifest\.json: .*{rule}"):
        config_from(change, FinetuneConfig, path)


@pytest.mark.parametrize("record", [None, [], "text", 5, [["n_folds", 5]]])
def test_a_configuration_that_is_no_object_is_refused(record, tmp_path):
    with pytest.raises(CacheError, match=r"\.json: config must be an object, found"):
        config_from(record, FinetuneConfig, tmp_path / "manifest.json")


def test_blocks_that_do_not_exist_are_refused(tmp_path):
    for blocks in (["fused", "os"], "fused", ["fused", "fused"], []):
        with pytest.raises(CacheError, match=r": config\b.*blocks"):
            config_from({"blocks": blocks}, StackConfig, tmp_path)
