"""The pages under docs/ say what is there, and each command's help has an example."""

import ast
import dataclasses
import importlib
import inspect
import json
import re
import shlex

import pytest
from test_readme import ALL, ROOT, assert_exists, commands_in

from finetune.__main__ import finetune_command
from finetune.config import FinetuneConfig

PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "CONTRIBUTING.md"]
TEXTS = {page.name: page.read_text(encoding="utf-8") for page in PAGES}
COMMANDS = [(name, words) for name in TEXTS for words in commands_in(TEXTS[name])]
PYTHON = {
    name: "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    for name, text in TEXTS.items()
}
STAGES = ("images", "embed", "finetune", "stack", "predict", "evaluate")


@pytest.mark.parametrize(
    ("page", "words"),
    COMMANDS,
    ids=[" ".join([name, *words]) for name, words in COMMANDS],
)
def test_a_command_of_a_page_exists_with_its_options(page, words):
    assert_exists(words)


def test_each_page_shows_its_command_and_python():
    for stage in STAGES:
        shown = [words for name, words in COMMANDS if name == f"{stage}.md"]
        assert any(words[:2] == ["pricestack", stage] for words in shown), stage
        assert "import" in PYTHON[f"{stage}.md"]


@pytest.mark.parametrize("page", [name for name in PYTHON if PYTHON[name]])
def test_what_python_on_a_page_imports_is_there_and_takes_these_arguments(page):
    block = PYTHON[page]
    names = {}
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module)
            names |= {alias.name: getattr(module, alias.name) for alias in node.names}
    for call in [n for n in ast.walk(ast.parse(block)) if isinstance(n, ast.Call)]:
        called = names.get(getattr(call.func, "id", ""))
        if called is None or (
            isinstance(called, type) and issubclass(called, Exception)
        ):
            continue  # built-in exceptions do not say what they take
        positional = [None] * len(call.args)
        by_name = {keyword.arg: None for keyword in call.keywords}
        inspect.signature(called).bind(*positional, **by_name)


@pytest.mark.parametrize(
    "page",
    [*PAGES, ROOT / "README.md", *sorted((ROOT / "benchmarks").glob("*.md"))],
    ids=lambda page: page.relative_to(ROOT).as_posix(),
)
def test_links_between_pages_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        assert "://" in link or (page.parent / link).exists(), link


def test_options_in_tables_and_prose_are_of_some_command():
    known = {
        option
        for command in ALL.values()
        for parameter in command.params
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    foreign = {"--logdir", "--help", "--strict", "--runs", "--quick", "--durations"}
    for name, text in TEXTS.items():
        used = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", text))
        assert used <= known | foreign, name


@pytest.mark.parametrize("name", sorted(ALL))
def test_help_has_an_example_of_the_command_itself(name):
    help_text = ALL[name].help
    assert "Example:" in help_text
    example = help_text.split("Example:")[1].replace("\\\n", " ").strip()
    words = shlex.split(example.splitlines()[0])
    assert name in (words[0], words[1])
    assert_exists(words)


def test_the_pages_of_the_stages_are_short():
    for stage in STAGES:
        assert len(TEXTS[f"{stage}.md"].splitlines()) <= 120, stage


def test_the_settings_without_an_option_are_listed_with_their_defaults():
    options = {"recipe", *(option.name for option in finetune_command.params)}
    defaults = {
        field.name: json.dumps(field.default)
        for field in dataclasses.fields(FinetuneConfig)
        if field.name not in options
    }
    rows = re.findall(r"^\| `(\w+)` \| (\S+) \|", TEXTS["settings.md"], re.MULTILINE)
    assert {name: json.dumps(json.loads(value)) for name, value in rows} == defaults
