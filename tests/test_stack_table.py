"""Everything that uses a finished run reads its table columns and names them."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import TABLE_COLUMNS
from service_standin import client_of, error_of, failed_of
from test_stack_cli import assert_one_line
from test_stack_export import run_script

import stack.audit.features
import stack.audit.shuffled_prices
from embed.catalog.reader import read_catalog
from embed.chunks import NO_PHOTO_GIVEN, prepare_chunk
from embed.errors import InputError
from embed.records import require_embedded
from embed.table.encode import RARE
from embed.table.values import write_cells
from stack.audit.checks import audit_run
from stack.blocks.inputs import BlockInputs, Prices
from stack.cli import main
from stack.explain.explanation import explain_product
from stack.explain.parts import contributions
from stack.export.export import export_run
from stack.html_report.gains import read_gains
from stack.price.onnx_model import Model
from stack.price.predictor import Predictor
from stack.run import Run
from stack.service.pricing import Pricer

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


@pytest.fixture(scope="module")
def client(table_run):
    with client_of(lambda: Pricer(table_run, n_threads=1)) as client:
        yield client


def send_form(client, table):
    fields = {"text": TEXT, "table": table}
    files = {name: (None, value) for name, value in fields.items()}
    return client.post("/price", files=files)


def test_the_service_names_the_table_columns_and_their_kinds(client):
    columns = client.get("/health").json()["table"]
    assert [(column["name"], column["kind"]) for column in columns] == [
        ("net weight", "number"),
        ("stars", "number"),
        ("listed", "date"),
        ("brand", "category"),
    ]
    assert columns[0]["units"] == ["kg"]
    assert columns[3]["categories"] == ["acme", "bolt", "crane & co"]


def test_the_service_prices_table_values_as_predict_does(client, predictor):
    product = {"text": TEXT, "table": VALUES}
    answer = client.post("/price", json=product).json()
    assert answer["price"] == pytest.approx(price_of(predictor, CELLS), rel=1e-3)
    assert [lack["field"] for lack in answer["placeholders"]] == ["image"]
    assert send_form(client, json.dumps(VALUES)).json() == answer
    products = [{"text": TEXT}, product]
    plain, same = client.post("/prices", json={"products": products}).json()["prices"]
    assert same["price"] == pytest.approx(answer["price"], rel=1e-3)
    assert plain["price"] == pytest.approx(price_of(predictor, {}), rel=1e-3)
    assert plain["price"] != pytest.approx(same["price"], rel=1e-3)
    why = client.post("/price?explain=true", json=product).json()["explanation"]
    assert {effect["name"] for effect in why["table"]} == set(VALUES)


def test_values_that_the_service_cannot_use_are_named_and_no_error(client):
    table = {"stars": "many", "net weight": 3, "brand": "New", "listed": True}
    reasons = [
        "column 'net weight': '3' is no number",
        "column 'stars': 'many' is no number",
        "column 'listed': 'True' is no date",
        "column 'brand': 'New' is new or rare in the run",
    ]
    for path in ("/price", "/price?explain=true"):
        answer = client.post(path, json={"text": TEXT, "table": table}).json()
        lacks = [lack for lack in answer["placeholders"] if lack["field"] == "table"]
        assert sorted(lack["reason"] for lack in lacks) == sorted(reasons)
    huge = {"text": TEXT, "table": {"stars": 10**60, "brand": None}}
    (lack,) = client.post("/price", json=huge).json()["placeholders"][1:]
    assert lack["reason"].startswith("column 'stars': '1000")


@pytest.mark.parametrize(
    ("table", "where", "message"),
    [
        ({"Brand": "Acme"}, "table", "no table column 'Brand'"),
        ({"brand": ["Acme"]}, "table.brand", "should be a text, a number"),
        ({"brand": "a" * 1001}, "table.brand", "at most 1000 characters"),
        ([], "table", "should be an object"),
    ],
)
def test_a_wrong_table_is_refused(client, table, where, message):
    product = {"text": TEXT, "table": table}
    error = error_of(client.post("/price", json=product), 422)
    assert error["where"] == where
    assert message in error["message"]
    assert error_of(send_form(client, json.dumps(table)), 422)["where"] == where
    error = failed_of(client.post("/prices", json={"products": [product]}), 0)
    assert error["where"] == f"products[0].{where}"


def test_an_unknown_column_is_answered_with_those_of_the_run(client):
    product = {"text": TEXT, "table": {"Brand": "Acme"}}
    error = error_of(client.post("/price", json=product), 422)
    assert "'net weight', 'stars', 'listed', 'brand'" in error["message"]
    assert "JSON" in error_of(send_form(client, "{"), 422)["message"]


@pytest.fixture(scope="module")
def model_dir(table_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "model"
    assert export_run(table_run, folder) <= 1e-3  # checks products with cells too
    return folder


def test_an_exported_model_prices_and_flags_table_columns_as_predict_does(
    table_run, model_dir, tmp_path
):
    with (table_run.parent / "catalog.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))[:6]
    rows[1]["stars"], rows[2]["listed"], rows[3]["brand"] = "many", "soon", "New"
    path = tmp_path / "new.csv"
    with path.open("w", newline="") as file:
        lines = csv.DictWriter(file, list(rows[0]))
        lines.writeheader()
        lines.writerows(rows)
    given = ("--images", table_run.parent / "images", "--flags", "--out")
    prices = tmp_path / "prices.csv"
    ask = ("predict", path, "--run", table_run, "--threads", 1, *given, prices)
    assert call(*ask).exit_code == 0
    exported = tmp_path / "exported.csv"
    done = run_script(model_dir, "--catalog", path, *given, exported)
    assert done.returncode == 0, done.stderr
    own, copy = (
        list(csv.DictReader(written.read_text().splitlines()))
        for written in (prices, exported)
    )
    assert [row["flags"] for row in copy] == [row["flags"] for row in own]
    assert "column 'stars': 'many' is no number" in copy[1]["flags"]
    assert "column 'listed': 'soon' is no date" in copy[2]["flags"]
    assert "column 'brand': 'New' is new or rare in the run" in copy[3]["flags"]
    by_run, by_model = (np.log([float(r["price"]) for r in f]) for f in (own, copy))
    np.testing.assert_allclose(by_model, by_run, rtol=0, atol=2e-3)
    model = Model(model_dir)
    with_cells = model.log_price(TEXT, None, CELLS)
    assert abs(with_cells - model.log_price(TEXT, None)) > 1e-3


def test_an_export_needs_no_pandas_and_its_card_lists_the_table_columns(model_dir):
    packages = (model_dir / "requirements.txt").read_text().split()
    assert "pandas" not in packages
    card = (model_dir / "MODEL_CARD.md").read_text()
    columns = "net weight (number), stars (number), listed (date), brand (category)"
    assert f"| Table columns | {columns} |" in card


def audit(run_dir):
    checks = audit_run(run_dir, n_products=12, n_threads=1)
    return {check.name: check for check in checks}


def test_a_run_with_table_columns_passes_the_audit(table_run):
    found = audit(table_run)
    assert list(found)[4:] == [
        *("canary", "table columns", "shuffled prices", "shuffled blocks"),
        "priced again",
    ]
    assert [check.detail for check in found.values() if not check.passed] == []
    assert "no column gives the price away" in found["table columns"].detail


def test_a_category_made_from_the_price_fails_the_audit(table_run, monkeypatch):
    array = Run.array

    def with_bands(run, name):
        found = array(run, name)
        if name != "embed/attributes":
            return found
        order = np.argsort(np.argsort(array(run, "finetune/price")))
        found = np.array(found)
        found[:, -1] = RARE + 1 + order // 2
        return found

    monkeypatch.setattr(Run, "array", with_bands)
    checks = audit_run(table_run, n_products=12, n_threads=1)
    check = next(check for check in checks if check.name == "table columns")
    assert not check.passed
    assert "brand correlates with the log price by 0.9" in check.detail


def test_table_columns_of_few_products_are_not_checked(table_run, monkeypatch):
    monkeypatch.setattr(stack.audit.features, "MIN_PRODUCTS", 41)
    checks = audit_run(table_run, n_threads=1)
    check = next(check for check in checks if check.name == "table columns")
    assert check.passed is None
    assert check.detail == "needs 41 products with a price, the run has 40"


@pytest.mark.parametrize("leaks", [False, True])
def test_prices_that_enter_their_own_category_s_mean_fail_the_audit(
    table_run, monkeypatch, leaks
):
    """Each product has a category of its own, whose mean is its own price or none."""
    inputs_of = stack.audit.shuffled_prices.inputs_of

    def with_own_categories(run):
        products = inputs_of(run)
        codes = (RARE + 1 + np.arange(len(products.texts))).astype(np.float32)
        features = replace(products.features, categories=codes[:, None])
        return BlockInputs(texts=products.texts, features=features)

    monkeypatch.setattr(stack.audit.shuffled_prices, "inputs_of", with_own_categories)
    if leaks:
        monkeypatch.setattr(Prices, "known_to", lambda prices, _: prices.folds >= 0)
    checks = audit_run(table_run, n_products=12, n_threads=1)
    check = next(check for check in checks if check.name == "shuffled blocks")
    assert check.passed != leaks, check.detail


def test_gains_name_table_columns_as_the_catalog_does(table_run):
    names = require_embedded(table_run).attribute_names
    for folder in ("stack", "stack/lightgbm"):
        gains = read_gains(table_run / folder, attribute_names=names)
        labels = [block for block, _, _ in gains.blocks]
        assert "sizes and table columns" in labels
        assert "attributes" not in labels
        assert not [name for name, _, _ in gains.features if "table." in name]
        assert {block for _, block, _ in gains.features} <= set(labels)
