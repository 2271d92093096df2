"""Whether networks stay sound: the bundled sample with several seeds, as Markdown.

`python -m benchmarks.soundness --seeds 0 1 2 3 4 --work runs/soundness` draws the
sample of `make demo`, runs all stages once for each seed and prints a table. Then it
prices new products of the same law by the network of each fold, and compares ways to
average them. Finished stages in `--work` are not run again.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

EMBED = ("--random-weights", "--image-size", "64")  # as the Makefile has it
N_NEW, NEW_SEED = 300, 7


def finetune_arguments() -> list[str]:
    """Return what the Makefile gives `pricestack finetune` for the sample."""
    show = ["make", "--silent", "--eval", "show: ; @echo $(FINETUNE_ARGS)", "show"]
    return subprocess.check_output(show, text=True).split()


def run(*arguments: object) -> None:
    command = [Path(sys.executable).with_name("pricestack"), *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def run_seed(work: Path, seed: int, given: argparse.Namespace) -> float:
    """Run all stages with one seed; return the seconds that they took."""
    run_dir, sample = work / f"seed-{seed}", work / "sample"
    more = ("--threads", given.threads)
    started = time.perf_counter()
    run(
        *("embed", sample / "catalog.csv", "--images", sample / "images"),
        *("--run", run_dir, *EMBED, *more),
    )
    run(
        *("finetune", "--run", run_dir, *finetune_arguments()),
        *("--seed", seed, "--precision", given.precision, *more),
    )
    run("stack", "--run", run_dir, "--seed", seed, *more)
    return time.perf_counter() - started


def row_of(run_dir: Path, seconds: float) -> str:
    """Return the table's row of a finished run."""
    from embed.store.manifest import read_json

    report = read_json(run_dir / "stack" / "report.json")
    assert report is not None
    scores = {row["name"]: row for row in report["predictors"]}
    doubts = report["doubts"]
    found = [fold["smape"]["network"] for fold in doubts["folds"]]
    far = max(abs(score - np.median(found)) for score in found)
    price = np.load(run_dir / "finetune" / "price.npy")
    unit = float(
        (read_json(run_dir / "finetune" / "manifest.json") or {})["price_unit"]
    )
    network = unit * np.expm1(np.load(run_dir / "finetune" / "oof_log_price.npy"))
    cells = [
        " ".join(f"{score:.1f}" for score in found),
        f"{far:.1f}",
        f"{network.max() / np.nanmax(price):.2f}",
        *(f"{scores[name]['mae']:.2f}" for name in ("network", "lightgbm", "median")),
        f"{scores['network']['smape']:.2f}",
        f"{scores['chosen']['smape']:.2f} ({report['verdict']['chosen']})",
        str(len(doubts["sentences"])),
        f"{seconds / 60:.1f}",
    ]
    return " | ".join(cells)


def network_log_prices(run_dir: Path, sample: Path) -> NDArray[np.float64]:
    """Price new products by the networks of each fold, shape (n_folds, n_products)."""
    from embed.catalog.reader import read_catalog
    from embed.chunks import prepared_chunks
    from stack.price.predictor import Predictor

    catalog = read_catalog(sample / "catalog.csv")
    by_fold = []
    for fold in range(5):
        predictor = Predictor(run_dir, folds=[fold])
        inputs = predictor.inputs(catalog, sample / "images")
        chunks = prepared_chunks(inputs, predictor.config, 0)
        found = [predictor.predict(chunk).network_log_price for chunk in chunks]
        by_fold.append(np.concatenate(found))
    return np.array(by_fold)


def averages(log_prices: NDArray[np.float64], price: NDArray[np.float64]) -> str:
    """Score ways to average networks."""
    from finetune.averaging import average_log_prices
    from finetune.score import smape

    ways = (
        log_prices.mean(axis=0),
        np.median(log_prices, axis=0),
        np.sort(log_prices, axis=0)[1:-1].mean(axis=0),
        average_log_prices(log_prices),
    )
    return " | ".join(f"{smape(price, np.expm1(way)):.2f}" for way in ways)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", default="auto")
    given = parser.parse_args()
    run("sample", "--out", given.work / "sample")
    run("sample", "--products", N_NEW, "--seed", NEW_SEED, "--out", given.work / "new")
    print(
        "| seed | folds | farthest | dearest | MAE network | LightGBM | median "
        "| network | chosen | doubts | minutes |\n" + "|---" * 11 + "|"
    )
    for seed in given.seeds:
        seconds = run_seed(given.work, seed, given)
        print(
            f"| {seed} | {row_of(given.work / f'seed-{seed}', seconds)} |", flush=True
        )
    from embed.catalog.reader import read_catalog

    price = read_catalog(given.work / "new" / "catalog.csv").price
    assert price is not None
    print("\n| networks | mean | median | trimmed | bounded |\n|---|---|---|---|---|")
    log_prices = network_log_prices(
        given.work / f"seed-{given.seeds[0]}", given.work / "new"
    )
    print(f"| as they are | {averages(log_prices, price)} |")
    log_prices[2] += np.random.default_rng(0).normal(0, 2, len(price))
    print(f"| one made bad | {averages(log_prices, price)} |")


if __name__ == "__main__":
    main()
