"""Write history.csv as TensorBoard scalars, one small event file for each epoch.

Each file is named by its epoch and written once, so no step appears twice, however
often training was stopped. TensorBoard joins the files of a folder in order of name.
"""

import importlib
import io
import time
from pathlib import Path

from embed.errors import ConfigError
from embed.store.durable import PARTIAL_SUFFIX, named_errors, replace_durably
from finetune.records import HistoryRow
from finetune.training.tracking import (
    HISTORY_NAME,
    RECORD_NAME,
    read_history,
)

FOLDER = "tensorboard"
_PREFIX = "events.out.tfevents."


def require_tensorboard() -> None:
    """Refuse to start without the package.

    Raises
    ------
    ConfigError
        If it is missing; the message names the extra to install.
    """
    try:
        importlib.import_module("tensorboard.summary.writer.record_writer")
    except ImportError as error:
        raise ConfigError(
            f"--tensorboard needs the package tensorboard, which cannot be imported "
            f"({error}). Run `pip install tensorboard`, or install pricestack with its "
            f"extra `tensorboard`; history.csv has the same values without it."
        ) from error


def events_dir(fold_dir: Path) -> Path:
    """Return the folder of a fold's events: RUN/finetune/tensorboard/fold-k."""
    return fold_dir.parent / FOLDER / fold_dir.name


def remove_events(fold_dir: Path) -> None:
    """Delete the events of an earlier training of the fold."""
    for old in events_dir(fold_dir).glob(f"{_PREFIX}*"):
        old.unlink()


def update_events(fold_dir: Path, history: list[HistoryRow]) -> None:
    """Write the events of each epoch that has none yet.

    Parameters
    ----------
    fold_dir : Path
        RUN/finetune/fold-k; the events go to `events_dir` of it.
    history : list of HistoryRow
        All epochs so far.
    """
    folder = events_dir(fold_dir)
    folder.mkdir(parents=True, exist_ok=True)
    ended = time.time()
    for row in reversed(history):
        path = folder / f"{_PREFIX}{int(row.epoch):04d}"
        if not path.exists():
            # TensorBoard reads every file with "tfevents" in its name, finished or not.
            partial = folder / f"epoch-{int(row.epoch)}{PARTIAL_SUFFIX}"
            with named_errors(partial):
                partial.write_bytes(_event_file(row, ended))
            replace_durably(partial, path)
        ended -= row.seconds


def write_stage_events(stage_dir: Path) -> None:
    """Write the missing events of all trained networks.

    Raises
    ------
    CacheError
        If a history.csv is not in our format.
    """
    for record in sorted(stage_dir.glob(f"fold-*/{RECORD_NAME}")):
        fold_dir = record.parent
        update_events(fold_dir, read_history(fold_dir / HISTORY_NAME))


def _event_file(row: HistoryRow, ended: float) -> bytes:
    from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[import-untyped]
    from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
    from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]

    values = [
        Summary.Value(tag=name, simple_value=value)
        for name, value in row.as_json().items()
        if value is not None and name != "epoch"
    ]
    content = io.BytesIO()
    records = RecordWriter(content)
    for event in (
        Event(wall_time=ended, file_version="brain.Event:2"),
        Event(wall_time=ended, step=int(row.epoch), summary=Summary(value=values)),
    ):
        records.write(event.SerializeToString())
    return content.getvalue()
