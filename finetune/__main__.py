"""`python -m finetune`: train one network per fold."""

import dataclasses
from pathlib import Path
from typing import Any, get_args

import click
from click.core import ParameterSource

from embed.terminal.options import fold_from_one, one_line_errors, run_option
from embed.terminal.settings import read_settings
from finetune.config import RECIPES, FinetuneConfig, NetworkInputs, Precision, Recipe
from finetune.training.tensorboard import require_tensorboard, write_stage_events
from finetune.training.tracking import Tracking

_OPEN = {
    "freeze_layers": "two thirds of them",
    "image_size": "160, or the only size that the photo tower takes",
}  # defaults that depend on the encoders
_SETTINGS: tuple[tuple[str, type, str], ...] = (
    ("smooth_l1_epochs", int, "Epochs of phase 1, SmoothL1 on log price."),
    ("smape_epochs", int, "Epochs of phase 2, differentiable SMAPE."),
    ("batch_size", int, "Number of products in an update."),
    ("max_tokens", int, "Largest number of tokens of a text."),
    ("image_size", int, "Side of the photos, pixels."),
    ("freeze_layers", int, "First layers of the text tower to leave untrained."),
)


def _setting_options(command: Any) -> Any:
    for name, kind, help_text in reversed(_SETTINGS):
        option = f"--{name.replace('_', '-')}"
        default = getattr(FinetuneConfig, name)
        usual = _OPEN[name] if default is None else f"{default:g}"
        text = f"{help_text}  [default: the recipe's; {usual} in `default`]"
        command = click.option(option, name, type=kind, help=text)(command)
    return command


@click.command("finetune")
@run_option
@click.option(
    "--recipe",
    type=click.Choice(get_args(Recipe)),
    default=FinetuneConfig.recipe,
    show_default=True,
    help="default: settings chosen by measurement. paper: the settings of the source "
    "document.",
)
@click.option(
    "--folds",
    "n_folds",
    default=FinetuneConfig.n_folds,
    show_default=True,
    type=int,
    help="Number of folds; time grows with it.",
)
@click.option(
    "--only-fold",
    type=int,
    callback=fold_from_one,
    help="Train the networks of this fold only, counted from 1. The stage is finished "
    "when each fold has been trained.",
)
@click.option(
    "--drop-unpriced",
    is_flag=True,
    help="Train without the products that have no usable price.",
)
@click.option(
    "--hold-out",
    type=float,
    default=FinetuneConfig.hold_out,
    show_default=True,
    metavar="SHARE",
    help="Hold out this share of the products, at random: no model is fitted on them, "
    "and the stack stage scores the final predictor on them.",
)
@click.option(
    "--test-from",
    metavar="DATE",
    help="Hold out the products of this date, such as 2024-03-31, and later, as "
    "--hold-out does; none: hold out nothing.  [default: with a time column and "
    "without --hold-out, the date that leaves about a fifth of the products]",
)
@click.option(
    "--start-from",
    metavar="RUN",
    help="Begin from the networks of a finished run of an earlier version of the "
    "catalog. Settings that you do not give are that run's, with fewer epochs.",
)
@click.option(
    "--inputs",
    type=click.Choice(get_args(NetworkInputs)),
    default=FinetuneConfig.inputs,
    show_default=True,
    help="Inputs of the networks. text: no photo; image: neither text nor the sizes "
    "in it. The folds stay the same.",
)
@_setting_options
@click.option(
    "--freeze-image",
    is_flag=True,
    default=None,
    help="Train on the frozen photo features of the embedding stage.",
)
@click.option(
    "--precision",
    type=click.Choice(get_args(Precision)),
    default=FinetuneConfig.precision,
    show_default=True,
    help="auto: fp16 on CUDA, bf16 on a CPU that has it, else fp32.",
)
@click.option(
    "--threads",
    "n_threads",
    default=FinetuneConfig.n_threads,
    show_default=True,
    help="Threads for arithmetic.",
)
@click.option(
    "--seed",
    default=FinetuneConfig.seed,
    show_default=True,
    help="Seed of folds, batches and new weights.",
)
@click.option(
    "--seeds",
    "n_seeds",
    default=FinetuneConfig.n_seeds,
    show_default=True,
    help="Number of networks of each fold; their seeds count up from the seed above. A "
    "price is their mean on the log scale. Two take twice the time.",
)
@click.option(
    "--set",
    "assignments",
    metavar="NAME=VALUE",
    multiple=True,
    help="Change another setting, such as clip_norm=2; repeat it for more. "
    "docs/settings.md lists all.",
)
@click.option(
    "--track-held-out",
    is_flag=True,
    help="Record SMAPE on the held-out products after each epoch; it takes one more "
    "pass over them and changes no result.",
)
@click.option(
    "--tensorboard",
    is_flag=True,
    help="Write the columns of history.csv to RUN/finetune/tensorboard too.",
)
@click.option(
    "--time-limit",
    "minutes",
    metavar="MINUTES",
    type=float,
    help="Measure the speed of this machine, and choose settings so that the training "
    "takes about this long: train fewer layers, then fewer epochs, fewer folds last. "
    "Settings that you give stay as they are.",
)
@one_line_errors
def finetune_command(
    run_dir: Path,
    recipe: Recipe,
    only_fold: int | None,
    drop_unpriced: bool,
    track_held_out: bool,
    tensorboard: bool,
    assignments: tuple[str, ...],
    minutes: float | None,
    start_from: str | None,
    **settings: Any,
) -> None:
    """Train the network once per fold, in RUN/finetune.

    \b
    Example:
      pricestack finetune --run runs/mine --folds 5
    """
    if tensorboard:  # fails before the training, not after it
        require_tensorboard()
    tracking = Tracking(held_out=track_held_out, tensorboard=tensorboard)
    changes = {name: value for name, value in settings.items() if value is not None}
    own_options = {"recipe", "start_from", *settings}
    changes |= read_settings(assignments, FinetuneConfig, own_options=own_options)
    base = RECIPES[recipe]
    if start_from is not None:
        from finetune.start import settings_from  # imported here, as it loads torch

        base = settings_from(Path(start_from))
        kept = {"n_threads"}  # what the machine offers now
        changes = {n: v for n, v in changes.items() if n in kept or not _is_default(n)}
        if not _is_default("recipe"):
            changes["recipe"] = recipe
        if changes.keys() & {"hold_out", "test_from"}:  # instead of the former test
            base = dataclasses.replace(base, hold_out=0.0, test_from=None)
    config = dataclasses.replace(base, **changes)
    from finetune.out_of_fold import finetune  # imported here, as it loads torch
    from finetune.timing.limit import TimeLimit

    given = frozenset(name for name in changes if not _is_default(name))
    limit = None if minutes is None else TimeLimit(minutes=minutes, fixed=given)
    manifest = finetune(
        run_dir,
        config=config,
        drop_unpriced=drop_unpriced,
        only_fold=only_fold,
        tracking=tracking,
        limit=limit,
    )
    if tensorboard:
        write_stage_events(run_dir / "finetune")
    if manifest is None:
        assert only_fold is not None  # else no fold is missing
        click.echo(
            f"Fold {only_fold + 1} of {config.n_folds} is done; the stage needs the "
            "others too."
        )
        return
    n_networks = manifest.config.n_folds * manifest.config.n_seeds
    click.echo(
        f"{n_networks} networks trained in {manifest.seconds / 60:.1f} min; "
        f"out-of-fold SMAPE {manifest.smape:.2f} ({run_dir / 'finetune'})."
    )
    if manifest.n_unpriced_dropped:
        click.echo(
            f"{manifest.n_unpriced_dropped} products without a usable price were "
            f"left out of training."
        )
    if manifest.n_held_out:
        click.echo(
            f"{manifest.n_held_out} products are held out; `pricestack stack` scores "
            f"the final predictor on them."
        )


def _is_default(name: str) -> bool:
    """Tell whether the user left the option of a setting out."""
    source = click.get_current_context().get_parameter_source(name)
    return source is ParameterSource.DEFAULT


if __name__ == "__main__":
    finetune_command()
