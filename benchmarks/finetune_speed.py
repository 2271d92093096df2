"""Products a second in fine-tuning, on an embedded run of the real catalog.

Ways: ours, an epoch of recipe `default` on the first rows; plain, the same network with
the same layers frozen, on the same rows, in the simplest loop: fp32, every text padded
to the limit, every row through both towers (a white square where there is no photo),
photos decoded from their files. ours_unfrozen and plain_unfrozen train all layers.
All count the training loop only, after a short start; ours also a run's share of what
its frozen layers compute once.
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import main, median, parser

N_OURS, N_PLAIN = 2048, 192


def prepared(given: argparse.Namespace) -> dict[str, Any]:
    import torch

    from embed.catalog.own_copy import read_run_catalog
    from embed.machine import prepare_machine
    from embed.records import require_embedded
    from finetune.batches import ProductCache
    from finetune.config import FinetuneConfig
    from finetune.network.saved import network_of_run

    unfrozen = {"freeze_layers": 0} if given.way.endswith("_unfrozen") else {}
    config = FinetuneConfig(n_threads=given.threads, **unfrozen)
    embed = require_embedded(given.run)
    if given.way.startswith("ours"):
        prepare_machine(given.threads)
    torch.set_num_threads(given.threads)
    catalog = read_run_catalog(given.run, embed)
    assert catalog.price is not None
    return {
        "config": config,
        "network": network_of_run(embed, config),
        "cache": ProductCache(
            given.run / "embed",
            max_tokens=config.max_tokens,
            image_size=config.photo_size,
        ),
        "catalog": catalog,
        "log_price": np.log1p(catalog.price),
        "rows": np.random.default_rng(0).permutation(catalog.n_products),
    }


def ours(given: argparse.Namespace) -> dict[str, Any]:
    import dataclasses

    import torch

    from finetune.network.arithmetic import choose_arithmetic
    from finetune.training.frozen_layers import skip_frozen_layers
    from finetune.training.loop import train_network

    parts = prepared(given)
    config = dataclasses.replace(parts["config"], smooth_l1_epochs=1, smape_epochs=0)
    arithmetic = choose_arithmetic(config.precision, torch.device("cpu"))
    shutil.rmtree(given.work)
    given.work.mkdir()
    started = time.perf_counter()
    skip_frozen_layers(
        parts["network"],
        parts["cache"],
        config=config,
        arithmetic=arithmetic,
        stage_dir=given.work,
        key="",
    )
    once = (time.perf_counter() - started) / len(parts["cache"])
    # The wide part is fitted once a fold.
    started = time.perf_counter()
    rng, rows = np.random.default_rng(0), parts["rows"][:N_OURS]
    wide = parts["network"].wide
    groups = np.arange(len(parts["cache"]))
    wide.fit(parts["cache"], parts["log_price"], rows, groups, rng=rng)
    fit = time.perf_counter() - started
    seconds = {}
    for n_rows in (256, N_OURS):  # the first to warm up
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            train_network(
                parts["network"],
                parts["cache"],
                parts["log_price"],
                parts["rows"][:n_rows],
                config=config,
                arithmetic=arithmetic,
                fold_dir=Path(folder),
                fold=0,
            )
            seconds[n_rows] = time.perf_counter() - started
    # A product of a run of 5 folds is trained on by 4 of them.
    visits = parts["config"].n_epochs * (parts["config"].n_folds - 1)
    n_epochs = parts["config"].n_epochs
    each = (seconds[N_OURS] - fit + fit / n_epochs) / N_OURS + once / visits
    return {"rate": 1 / each, "once_ms": 1000 * once}


def plain(given: argparse.Namespace) -> dict[str, Any]:
    import torch
    from PIL import Image
    from torchvision import transforms

    from embed.photos.files import find_photos
    from finetune.network.losses import smooth_l1_loss

    parts = prepared(given)
    config, network, cache = parts["config"], parts["network"], parts["cache"]
    photos = find_photos(parts["catalog"], given.data / "images")
    size = config.photo_size
    resize = transforms.Resize((size, size))
    blank = Image.new("RGB", (size, size), "white")
    network.fit_scales(parts["log_price"], cache.attributes[:])
    network.train()
    groups = network.parameter_groups(
        text=config.text_learning_rate,
        image=config.image_learning_rate,
        fusion=config.fusion_learning_rate,
        weight_decay=config.weight_decay,
    )
    optimizer = torch.optim.AdamW(groups)
    started = 0.0
    for start in range(0, N_PLAIN + config.batch_size, config.batch_size):
        if start == config.batch_size:
            started = time.perf_counter()
        rows = parts["rows"][start : start + config.batch_size]
        tokens = torch.zeros(len(rows), config.max_tokens, dtype=torch.long)
        mask = torch.zeros_like(tokens)
        for at, row in enumerate(rows):
            ids = torch.from_numpy(np.array(cache.tokens[row][: config.max_tokens]))
            tokens[at, : len(ids)], mask[at, : len(ids)] = ids, 1
        pixels = []
        for row in rows:
            path = photos[row]
            photo = Image.open(path).convert("RGB") if path else blank
            pixels.append(np.asarray(resize(photo)))
        fused = network.fuse(
            tokens, mask, torch.from_numpy(np.stack(pixels)), torch.arange(len(rows))
        )
        attributes = torch.from_numpy(np.array(cache.attributes[rows]))
        target = torch.from_numpy(parts["log_price"][rows]).float()
        wide = network.price_wide(tokens, mask, attributes)
        predicted = network.price(fused, attributes, wide)
        loss = smooth_l1_loss(predicted, target, beta=0.5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {"rate": N_PLAIN / (time.perf_counter() - started)}


def summarise(found: dict[str, list[dict[str, Any]]]) -> list[str]:
    rate = {way: median(figures, "rate") for way, figures in found.items()}
    lines = []
    for way in found:
        against = ""
        if way == "ours":
            ratio = rate[way] / rate["plain_unfrozen"]
            against = f"{ratio:.2f} times as fast as plain_unfrozen "
        if way.startswith("plain"):
            other = way.replace("plain", "ours")
            against = f"{other} is {rate[other] / rate[way]:.2f} times as fast "
        lines.append(
            f"| fine-tuning, recipe `default`, {way} | {rate[way]:.1f} products/s | | "
            f"{median(found[way], 'peak_mib'):.0f} MiB | {against}|"
        )
    return lines


WAYS = {
    "ours": ours,
    "plain": plain,
    "ours_unfrozen": ours,
    "plain_unfrozen": plain,
}

if __name__ == "__main__":
    main("finetune_speed", WAYS, summarise, options=parser(__doc__))
