"""What uses a finished run reads its table columns too, and tells of them."""

import json

import pytest
from click.testing import CliRunner
from conftest import TABLE_COLUMNS
from test_stack_cli import assert_one_line

from embed.catalog.reader import read_catalog
from embed.chunks import NO_PHOTO_GIVEN, prepare_chunk
from embed.errors import InputError
from embed.table.values import write_cells
from stack.cli import main
from stack.explain.explanation import explain_product
from stack.explain.parts import contributions
from stack.price.predictor import Predictor

TEXT = "Item Name: Green tea in bags\nValue: 12\nUnit: Ounce"
VALUES = {
    "net weight": "1,5 kg",
    "stars": 4.5,
    "listed": "2024-03-31",
    "brand": "ACME",
}
CELLS = {**VALUES, "stars": "4,5", "listed": "31/03/2024"}


@pytest.fixture(scope="module")
def predictor(table_run):
    return Predictor(table_run, n_threads=1)


@pytest.fixture(scope="module")
def catalog(table_run):
    return read_catalog(table_run.parent / "catalog.csv", columns=TABLE_COLUMNS)


def call(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def price_of(predictor, cells, text=TEXT):
    chunk = prepare_chunk(
        [text],
        [NO_PHOTO_GIVEN],
        decimal=predictor.config.decimal,
        table=predictor.run.embed.table,
        cells={name: [cell] for name, cell in cells.items()},
    )
    return float(predictor.price(chunk)[0])


def test_values_of_programs_are_written_as_the_catalog_s_cells(predictor):
    table = predictor.run.embed.table
    assert write_cells(table, VALUES) == CELLS
    assert write_cells(table, {"brand": None, "stars": 1e21}) == {
        "brand": "",
        "stars": "1" + 21 * "0",
    }
    assert write_cells(table, {"listed": "soon", "brand": True}) == {
        "listed": "soon",
        "brand": "True",
    }
    with pytest.raises(InputError, match=r"no table column 'Brand'.*'brand'"):
        write_cells(table, {"Brand": "Acme"})


def test_an_explanation_leaves_out_each_known_table_column(predictor):
    explanation = explain_product(predictor, TEXT, None, cells=CELLS)
    whole = price_of(predictor, CELLS)
    assert explanation.price == pytest.approx(whole, rel=1e-3)
    assert {(effect.name, effect.value) for effect in explanation.table} == {
        *CELLS.items()
    }
    for effect in explanation.table:
        without = price_of(predictor, {**CELLS, effect.name: ""})
        change = 100 * (without / whole - 1)
        assert effect.change_percent == pytest.approx(change, abs=0.1)
    assert any(abs(effect.change_percent) > 0.1 for effect in explanation.table)
    unknown = {**CELLS, "stars": "many", "listed": " ", "brand": "New"}
    effects = explain_product(predictor, TEXT, None, cells=unknown).table
    assert {effect.name for effect in effects} == {"net weight", "brand"}
    assert explain_product(predictor, TEXT, None).table == []


def test_the_parts_of_a_price_include_the_table_columns(predictor):
    explanation = explain_product(predictor, TEXT, None, cells=CELLS)
    parts = {part.name: part.log_price for part in explanation.parts}
    assert sum(parts.values()) == pytest.approx(explanation.log_price, abs=1e-5)
    chunk = prepare_chunk(
        [TEXT],
        [NO_PHOTO_GIVEN],
        table=predictor.run.embed.table,
        cells={name: [cell] for name, cell in CELLS.items()},
    )
    matrix = predictor.matrix(predictor.predict(chunk).blocks)
    effects = contributions(predictor.boosters, matrix)
    columns = matrix.block_slices["attributes"]
    assert matrix.feature_names[columns][-1] == "table.brand"
    assert parts["attributes"] == pytest.approx(effects[columns].sum(), abs=1e-4)


def test_explain_uses_the_run_s_own_cells_or_those_given(table_run, catalog):
    sample_id = str(catalog.sample_id[1])
    ask = ("explain", "--run", table_run, "--sample-id", sample_id, "--grid", 0)
    ask = (*ask, "--threads", 1)
    own = json.loads(call(*ask, "--json").stdout)
    assert own["cells"] == {name: cells[1] for name, cells in catalog.table.items()}
    assert own["price"] == pytest.approx(own["priced_at"], rel=1e-3)
    result = call(*ask, "--table", "brand=Bolt", "--table", "stars=")
    assert result.exit_code == 0, result.output
    assert "\nChange of the price if a table column is unknown\n" in result.stdout
    assert " %  brand: Bolt\n" in result.stdout
    assert " %  stars: " not in result.stdout
    assert "Values of table columns were changed by --table" in result.stdout
    assert_one_line(call(*ask, "--table", "brand"), "NAME=VALUE", "got 'brand'")
    assert_one_line(call(*ask, "--table", "x=1"), "no table column 'x'", "'brand'")
