"""Boosting on a large float16 memmap: time and peak memory.

Ways: ours, the blocks read from disk through `BlockMatrix` with the stacker's own
parameters; plain, `lgb.train` on the same numbers as a float64 matrix in memory, with
as many leaves and LightGBM's defaults for the rest. Made-up numbers: 60,000 products,
2,200 columns, of which a few carry the target.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import RESULTS, main, median, parser

WIDTHS = {"text": 384, "image": 1280, "fused": 512, "attributes": 24}
FILE_ROWS = 4096


def arrays(given: argparse.Namespace) -> tuple[dict[str, Any], np.ndarray]:
    folder = RESULTS / "stacker"
    blocks = {}
    for name, width in WIDTHS.items():
        path = folder / f"{name}-{given.rows}.npy"
        if not path.is_file():
            rng = np.random.default_rng(width)
            rows = np.lib.format.open_memmap(
                path, mode="w+", dtype=np.float16, shape=(given.rows, width)
            )
            for start in range(0, given.rows, FILE_ROWS):
                part = rows[start : start + FILE_ROWS]
                part[:] = rng.normal(size=part.shape)
            rows.flush()
        blocks[name] = np.load(path, mmap_mode="r")
    rng = np.random.default_rng(0)
    signal = blocks["attributes"][:, :8].astype(np.float64).sum(1)
    target = 3 + 0.3 * signal + rng.normal(0, 0.5, given.rows)
    return blocks, target


def ours(given: argparse.Namespace) -> dict[str, Any]:
    import lightgbm as lgb

    from stack.config import StackConfig
    from stack.trees.matrix import BlockMatrix, booster_params, make_dataset

    blocks, target = arrays(given)
    config = StackConfig(n_threads=given.threads)
    matrix = BlockMatrix(blocks)
    dataset = make_dataset(matrix, target, config)
    booster = lgb.Booster(booster_params(matrix, config), dataset)
    for _ in range(given.rounds):
        booster.update()
    return {"trees": booster.num_trees()}


def plain(given: argparse.Namespace) -> dict[str, Any]:
    import lightgbm as lgb

    from stack.config import StackConfig

    blocks, target = arrays(given)
    matrix = np.concatenate([b.astype(np.float64) for b in blocks.values()], axis=1)
    config = StackConfig()
    booster = lgb.train(
        {
            "objective": "regression_l1",
            "num_leaves": config.num_leaves,
            "learning_rate": config.learning_rate,
            "num_threads": given.threads,
            "verbosity": -1,
        },
        lgb.Dataset(matrix, label=target),
        num_boost_round=given.rounds,
    )
    return {"trees": booster.num_trees()}


def summarise(found: dict[str, list[dict[str, Any]]]) -> list[str]:
    seconds = {way: median(figures, "seconds") for way, figures in found.items()}
    peak = {way: median(figures, "peak_mib") for way, figures in found.items()}
    trees = found["ours"][0]["trees"]
    return [
        f"| boosting, {sum(WIDTHS.values())} columns, {trees} trees, {way} | "
        f"{seconds[way]:.0f} s | | {peak[way]:.0f} MiB | "
        + (
            "|"
            if way == "ours"
            else f"ours takes {seconds['ours'] / seconds[way]:.2f} of the time and "
            f"{peak['ours'] / peak[way]:.2f} of the memory |"
        )
        for way in found
    ]


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--rows", type=int, default=60_000)
    options.add_argument("--rounds", type=int, default=500)
    Path(RESULTS / "stacker").mkdir(parents=True, exist_ok=True)
    main("stacker", {"ours": ours, "plain": plain}, summarise, options=options)
