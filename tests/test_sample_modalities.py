"""On the sample, a network that sees text and photo is ahead of one that sees either.

The towers are small stand-ins trained from random numbers, so the scores say nothing of
the real ones; which modality tells what of the price is a property of the sample.
"""

import csv
import dataclasses

import numpy as np
import pytest

from embed.catalog.reader import read_catalog
from embed.extract import extract
from embed.sample.law import write_sample
from finetune.config import FinetuneConfig
from finetune.out_of_fold import finetune
from finetune.score import smape

N_PRODUCTS = 240
CONFIG = FinetuneConfig(
    n_folds=2,
    smooth_l1_epochs=11,
    smape_epochs=2,
    batch_size=16,
    text_learning_rate=2e-3,
    image_learning_rate=5e-3,
    fusion_learning_rate=3e-3,
    head_dropout=0.1,
    ema_decay=0.9,
    max_tokens=64,
    image_size=32,
    precision="fp32",
    n_threads=1,
)


def blank_texts(catalog_path, to):
    """Copy a catalog without its texts."""
    with catalog_path.open(newline="") as file:
        rows = [{**row, "catalog_content": ""} for row in csv.DictReader(file)]
    with to.open("w", newline="") as file:
        lines = csv.DictWriter(file, list(rows[0]))
        lines.writeheader()
        lines.writerows(rows)
    return to


@pytest.mark.slow
def test_text_and_photo_together_are_ahead_of_either_alone(tmp_path, tiny_config):
    path = write_sample(tmp_path / "sample", n_products=N_PRODUCTS)
    blank = blank_texts(path, path.with_name("blank.csv"))
    photos = path.parent / "images"
    config = dataclasses.replace(tiny_config, max_tokens=CONFIG.max_tokens)
    found = {}
    for name, catalog_path, images_dir in (
        ("both", path, photos),
        ("text", path, None),
        ("photo", blank, photos),
    ):
        catalog, run_dir = read_catalog(catalog_path), tmp_path / name
        extract(catalog, run_dir, images_dir=images_dir, config=config)
        found[name] = finetune(run_dir, config=CONFIG).smape
    price = read_catalog(path).price
    constant = smape(price, np.full(N_PRODUCTS, np.median(price)))
    assert found["both"] < found["text"] - 2
    assert found["both"] < found["photo"] - 2
    assert max(found.values()) < constant - 2
