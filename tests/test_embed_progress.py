"""Bars and log lines share a terminal; progress can be hidden."""

import contextlib
import io
import logging
import re
import subprocess
import sys

import pytest

from embed.terminal.progress import BesideBars, hidden_progress, track

ITEMS = [(1, name) for name in "abc"]


class Terminal(io.StringIO):
    """Standard error on a terminal."""

    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        """Return what is on the screen at the end of each line that was finished."""
        lines = []
        for line in self.getvalue().split("\n"):
            shown = ""
            for part in line.split("\r"):  # back to the first column, writing over
                shown = part + shown[len(part) :]
            lines.append(re.sub(r"\x1b\[.", "", shown).rstrip())
        return lines


@pytest.fixture
def logger():
    logger = logging.getLogger("embed.of_a_test")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    yield logger
    logger.handlers.clear()


def embed_products() -> list[str]:
    """Go through the items with a bar on standard error."""
    return list(track(ITEMS, total=3, label="embed", unit="products"))


def write_notes(logger: logging.Logger) -> None:
    """Write a log line for each item, beside the bar."""
    for item in track(ITEMS, total=3, label="embed", unit="products"):
        logger.info("note %s", item)


def test_a_log_line_has_a_line_of_its_own_beside_a_bar(logger):
    with contextlib.redirect_stderr(Terminal()) as terminal:
        logger.addHandler(BesideBars(terminal))
        write_notes(logger)
    assert "embed: " in terminal.getvalue()
    assert [line for line in terminal.lines() if "note" in line] == [
        *("note a", "note b", "note c"),
    ]


def test_a_plain_handler_cuts_the_bar(logger):
    with contextlib.redirect_stderr(Terminal()) as terminal:
        logger.addHandler(logging.StreamHandler(terminal))
        write_notes(logger)
    assert "note a" not in terminal.lines()  # the test above can fail


def test_hidden_progress_shows_nothing_and_yields_all():
    with contextlib.redirect_stderr(Terminal()) as terminal:
        with hidden_progress():
            assert embed_products() == [*"abc"]
        assert terminal.getvalue() == ""
        assert embed_products() == [*"abc"]
    assert "embed: " in terminal.getvalue()


def test_commands_log_beside_bars():
    code = (
        "import logging\n"
        "from embed.terminal.options import _prepare_terminal\n"
        "_prepare_terminal()\n"
        "print([type(h).__name__ for h in logging.getLogger().handlers])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "['BesideBars']\n", done.stderr


@pytest.mark.parametrize("module", ["embed.__main__", "stack.cli"])
def test_no_heavy_package_is_loaded_before_a_command_begins(module):
    heavy = {"torch", "transformers", "lightgbm", "pandas"}
    code = f"import sys, {module}\nprint(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


def first_lines(folder, options, *, large_bytes):
    """Return the command's first line, and what was loaded when it was printed."""
    code = (
        "import sys\n"
        "import click\n"
        "echo = click.echo\n"
        "def told(message=None, **options):\n"
        "    echo(f'{message} {\"torch\" in sys.modules}', err=True)\n"
        "    raise SystemExit\n"
        "click.echo = told\n"
        "import embed.terminal.catalog_options\n"
        f"embed.terminal.catalog_options._LARGE_BYTES = {large_bytes}\n"
        "from stack.cli import main\n"
        f"main({options!r})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=folder
    )
    return done.stderr.splitlines()


CATALOG = "sample_id,catalog_content\n1,tea\n"
SOON = [
    (0, "Reading c.csv … False"),
    (1_000_000, "1 products. Loading the {} … False"),
]


@pytest.mark.parametrize(("large_bytes", "line"), SOON)
def test_embed_prints_a_line_before_it_loads_the_encoders(tmp_path, large_bytes, line):
    (tmp_path / "c.csv").write_text(CATALOG)
    options = ["embed", "c.csv", "--run", "run"]
    found = first_lines(tmp_path, options, large_bytes=large_bytes)
    assert found == [line.format("encoders")]


@pytest.mark.parametrize(("large_bytes", "line"), SOON)
def test_predict_prints_a_line_before_it_loads_the_run(
    tmp_path, embedded_run, large_bytes, line
):
    (tmp_path / "c.csv").write_text(CATALOG)
    options = ["predict", "c.csv", "--run", str(embedded_run), "--out", "p.csv"]
    found = first_lines(tmp_path, options, large_bytes=large_bytes)
    assert found == [line.format("run")]
