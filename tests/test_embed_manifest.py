import hashlib
import os
from pathlib import Path

import pytest
from conftest import copy_run

from embed.config import EmbedConfig
from embed.errors import CacheError
from embed.extract import extract
from embed.records import EmbedManifest, require_embedded
from embed.store.manifest import (
    content_key,
    environment,
    make_command,
    read_json,
    remedy,
    require_same_key,
    require_stage,
    sha256_file,
    sha256_strings,
    write_json,
    write_record,
)
from finetune.records import FinetuneManifest


def test_a_record_comes_back_as_it_was_written(tmp_path):
    record = {"name": "Crème brûlée", "rows": 3, "seconds": 0.25, "columns": ["a"]}
    write_json(tmp_path / "manifest.json", record)
    assert read_json(tmp_path / "manifest.json") == record
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_a_path_that_is_not_utf_8_comes_back_as_it_was_written(tmp_path):
    record = {"catalog_path": os.fsdecode(b"caf\xe9/\\udce9.csv")}
    write_json(tmp_path / "manifest.json", record)
    assert read_json(tmp_path / "manifest.json") == record
    assert content_key(record) != content_key({"catalog_path": "cafe"})


def test_a_run_folder_that_is_not_utf_8_is_refused_at_once(tmp_path):
    run_dir = tmp_path / os.fsdecode(b"caf\xe9") / "run"
    with pytest.raises(CacheError, match=r"run folder must be UTF-8\. Rename"):
        require_embedded(run_dir)
    with pytest.raises(CacheError, match=r"run folder must be UTF-8"):
        extract(None, run_dir, images_dir=None, config=EmbedConfig())
    assert not run_dir.exists()


@pytest.mark.parametrize("bad", [float("nan"), object()])
def test_a_failing_write_leaves_the_old_record(tmp_path, bad):
    path = tmp_path / "manifest.json"
    write_json(path, {"rows": 1})
    with pytest.raises((ValueError, TypeError)):
        write_json(path, {"rows": 2, "bad": bad})
    assert read_json(path) == {"rows": 1}


def test_a_write_cut_off_before_the_rename_leaves_the_old_record(tmp_path, monkeypatch):
    path = tmp_path / "manifest.json"
    write_json(path, {"rows": 1})

    def killed(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        write_json(path, {"rows": 2})
    assert read_json(path) == {"rows": 1}


@pytest.mark.parametrize("content", [b"", b'{"rows": ', b"\xff\xfe", b"[" * 99_999])
def test_a_damaged_record_is_refused_by_name(tmp_path, content):
    (tmp_path / "progress.json").write_bytes(content)
    with pytest.raises(CacheError, match=r"progress.json: not readable .* Delete the"):
        read_json(tmp_path / "progress.json")


def test_a_record_that_is_no_object_is_refused(tmp_path):
    (tmp_path / "manifest.json").write_text("[1, 2]")
    with pytest.raises(CacheError, match="must be a JSON object"):
        read_json(tmp_path / "manifest.json")


def test_no_record_is_none(tmp_path):
    assert read_json(tmp_path / "manifest.json") is None


@pytest.mark.parametrize(
    ("kind", "command"),
    [
        (EmbedManifest, "make embeddings RUN={} CATALOG=FILE"),
        (FinetuneManifest, "make finetune RUN={}"),
    ],
)
def test_a_missing_stage_names_the_command_that_makes_it(tmp_path, kind, command):
    stage = kind.STAGE
    with pytest.raises(
        CacheError, match=f"not finished .*`{command.format(tmp_path)}`"
    ):
        require_stage(tmp_path, kind)
    (tmp_path / stage).mkdir()
    write_json(tmp_path / stage / "manifest.json", {"key": "k"})
    with pytest.raises(CacheError, match=r"manifest\.json: stage is missing"):
        require_stage(tmp_path, kind)


@pytest.mark.parametrize(
    ("run_dir", "command"),
    [
        ("runs/sample", "make embeddings RUN=runs/sample"),
        ("my runs/a", "make embeddings RUN='my runs/a' CATALOG=FILE"),
    ],
)
def test_the_command_that_makes_a_stage_can_be_typed(run_dir, command):
    assert make_command(Path(run_dir), "embed") == command


def test_a_stage_is_made_anew_whichever_of_its_files_is_damaged():
    found = remedy(Path("runs/stack/stack/lightgbm/booster-0.txt"))
    assert found.startswith("Delete the folder runs/stack/stack and run `make stack ")
    assert "RUN=runs/stack` again" in found


def test_a_manifest_that_is_read_is_written_as_it_was(embedded_run, tmp_path):
    found = require_embedded(embedded_run)
    path = embedded_run / "embed" / "manifest.json"
    write_record(tmp_path / "again.json", found)
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()


def test_a_stage_of_other_inputs_is_refused_naming_both_keys(tmp_path):
    require_same_key(tmp_path, "stack", "a" * 64, "a" * 64)
    with pytest.raises(
        CacheError, match=r"key a{12}, but .* has b{12}\. Run `make stack RUN="
    ):
        require_same_key(tmp_path, "stack", "a" * 64, "b" * 64)


def test_a_content_key_depends_on_values_and_not_on_their_order():
    parts = {"rows": 1, "settings": {"seed": 0, "size": 32}}
    turned = {"settings": {"size": 32, "seed": 0}, "rows": 1}
    assert content_key(parts) == content_key(turned)
    assert content_key(parts) != content_key({**parts, "rows": 2})


def test_no_two_lists_of_strings_have_the_same_digest():
    lists = (
        ["ab", "c"],
        ["a", "bc"],
        ["abc"],
        ["abc", ""],
        [],
        [""],
        ["1:a"],
        ["1", "a"],
    )
    assert len({sha256_strings(strings) for strings in lists}) == len(lists)
    assert sha256_strings(["\ud800"]) != sha256_strings([""])


def test_a_file_has_the_digest_of_its_bytes(tmp_path):
    (tmp_path / "weights").write_bytes(b"weights")
    assert sha256_file(tmp_path / "weights") == hashlib.sha256(b"weights").hexdigest()


def test_the_environment_names_versions(monkeypatch):
    monkeypatch.setattr("embed.store.manifest._PACKAGES", ("numpy", "no-such-package"))
    found = environment()
    assert found["numpy"][0].isdigit()
    assert found["no-such-package"] == "not installed"


def test_a_run_whose_texts_were_read_in_another_way_is_refused(embedded_run, tmp_path):
    run_dir = copy_run(embedded_run, tmp_path / "run")
    manifest = require_embedded(run_dir).as_json()
    path = run_dir / "embed" / "manifest.json"
    inputs = manifest["inputs"]
    for record in ({**inputs, "text_format": 1}, dict(inputs)):
        if record == inputs:  # as earlier versions wrote it
            del record["text_format"]
        write_json(path, {**manifest, "inputs": record})
        message = r"in another way \(text format 1, now \d+\)\. Run all stages again"
        with pytest.raises(CacheError, match=message):
            require_embedded(run_dir)
