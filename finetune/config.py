"""Settings of the fine-tuning stage, and the two named recipes."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

from embed.errors import ConfigError

Recipe = Literal["default", "paper"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
NetworkInputs = Literal["both", "text", "image"]
_N_SPECIAL_TOKENS = 2


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """How the network is trained; the whole of it is in the manifest."""

    recipe: Recipe = "default"
    """Name of the recipe that the other fields began from."""

    n_folds: int = 5
    """Parts of the products; networks of each are judged on it and never saw it."""

    seed: int = 0
    """Of folds, batches, dropout and new weights."""

    n_seeds: int = 1
    """Networks of each fold, from `seed`, `seed` + 1 and so on. Their price is the mean
    on the log scale, the fused embedding the first one's."""

    inputs: NetworkInputs = "both"
    """What the networks see of a product. `text`: no photo. `image`: no text, and so no
    sizes and no wide part. Folds are the same."""

    smooth_l1_epochs: int = 3
    """Phase 1: SmoothL1 on log1p price."""

    smape_epochs: int = 2
    """Phase 2: differentiable SMAPE, which is non-convex far from the answer."""

    smooth_l1_beta: float = 0.5
    """Log price; errors below it are squared, above it linear."""

    batch_size: int = 32
    """Products for one update."""

    micro_batch_size: int = 64
    """Products through the towers at once; smaller takes less memory and time more,
    and the update stays the same."""

    text_learning_rate: float = 2e-4
    """Peak, AdamW. 5e-5 to 1e-4 worked for MiniLM elsewhere."""

    image_learning_rate: float = 1e-4
    """Peak, AdamW. With the batch statistics kept, nothing holds the photo tower's
    activations: at 3e-4 one of twenty networks ran away in its first epoch."""

    fusion_learning_rate: float = 1e-3
    """Peak, AdamW: projections and head, which start from random numbers."""

    weight_decay: float = 0.01
    """AdamW, on matrices only."""

    adam_epsilon: float = 1e-5
    """Gradients well below it hardly move a weight. Some are zero but for rounding (a
    bias before a batch norm), and at AdamW's usual 1e-8 it makes whole steps of them,
    which differ with the number of threads: by 0.1 SMAPE on 600 sample products,
    against 0.001 at 1e-5."""

    warmup_fraction: float = 0.08
    """Share of all updates in which the learning rates rise from 0."""

    smooth_l1_cycle_epochs: int = 0
    """Length of a cosine cycle in phase 1, with a warm restart after each; 0 in both
    phases: one cosine over all epochs."""

    smape_cycle_epochs: int = 0
    """Length of a cosine cycle in phase 2."""

    clip_norm: float = 1.0
    """Largest norm of the gradient; longer ones are scaled to it."""

    ema_decay: float = 0.995
    """Of the running average of weights that is kept in the end; 0: none."""

    head_dropout: float = 0.25
    """After each hidden layer of the head."""

    encoder_dropout: float = 0.0
    """Inside the text encoder. Dropout biases regression towards the mean."""

    image_dropout: float = 0.0
    """Share of the photos of each training batch that are left out, whole: the learned
    vector of products without a photo takes their place (modality dropout)."""

    freeze_batch_norm: bool = True
    """Keep the photo tower's batch statistics: a batch holds few photos."""

    bound_price: bool = True
    """Predict no price beyond twice the dearest that was trained on, nor below half the
    cheapest."""

    normalise_image: bool = True
    """Bring each photo's features to mean 0 and variance 1 before the projection, so
    that no photo's embedding is many times as long as the others'."""

    freeze_layers: int | None = None
    """Layers of the text encoder that stay as they are, the embedding included if it is
    one or more; None: two thirds of them, 4 of MiniLM's 6. Each makes training faster,
    and on some thousand products the score no worse, see benchmarks/ABLATIONS.md."""

    freeze_image: bool = False
    """Keep the photo tower as it is and train on the frozen features of the embedding
    stage: no photo is decoded or passed through it again, none is augmented."""

    use_attributes: bool = True
    """Give sizes and pack counts to the head beside the 512 fused values."""

    use_wide: bool = True
    """Give the head the log price too that a shallow network finds by tokens and sizes:
    a vector for each n-gram and each bin of a size, then two layers."""

    max_tokens: int = 64
    """Tokens of each text; the cache may hold more."""

    image_size: int = 160
    """Side of the photo as the network sees it, pixels; half the work of 224."""

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
                f"that never saw it) and at most 127, got {self.n_folds}"
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
                found = ", ".join(f"{getattr(self, name):g}" for name in names)
                raise ConfigError(
                    f"FinetuneConfig.{', '.join(names)} must be {rule}, got {found}"
                )

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
        """Tokens of a text that reach the network at most.

        Without texts they are the opening and the closing one.
        """
        return self.max_tokens if self.sees_text else _N_SPECIAL_TOKENS

    def of_seed(self, at: int) -> "FinetuneConfig":
        """Return what the `at`-th network of a fold is trained with, counted from 0."""
        return replace(self, seed=(self.seed + at) % 2**31)


# What the source document states, kept exactly: SmoothL1 with beta 0.5, then SMAPE;
# AdamW with these three rates; warm restarts, short cycles in the second phase; all
# layers unfrozen; 20 epochs. What it does not state (batch, tokens, image side, the
# split of the 20 epochs) is chosen here.
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
