"""Look for leaks in a finished run: predictions that used their own price.

Source: "Leakage and the reproducibility crisis in machine-learning-based science",
Kapoor & Narayanan, Patterns 2023. Each check can fail, and a canary, a leak made on
purpose, shows that the audit detects one.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from stack.audit.duplicates import check_duplicates
from stack.audit.features import check_ids, check_table_columns
from stack.audit.held_out import check_held_out
from stack.audit.priced_again import check_priced_again
from stack.audit.records import AuditedRun, Check
from stack.audit.shuffled_prices import check_shuffled_prices
from stack.audit.stored_prices import (
    check_canary,
    check_recorded_scores,
    check_soundness,
)
from stack.run import open_finished_run


def audit_run(
    run_dir: Path, *, n_products: int = 30, n_threads: int = 2, seed: int = 0
) -> Iterator[Check]:
    """Check a finished run for leaks, one after another.

    Parameters
    ----------
    run_dir : Path
        Run with all three stages finished; its catalog and photos have not moved.
    n_products : int
        Number of products to price again by each fold's network.
    n_threads : int
    seed : int
        Seed of the shuffled prices and the products drawn.

    Yields
    ------
    Check

    Raises
    ------
    CatalogError, CacheError
        If the run is not whole, or its catalog has changed or moved.
    """
    opened = open_finished_run(run_dir)
    run = opened.run
    audited = AuditedRun(
        opened=opened,
        catalog=run.catalog(),
        price=np.asarray(run.array("finetune/price")),
        folds=np.asarray(run.array("finetune/folds")),
        groups=np.asarray(run.array("finetune/groups")),
        n_threads=n_threads,
        seed=seed,
    )
    yield check_duplicates(audited)
    yield check_ids(audited)
    yield check_recorded_scores(audited)
    yield check_soundness(audited)
    yield check_canary(audited)
    if run.embed.table:
        yield check_table_columns(audited)
    if len(run.held_out_rows()):
        yield check_held_out(audited)
    yield from check_shuffled_prices(audited)
    yield check_priced_again(audited, n_products)
