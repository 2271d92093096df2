import csv

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import copy_run

from embed.catalog.columns import CatalogColumns, CatalogError
from embed.catalog.own_copy import read_run_catalog
from embed.catalog.reader import read_catalog
from embed.catalog.split_columns import group_names, read_day, read_days, write_day
from embed.extract import extract
from embed.records import require_embedded
from stack.cli import main

COLUMNS = CatalogColumns(groups=("seller",), time="sold")
ROWS = [
    ("1", "tea", "3", "31/12/2023", " Ann  Lee"),
    ("2", "mug", "4", "01/01/2024", "ann lee"),
    ("3", "pot", "5", "", "n/a"),
    ("4", "pan", "6", "02/02/2024", ""),
]


def write(path, rows=ROWS, header=("sample_id", "catalog_content", "price")):
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow((*header, "sold", "seller"))
        lines.writerows(rows)
    return path


def test_dates_are_read_in_the_format_of_the_column(tmp_path):
    catalog = read_catalog(write(tmp_path / "catalog.csv"), columns=COLUMNS)
    days = read_days(catalog)
    assert days[0] == read_day("2023-12-31") == days[1] - 1
    assert np.isnan(days).tolist() == [False, False, True, False]
    assert write_day(days[3]) == "2024-02-02"
    assert catalog.columns.time_format == "%d/%m/%Y"
    assert "Dates of 'sold': 2023-12-31 to 2024-02-02; 1 unknown." in catalog.notes


def test_groups_are_compared_as_categories_and_blanks_are_none(tmp_path):
    catalog = read_catalog(write(tmp_path / "catalog.csv"), columns=COLUMNS)
    assert group_names(catalog.groups["seller"]) == ["ann lee", "ann lee", "", ""]
    note = "Groups of 'seller': 1, the largest of 2 products; 2 products without a"
    assert any(note in line for line in catalog.notes)


@pytest.mark.parametrize("cells", [["3/4/2024"] * 4, ["soon"] * 4, [""] * 4])
def test_a_time_column_without_a_single_reading_is_refused(tmp_path, cells):
    rows = [(*row[:3], cell, "") for row, cell in zip(ROWS, cells, strict=True)]
    with pytest.raises(CatalogError, match=r"'sold' must contain dates.*--time-column"):
        read_catalog(write(tmp_path / "catalog.csv", rows), columns=COLUMNS)


@pytest.mark.parametrize("name", ["groups", "time"])
def test_a_missing_column_is_an_error_that_names_the_option(tmp_path, name):
    value = ("seler",) if name == "groups" else "seler"
    option = f"--{name.removesuffix('s')}-column seller"
    with pytest.raises(CatalogError, match=rf"no column 'seler'.*{option}"):
        read_catalog(
            write(tmp_path / "catalog.csv"), columns=CatalogColumns(**{name: value})
        )


def test_a_group_is_no_table_column_and_the_price_is_neither():
    with pytest.raises(CatalogError, match="both a table column and a group column"):
        CatalogColumns(groups=("seller",), categories=("seller",))
    for changes in ({"groups": ("price",)}, {"time": "price"}):
        with pytest.raises(CatalogError, match="is the price column"):
            CatalogColumns(**changes)


@pytest.mark.parametrize("ignored", [(), ("seller", "sold")])
def test_table_auto_leaves_them_out_unless_the_time_is_named(tmp_path, ignored):
    path = write(tmp_path / "catalog.csv")
    options = {"groups": ("seller",), "time": "sold", "table": "auto"}
    catalog = read_catalog(path, columns=CatalogColumns(**options, ignored=ignored))
    assert not catalog.table
    assert catalog.groups
    named = read_catalog(path, columns=CatalogColumns(**options, dates=("sold",)))
    assert list(named.table) == ["sold"]
    assert named.time == named.table["sold"]


def test_new_products_may_lack_them(tmp_path):
    columns = read_catalog(write(tmp_path / "a.csv"), columns=COLUMNS).columns
    path = tmp_path / "new.csv"
    path.write_text("sample_id,catalog_content\n1,tea\n")
    new = read_catalog(path, columns=columns.for_another_file())
    assert (new.time, dict(new.groups)) == (None, {})
    path.write_text("sample_id,catalog_content,sold\n1,tea,05/03/2024\n")
    new = read_catalog(path, columns=columns.for_another_file())
    assert write_day(read_days(new)[0]) == "2024-03-05"


def test_parquet_dates_are_read(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import datetime

    from pyarrow import parquet

    days = [datetime.date(2024, 1, day) for day in (1, 2, 3)]
    table = {"sample_id": ["1", "2", "3"], "catalog_content": ["a", "b", "c"]}
    path = tmp_path / "catalog.parquet"
    parquet.write_table(pa.table({**table, "sold": days}), path)
    catalog = read_catalog(path, columns=CatalogColumns(time="sold"))
    assert write_day(read_days(catalog)[2]) == "2024-01-03"


def test_the_run_keeps_them_and_its_features_do_not_depend_on_them(
    embedded_run, sample_catalog, tiny_config, tmp_path
):
    run_dir = copy_run(embedded_run, tmp_path / "run")
    with sample_catalog.open(newline="") as file:
        rows = list(csv.reader(file))
    path = tmp_path / "catalog.csv"
    cells = [(f"2024-01-{n + 1:02}", f"s{n % 9}") for n in range(28)] * 2
    more = [("sold", "seller"), *cells][: len(rows)]
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerows([*row, *add] for row, add in zip(rows, more, strict=True))
    before = require_embedded(run_dir)
    after = extract(
        read_catalog(path, columns=COLUMNS),
        run_dir,
        images_dir=sample_catalog.parent / "images",
        config=tiny_config,
    )
    assert after.key == before.key
    kept = read_run_catalog(run_dir, require_embedded(run_dir))
    assert kept.time == tuple(cell[0] for cell in more[1:])
    assert kept.groups == {"seller": tuple(cell[1] for cell in more[1:])}


def test_the_command_has_the_options():
    output = CliRunner().invoke(main, ["embed", "--help"]).output
    assert "--group-column" in output
    assert "--time-column" in output
