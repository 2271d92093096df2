"""Advice on table columns and on settings without an option, taken."""

import pytest
from remedies import advice, options_in, rows_of, write_rows
from remedies import run_dir as run_dir
from remedies import shell as shell

PRICES = [float(2 + n * n % 37) for n in range(40)]


@pytest.fixture
def catalog(shell, tmp_path):
    """Write 40 products whose column `tax` gives the price away."""
    (first, *_) = rows_of(shell.catalog)
    rows = [
        first
        | {
            "sample_id": f"p{n}",
            "price": price,
            "tax": price / 5,
            "hue": "red blue"[:4],
        }
        | {"story": f"a text of more than five words, number {n}", "image_link": ""}
        for n, price in enumerate(PRICES)
    ]
    rows[0]["hue"] = "blue"
    return write_rows(tmp_path / "catalog.csv", rows)


@advice("the price away: the correlation with the log price")
@pytest.mark.parametrize("way", ["--ignore-column", "--allow-column"])
def test_a_column_that_gives_the_price_away_is_left_out_or_allowed(
    shell, catalog, tmp_path, way
):
    embed = ("embed", catalog, "--table", "auto", "--run", tmp_path / "run")
    message = shell.refused(*embed)
    assert {"--ignore-column", "--allow-column"} <= set(options_in(message))
    _, _, rest = message.partition(way)
    assert rest.split()[0] == "tax"
    shell.accepted(*embed, way, "tax")


@advice("Correct the column, or use it with --category-column")
def test_a_column_of_another_kind_is_a_category(shell, catalog, tmp_path):
    embed = ("embed", catalog, "--run", tmp_path / "run")
    message = shell.refused(*embed, "--number-column", "hue")
    assert options_in(message) == ["--category-column"]
    shell.accepted(*embed, "--category-column", "hue")


@advice("table column \0 must have one kind")
def test_a_column_of_two_kinds_is_named_once(shell, catalog, tmp_path):
    embed = ("embed", catalog, "--run", tmp_path / "run")
    number = ("--number-column", "hue")
    message = shell.refused(*embed, *number, "--category-column", "hue")
    option = options_in(message)[1]
    shell.accepted(*embed, option, "hue")


@advice("texts; use it with --text-column")
def test_a_column_of_texts_is_read_as_text(shell, catalog, tmp_path):
    embed = ("embed", catalog, "--table", "auto", "--ignore-column", "tax")
    said = shell.accepted(*embed, "--run", tmp_path / "run")
    assert "story" in said
    assert "use it with --text-column" in said
    text = ("--text-column", "catalog_content", "--text-column", "story")
    said = shell.accepted(*embed, *text, "--run", tmp_path / "other")
    assert "use it with --text-column" not in said


SETTINGS = {  # part of the message: what --set is given, and what it is to be given
    "has an option of its own": ("batch_size=2", None),
    "must be NAME=VALUE, such as": ("clip_norm", "clip_norm=1"),
    "there is no setting \0": ("clip_nrom=2", "clip_norm=2"),
}


@advice(*SETTINGS)
@pytest.mark.parametrize("part", SETTINGS)
def test_a_setting_without_an_option_is_set(shell, run_dir, part):
    wrong, right = SETTINGS[part]
    finetune = ("finetune", "--run", run_dir, "--folds", 2, "--only-fold", 1)
    message = shell.refused(*finetune, "--set", wrong)
    if right is None:
        assert "see --help" in message
        assert f"--{wrong.partition('=')[0].replace('_', '-')}" in shell.accepted(
            "finetune", "--help"
        )
        return
    assert right.partition("=")[0] in message
    shell.accepted(*finetune, "--set", right)
