"""Settings of the fine-tuning stage, and the two named recipes."""

from dataclasses import replace
from datetime import date
from typing import Annotated, Literal

from pydantic.dataclasses import dataclass

from embed.errors import ConfigError
from embed.store.records import SETTINGS, config_errors
from embed.store.rules import Flag, Rule, Text, whole

Recipe = Literal["default", "paper"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
NetworkInputs = Literal["both", "text", "image"]
NO_TEST = "none"
"""Value of `FinetuneConfig.test_from` that trains on products of all dates."""

_N_SPECIAL_TOKENS = 2
_PHOTO_SIZE = 160  # pixels
_BATCH = (
    "--batch-size must be at least 2 (the head normalises over the batch) and "
    "--set micro_batch_size at least 1"
)
_Share = Annotated[float, Rule("in [0, 1)", lambda share: 0 <= share < 1)]
_Epochs = Annotated[int, whole(0, rule="0 or more")]
_Rate = Annotated[float, Rule("0 to 1", lambda rate: 0 <= rate <= 1)]


@config_errors
@dataclass(frozen=True, kw_only=True, config=SETTINGS)
class FinetuneConfig:
    """Settings of the network and its training; the manifest records all of them."""

    recipe: Recipe = "default"
    """Name of the recipe that gives the defaults."""

    n_folds: Annotated[
        int,
        whole(
            2,
            127,
            "--folds must be at least 2 (each product is priced by a network "
            "that was not trained on it) and at most 127",
        ),
    ] = 5
    """Folds of the products; the networks of a fold are judged, not trained, on it."""

    seed: Annotated[int, whole(0, 2**31 - 1, "--seed must be 0 to 2147483647")] = 0
    """Seed of folds, batches, dropout and new weights."""

    n_seeds: Annotated[int, whole(1, 20, "--seeds must be 1 to 20")] = 1
    """Networks of each fold, from `seed`, `seed` + 1 and so on. Their price is the mean
    on the log scale, their fused embedding that of the first."""

    hold_out: Annotated[
        float, Rule("--hold-out must be 0 to 0.5", lambda share: 0 <= share <= 0.5)
    ] = 0.0
    """Share of the priced products that no stage trains on; the last stage scores the
    served predictor on them."""

    test_from: Text | None = None
    """Date from which products are held out in the same way, as 2024-03-31, or `none`.
    None: with a time column and without `hold_out`, the date that leaves about a fifth
    of the products for the test."""

    inputs: NetworkInputs = "both"
    """Inputs of the networks. `text`: no photo. `image`: no text, and so no sizes and
    no wide part. The folds are the same for all."""

    smooth_l1_epochs: _Epochs = 3
    """Epochs of phase 1: SmoothL1 on log1p price."""

    smape_epochs: _Epochs = 2
    """Epochs of phase 2: differentiable SMAPE, which is non-convex for large errors."""

    smooth_l1_beta: Annotated[float, Rule("above 0", lambda beta: beta > 0)] = 0.5
    """Error in log price below which the loss is squared, above which it is linear."""

    batch_size: Annotated[int, whole(2, rule=_BATCH)] = 32
    """Products for one update."""

    micro_batch_size: Annotated[int, whole(1, rule=_BATCH)] = 64
    """Products in one pass through the towers. A smaller value takes less memory and
    more time; the update stays the same."""

    text_learning_rate: _Rate = 2e-4
    """Peak learning rate, AdamW. 5e-5 to 1e-4 worked for MiniLM elsewhere."""

    image_learning_rate: _Rate = 1e-4
    """Peak learning rate, AdamW. With frozen batch statistics, nothing bounds the photo
    tower's activations: at 3e-4 one of twenty networks diverged in its first epoch."""

    fusion_learning_rate: _Rate = 1e-3
    """Peak learning rate, AdamW, of projections and head, which start at random."""

    weight_decay: Annotated[float, Rule("0 or more", lambda decay: decay >= 0)] = 0.01
    """Weight decay of AdamW, on matrices only."""

    adam_epsilon: Annotated[
        float, Rule("above 0, at most 1", lambda epsilon: 0 < epsilon <= 1)
    ] = 1e-5
    """Epsilon of AdamW; gradients well below it hardly move a weight. Some gradients
    are zero except for rounding (a bias before a batch norm). At the usual 1e-8 AdamW
    takes whole steps on them, which differ with the number of threads: by 0.1 SMAPE on
    600 sample products, against 0.001 at 1e-5."""

    warmup_fraction: _Share = 0.08
    """Share of all updates during which the learning rates rise from 0."""

    smooth_l1_cycle_epochs: _Epochs = 0
    """Length of a cosine cycle in phase 1, with a warm restart after each; 0 in both
    phases: one cosine over all epochs."""

    smape_cycle_epochs: _Epochs = 0
    """Length of a cosine cycle in phase 2."""

    clip_norm: Annotated[float, Rule("above 0", lambda norm: norm > 0)] = 1.0
    """Largest norm of the gradient; larger gradients are scaled down to it."""

    ema_decay: _Share = 0.995
    """Decay of the running average of weights, which is what the network keeps; 0: no
    average."""

    head_dropout: _Share = 0.25
    """Dropout after each hidden layer of the head."""

    encoder_dropout: _Share = 0.0
    """Dropout inside the text encoder. Dropout biases regression towards the mean."""

    image_dropout: _Share = 0.0
    """Share of the photos of each training batch that are left out: the learned vector
    of products without a photo replaces them (modality dropout)."""

    freeze_batch_norm: Flag = True
    """Freeze the photo tower's batch statistics: a batch has few photos."""

    bound_price: Flag = True
    """Predict no price above twice the dearest training price or below half the
    cheapest."""

    normalise_image: Flag = True
    """Scale each photo's features to mean 0 and a small spread before the projection,
    so no photo's embedding is many times as long as the others."""

    freeze_layers: (
        Annotated[int, whole(0, rule="--freeze-layers must be 0 or more")] | None
    ) = None
    """Layers of the text encoder that are not trained; with one or more, nor is its
    embedding. None: two thirds of the layers, 4 of MiniLM's 6. Each frozen layer makes
    training faster, and on some thousand products the score does not get worse, see
    benchmarks/ABLATIONS.md."""

    freeze_image: Flag = False
    """Freeze the photo tower and train on the features of the embedding stage: no photo
    is decoded, encoded again or augmented."""

    use_attributes: Flag = True
    """Whether the head gets sizes and pack counts beside the 512 fused values."""

    use_wide: Flag = True
    """Whether the head also gets the log price of a shallow network on tokens and
    sizes: a vector for each n-gram and each bin of a size, then two layers."""

    max_tokens: Annotated[int, whole(8, 512, "--max-tokens must be 8 to 512")] = 64
    """Largest number of tokens of a text; the cache may hold more."""

    image_size: (
        Annotated[int, whole(32, 1024, "--image-size must be 32 to 1024 pixels")] | None
    ) = None
    """Side of the network's input photo, pixels. None: 160, which takes half the work
    of 224; for a photo tower that takes one size only, that size."""

    start_from: Text | None = None
    """Folder of a finished run, of an earlier version of the catalog, from whose
    networks the training begins. The manifest records its name only."""

    precision: Precision = "auto"
    """`auto`: fp16 with a gradient scaler on CUDA, bf16 on a CPU that has it, fp32
    elsewhere."""

    n_threads: Annotated[int, whole(1, rule="--threads must be at least 1")] = 2
    """Threads for arithmetic."""

    def __post_init__(self) -> None:
        """Refuse epochs that no run can use."""
        if self.n_epochs < 1:
            raise ConfigError("epochs must be at least 1 in all, got 0")
        cycles = self.smooth_l1_cycle_epochs, self.smape_cycle_epochs
        if (cycles[0] > 0) != (cycles[1] > 0):
            raise ConfigError(
                f"cycle epochs must be at least 1 in both phases, or 0 in both, got "
                f"{cycles[0]} and {cycles[1]}"
            )
        if self.test_from not in (None, NO_TEST):
            self._check_test_from()

    def _check_test_from(self) -> None:
        """Refuse a date that cannot be read, or two kinds of held-out products."""
        try:
            date.fromisoformat(str(self.test_from))
        except ValueError:
            raise ConfigError(
                f"--test-from must be a date such as 2024-03-31, or {NO_TEST}, got "
                f"{self.test_from!r}"
            ) from None
        if self.hold_out:
            raise ConfigError(
                "--test-from and --hold-out exclude each other: the first holds out "
                "later products, the second random ones. Leave one of them out"
            )

    @property
    def photo_size(self) -> int:
        """Side of the network's input photo, pixels; the manifest records it."""
        return self.image_size or _PHOTO_SIZE

    @property
    def n_epochs(self) -> int:
        """Epochs of both phases."""
        return self.smooth_l1_epochs + self.smape_epochs

    @property
    def sees_text(self) -> bool:
        """Whether texts, and sizes that are read from them, are an input."""
        return self.inputs != "image"

    @property
    def sees_photos(self) -> bool:
        """Whether photos are an input."""
        return self.inputs != "text"

    @property
    def n_tokens(self) -> int:
        """Largest number of tokens of a text that reach the network.

        Without texts, only the opening and the closing token do.
        """
        return self.max_tokens if self.sees_text else _N_SPECIAL_TOKENS

    def of_seed(self, at: int) -> "FinetuneConfig":
        """Return the settings of the `at`-th network of a fold, counted from 0."""
        return replace(self, seed=(self.seed + at) % 2**31)


# The settings that the source document states: SmoothL1 with beta 0.5, then SMAPE;
# AdamW with these three rates; warm restarts, short cycles in the second phase; all
# layers unfrozen; 20 epochs. It does not state batch, tokens, image side and the split
# of the 20 epochs, which are our choice.
PAPER = FinetuneConfig(
    recipe="paper",
    smooth_l1_epochs=12,
    smape_epochs=8,
    smooth_l1_cycle_epochs=6,
    smape_cycle_epochs=2,
    text_learning_rate=5e-6,
    image_learning_rate=7e-6,
    fusion_learning_rate=1e-5,
    adam_epsilon=1e-8,
    warmup_fraction=0.0,
    ema_decay=0.0,
    encoder_dropout=0.1,
    freeze_batch_norm=False,
    bound_price=False,
    normalise_image=False,
    freeze_layers=0,
    use_attributes=False,
    use_wide=False,
)
RECIPES: dict[Recipe, FinetuneConfig] = {"default": FinetuneConfig(), "paper": PAPER}
