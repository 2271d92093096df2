"""Check for duplicates in two folds: a model could know a price by its duplicate."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stack.audit.records import AuditedRun, Check


def check_duplicates(audited: AuditedRun) -> Check:
    """Look for texts, photos and recorded groups that lie in two folds."""
    texts = [" ".join(text.lower().split()) for text in audited.catalog.text]
    keys_of = {
        "texts": texts,
        "photos": audited.photo_hashes,
        "groups": [*map(str, audited.groups)],
    }
    split = {name: _n_split(keys, audited.folds) for name, keys in keys_of.items()}
    counts = ", ".join(f"{n} {name}" for name, n in split.items())
    return Check(
        name="duplicates",
        passed=not any(split.values()),
        detail=f"in two folds or more: {counts}",
    )


def _n_split(keys: Sequence[str], folds: NDArray[np.integer]) -> int:
    folds_of: dict[str, set[int]] = {}
    for key, fold in zip(keys, folds.tolist(), strict=True):
        if key and fold >= 0:
            folds_of.setdefault(key, set()).add(fold)
    return sum(len(key_folds) > 1 for key_folds in folds_of.values())
