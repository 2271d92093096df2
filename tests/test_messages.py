"""What messages advise can be done: commands, targets, options and modules exist."""

import ast
import re
import shlex
from pathlib import Path

import pytest
from test_readme import ALL, ROOT, assert_exists

MODULES = sorted(
    path
    for package in ("embed", "finetune", "stack")
    for suffix in (".py", ".md.j2")
    for path in ROOT.glob(f"{package}/**/*{suffix}")
)
_COMMAND = re.compile(r"`((?:pricestack|make|evaluate)\b[^`]*)`")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]+")
KNOWN = {
    option
    for command in ALL.values()
    for parameter in command.params
    for option in (*parameter.opts, *parameter.secondary_opts)
}
# Options of click itself, of pip, and of an exported model's own script.
FOREIGN = {"--help", "--version", "--constraint", "--upgrade"}


def is_advice(text: str) -> bool:
    """Tell whether a text names a command or an option."""
    return bool(_COMMAND.search(text) or _OPTION.search(text))


def strings_of(path: Path, *, filled_in: str = "X") -> list[str]:
    """Return a module's texts without docstrings, or a template's without tables.

    `filled_in` replaces what a text fills in.
    """
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".j2":
        paragraphs = re.split(r"\n\n(?:\|.*\n)*", source)
        return [re.sub(r"\{[{%].*?[%}]\}", filled_in, text) for text in paragraphs]
    tree = ast.parse(source)
    docstrings = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    inside = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in node.values
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            found.append(
                "".join(
                    str(part.value) if isinstance(part, ast.Constant) else filled_in
                    for part in node.values
                )
            )
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in docstrings | inside
        ):
            found.append(node.value)
    return found


MESSAGES = [
    (path.relative_to(ROOT).as_posix(), text)
    for path in MODULES
    for text in strings_of(path)
]
COMMANDS = sorted(
    {
        (where, command)
        for where, text in MESSAGES
        for command in _COMMAND.findall(text)
        # Which target is filled in is tested where the message is raised.
        if not re.match(r"(make|pricestack) X", command)
    }
)


def test_there_are_messages_to_look_at():
    assert len(COMMANDS) > 10


@pytest.mark.parametrize(("where", "command"), COMMANDS)
def test_a_command_that_a_message_names_exists_with_its_options(where, command):
    assert_exists(shlex.split(command))


def test_an_option_that_a_message_names_is_one_of_some_command():
    for where, text in MESSAGES:
        assert set(_OPTION.findall(text)) <= KNOWN | FOREIGN, (where, text)
