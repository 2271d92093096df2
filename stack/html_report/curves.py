"""Draw learning curves from each fold's history.csv."""

import csv
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.ticker import MaxNLocator

from embed.errors import CacheError
from embed.store.manifest import MANIFEST_NAME, make_command
from finetune.training.tracking import HISTORY_NAME
from stack.html_report.svg import GREY, drawing, new_axes, to_svg

_MOST_NAMED = 10  # with more folds, the chart has no legend
_NEEDED = ("epoch", "loss", "train_smape")


@dataclass(frozen=True, kw_only=True)
class FoldHistory:
    """Columns of a fold's history, one value per epoch; NaN where not recorded."""

    fold: int
    columns: Mapping[str, Sequence[float]]


def read_histories(finetune_dir: Path, n_folds: int) -> list[FoldHistory]:
    """Read the history of each fold.

    Raises
    ------
    CacheError
        If a file is missing or is not in the format that training writes.
    """
    return [
        FoldHistory(
            fold=fold, columns=_read(finetune_dir / f"fold-{fold}" / HISTORY_NAME)
        )
        for fold in range(n_folds)
    ]


def loss_chart(histories: Sequence[FoldHistory]) -> str:
    """Draw the training loss of each fold as SVG, with a line for each phase."""
    return _chart(histories, ["loss"], name="loss", label="Training loss")


def smape_chart(histories: Sequence[FoldHistory]) -> str:
    """Draw the SMAPE of each fold on training and held-out rows, as SVG."""
    others = [name for name in held_out_columns(histories) if name != "train_smape"]
    label = "SMAPE, 0 to 200"
    return _chart(histories, ["train_smape", *others], name="epochs", label=label)


def held_out_columns(histories: Sequence[FoldHistory]) -> list[str]:
    """Return the columns with a SMAPE on held-out rows, if recorded."""
    return [
        name
        for name, values in histories[0].columns.items()
        if name.endswith("smape")
        and name != "train_smape"
        and not all(map(math.isnan, values))
    ]


def _chart(
    histories: Sequence[FoldHistory], columns: list[str], *, name: str, label: str
) -> str:
    colors = mpl.colormaps["viridis"].resampled(len(histories) + 1)
    with drawing(name):
        figure, axes = new_axes(2.9)
        for history in histories:
            color = colors(history.fold)
            for column in columns:
                lines = _lines(history, column)
                for line, (x, y) in enumerate(lines):
                    has_label = line == 0 and column == columns[0]
                    axes.plot(
                        x,
                        y,
                        color=color,
                        linewidth=1.4,
                        linestyle="-" if column == columns[0] else (0, (3, 2)),
                        marker="o",
                        markersize=3,
                        label=f"Fold {history.fold + 1}" if has_label else None,
                    )
        for epoch in phase_starts(histories[0]):
            axes.axvline(epoch - 0.5, color=GREY, linewidth=1.0, linestyle=(0, (1, 2)))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        axes.set_xlabel("Epoch")
        axes.set_ylabel(label)
        if len(histories) <= _MOST_NAMED:
            axes.legend(
                loc="lower left", bbox_to_anchor=(0, 1), ncols=4, handlelength=1.2
            )
        return to_svg(
            figure,
            name=name,
            title=f"{label} by epoch",
            description="Last epoch: "
            + "; ".join(
                f"fold {history.fold + 1}: {history.columns[columns[0]][-1]:.3g}"
                for history in histories
            ),
        )


def _lines(
    history: FoldHistory, column: str
) -> list[tuple[Sequence[float], Sequence[float]]]:
    """Split a curve of losses at each new phase, which has another loss function."""
    epochs, values = history.columns["epoch"], history.columns[column]
    if column != "loss":
        return [(epochs, values)]
    starts = [epochs.index(epoch) for epoch in phase_starts(history)]
    bounds = [0, *starts, len(epochs)]
    return [(epochs[a:b], values[a:b]) for a, b in itertools.pairwise(bounds)]


def phase_starts(history: FoldHistory) -> list[float]:
    """Return the first epoch of each phase but the first."""
    phases = history.columns.get("phase", [])
    epochs = history.columns["epoch"]
    rows = range(1, len(phases))
    return [epochs[row] for row in rows if phases[row] != phases[row - 1]]


def _read(path: Path) -> dict[str, list[float]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
            columns = {name: [_number(row[name]) for row in rows] for name in rows[0]}
    except FileNotFoundError:
        raise CacheError(f"{path}: is missing. {_remedy(path)}") from None
    except (ValueError, TypeError, IndexError, csv.Error) as error:
        raise CacheError(
            f"{path}: is not the table of numbers that training writes ({error}). "
            f"{_remedy(path)}"
        ) from error
    if missing := [name for name in _NEEDED if name not in columns]:
        raise CacheError(f"{path}: has no column {missing[0]!r}. {_remedy(path)}")
    return columns


def _number(written: str) -> float:
    return float(written) if written else math.nan


def _remedy(path: Path) -> str:
    stage_dir = path.parent.parent
    return (
        f"Copy it from where the run was made, or delete the folder {path.parent} and "
        f"the file {stage_dir / MANIFEST_NAME} and run "
        f"`{make_command(stage_dir.parent, 'finetune')}` again, with the same options "
        f"as before."
    )
