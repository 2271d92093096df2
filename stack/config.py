"""Settings of the stacking stage."""

from dataclasses import dataclass
from typing import Literal, get_args

from embed.errors import ConfigError
from stack.blocks.registry import BLOCKS

Objective = Literal["l1", "log_smape"]


@dataclass(frozen=True, kw_only=True)
class StackConfig:
    """Settings of the boosters; the manifest records all of them."""

    blocks: tuple[str, ...] = tuple(
        name for name, block in BLOCKS.items() if block.is_default
    )
    """Features of the trees: the network's fused embedding, sizes and pack counts. The
    others are out of fold: the log prices of the network, of a LightGBM on the raw
    features (`lightgbm`), of a ridge on words and sizes (`lexical`) and of a kernel
    ridge (`kernel`, with prices of the products most alike); prices of the nearest
    products (`neighbours`); mean prices by first words and unit (`statistics`). With
    `start`, which needs `kernel`, the trees start from a weighted blend of the network
    and `kernel`, which is a feature too; without it, from the network's price. The
    frozen text and image features are off by default: their information is already in
    `lightgbm`, `neighbours` and `kernel`, and their columns take most of the time."""

    objective: Objective = "log_smape"
    """Objective of the trees: `l1` on log1p price, or `log_smape`, the score itself,
    whose gradient is smaller for large errors."""

    n_trials: int = 0
    """Number of other settings to try for each fold's stacker. The best settings on the
    validation part of its training rows are kept for all seeds. 0: no trials."""

    learning_rate: float = 0.05
    """Shrinkage of each tree; half the rate takes twice the rounds."""

    num_leaves: int = 31
    """Leaves of a tree; the residual of a trained network is a shallow function."""

    max_rounds: int = 1000
    """Largest number of trees; early stopping may keep fewer, even none."""

    early_stopping_rounds: int = 50
    """Rounds without a better SMAPE after which a booster stops."""

    feature_fraction: float = 0.5
    """Share of the columns each tree may use; time is proportional to it."""

    embedding_gain: float = 0.25
    """Factor on the gain of a split on an embedding column (text, image, fused). There
    are thousands of them, so at 1 chance splits crowd out sizes and the
    network's price: 55.3 against 56.1 SMAPE on the catalog of benchmarks/SCORES.md."""

    bagging_fraction: float = 0.8
    """Share of the rows each tree is grown on."""

    min_data_in_leaf: int = 40
    """Smallest number of rows in a leaf; leaf values are noisy below about 30."""

    lambda_l2: float = 1.0
    """L2 penalty in the gain of a split."""

    max_bin: int = 63
    """Bins of a feature; 255 takes 1.3 times as long."""

    bin_sample: int = 10_000
    """Rows that bin bounds are found on. LightGBM copies them as float64, so this and
    not the matrix sets the memory peak (200,000 of 2,176 columns: 2.7 GB)."""

    valid_fraction: float = 0.2
    """Share of the training rows set aside for early stopping, duplicates together."""

    n_seeds: int = 4
    """Boosters averaged in each fold, from `seed`, `seed` + 1 and so on. Each draws its
    own validation part and its own rows for each tree. The raw LightGBM has one."""

    refit: bool = True
    """Whether the number of trees that early stopping finds is grown again on all
    training rows, including the validation part."""

    ablation: bool = True
    """Whether the stacker is fitted once more without each block, with one seed and no
    trials, so the report can show what each adds. It changes no price."""

    n_bootstrap: int = 10_000
    """Resamples behind each interval."""

    n_threads: int = 2
    """Threads of LightGBM."""

    seed: int = 0
    """Seed of the validation part, the columns and rows of each tree, and the
    bootstrap."""

    def __post_init__(self) -> None:
        """Refuse values that no run can use."""
        self._check_blocks()
        names = get_args(Objective)
        rule = f"must be one of {', '.join(names)}"
        self._check("objective", self.objective in names, rule)
        for name in _COUNTS:
            self._check(name, getattr(self, name) >= 1, "must be at least 1")
        for name in ("feature_fraction", "bagging_fraction"):
            self._check(name, 0 < getattr(self, name) <= 1, "must be in (0, 1]")
        self._check("learning_rate", 0 < self.learning_rate <= 1, "must be in (0, 1]")
        self._check("num_leaves", self.num_leaves >= 2, "must be at least 2")
        self._check("embedding_gain", 0 < self.embedding_gain <= 1, "must be in (0, 1]")
        self._check("lambda_l2", self.lambda_l2 >= 0, "must not be negative")
        self._check("n_trials", self.n_trials >= 0, "must not be negative")
        self._check("seed", 0 <= self.seed < 2**31, "must be 0 to 2147483647")
        self._check(
            "max_bin",
            2 <= self.max_bin <= 255,
            "must be 2 to 255 (one byte in memory for each value)",
        )
        self._check(
            "valid_fraction",
            0 < self.valid_fraction <= 0.5,
            "must be in (0, 0.5], the rest is trained on",
        )

    def _check_blocks(self) -> None:
        rule = f"must be one or more of {', '.join(BLOCKS)}, each once"
        blocks = self.blocks
        valid = bool(blocks) and set(blocks) <= set(BLOCKS)
        self._check("blocks", valid and len(set(blocks)) == len(blocks), rule)
        for name in blocks:
            for source in BLOCKS[name].computed_from:
                rule = f"must have {source} beside {name}, which is computed from it"
                self._check("blocks", source in blocks, rule)

    def _check(self, name: str, valid: bool, rule: str) -> None:
        if not valid:
            raise ConfigError(
                f"{_OPTIONS.get(name, name)} {rule}, got {getattr(self, name)!r}. "
                f"Leave it out for the default, {getattr(StackConfig, name)!r}."
            )


_OPTIONS = {
    "blocks": "--blocks",
    "objective": "--objective",
    "n_trials": "--tune",
    "n_seeds": "--seeds",
    "n_threads": "--threads",
    "seed": "--seed",
}
"""By setting, its option on the command line; the others have none."""

_COUNTS = (
    "max_rounds",
    "early_stopping_rounds",
    "min_data_in_leaf",
    "bin_sample",
    "n_seeds",
    "n_bootstrap",
    "n_threads",
)
