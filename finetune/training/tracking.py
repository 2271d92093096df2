"""Record training epoch by epoch in history.csv.

No decision depends on the record, and recording more changes no weight.
"""

import csv
import io
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from embed.errors import CacheError
from embed.store.durable import write_bytes
from embed.store.records import describe_fault
from finetune.config import FinetuneConfig
from finetune.records import HISTORY_COLUMNS, HistoryRow

HISTORY_NAME = "history.csv"
RECORD_NAME = "network.json"  # the inputs of a trained network


@dataclass(frozen=True, kw_only=True)
class Tracking:
    """Optional records; no result depends on them."""

    held_out: bool = False
    """SMAPE on the held-out products after each epoch: one more pass over them."""

    tensorboard: bool = False
    """The columns of history.csv as TensorBoard scalars too."""


UNTRACKED = Tracking()


@dataclass(kw_only=True)
class EpochTally:
    """Statistics of the batches of one epoch."""

    started: float = field(default_factory=time.monotonic)
    losses: list[float] = field(default_factory=list)
    smapes: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    factors: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)

    def add(
        self, *, loss: float, smape: float, size: int, factor: float, norm: float
    ) -> None:
        """Add a batch.

        Parameters
        ----------
        loss : float
        smape : float
            Percent, of the prices before the update.
        size : int
            Number of its products.
        factor : float
            Share of the peak learning rates.
        norm : float
            Norm of its gradient, before clipping; may be infinite in fp16.
        """
        self.losses.append(loss)
        self.smapes.append(smape)
        self.sizes.append(size)
        self.factors.append(factor)
        self.norms.append(norm)

    def history_row(self, epoch: int, config: FinetuneConfig) -> HistoryRow:
        """Return the history row of the epoch, counted from 0."""
        seconds = time.monotonic() - self.started
        factor = float(np.mean(self.factors))
        finite = [norm for norm in self.norms if np.isfinite(norm)]
        return HistoryRow(
            epoch=epoch + 1,
            phase=1 if epoch < config.smooth_l1_epochs else 2,
            loss=round(float(np.mean(self.losses)), 6),
            train_smape=round(float(np.average(self.smapes, weights=self.sizes)), 4),
            held_out_smape=None,
            learning_rate_factor=round(factor, 6),
            text_learning_rate=_rate(config.text_learning_rate * factor),
            image_learning_rate=_rate(config.image_learning_rate * factor),
            fusion_learning_rate=_rate(config.fusion_learning_rate * factor),
            gradient_norm=round(float(np.median(finite)), 6) if finite else None,
            seconds=round(seconds, 2),
            products_per_second=round(sum(self.sizes) / max(seconds, 1e-9), 2),
        )


def write_history(path: Path, history: list[HistoryRow]) -> None:
    """Write history.csv whole; an unknown value is an empty cell."""
    text = io.StringIO()
    lines = csv.DictWriter(text, HISTORY_COLUMNS, lineterminator="\n")
    lines.writeheader()
    lines.writerows(row.as_json() for row in history)
    write_bytes(path, text.getvalue().encode())


def read_history(path: Path) -> list[HistoryRow]:
    """Read history.csv.

    Returns
    -------
    list of HistoryRow
        A row for each epoch; empty cells are None.

    Raises
    ------
    CacheError
        If a column is missing or a cell is not a number.
    OSError
        If the file cannot be read.
    """
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        rows = [
            {name: _number(cell) for name, cell in row.items() if name is not None}
            for row in csv.DictReader(file)
        ]
    history = []
    for number, row in enumerate(rows, 1):
        try:
            history.append(HistoryRow.model_validate(row))
        except ValidationError as error:
            raise CacheError(
                f"{path}: epoch {number}: {describe_fault(error, found='found')}. It "
                f"was written by another version or changed by hand; delete the folder "
                f"{path.parent} and run the fine-tuning again."
            ) from None
    return history


def _number(cell: str | None) -> float | str | None:
    try:
        return float(cell) if cell else None
    except ValueError:
        return cell


def _rate(value: float) -> float:
    return float(f"{value:.6g}")
