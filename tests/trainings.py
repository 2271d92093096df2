"""Short trainings of a small network on products with a planted signal."""

import csv
import dataclasses

import numpy as np
import torch
from conftest import TINY_TRAINING, small_image_backbone, write_product_cache

from embed.attributes import ATTRIBUTE_NAMES
from embed.encoders.towers import load_text_backbone
from finetune.batches import ProductCache
from finetune.network.arithmetic import Arithmetic
from finetune.network.model import PriceNetwork
from finetune.training.loop import train_network
from finetune.training.tracking import UNTRACKED

N = 48
FP32 = Arithmetic(device=torch.device("cpu"), autocast_dtype=None)
CONFIG = dataclasses.replace(
    TINY_TRAINING, seed=0, smooth_l1_epochs=2, smape_epochs=1, batch_size=12
)


def plant_products(folder):
    """Products whose text says which of two prices they have; half with a photo."""
    rng = np.random.default_rng(0)
    is_dear = np.arange(N) % 2 == 1
    texts = [[2, *[9 + 9 * dear] * rng.integers(2, 9), 3] for dear in is_dear]
    photos = [
        rng.integers(0, 255, (32, 32, 3), dtype=np.uint8) if row % 4 < 2 else None
        for row in range(N)
    ]
    write_product_cache(folder, texts, photos)
    log_price = np.where(is_dear, 3.5, 1.5) + rng.normal(0, 0.05, N)
    return ProductCache(folder, max_tokens=16, image_size=32), log_price


def train_small(
    encoder,
    planted,
    fold_dir,
    *,
    config=CONFIG,
    fold=0,
    log_price=None,
    rows=None,
    tracking=UNTRACKED,
):
    """Train one fold of the planted products; return the network."""
    fold_dir.mkdir(exist_ok=True, parents=True)
    torch.manual_seed(0)
    network = PriceNetwork(
        load_text_backbone(encoder),
        small_image_backbone(None),
        n_attributes=2 * len(ATTRIBUTE_NAMES),
        use_wide=config.use_wide,
        freeze_batch_norm=config.freeze_batch_norm,
    )
    cache, planted_log_price = planted
    train_network(
        network,
        cache,
        planted_log_price if log_price is None else log_price,
        np.arange(N) if rows is None else rows,
        config=config,
        arithmetic=FP32,
        fold_dir=fold_dir,
        fold=fold,
        tracking=tracking,
    )
    return network


def history_of(fold_dir):
    """Rows of history.csv as they stand in it."""
    with (fold_dir / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def without_clock(history):
    """History without the columns that no two runs have alike."""
    clock = ("seconds", "products_per_second")
    return [{k: v for k, v in row.items() if k not in clock} for row in history]


def assert_same_weights(network, other):
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name
