"""The kernel ridge beyond its bound: what it keeps of the ridge on all products.

It compares the run's own block, which is exact, with the block fitted exactly on a
sample of the bound's size, and with the block fitted with the bound on all prices.
Products outside the sample are priced by the mean of all folds' ridges.

    python -m benchmarks.kernel_bound --run RUN --bound 1000
"""

import argparse
import dataclasses
import tempfile
import time
from pathlib import Path

import numpy as np

from finetune.price_unit import to_price
from finetune.score import smape
from stack.blocks.fitted import fit_blocks, inputs_of, prices_of
from stack.run import open_run


def main() -> None:
    """Print the SMAPE of each, and the share of the exact ridge's gain that is kept."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--run", type=Path, required=True)
    options.add_argument("--bound", type=int, default=1000)
    given = options.parse_args()
    run = open_run(given.run)
    products, prices = inputs_of(run), prices_of(run.targets())
    priced = np.flatnonzero(prices.folds >= 0)
    drawn = np.random.default_rng(0).permutation(priced)[: given.bound]
    sampled = np.full_like(prices.folds, -1)
    sampled[drawn] = prices.folds[drawn]
    exact = np.load(given.run / "stack/blocks/kernel/features.npy")[:, 0]
    found = {"exact": exact}
    for name, known in (
        ("sample", dataclasses.replace(prices, folds=sampled)),
        ("bound", prices),
    ):
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            blocks = fit_blocks(
                ["kernel"], products, known, Path(folder), exact_up_to=given.bound
            )
            found[name] = np.array(blocks["kernel"][:, 0])
        print(f"{name}: {time.perf_counter() - started:.0f} s")
    true = to_price(prices.log_price[priced])
    score = {name: smape(true, to_price(of[priced])) for name, of in found.items()}
    kept = (score["sample"] - score["bound"]) / (score["sample"] - score["exact"])
    for name, value in score.items():
        print(f"{name}: SMAPE {value:.2f}")
    print(f"{kept:.0%} of the exact ridge's gain over the sample is kept")


if __name__ == "__main__":
    main()
