"""`pricestack review`: prices of a run's own catalog that may be wrong."""

import base64
import csv
import dataclasses
import hashlib
import re

import numpy as np
import pytest
from click.testing import CliRunner

from stack.cli import main
from stack.review.clues import Findings
from stack.review.expected import Expected
from stack.review.page import render_page
from stack.review.photo_fit import misfit_ratio, photo_misfit
from stack.review.reasons import Reasons
from stack.review.review import Review, Suspect, rank
from stack.review.suspicion import Clues, Endings, spread_of_interval, weigh
from stack.review.table import plain_cell, review_csv
from stack.review.twins import Twins, find_twins
from stack.review.words import WordEffects
from stack.run import open_finished_run

HOSTILE = "</script><img src=x onerror=alert(1)>\"'&"


def review(run_dir, *options):
    return CliRunner().invoke(main, ["review", "--run", str(run_dir), *options])


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def catalog_prices(n=400):
    """Prices of which half end in 99, as shops have them."""
    cents = np.random.default_rng(0).integers(100, 9999, n)
    cents[::2] += 99 - cents[::2] % 100
    return cents / 100


def explained(**known):
    """Return the reason for one product's price, and the probability of an error."""
    unknown = dict.fromkeys(("pack", "grams", "millilitres", "twin_log_price"), np.nan)
    facts = unknown | {"photo_ratio": np.nan, "spread": 0.3} | known
    clues = Clues(
        **{name: np.array([value], float) for name, value in facts.items()},
        endings=Endings.count(catalog_prices()),
    )
    has_twin = not np.isnan(facts["twin_log_price"])
    twins = Twins(rows=((1,) if has_twin else (),), log_price=clues.twin_log_price)
    findings = Findings(
        clues=clues, twins=twins, misfit=np.array([0.8]), names=["A", "B"]
    )
    suspicion = weigh(clues)
    reasons = Reasons(
        findings,
        suspicion,
        sample_id=np.array(["1", "123"]),
        prices=np.array([facts["price"], np.exp(facts["twin_log_price"])]),
    )
    return reasons.of(0, ()), float(suspicion.probability[0])


@pytest.mark.parametrize(
    ("known", "kind", "evidence"),
    [
        (
            {"price": 129.90, "expected": 12.7},
            "decimal",
            "10.2 times the expected price. The decimal point may be one place too far "
            "right; the price ends in a zero.",
        ),
        (
            {"price": 1299.0, "expected": 13.5},
            "decimal",
            "96.2 times the expected price. The decimal point may be two places too "
            "far right; the price ends in zeros.",
        ),
        (
            {"price": 1.37, "expected": 12.7},
            "decimal",
            "1/9.27 of the expected price. The decimal point may be one place too far "
            "left. Or: That is about the rate of SEK to a dollar or euro (10.5): "
            "perhaps another currency.",
        ),
        (
            {"price": 2.08, "expected": 48.0, "pack": 24},
            "pack",
            "1/23.1 of the expected price. The text names a pack of 24: perhaps the "
            "price of one piece.",
        ),
        (
            {"price": 96.17, "expected": 8.0, "pack": 12},
            "pack",
            "12 times the expected price. The text names a pack of 12: perhaps the "
            "price of several packs.",
        ),
        (
            {"price": 82.13, "expected": 4.0, "grams": 50.0, "spread": 0.2},
            "size",
            "20.5 times the expected price. It would fit 1 kg, but the text gives 50 g "
            "in all.",
        ),
        (
            {"price": 1080.77, "expected": 13.0, "spread": 0.2},
            "currency",
            "83.1 times the expected price. That is about the rate of INR to a dollar "
            "or euro (83): perhaps another currency.",
        ),
        (
            {"price": 24.99, "expected": 5.2, "twin_log_price": np.log(4.99)},
            "twin",
            "4.81 times the expected price. Twin 123 costs 4.99.",
        ),
        (
            {"price": 24.99, "expected": 4.0, "photo_ratio": 12.0},
            "photo",
            "6.25 times the expected price. 80 % of other texts fit the photo better: "
            "photo or text may be another product's.",
        ),
    ],
)
def test_each_error_is_named_with_its_numbers(known, kind, evidence):
    reason, probability = explained(**known)
    assert (reason.kind, reason.evidence) == (kind, evidence)
    assert probability > 0.1


def test_a_price_that_many_products_could_have_has_no_reason():
    reason, probability = explained(price=24.99, expected=12.0, spread=0.5)
    assert reason.kind == "unknown"
    assert reason.evidence == "2.08 times the expected price."
    assert probability < 0.03


def test_a_usual_ending_speaks_against_a_computed_price():
    _, usual = explained(price=249.99, expected=12.0)
    _, unusual = explained(price=249.37, expected=12.0)
    assert usual < unusual


def test_a_shifted_price_needs_its_zeros():
    assert explained(price=129.90, expected=12.7)[0].kind == "decimal"
    assert explained(price=129.37, expected=12.7)[0].kind != "decimal"


def test_a_twin_at_the_same_price_makes_a_price_less_suspicious():
    _, alone = explained(price=24.99, expected=5.2)
    _, beside = explained(price=24.99, expected=5.2, twin_log_price=np.log(24.49))
    assert beside < 0.6 * alone


def test_endings_of_whole_prices_have_a_step_of_one():
    endings = Endings.count(np.array([1299.0, 999.0, 1499.0, 250.0]))
    assert endings.step == 1
    assert endings.of(np.array([799.0]))[0] > endings.of(np.array([798.0]))[0]


def test_endings_do_not_depend_on_the_currency():
    endings, other = (Endings.count(catalog_prices() * f) for f in (1, 0.001))
    assert other.step == pytest.approx(endings.step / 1000)
    assert other.frequency.tolist() == endings.frequency.tolist()


def test_an_interval_and_its_spread_fit_students_t():
    spread = spread_of_interval(np.array([1.0]), np.array([np.exp(2)]), level=90)
    draws = np.random.default_rng(0).standard_t(4, 100_000) * spread
    assert (np.abs(draws) < 1).mean() == pytest.approx(0.9, abs=0.005)


def test_words_explain_a_dear_product_by_others_with_the_word():
    names = ["Truffle oil", *["Truffle butter"] * 6, *["Plain butter"] * 20]
    log_factor = np.array([1.2, 0.8, 0.9, 0.7, 0.8, 0.9, 0.8, *([-0.1, 0.0] * 10)])
    (effect,) = WordEffects(names, log_factor).explain(0)
    assert (effect.word, effect.n) == ("truffle", 6)
    assert effect.factor == pytest.approx(np.exp(log_factor[1:7].mean()))
    assert WordEffects(names, -log_factor).explain(0)[0].factor < 1
    assert WordEffects(names, log_factor).explain(10) == []


def test_words_of_few_products_explain_nothing():
    names = ["Truffle oil", *["Truffle butter"] * 4]
    assert WordEffects(names, np.array([1.2, 1.1, 1.2, 1.1, 1.2])).explain(0) == []


def test_twins_share_words_and_size_and_are_not_the_product_itself():
    names = ["Green tea, 3 pack", "Black tea, 3 pack", "Black tea, 1 pack", "Kettle"]
    twins = find_twins(
        np.array([0, 3]),
        fused=np.eye(4, dtype=np.float16) + np.float16(1),
        priced_rows=np.arange(4),
        price=np.array([1.0, 8.0, 9.0, 9.0]),
        names=names,
        sizes=np.log([[3.0], [3.0], [1.0], [np.nan]]),
    )
    assert twins.rows == ((1,), ())
    assert twins.log_price[0] == pytest.approx(np.log(8))
    assert np.isnan(twins.log_price[1])


def test_an_exchanged_photo_fits_its_text_worse_than_a_right_one():
    rng = np.random.default_rng(0)
    text = rng.normal(size=(300, 8))
    projected = text @ rng.normal(size=(8, 40))
    image = np.maximum(np.concatenate([projected, -projected], axis=1), 0)
    image[[0, 1]] = image[[1, 0]]
    misfit = photo_misfit(image, text, np.arange(300) % 5)
    assert misfit[[0, 1]].min() > np.median(misfit[2:])
    ratio = misfit_ratio(np.append(misfit, np.nan))
    assert ratio[-1] == 1
    assert ratio[np.argmax(misfit)] > ratio[np.argmin(misfit)]


@pytest.mark.parametrize("shape", [(10, 40), (100, 0)])
def test_photos_without_features_or_company_have_no_misfit(shape):
    image = np.ones(shape, np.float32)
    text = np.random.default_rng(0).normal(size=(len(image), 8))
    assert np.isnan(photo_misfit(image, text, np.arange(len(image)) % 5)).all()


def suspect(**changes):
    return dataclasses.replace(
        Suspect(
            row=0,
            sample_id="1",
            name="Tea",
            price=20.0,
            expected=5.0,
            low=2.0,
            high=10.0,
            units=1.0,
            probability=0.6,
            kind="pack",
            evidence="4 times the expected price.",
        ),
        **changes,
    )


def test_suspects_are_ranked_by_class_then_money_then_catalog_row():
    ranked = rank(
        [
            suspect(row=1, probability=0.2, price=900.0),
            suspect(row=2, probability=0.55, price=30.0),
            suspect(row=3, probability=0.99, price=20.0),
            suspect(row=4, probability=0.99, price=20.0),
            suspect(row=5, probability=0.99, price=900.0, units=None),
        ]
    )
    assert [one.row for one in ranked] == [2, 3, 4, 5, 1]


def test_units_weigh_the_difference():
    ranked = rank([suspect(row=1, units=2.0), suspect(row=2, price=7.0, units=30.0)])
    assert [(one.row, one.money) for one in ranked] == [(2, 60.0), (1, 30.0)]


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("-cmd", "'-cmd"),
        ("\tx", "'\tx"),
        ("-12", "-12"),
        ("+3.5", "+3.5"),
        ("Tea", "Tea"),
        ("", ""),
    ],
)
def test_no_cell_is_a_formula(text, cell):
    assert plain_cell(text) == cell


def test_the_table_has_units_only_if_they_are_given():
    suspects = [suspect(units=None, sample_id="=1", name="=A,\n")]
    for with_units in (True, False):
        table = review_csv(
            Review(suspects=suspects, n_reviewed=9, level=90, with_units=with_units)
        )
        (row,) = csv.DictReader(table.decode().splitlines(keepends=True))
        assert row["sample_id"] == "'=1"
        assert row["name"] == "'=A,\n"
        assert row["suspicion"] == "high"
        assert row["reason"] == "one piece or pack"
        assert row["money"] == ""
        assert ("units" in row) is with_units


def test_review_writes_a_table_and_a_page(finished_run, tmp_path):
    out, page = tmp_path / "r.csv", tmp_path / "r.html"
    options = ("--level", "80", "--out", str(out), "--page", str(page), "--rows", "3")
    result = review(finished_run, *options)
    assert result.exit_code == 0, result.output
    rows = rows_of(out)
    assert f"{len(rows)} of 40 prices lie outside their 80 % interval." in result.output
    assert 4 <= len(rows) <= 8
    assert [row["rank"] for row in rows] == [str(n + 1) for n in range(len(rows))]
    for row in rows:
        price = float(row["price"])
        assert not float(row["low"]) <= price <= float(row["high"])
        assert float(row["low"]) < float(row["expected"]) < float(row["high"])
        assert float(row["difference"]) == pytest.approx(
            price - float(row["expected"]), abs=2e-4
        )
        assert row["evidence"].startswith(("1/", *"123456789"))
    html = page.read_text(encoding="utf-8")
    shown = re.findall(r'<li tabindex="-1" data-id="([^"]+)"', html)
    assert shown == [row["sample_id"] for row in rows[:3]]
    assert 'src="http' not in html
    assert "default-src 'none'" in html


def test_review_expects_the_prices_of_the_other_folds(finished_run, tmp_path):
    assert (
        review(
            finished_run,
            "--out",
            str(tmp_path / "r.csv"),
            "--page",
            str(tmp_path / "r.html"),
            "--level",
            "80",
        ).exit_code
        == 0
    )
    finished = open_finished_run(finished_run)
    run = finished.run
    out_of_fold = np.expm1(run.out_of_fold(finished.chosen).astype(float))
    ids = run.array("embed/sample_id").tolist()
    for row in rows_of(tmp_path / "r.csv"):
        expected = out_of_fold[ids.index(row["sample_id"])] * run.price_unit
        assert float(row["expected"]) == pytest.approx(expected, rel=1e-4)


def test_no_suspect_is_said_and_leaves_an_empty_table(
    finished_run, tmp_path, monkeypatch
):
    none = property(lambda expected: np.zeros(len(expected.rows), bool))
    monkeypatch.setattr(Expected, "is_outside", none)
    out, page = tmp_path / "r.csv", tmp_path / "r.html"
    result = review(finished_run, "--out", str(out), "--page", str(page))
    assert "No price lies outside its 90 % interval, of 40 reviewed." in result.output
    assert rows_of(out) == []
    html = page.read_text(encoding="utf-8")
    assert "No price lies outside its 90 % interval." in html
    assert "<script" not in html


def test_hostile_texts_are_shown_and_not_run(finished_run):
    finished = open_finished_run(finished_run)
    hostile = suspect(sample_id=HOSTILE, name=HOSTILE, evidence=HOSTILE)
    found = Review(suspects=[hostile], n_reviewed=40, level=90, with_units=False)
    html = render_page(finished, found, n_rows=200).decode()
    assert "<img src=x" not in html
    assert html.count("</script>") == 1
    assert "&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;&#34;&#39;&amp;" in html


def test_the_pages_script_is_the_one_that_its_policy_allows(finished_run):
    finished = open_finished_run(finished_run)
    found = Review(suspects=[suspect()], n_reviewed=40, level=90, with_units=False)
    html = render_page(finished, found, n_rows=200).decode()
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in html


def write_sales(path, cells):
    lines = ["sample_id,sold", *(f"{name},{cell}" for name, cell in cells.items())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def sold(finished_run, tmp_path):
    """Options that name a file of units sold, with the cells of some products."""

    def options(**cells):
        ids = open_finished_run(finished_run).run.array("embed/sample_id").tolist()
        sales = dict.fromkeys(ids, "10") | {ids[int(n)]: c for n, c in cells.items()}
        path = write_sales(tmp_path / "sales.csv", dict(reversed(sales.items())))
        files = ("--out", str(tmp_path / "r.csv"), "--page", str(tmp_path / "r.html"))
        column = ("--units-column", "sold", "--catalog", str(path))
        return ("--level", "80", *files, *column)

    return options


def test_units_come_from_a_file_in_any_order(finished_run, tmp_path, sold):
    result = review(finished_run, *sold())
    assert result.exit_code == 0, result.output
    assert "Units sold are unknown for 0 of the" in result.output
    rows = rows_of(tmp_path / "r.csv")
    assert {row["units"] for row in rows} == {"10"}
    for row in rows:
        money = 10 * abs(float(row["difference"]))
        assert float(row["money"]) == pytest.approx(money, abs=0.01)
    assert "(10 units sold)" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_unknown_units_come_last_in_their_class(finished_run, tmp_path, sold):
    options = sold()
    review(finished_run, *options)
    first = rows_of(tmp_path / "r.csv")[0]["sample_id"]
    ids = open_finished_run(finished_run).run.array("embed/sample_id").tolist()
    result = review(finished_run, *sold(**{str(ids.index(first)): ""}))
    assert "Units sold are unknown for 1 of the" in result.output
    of_class = [
        row
        for row in rows_of(tmp_path / "r.csv")
        if row["suspicion"] == rows_of(tmp_path / "r.csv")[0]["suspicion"]
    ]
    assert of_class[-1]["sample_id"] == first
    assert of_class[-1]["money"] == ""


@pytest.mark.parametrize("cell", ["many", "-3"])
def test_units_that_are_no_number_of_zero_or_above_are_refused(
    finished_run, sold, cell
):
    result = review(finished_run, *sold(**{"3": cell}))
    assert result.exit_code == 2
    assert re.search(r"column 'sold': row 37, sample_id '\d+': must be", result.output)
    assert f"got {cell!r}. Correct it or leave the cell blank." in result.output


def test_units_may_be_a_table_column_of_the_run(table_run, tmp_path):
    files = ("--out", str(tmp_path / "r.csv"), "--page", str(tmp_path / "r.html"))
    result = review(table_run, *files, "--units-column", "stars", "--level", "80")
    assert result.exit_code == 0, result.output
    rows = rows_of(tmp_path / "r.csv")
    assert all(not row["units"] or 1 <= float(row["units"]) <= 5 for row in rows)


def test_a_missing_package_names_the_extra(finished_run, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = review(finished_run)
    assert result.exit_code == 2
    assert "needs jinja2, not installed" in result.output
    assert "its extra `review`" in result.output
