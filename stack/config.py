"""Settings of the stacking stage."""

from typing import Annotated, Literal

from pydantic.dataclasses import dataclass

from embed.errors import ConfigError
from embed.store.records import SETTINGS, config_errors
from embed.store.rules import DescribedBy, Flag, Rule, whole
from stack.blocks.block import EXACT_UP_TO
from stack.blocks.registry import BLOCKS

Objective = Literal["l1", "log_smape"]


_BLOCKS = f"--blocks must be one or more of {', '.join(BLOCKS)}, each once"
_FromOne = Annotated[int, whole(1, rule="at least 1")]
_Share = Annotated[float, Rule("in (0, 1]", lambda share: 0 < share <= 1)]


@config_errors
@dataclass(frozen=True, kw_only=True, config=SETTINGS)
class StackConfig:
    """Settings of the boosters; the manifest records all of them."""

    blocks: Annotated[tuple[str, ...], DescribedBy(_BLOCKS)] = tuple(
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

    n_trials: Annotated[int, whole(0, rule="0 or more")] = 0
    """Number of other settings to try for each fold's stacker. The best settings on the
    validation part of its training rows are kept for all seeds. 0: no trials."""

    learning_rate: _Share = 0.05
    """Shrinkage of each tree; half the rate takes twice the rounds."""

    num_leaves: Annotated[int, whole(2, rule="at least 2")] = 31
    """Leaves of a tree; the residual of a trained network is a shallow function."""

    max_rounds: _FromOne = 1000
    """Largest number of trees; early stopping may keep fewer, even none."""

    early_stopping_rounds: _FromOne = 50
    """Rounds without a better SMAPE after which a booster stops."""

    feature_fraction: _Share = 0.5
    """Share of the columns each tree may use; time is proportional to it."""

    embedding_gain: _Share = 0.25
    """Factor on the gain of a split on an embedding column (text, image, fused). There
    are thousands of them, so at 1 chance splits crowd out sizes and the
    network's price: 55.3 against 56.1 SMAPE on the catalog of benchmarks/SCORES.md."""

    bagging_fraction: _Share = 0.8
    """Share of the rows each tree is grown on."""

    min_data_in_leaf: _FromOne = 40
    """Smallest number of rows in a leaf; leaf values are noisy below about 30."""

    lambda_l2: Annotated[float, Rule("0 or more", lambda penalty: penalty >= 0)] = 1.0
    """L2 penalty in the gain of a split."""

    max_bin: Annotated[
        int, whole(2, 255, "2 to 255 (one byte in memory for each value)")
    ] = 63
    """Bins of a feature; 255 takes 1.3 times as long."""

    bin_sample: _FromOne = 10_000
    """Rows that bin bounds are found on. LightGBM copies them as float64, so this and
    not the matrix sets the memory peak (200,000 of 2,176 columns: 2.7 GB)."""

    valid_fraction: Annotated[
        float,
        Rule("in (0, 0.5], the rest is trained on", lambda share: 0 < share <= 0.5),
    ] = 0.2
    """Share of the training rows set aside for early stopping, duplicates together."""

    n_seeds: Annotated[int, whole(1, rule="--seeds must be at least 1")] = 4
    """Boosters averaged in each fold, from `seed`, `seed` + 1 and so on. Each draws its
    own validation part and its own rows for each tree. The raw LightGBM has one."""

    refit: Flag = True
    """Whether the number of trees that early stopping finds is grown again on all
    training rows, including the validation part."""

    ablation: Flag = True
    """Whether the stacker is fitted once more without each block, with one seed and no
    trials, so the report can show what each adds. It changes no price."""

    exact_up_to: Annotated[
        int, whole(100, rule="--exact-up-to must be at least 100")
    ] = EXACT_UP_TO
    """Priced products up to which `kernel` and `neighbours` compare each product with
    all others. Beyond it, `kernel` has fewer centres and a correction by similar
    products, and `neighbours` searches by an index whose recall is measured."""

    n_bootstrap: _FromOne = 10_000
    """Resamples behind each interval."""

    n_threads: Annotated[int, whole(1, rule="--threads must be at least 1")] = 2
    """Threads of LightGBM."""

    seed: Annotated[int, whole(0, 2**31 - 1, "--seed must be 0 to 2147483647")] = 0
    """Seed of the validation part, the columns and rows of each tree, and the
    bootstrap."""

    def __post_init__(self) -> None:
        """Refuse blocks that do not go together."""
        names = self.blocks
        if not names or len(set(names)) < len(names) or not set(names) <= set(BLOCKS):
            raise ConfigError(f"{_BLOCKS}, got {names!r}")
        for name in names:
            for source in BLOCKS[name].computed_from:
                if source not in names:
                    raise ConfigError(
                        f"--blocks must have {source} beside {name}, which is computed "
                        f"from it, got {names!r}"
                    )
