"""The README says what is there: its commands, its options, its layout table."""

import gzip
import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest

from stack.cli import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
ALL = main.commands
# In examples, beside what is ours.
FOREIGN = {"pip", "python", "tensorboard", "curl", "docker"}


def commands_in(page: str) -> list[list[str]]:
    """Words of each command in the bash blocks of a page."""
    return [
        shlex.split(line, comments=True)
        for block in re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
        for line in block.replace("\\\n", " ").splitlines()
        if shlex.split(line, comments=True)
    ]


def assert_exists(words: list[str]) -> None:
    """Fail if a command, one of its options or a make target is not there."""
    program, *rest = words
    name = Path(program).name
    if name in FOREIGN:
        return
    if name == "make":
        targets = [word for word in rest if "=" not in word]
        assert targets
        dry_run = ["make", "--dry-run", *rest]
        done = subprocess.run(dry_run, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return
    command = ALL[rest[0] if name == "pricestack" else name]
    known = {
        option
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for option in parameter.opts
    }
    used = {word.split("=")[0] for word in rest if word.startswith("--")}
    assert used <= known


@pytest.mark.parametrize("words", commands_in(README), ids=" ".join)
def test_readme_command_exists_with_its_options(words: list[str]) -> None:
    assert_exists(words)


def test_layout_table_names_every_module_and_no_other() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:3] for line in page.splitlines() if line[:3] == "| `"]
    named = set()
    for paths, what in rows:
        named |= set(
            re.findall(r"`((?:embed|finetune|stack)/[\w/]+(?:\.py|/))`", paths)
        )
        for room in re.findall(r"`(\w+/\w+/)`", paths):
            named |= {room + name for name in re.findall(r"`(\w+\.py)`", what)}
    rooms = {name.rpartition("/")[0] for name in named if name.endswith(".py")}
    there = {
        path.relative_to(ROOT).as_posix() + ("/" if path.is_dir() else "")
        for package in ("embed", "finetune", "stack")
        for pattern in ("[!_]*", "[!_]*/[!_]*.py")
        for path in (ROOT / package).glob(pattern)
        if path.suffix == ".py" or path.is_dir()
        if path.is_dir() or path.parent.relative_to(ROOT).as_posix() in rooms
    }
    assert named == there


def test_every_make_target_that_help_lists_can_be_planned() -> None:
    text = subprocess.run(
        ["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    targets = re.findall(r"^  make (\w+)", text, re.MULTILINE)
    assert {"demo", "test", "check", "venv", "embeddings", "finetune"} <= set(targets)
    for target in targets:
        plan = subprocess.run(
            ["make", "--dry-run", "--always-make", target],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert plan.returncode == 0, plan.stderr


def test_make_stack_runs_although_a_folder_has_its_name() -> None:
    plan = subprocess.run(
        ["make", "--dry-run", "stack"], cwd=ROOT, capture_output=True, text=True
    )
    assert "pricestack stack" in plan.stdout


def read_text(path: Path) -> str:
    found = path.read_bytes()
    return (gzip.decompress(found) if path.suffix == ".gz" else found).decode()


def test_nothing_names_a_machine_or_a_registry_host() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True
    ).stdout.split()
    if not listed:
        pytest.skip("not a git checkout")
    forbidden = re.compile(r"/(?:home|root|work)/\w|pythonhosted|pypi\.org")
    found = [
        name
        for name in listed
        if not name.endswith(".png")
        and forbidden.search(read_text(ROOT / name))
        and name != "tests/test_readme.py"
    ]
    assert found == []
