"""Give the tests of advice a user's shell and the messages that advise."""

import csv
import importlib.util
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from click.testing import CliRunner
from test_messages import MODULES, is_advice, strings_of
from test_readme import ROOT

from stack.cli import main

_FILLED_IN = "\0"
TEMPLATES = {
    (path.relative_to(ROOT).as_posix(), text)
    for path in MODULES
    for text in strings_of(path, filled_in=_FILLED_IN)
    if is_advice(text) or re.search(r"`(\0|pip install)", text)
    if len(text.split()) > 3
}
"""Module and text of each message that names a command or an option."""

ADVICE_TRIED: set[str] = set()
"""Parts of the messages that tests have printed, and whose advice they follow."""


def advice(*parts: str) -> Callable[[Callable], Callable]:
    """Mark a test, which is to print the messages that hold these parts."""

    def mark(test: Callable) -> Callable:
        ADVICE_TRIED.update(parts)
        test.advice = parts
        return test

    return mark


def texts_with(part: str) -> set[str]:
    """Return the messages of the source that hold a part."""
    return {text for _, text in TEMPLATES if part in text}


def is_printed(text: str, output: str) -> bool:
    """Tell whether an output holds a message, whatever is filled in."""
    parts = re.split(r"\0|%[srd]", " ".join(text.split()))
    said = " ".join(output.split())
    return re.search(".*?".join(map(re.escape, parts)), said) is not None


class Shell:
    """A user who gives each stage the same small settings, and does as told."""

    def __init__(self, encoder: Path, catalog: Path, log: pytest.LogCaptureFixture):
        self.catalog, self.images = catalog, catalog.parent / "images"
        self.encoder = encoder
        self._log = log
        self.heard: list[str] = []
        small = f"--image-encoder no-such --image-size 32 --text-encoder {encoder}"
        self.settings = {
            "embed": f"--random-weights {small} --precision fp32 --backend eager "
            "--threads 1",
            "finetune": "--smooth-l1-epochs 1 --smape-epochs 0 --max-tokens 24 "
            "--image-size 32 --batch-size 8 --precision fp32 --threads 1",
            "stack": "--no-ablation --seeds 1 --threads 1",
        }
        self.variables = {
            "embeddings": [f"IMAGES={self.images}", f"ARGS={self.settings['embed']}"],
            "finetune": ["FOLDS=2", f"ARGS={self.settings['finetune']}"],
            "stack": [f"ARGS={self.settings['stack']}"],
        }

    def accepted(self, command: str, *options: object) -> str:
        """Run `pricestack COMMAND OPTIONS` with the usual settings; it has to work."""
        result = self._run(command, *options)
        assert result.exit_code == 0, result.output
        return self.heard[-1]

    def refused(self, command: str, *options: object) -> str:
        """Run a command that is to fail with one line, which is returned."""
        result = self._run(command, *options)
        assert result.exit_code in (1, 2), result.output
        assert isinstance(result.exception, SystemExit)
        assert "Traceback" not in result.output
        message = result.output.rpartition("Error: ")[2].strip()
        assert "Error: " in result.output, result.output
        assert message
        assert "\n" not in message
        return message

    def follow(self, command: str, **variables: object) -> None:
        """Run a command that a message names, as `make` would where it is one."""
        program, *words = shlex.split(command)
        for name, value in variables.items():
            words = [re.sub(rf"^{name}=[A-Z]+$", f"{name}={value}", w) for w in words]
        if program != "make":
            self.accepted(*(words if program == "pricestack" else [program, *words]))
            return
        for target in [word for word in words if "=" not in word]:
            given = [word for word in words if "=" in word]
            for line in _plan([target, *self.variables.get(target, ()), *given]):
                self._make_line(line)

    def _make_line(self, line: str) -> None:
        program, *words = shlex.split(line)
        name = Path(program).name
        assert name in ("pricestack", "evaluate"), line
        result = self._invoke(words if name == "pricestack" else [name, *words])
        assert result.exit_code == 0, result.output

    def _run(self, command: str, *options: object):
        usual = shlex.split(self.settings.get(command, ""))
        return self._invoke([command, *usual, *map(str, options)])

    def _invoke(self, words: Iterable[str]):
        self._log.clear()
        result = CliRunner().invoke(main, list(words))
        self.heard.append(
            result.output + "".join(r.getMessage() + "\n" for r in self._log.records)
        )
        return result


def _plan(words: list[str]) -> list[str]:
    """Return the lines that `make` would run."""
    here = [f"VENV={sys.prefix}", f"--assume-old={sys.prefix}/installed"]
    plan = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", *here, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "ARGS")},
    )
    return plan.stdout.replace("\\\n", " ").splitlines()


def commands_in(message: str) -> list[str]:
    """Return what a message has in backticks."""
    return re.findall(r"`([^`]+)`", message)


def options_in(message: str) -> list[str]:
    """Return the options that a message names."""
    return re.findall(r"(?<![\w-])--[a-z][a-z-]+", message)


def without(patch: pytest.MonkeyPatch, *packages: str) -> None:
    """Let packages count as not installed."""
    find = importlib.util.find_spec
    patch.setattr(
        "importlib.util.find_spec",
        lambda name, *others: None if name in packages else find(name, *others),
    )


def rows_of(catalog: Path) -> list[dict[str, str]]:
    with catalog.open(newline="") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, rows: list[dict[str, str]], **format_: str) -> Path:
    encoding = format_.pop("encoding", "utf-8")
    with path.open("w", newline="", encoding=encoding) as file:
        lines = csv.DictWriter(file, list(rows[0]), **format_)
        lines.writeheader()
        lines.writerows(rows)
    return path


@pytest.fixture
def shell(request, tmp_path, monkeypatch, caplog, small_catalog, tiny_encoder):
    """A shell in a folder of its own; what the test was to print is looked for."""
    monkeypatch.chdir(tmp_path)
    caplog.set_level("INFO")
    shell = Shell(tiny_encoder, small_catalog, caplog)
    yield shell
    given = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    parts = [given["part"]] if "part" in given else request.function.advice
    heard = "\n".join(shell.heard)
    for part in parts:
        texts = texts_with(part)
        assert texts, f"no message of the source has {part!r}"
        assert any(is_printed(text, heard) for text in texts), (part, heard)


@pytest.fixture
def run_dir(shell, shared, tmp_path) -> Path:
    """A finished run, in a folder with a blank in its name."""

    def make(folder: Path) -> None:
        run = ("--run", folder / "run")
        shell.accepted("embed", shell.catalog, "--images", shell.images, *run)
        shell.accepted("finetune", "--folds", 2, *run)
        shell.accepted("stack", *run)

    return Path(shutil.copytree(shared("advised", make) / "run", tmp_path / "my run"))


@pytest.fixture
def script(
    shell, run_dir, shared, monkeypatch, capsys
) -> Callable[..., tuple[int, str]]:
    """Return what runs the script of an exported model here, not in a process.

    The model is the test's own in `model/`, or else of the finished run.
    """

    def make(folder: Path) -> None:
        export = ("export", "--run", run_dir, "--no-check", "--out")
        shell.accepted(*export, folder / "model")

    if not Path("model").is_dir():
        shutil.copytree(shared("exported", make) / "model", "model")
    monkeypatch.setattr(sys, "path", ["model", *sys.path])

    def run(*options: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["model/predict.py", *map(str, options)])
        code = 0
        try:
            runpy.run_path("model/predict.py", run_name="__main__")
        except SystemExit as stopped:
            code = int(stopped.code)
        error = capsys.readouterr().err
        shell.heard.append(error)
        return code, error

    return run
