"""Check the stored out-of-fold prices: recorded scores, soundness, and a canary."""

from collections.abc import Sequence

import numpy as np

from finetune.score import smape
from stack.audit.records import SAMPLE_ROWS, AuditedRun, Check
from stack.blocks.nearest import DenseReferences, find_nearest
from stack.judge.doubts import find_doubts
from stack.judge.evaluate import median_of_other_folds
from stack.run import PREDICTIONS

_CANARY_SHARE = 0.1


def check_recorded_scores(audited: AuditedRun) -> Check:
    """Compare stored network prices with what each network scored when trained."""
    network = audited.predicted("network")
    recorded = [fold.held_out_smape for fold in audited.run.finetune.folds]
    scores = [
        smape(audited.price[rows], network[rows])
        for fold in range(len(recorded))
        for rows in [np.flatnonzero(audited.folds == fold)]
    ]
    largest_gap = float(np.abs(np.subtract(scores, recorded)).max())
    return Check(
        name="recorded scores",
        passed=largest_gap < 0.01,
        detail=f"network by fold {_join(scores)}, when trained {_join(recorded)}",
    )


def check_soundness(audited: AuditedRun) -> Check:
    """Look for folds and prices that do not fit the rest."""
    rows = audited.priced
    price, folds = audited.price[rows], audited.folds[rows]
    predicted = {
        "network": audited.predicted("network")[rows],
        "chosen": audited.predicted(audited.opened.chosen)[rows],
        "median": median_of_other_folds(price, folds),
    }
    doubts = find_doubts(
        price,
        folds,
        predicted,
        audited.groups[rows],
        by_network=audited.run.anchor_prices(),
    )
    by_fold = _join([fold.smape["network"] for fold in doubts.folds])
    return Check(
        name="soundness",
        passed=not doubts.sentences,
        detail=" ".join([f"SMAPE of the networks {by_fold}.", *doubts.sentences]),
    )


def check_canary(audited: AuditedRun) -> Check:
    """Check that a leak made on purpose shows and that stored prices are unlike it."""
    rows = audited.sample(SAMPLE_ROWS)
    text = audited.run.array("embed/text")
    likeness = DenseReferences(text, audited.priced).similarity(text[rows])
    of_nearest = audited.priced[find_nearest(likeness, 1)[0][:, 0]]
    likeness[audited.folds[rows][:, None] == audited.folds[audited.priced]] = -2
    outside = audited.priced[find_nearest(likeness, 1)[0][:, 0]]
    price = audited.price
    leaked = smape(price[rows], price[of_nearest])
    honest = smape(price[rows], price[outside])
    stored = {
        name: smape(price[rows], audited.predicted(name)[rows]) for name in PREDICTIONS
    }
    limit = leaked + _CANARY_SHARE * (honest - leaked)
    return Check(
        name="canary",
        passed=leaked < 0.5 * honest and min(stored.values()) > limit,
        detail=f"price of the nearest text {honest:.1f}, the product itself included "
        f"{leaked:.1f}; stored "
        + ", ".join(f"{name} {value:.1f}" for name, value in stored.items()),
    )


def _join(scores: Sequence[float]) -> str:
    return " ".join(f"{score:.2f}" for score in scores)
