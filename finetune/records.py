"""Records that the fine-tuning stage writes."""

from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from embed.store.records import FileRecord, Manifest, Record
from embed.store.rules import (
    Count,
    CountFromOne,
    Crc32,
    FileName,
    Positive,
    Real,
    Requires,
    Text,
    whole,
)
from finetune.config import FinetuneConfig


class FoldRecord(Record):
    """finetune/fold-k/manifest.json."""

    fold: Annotated[int, whole(0, 126)]
    key: Text
    n_train: Count
    n_held_out: Count
    held_out_smape: Real
    seed_smape: list[Real]
    """SMAPE of each network of the fold; `held_out_smape` is the SMAPE of their mean
    price."""

    models_sha256: list[Text]
    checksums: dict[FileName, Crc32]
    seconds: dict[Text, Real]


class NetworkRecord(Record):
    """network.json beside the weights of each network."""

    key: Text
    model_sha256: Text
    seconds: Real


class HiddenStatesRecord(Record):
    """Record of the outputs of the frozen layers."""

    key: Text
    files: dict[FileName, FileRecord]


class PlanRecord(Record):
    """plan.json of a stage: the key of the inputs that it works on."""

    key: Text


class LimitRecord(Record):
    """time_limit.json: the settings that were chosen for a time limit."""

    key: Text
    config: Annotated[FinetuneConfig, Requires("n_folds")]


class HistoryRow(Record):
    """An epoch in history.csv.

    The loss and the learning rates are means over the epoch's batches, the gradient's
    norm before clipping is their median, and the seconds count training alone.
    """

    model_config = ConfigDict(extra="ignore")

    epoch: Real
    phase: Real
    loss: Real
    train_smape: Real
    held_out_smape: Real | None
    """None where held-out products are not tracked."""

    learning_rate_factor: Real
    text_learning_rate: Real
    image_learning_rate: Real
    fusion_learning_rate: Real
    gradient_norm: Real | None
    """None where every gradient of the epoch overflowed in fp16."""

    seconds: Real
    products_per_second: Real


HISTORY_COLUMNS = tuple(HistoryRow.model_fields)


class CheckpointRecord(Record):
    """The part of a checkpoint that is not tensors."""

    epochs_done: CountFromOne
    history: list[HistoryRow]
    scaler: dict[Text, Real]
    crc32: Crc32


class DatesRecord(Record):
    """Dates of a run's priced products, such as "2024-03-31"."""

    first_trained: Text
    last_trained: Text
    test_from: Text | None
    """Date from which products are held out; None if dates decide nothing."""

    last_held_out: Text | None


class StartRecord(Record):
    """The run from whose networks a run's training began."""

    name: Text
    manifest_sha256: Text
    """sha256 of the finetune/manifest.json of that run."""

    key_kinds: list[Text]
    """Kinds of the columns of seen_keys.npy."""

    new_folds: list[Annotated[int, whole(0, 126)]]
    """Folds whose networks began from nothing."""

    from_nothing: dict[Text, Count | Real]
    """Epochs and learning rates of networks that begin from nothing."""


class FinetuneManifest(Manifest):
    """finetune/manifest.json."""

    STAGE: ClassVar[str] = "finetune"

    stage: Literal["finetune"]
    embed_key: Text
    config: Annotated[FinetuneConfig, Requires("n_folds")]
    n_products: CountFromOne
    n_unpriced_dropped: Count
    n_held_out: Count = 0
    """Products with a price that no stage trains on."""

    n_undated: Count = 0
    """Products with a price but without the date that the test needs."""

    dates: DatesRecord | None = None
    """Given with a time column."""

    price_unit: Positive = 1.0
    """Amount of catalog currency that the run counts as 1."""

    start: StartRecord | None = None
    """Given if the training began from the networks of another run."""

    smape: Real
    folds: list[FoldRecord]
    files: dict[FileName, FileRecord]
    environment: dict[Text, Text] = Field(default_factory=dict)
    device: Text = ""
    precision: Text = ""
    seconds: Real
