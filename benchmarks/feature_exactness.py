"""What the fast features cost: LightGBM on them, against LightGBM on exact ones.

Ways: ours, a catalog embedded by default; exact, in eager fp32. On each, the boosters
that a run calls `lightgbm`, out of fold on the products with a price. The figures are
the same in every round, so one is enough.
"""

import argparse
import shutil
from typing import Any

import numpy as np

from benchmarks.measure import RESULTS, least_cosine, main, parser

N_FOLDS = 5


def boosted(given: argparse.Namespace) -> dict[str, Any]:
    from embed.catalog.reader import read_catalog
    from embed.config import EmbedConfig
    from embed.extract import extract
    from embed.store.arrays import read_rows
    from finetune.folds import assign_folds
    from finetune.products import product_groups
    from finetune.score import smape, to_price
    from stack.blocks.fitted import block_matrix
    from stack.blocks.registry import RAW_BLOCKS
    from stack.config import StackConfig
    from stack.trees.residual import fit_out_of_fold

    is_exact = given.way == "exact"
    catalog = read_catalog(given.data / "catalog.csv")
    folder = given.work / "embed"
    shutil.rmtree(folder, ignore_errors=True)
    manifest = extract(
        catalog,
        given.work,
        images_dir=given.data / "images",
        config=EmbedConfig(
            image_encoder=given.image_encoder,
            n_threads=given.threads,
            backend="eager" if is_exact else "auto",
            precision="fp32" if is_exact else "auto",
        ),
    )
    assert catalog.price is not None
    groups = product_groups(catalog, folder)
    folds = assign_folds(
        catalog.price,
        groups,
        n_folds=N_FOLDS,
        seed=0,
        order_keys=[str(sample_id) for sample_id in catalog.sample_id],
    )
    fit = fit_out_of_fold(
        block_matrix(
            {name: read_rows(folder / f"{name}.npy") for name in RAW_BLOCKS},
            embed=manifest,
        ),
        np.log1p(catalog.price),
        init_log_price=None,
        folds=folds,
        groups=groups,
        config=StackConfig(n_threads=given.threads),
    )
    found = smape(catalog.price, to_price(fit.out_of_fold))
    backends = " and ".join(sorted(set(manifest.backends.values())))
    return {"smape": found, "rows": catalog.n_products, "backends": backends}


def summarise(found: dict[str, list[dict[str, Any]]]) -> list[str]:
    ours, exact = found["ours"][0], found["exact"][0]
    folders = [RESULTS / "feature_exactness" / way / "embed" for way in found]
    least = {
        name: least_cosine(*(folder / f"{name}.npy" for folder in folders))
        for name in ("text", "image")
    }
    cosines = ", ".join(f"least cosine of {n} {c:.4f}" for n, c in least.items())
    return [
        f"| LightGBM on the features, {exact['rows']} products, exact | SMAPE "
        f"{exact['smape']:.2f} | | | {exact['backends']} |",
        f"| LightGBM on the features, {ours['rows']} products, ours | SMAPE "
        f"{ours['smape']:.2f} | | | {ours['smape'] - exact['smape']:+.2f}; "
        f"{ours['backends']}; {cosines} |",
    ]


if __name__ == "__main__":
    options = parser(__doc__)
    options.set_defaults(runs=1)
    main(
        "feature_exactness",
        {"ours": boosted, "exact": boosted},
        summarise,
        options=options,
    )
