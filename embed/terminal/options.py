"""Shared parts of all commands: error lines, logging, common options."""

import errno
import functools
import importlib.util
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, ParamSpec, TypeVar

import click

from embed.errors import ConfigError, InputError
from embed.terminal.progress import BesideBars

P = ParamSpec("P")
R = TypeVar("R")

threads_option = click.option(
    "--threads",
    "n_threads",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="Threads for arithmetic.",
)


def fold_from_one(
    context: click.Context, parameter: click.Parameter, fold: int | None
) -> int | None:
    """Turn the number of a fold from the user's, from 1, into that of files, from 0."""
    if fold is not None and fold < 1:
        raise click.BadParameter(
            f"folds are counted from 1, got {fold}. Name the first as 1",
            ctx=context,
            param=parameter,
        )
    return None if fold is None else fold - 1


only_fold_option = click.option(
    "--only-fold",
    type=int,
    callback=fold_from_one,
    help="Price only with the models of this fold, counted from 1; about twice as "
    "fast. The scores of `evaluate` are of such single folds.",
)

run_option = click.option(
    "--run",
    "run_dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs/sample"),
    show_default=True,
    help="Run folder, with a folder for each stage.",
)


_REMEDIES = {
    errno.ENOSPC: "Free some space and give the same command again; it goes on where "
    "it was.",
    errno.EDQUOT: "Free some of your quota and give the same command again; it goes on "
    "where it was.",
    errno.EROFS: "Make the folder writable, or name another one.",
    errno.EACCES: "Make it accessible to you, or name another one.",
}


class CommandError(click.ClickException):
    """One line on the terminal and exit code 2."""

    exit_code = 2


class Stopped(click.ClickException):
    """Stop by Ctrl-C: one line, and the exit code that shells expect."""

    exit_code = 128 + signal.SIGINT

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the line without "Error:", because a stop is no error."""
        click.echo(f"\n{self.message}", file=file, err=True)


def one_line_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Show an error that the user can fix as one line, without a traceback."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        _prepare_terminal()
        try:
            return command(*args, **kwargs)
        except InputError as error:
            raise CommandError(str(error)) from error
        except BrokenPipeError:  # with `| head`, click exits silently
            raise
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            reason = f"{where}{error.strerror or error}"
            remedy = _REMEDIES.get(error.errno or 0)
            raise CommandError(f"{reason}. {remedy}" if remedy else reason) from error
        except KeyboardInterrupt:
            raise Stopped(
                "Stopped. Give the same command again to go on; finished work is kept."
            ) from None

    return wrapped


def require_output(
    path: Path, *, option: str, run_dir: Path, inputs: Sequence[Path | None] = ()
) -> None:
    """Refuse an unusable output file before the work begins.

    Parameters
    ----------
    path : Path
        Output file of a command.
    option : str
        Option that names the file, for the message.
    run_dir : Path
        Run whose stage files must not be overwritten.
    inputs : sequence of Path or None
        Files that the command reads.

    Raises
    ------
    ConfigError
        If the file's folder is missing or read-only, or the file belongs to a stage or
        to `inputs`.
    """
    where = f"{option} {path}"
    if not path.parent.is_dir():
        raise ConfigError(
            f"{where}: the folder {path.parent} is not there. Make it, or choose "
            f"another."
        )
    if not os.access(path.parent, os.W_OK):
        raise ConfigError(
            f"{where}: the folder {path.parent} cannot be written to. Choose another, "
            f"or change its permissions."
        )
    output = path.resolve()
    stages = [(run_dir / stage).resolve() for stage in ("embed", "finetune", "stack")]
    if any(output.is_relative_to(stage) for stage in stages):
        raise ConfigError(
            f"{where}: must not lie among the files of the run's stages. Name another "
            f"file."
        )
    if any(source is not None and source.resolve() == output for source in inputs):
        raise ConfigError(
            f"{where}: is a file that this command reads, and would be lost. Name "
            f"another file."
        )


def require_packages(command: str, packages: Mapping[str, str]) -> None:
    """Refuse a command if packages of the extra of its name are missing.

    Parameters
    ----------
    command : str
    packages : mapping of str to str
        Module of each package, and its name for `pip`.

    Raises
    ------
    ConfigError
        If a package is missing; the message tells how to install it.
    """
    missing = [
        name
        for module, name in packages.items()
        if importlib.util.find_spec(module) is None
    ]
    if missing:
        raise ConfigError(
            f"pricestack {command}: needs {' and '.join(missing)}, not installed. Run "
            f"`pip install {' '.join(missing)}`, or install pricestack with its extra "
            f"`{command}`."
        )


def _prepare_terminal() -> None:
    # transformers reads these when it is imported later.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    # PyTorch's threads wait for each other by spinning, by default for milliseconds.
    # Beside other work that takes most of the time: 2 instead of 38 products a second
    # were measured.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    logging.basicConfig(
        level=logging.INFO, format="%(message)s", handlers=[BesideBars(sys.stderr)]
    )
    for chatty in ("httpx", "httpx2", "huggingface_hub", "urllib3"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
