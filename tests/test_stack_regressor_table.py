"""Numbers, categories and dates of a DataFrame beside its texts and photos."""

import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from embed.config import EmbedConfig
from embed.errors import ConfigError, InputError
from stack import PriceRegressor
from stack.config import StackConfig
from stack.notebook.inputs import write_inputs
from stack.notebook.products import MissingColumnWarning, read_products
from stack.notebook.table import find_kinds

N = 48


@pytest.fixture(scope="module")
def products():
    rng = np.random.default_rng(0)
    weight = np.exp(rng.normal(size=N))
    days = pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 90, N), "D")
    return pd.DataFrame(
        {
            "weight": weight,
            "brand": rng.choice(["Acme", "Bolt", "Cog"], N),
            "new": rng.random(N) < 0.5,
            "class": pd.Categorical(rng.choice([1.0, 2.0], N)),
            "sold": days,
            "price": rng.integers(1, 9, N),  # a name of the run's own catalog
            3: rng.integers(0, 9, N),
            "cost": (5 * weight**0.5 * np.exp(rng.normal(0, 0.5, N))).round(2),
            "notes": [f"note {n}" for n in range(N)],
            "tags": [["a", "b"]] * N,
        }
    )


KINDS = {
    **{"weight": "number", "brand": "category", "new": "category"},
    **{"class": "category", "sold": "date", "price": "number", 3: "number"},
}


@pytest.fixture(scope="module")
def make(tiny_encoder):
    settings = {
        "text_columns": (),
        "image_column": None,
        "text_encoder": str(tiny_encoder),
        "image_encoder": "no-such-encoder",
        "random_weights": True,
        "n_folds": 2,
        "smooth_l1_epochs": 1,
        "smape_epochs": 0,
        "max_tokens": 24,
        "image_size": 32,
        "precision": "fp32",
        "n_threads": 1,
        "embed_config": EmbedConfig(backend="eager"),
        "stack_config": StackConfig(
            max_rounds=3, min_data_in_leaf=3, n_bootstrap=20, ablation=False
        ),
    }
    return lambda **changes: PriceRegressor(**(settings | changes))


@pytest.fixture(scope="module")
def fitted(make, products):
    return make().fit(products, products["cost"])


def kinds_of(X, wanted="auto", *, others=(), y=None):
    y = pd.Series(np.arange(1.0, len(X) + 1)) if y is None else y
    return find_kinds(X, wanted, others=others, y=y, price=np.ravel(y).astype(float))


def test_a_table_alone_is_priced(fitted, products):
    assert fitted.feature_names_in_.tolist() == [*KINDS]
    price = fitted.predict(products)
    assert np.isfinite(price).all()
    assert len({*price.round(6)}) > N / 2  # its numbers matter


def test_new_categories_and_missing_columns_are_priced(fitted, products):
    assert np.isfinite(fitted.predict(products.assign(brand="New"))).all()
    message = r"lacks table columns of the fit.*: 'brand', 3\. Give"
    with pytest.warns(MissingColumnWarning, match=message) as caught:
        price = fitted.predict(products.drop(columns=["brand", 3]))
    assert caught[0].filename == __file__
    assert np.isfinite(price).all()


def test_a_column_that_gives_the_price_away_is_refused(make, products):
    X = products.assign(estimate=products["cost"] * 1.1)
    with pytest.raises(
        InputError,
        match=r"^X: column 'estimate' gives the price away.*"
        r"allow_columns=\['estimate'\]$",
    ):
        make().fit(X, products["cost"])


def test_parameters_can_be_cloned_and_set(make):
    table = {"weight": "number"}
    regressor = make(table_columns=table, allow_columns=["weight"])
    cloned = clone(regressor)
    assert cloned.get_params()["table_columns"] == table
    assert cloned.set_params(table_columns=None).table_columns is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"table_columns": "brand"}, 'must be "auto", None, a list'),
        ({"table_columns": {"brand": "text"}}, r"\['brand'\] must be one of number"),
        ({"table_columns": None}, "text_columns must name at least one column"),
        ({"table_columns": ["no"]}, "no column 'no'.*table_columns"),
        ({"table_columns": ["notes"]}, r"X\['notes'\].*table_columns=\{'notes'"),
        ({"table_columns": ["tags"]}, r"X\['tags'\].*it has \['a', 'b'\] \(list\)"),
        ({"table_columns": {"tags": "category"}}, r"row 0 is \['a', 'b'\] \(list\)"),
    ],
)
def test_table_columns_that_cannot_be_are_refused(make, products, changes, message):
    with pytest.raises(InputError, match=message):
        make(**changes).fit(products, products["cost"])


def test_no_text_photo_or_table_is_refused(make, products):
    with pytest.raises(ConfigError, match="and no table columns"):
        make().fit(products[["tags"]], products["cost"])


def test_kinds_go_by_dtype_before_the_cells(products):
    assert kinds_of(products, y=products["cost"]) == KINDS
    assert kinds_of(products, ["brand"]) == {"brand": "category"}
    assert kinds_of(products, None) == {}
    dates = [datetime.date(2024, 1, 1 + n % 9) for n in range(N)]
    odd = pd.DataFrame(
        {
            "code": [4_006_381_333_931 + n % 3 for n in range(N)],
            "compact": [20240101 + n % 9 for n in range(N)],
            "text": ["1,5 kg", "500 g"] * (N // 2),
            "days": dates,
            "decimal": [Decimal("1.299"), Decimal("2.5")] * (N // 2),
            "nullable": pd.array([1, None] * (N // 2), "Int64"),
            "one": [1] * N,
            "zip": ["01234", "90210"] * (N // 2),
        }
    )
    assert kinds_of(odd) == {
        **{"code": "number", "compact": "number", "text": "number", "days": "date"},
        **{"decimal": "number", "zip": "category"},
    }


def test_the_price_is_no_feature():
    X = pd.DataFrame({"a": [3.0, 1, 2] * 9, "b": [1, 2, 1] * 9, "y": [1, 5, 1] * 9})
    y = pd.Series(X["a"].to_numpy(), name="y")
    assert kinds_of(X, y=y) == {"b": "number"}
    assert kinds_of(X, y=y.to_frame()) == {"b": "number"}


def test_cells_reach_the_catalog_as_they_are(products, tmp_path):
    found = read_products(
        products, text_columns=[], image_column=None, images_dir=None, kinds=KINDS
    )
    path, _ = write_inputs(found, np.ones(N), tmp_path)
    table = pd.read_csv(path)
    assert found.columns.price == "price_"
    assert found.plain_numbers == {"weight", "price", "3"}
    np.testing.assert_array_equal(table["weight"], products["weight"])
    np.testing.assert_array_equal(table["price"], products["price"])
    assert {*table["class"]} == {1, 2}
    assert found.table["sold"][0] == str(products["sold"][0])
