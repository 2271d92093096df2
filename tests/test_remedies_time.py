"""Advice on dates, groups and held-out products, taken."""

import pytest
from remedies import advice, commands_in, options_in, rows_of, write_rows
from remedies import shell as shell

RUN = ("--run", "run")


def dated(path, rows, date=lambda number: f"2024-01-{1 + number:02}"):
    """Write a catalog with dates and three sellers, the first of most products."""
    rows = [
        {**row, "sold": date(n), "seller": "Ann" if n < 12 else "Bob"}
        for n, row in enumerate(rows)
    ]
    return write_rows(path, rows)


@pytest.fixture
def catalog(shell, tmp_path):
    return dated(tmp_path / "dated.csv", rows_of(shell.catalog))


def embed(catalog, *options):
    return ("embed", catalog, *RUN, *options)


def finetune(*options):
    return ("finetune", *RUN, "--folds", 2, *options)


@advice("cannot be both a table column and a group column")
@pytest.mark.parametrize("left_out", ["--group-column", "--category-column"])
def test_a_column_is_a_group_or_a_table_column(shell, catalog, left_out):
    both = {"--group-column": "seller", "--category-column": "seller"}
    message = shell.refused(*embed(catalog, *sum(both.items(), ())))
    assert options_in(message) == ["--group-column"]
    del both[left_out]
    shell.accepted(*embed(catalog, *sum(both.items(), ())))


@advice("is the price column. Name another one with")
def test_the_price_column_makes_no_groups(shell, catalog):
    message = shell.refused(*embed(catalog, "--group-column", "price"))
    group, time = options_in(message)
    shell.accepted(*embed(catalog, group, "seller", time, "sold"))


@advice("must contain dates in one style that has a single")
@pytest.mark.parametrize("way", ["correct", "name another"])
def test_dates_with_two_readings_are_corrected(shell, tmp_path, catalog, way):
    path, rows = tmp_path / "unclear.csv", rows_of(catalog)
    dated(path, [{**row, "day": row["sold"]} for row in rows], lambda n: "3/4/2024")
    message = shell.refused(*embed(path, "--time-column", "sold"))
    (option,) = options_in(message)
    if way == "correct":
        shell.accepted(*embed(catalog, "--time-column", "sold"))
    else:
        shell.accepted(*embed(path, option, "day"))


@advice("the run has no time column", "products are held out; `pricestack stack`")
@pytest.mark.parametrize("way", ["name it", "leave out"])
def test_a_test_from_a_date_needs_a_time_column(shell, catalog, way):
    shell.accepted(*embed(catalog))
    message = shell.refused(*finetune("--test-from", "2024-01-20"))
    assert commands_in(message) == ["pricestack embed"]
    option = options_in(message)[1]
    if way == "name it":
        shell.accepted(*embed(catalog, option, "sold"))
        output = shell.accepted(*finetune("--test-from", "2024-01-20"))
    else:
        shell.accepted(*finetune())
        output = shell.accepted(*finetune("--hold-out", 0.2))
    (command,) = commands_in(output)
    shell.follow(f"{command} --run run {shell.settings['stack']}")
    assert "Held-out products" in shell.accepted("evaluate", *RUN)


@advice(
    "Choose another date with --test-from DATE",
    "--test-from and --hold-out exclude each other",
    "--test-from must be a date such as",
    "--hold-out must be 0 to 0.5",
)
def test_what_is_held_out_can_be_chosen(shell, catalog):
    shell.accepted(*embed(catalog, "--time-column", "sold"))
    output = shell.accepted(*finetune())
    assert "--test-from none trains on all" in output
    assert "are held out" not in shell.accepted(*finetune("--test-from", "none"))
    shell.refused(*finetune("--test-from", "2024-01-20", "--hold-out", 0.1))
    shell.refused(*finetune("--test-from", "20.1.2024"))
    shell.refused(*finetune("--hold-out", 0.9))
    shell.refused(*finetune("--test-from", "2025-01-20"))
    shell.accepted(*finetune("--test-from", "2024-01-20"))


@advice("If that is no reason to share a fold, leave its")
def test_a_group_that_is_too_large_is_left_out(shell, catalog):
    shell.accepted(*embed(catalog, "--group-column", "seller"))
    output = shell.accepted(*finetune())
    (option,) = [o for o in options_in(output) if o.startswith("--group")]
    assert option == "--group-column"
    shell.accepted(*embed(catalog))
    assert "share a fold" not in shell.accepted(*finetune())


@advice("; --flags marks them", "has no usable price any more")
def test_late_products_are_marked_and_lost_test_prices_restored(
    shell, catalog, tmp_path
):
    shell.accepted(*embed(catalog, "--time-column", "sold"))
    shell.accepted(*finetune("--test-from", "2024-01-20"))
    shell.accepted("stack", *RUN)
    rows = rows_of(catalog)[:4]
    new = write_rows(tmp_path / "new.csv", [{**r, "sold": "2025-01-01"} for r in rows])
    predict = ("predict", new, *RUN, "--out", "prices.csv")
    output = shell.accepted(*predict)
    (option,) = [o for o in options_in(output) if o == "--flags"][:1]
    shell.accepted(*predict, option)
    assert all(
        "after the last trained" in r["flags"] for r in rows_of(tmp_path / "prices.csv")
    )
    lost = [{**row, "price": ""} for row in rows_of(catalog)]
    path = write_rows(tmp_path / "lost.csv", lost)
    shell.accepted(*embed(path, "--time-column", "sold"))
    message = shell.refused("evaluate", *RUN)
    assert commands_in(message) == ["pricestack embed"]
    shell.accepted(*embed(catalog, "--time-column", "sold"))
    shell.accepted("evaluate", *RUN)
