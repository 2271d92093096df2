"""The three stages on a small sample, as the tests that stop them run them."""

import csv
import dataclasses
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import (
    TINY_STACK,
    TINY_TRAINING,
    small_config,
    small_image_backbone,
    use_photo_tower,
)

from embed.catalog.reader import read_catalog
from embed.extract import extract
from finetune.out_of_fold import finetune
from stack.fit import fit_stack

STAGES = ("embed", "finetune", "stack")
TRAINING = dataclasses.replace(TINY_TRAINING, seed=0, n_folds=2)
# What each block adds is fitted too. `image`, of most columns, is left out for speed.
STACKING = dataclasses.replace(
    TINY_STACK,
    ablation=True,
    blocks=("text", "fused", "attributes", "network", "lightgbm"),
)


def run_stage(
    stage: str, run_dir: Path, catalog: Path, encoder: Path, *, chunk_size: int = 8
) -> None:
    """Run one stage with a stand-in for EfficientNet-B0."""
    jobs: dict[str, Callable[[], object]] = {
        "embed": lambda: extract(
            read_catalog(catalog),
            run_dir,
            images_dir=catalog.parent / "images",
            config=small_config(encoder, chunk_size=chunk_size),
        ),
        "finetune": lambda: finetune(run_dir, config=TRAINING),
        "stack": lambda: fit_stack(run_dir, config=STACKING),
    }
    with pytest.MonkeyPatch.context() as patch:  # also in a process of its own
        use_photo_tower(patch, small_image_backbone)
        jobs[stage]()


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files by name, without what depends on the clock."""
    return {
        path.relative_to(folder).as_posix(): _without_seconds(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".lock")
    }


def fingerprint(folder: Path) -> str:
    """Tell two states of a folder apart."""
    digest = hashlib.sha256()
    for name, content in contents(folder).items():
        digest.update(f"{name}:{len(content)}:".encode())
        digest.update(content)
    return digest.hexdigest()


def _without_seconds(path: Path) -> bytes:
    content = path.read_bytes()
    if path.suffix == ".json":
        return json.dumps(_drop_seconds(json.loads(content))).encode()
    if path.name == "history.csv":
        rows = csv.DictReader(io.StringIO(content.decode()))
        of_clock = {"seconds": "", "products_per_second": ""}
        return json.dumps([{**row, **of_clock} for row in rows]).encode()
    return content


def _drop_seconds(record: object) -> object:
    if isinstance(record, dict):
        return {k: _drop_seconds(v) for k, v in record.items() if k != "seconds"}
    if isinstance(record, list):
        return [_drop_seconds(item) for item in record]
    return record
