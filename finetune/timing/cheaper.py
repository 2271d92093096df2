"""List the settings that take less time, from what costs the least accuracy.

The order follows benchmarks/ABLATIONS.md: photos and the first two thirds of the text
layers are frozen first, which costs little or nothing; then there are fewer epochs, and
a text tower that is not trained at all. Folds come last, as each network then has fewer
products to learn from.
"""

import dataclasses
import itertools
from collections.abc import Collection, Iterator

from embed.encoders.towers import load_text_backbone
from embed.encoders.weights import weights_of_run
from finetune.config import FinetuneConfig
from finetune.job import Job
from finetune.network.build import n_frozen_layers, n_text_layers

_FEWEST_FOLDS = 3  # a network then learns from two thirds of the products
Changes = dict[str, int]


def freezable_towers(job: Job) -> list[Changes]:
    """Return the settings that freeze more of the towers, the most accurate first.

    They are the photo tower, two thirds of the text tower and all of it. A photo tower
    with random weights is not among them, because it has to learn.
    """
    config = job.config
    text, image = weights_of_run(job.embed)
    towers: list[Changes] = []
    if image is not None and not config.freeze_image and job.cache.image_ok.any():
        towers.append({"freeze_image": True})
    if text is None:
        return towers
    backbone = load_text_backbone(text)
    frozen = n_frozen_layers(backbone, config.freeze_layers)
    for n_layers in (n_frozen_layers(backbone, None), n_text_layers(backbone)):
        if config.sees_text and n_layers > frozen:
            towers.append({"freeze_layers": n_layers})
    return towers


def cheaper_settings(
    config: FinetuneConfig,
    towers: Collection[Changes],
    *,
    fixed: Collection[str],
) -> Iterator[FinetuneConfig]:
    """Yield a configuration, then cheaper ones, the most accurate first.

    Parameters
    ----------
    config : FinetuneConfig
    towers : collection of dict
        What may be frozen, from `freezable_towers`.
    fixed : collection of str
        Names of settings that must stay as they are.
    """
    towers = [changes for changes in towers if not changes.keys() & set(fixed)]
    layers = [changes for changes in towers if "freeze_layers" in changes]
    whole_text = layers[-1:]
    frozen: list[Changes] = [{}]
    for changes in towers:
        if changes not in whole_text:
            frozen += [{**others, **changes} for others in frozen]
    fewest = config.n_folds if "n_folds" in fixed else _FEWEST_FOLDS
    folds = range(config.n_folds, min(fewest, config.n_folds) - 1, -1)
    steps = itertools.product(
        [{"n_folds": n} for n in folds],
        [{}, *whole_text],
        _epochs(config, fixed),
        frozen,
    )
    for less_folds, whole, less_epochs, parts in steps:
        changes = {**less_folds, **less_epochs, **parts, **whole}
        yield dataclasses.replace(config, **changes)  # type: ignore[arg-type]


def _epochs(config: FinetuneConfig, fixed: Collection[str]) -> list[Changes]:
    """Return fewer and fewer epochs of both phases, in whole cycles."""
    epochs = {
        "smooth_l1_epochs": (config.smooth_l1_epochs, config.smooth_l1_cycle_epochs),
        "smape_epochs": (config.smape_epochs, config.smape_cycle_epochs),
    }
    cycles = {
        name: (-(-n // (cycle or 1)), cycle or 1)
        for name, (n, cycle) in epochs.items()
        if name not in fixed
    }
    most = max((n_cycles for n_cycles, _ in cycles.values()), default=0)
    fewer = [
        {
            name: min(epochs[name][0], -(-n_cycles * left // most) * cycle)
            for name, (n_cycles, cycle) in cycles.items()
        }
        for left in range(most - 1, 0, -1)
    ]
    return [{}, *fewer]


def describe_options(config: FinetuneConfig, asked: FinetuneConfig) -> str:
    """Return the options that turn the settings that were asked for into others."""
    options = []
    if config.freeze_image != asked.freeze_image:
        options.append("--freeze-image")
    for option in ("freeze_layers", "smooth_l1_epochs", "smape_epochs", "n_folds"):
        if (value := getattr(config, option)) != getattr(asked, option):
            name = "folds" if option == "n_folds" else option.replace("_", "-")
            options.append(f"--{name} {value}")
    return " ".join(options)


def describe_losses(config: FinetuneConfig, asked: FinetuneConfig) -> str:
    """Return what cheaper settings give up, in words."""
    losses = []
    if config.freeze_image != asked.freeze_image:
        losses.append("training of the photo tower")
    if config.freeze_layers != asked.freeze_layers:
        losses.append("training of text layers")
    for name, kind in (("n_epochs", "epochs"), ("n_folds", "folds")):
        given, left = getattr(asked, name), getattr(config, name)
        if left != given:
            losses.append(f"{given - left} of {given} {kind}")
    return ", ".join(losses)
