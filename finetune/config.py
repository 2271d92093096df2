"""Settings of the fine-tuning stage, and the two named recipes."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

from embed.errors import ConfigError

Recipe = Literal["default", "paper"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
NetworkInputs = Literal["both", "text", "image"]
_N_SPECIAL_TOKENS = 2
_WITHOUT_OPTION = {
    "smooth_l1_beta",
    "weight_decay",
    "clip_norm",
    "warmup_fraction",
    "ema_decay",
    "head_dropout",
    "encoder_dropout",
}
"""Numbers that only the Python interface sets."""


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """Settings of the network and its training; the manifest records all of them."""

    recipe: Recipe = "default"
    """Name of the recipe that gives the defaults."""

    n_folds: int = 5
    """Folds of the products; the networks of a fold are judged, not trained, on it."""

    seed: int = 0
    """Seed of folds, batches, dropout and new weights."""

    n_seeds: int = 1
    """Networks of each fold, from `seed`, `seed` + 1 and so on. Their price is the mean
    on the log scale, their fused embedding that of the first."""

    inputs: NetworkInputs = "both"
    """Inputs of the networks. `text`: no photo. `image`: no text, and so no sizes and
    no wide part. The folds are the same for all."""

    smooth_l1_epochs: int = 3
    """Epochs of phase 1: SmoothL1 on log1p price."""

    smape_epochs: int = 2
    """Epochs of phase 2: differentiable SMAPE, which is non-convex for large errors."""

    smooth_l1_beta: float = 0.5
    """Error in log price below which the loss is squared, above which it is linear."""

    batch_size: int = 32
    """Products for one update."""

    micro_batch_size: int = 64
    """Products in one pass through the towers. A smaller value takes less memory and
    more time; the update stays the same."""

    text_learning_rate: float = 2e-4
    """Peak learning rate, AdamW. 5e-5 to 1e-4 worked for MiniLM elsewhere."""

    image_learning_rate: float = 1e-4
    """Peak learning rate, AdamW. With frozen batch statistics, nothing bounds the photo
    tower's activations: at 3e-4 one of twenty networks diverged in its first epoch."""

    fusion_learning_rate: float = 1e-3
    """Peak learning rate, AdamW, of projections and head, which start at random."""

    weight_decay: float = 0.01
    """Weight decay of AdamW, on matrices only."""

    adam_epsilon: float = 1e-5
    """Epsilon of AdamW; gradients well below it hardly move a weight. Some gradients
    are zero except for rounding (a bias before a batch norm). At the usual 1e-8 AdamW
    takes whole steps on them, which differ with the number of threads: by 0.1 SMAPE on
    600 sample products, against 0.001 at 1e-5."""

    warmup_fraction: float = 0.08
    """Share of all updates during which the learning rates rise from 0."""

    smooth_l1_cycle_epochs: int = 0
    """Length of a cosine cycle in phase 1, with a warm restart after each; 0 in both
    phases: one cosine over all epochs."""

    smape_cycle_epochs: int = 0
    """Length of a cosine cycle in phase 2."""

    clip_norm: float = 1.0
    """Largest norm of the gradient; larger gradients are scaled down to it."""

    ema_decay: float = 0.995
    """Decay of the running average of weights, which is what the network keeps; 0: no
    average."""

    head_dropout: float = 0.25
    """Dropout after each hidden layer of the head."""

    encoder_dropout: float = 0.0
    """Dropout inside the text encoder. Dropout biases regression towards the mean."""

    image_dropout: float = 0.0
    """Share of the photos of each training batch that are left out: the learned vector
    of products without a photo replaces them (modality dropout)."""

    freeze_batch_norm: bool = True
    """Freeze the photo tower's batch statistics: a batch has few photos."""

    bound_price: bool = True
    """Predict no price above twice the dearest training price or below half the
    cheapest."""

    normalise_image: bool = True
    """Scale each photo's features to mean 0 and variance 1 before the projection, so no
    photo's embedding is many times as long as the others."""

    freeze_layers: int | None = None
    """Layers of the text encoder that are not trained; with one or more, nor is its
    embedding. None: two thirds of the layers, 4 of MiniLM's 6. Each frozen layer makes
    training faster, and on some thousand products the score does not get worse, see
    benchmarks/ABLATIONS.md."""

    freeze_image: bool = False
    """Freeze the photo tower and train on the features of the embedding stage: no photo
    is decoded, encoded again or augmented."""

    use_attributes: bool = True
    """Whether the head gets sizes and pack counts beside the 512 fused values."""

    use_wide: bool = True
    """Whether the head also gets the log price of a shallow network on tokens and
    sizes: a vector for each n-gram and each bin of a size, then two layers."""

    max_tokens: int = 64
    """Largest number of tokens of a text; the cache may hold more."""

    image_size: int = 160
    """Side of the network's input photo, pixels; 160 takes half the work of 224."""

    precision: Precision = "auto"
    """`auto`: fp16 with a gradient scaler on CUDA, bf16 on a CPU that has it, fp32
    elsewhere."""

    n_threads: int = 2
    """Threads for arithmetic."""

    def __post_init__(self) -> None:
        """Refuse values that no run can use."""
        if not 2 <= self.n_folds <= 127:
            raise ConfigError(
                f"--folds must be at least 2 (each product is priced by a network "
                f"that was not trained on it) and at most 127, got {self.n_folds}"
            )
        if not 1 <= self.n_seeds <= 20:
            raise ConfigError(f"--seeds must be 1 to 20, got {self.n_seeds}")
        if self.inputs not in get_args(NetworkInputs):
            raise ConfigError(
                f"--inputs must be one of {', '.join(get_args(NetworkInputs))}, got "
                f"{self.inputs}"
            )
        if self.smooth_l1_epochs < 0 or self.smape_epochs < 0 or self.n_epochs < 1:
            raise ConfigError(
                f"epochs must be at least 1 in all and none negative, got "
                f"{self.smooth_l1_epochs} of SmoothL1 and {self.smape_epochs} of SMAPE"
            )
        if min(self.smooth_l1_cycle_epochs, self.smape_cycle_epochs) < 0 or (
            (self.smooth_l1_cycle_epochs > 0) != (self.smape_cycle_epochs > 0)
        ):
            raise ConfigError(
                f"cycle epochs must be at least 1 in both phases, or 0 in both, got "
                f"{self.smooth_l1_cycle_epochs} and {self.smape_cycle_epochs}"
            )
        if self.batch_size < 2 or self.micro_batch_size < 1:
            raise ConfigError(
                f"--batch-size must be at least 2 (the head normalises over the batch) "
                f"and --micro-batch-size at least 1, got {self.batch_size} and "
                f"{self.micro_batch_size}"
            )
        if not 8 <= self.max_tokens <= 512:
            raise ConfigError(f"--max-tokens must be 8 to 512, got {self.max_tokens}")
        if not 32 <= self.image_size <= 1024:
            raise ConfigError(
                f"--image-size must be 32 to 1024 pixels, got {self.image_size}"
            )
        self._check_numbers()

    def _check_numbers(self) -> None:
        rates = ("text_learning_rate", "image_learning_rate", "fusion_learning_rate")
        for names, holds, rule in (
            (("n_threads",), self.n_threads >= 1, "at least 1"),
            (("freeze_layers",), (self.freeze_layers or 0) >= 0, "0 or more"),
            (("seed",), 0 <= self.seed < 2**31, "0 to 2147483647"),
            (rates, all(0 <= getattr(self, name) <= 1 for name in rates), "0 to 1"),
            (("smooth_l1_beta",), self.smooth_l1_beta > 0, "above 0"),
            (("adam_epsilon",), 0 < self.adam_epsilon <= 1, "above 0, at most 1"),
            (("weight_decay",), self.weight_decay >= 0, "0 or more"),
            (("clip_norm",), self.clip_norm > 0, "above 0"),
            (("warmup_fraction",), 0 <= self.warmup_fraction < 1, "in [0, 1)"),
            (("ema_decay",), 0 <= self.ema_decay < 1, "in [0, 1)"),
            (("head_dropout",), 0 <= self.head_dropout < 1, "in [0, 1)"),
            (("encoder_dropout",), 0 <= self.encoder_dropout < 1, "in [0, 1)"),
            (("image_dropout",), 0 <= self.image_dropout < 1, "in [0, 1)"),
        ):
            if not holds:
                values = ", ".join(f"{getattr(self, name):g}" for name in names)
                options = ", ".join(map(_option, names))
                raise ConfigError(f"{options} must be {rule}, got {values}")

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


def _option(name: str) -> str:
    """Return the option of a setting, or its name if it has no option."""
    if name in _WITHOUT_OPTION:
        return name
    return f"--{name.removeprefix('n_').replace('_', '-')}"
