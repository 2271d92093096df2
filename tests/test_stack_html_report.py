import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import copy_run, record_anew

from embed.catalog.own_copy import CATALOG_NAME, write_run_catalog
from embed.catalog.reader import read_catalog
from embed.errors import CacheError
from stack.html_report.command import report_command
from stack.html_report.page import render_report

SECTIONS = (
    *("comparison", "prices", "bands", "ratios", "calibration", "training", "gain"),
    *("groups", "worst", "median", "problems", "records"),
)
IMAGE_TAG = '"><img src=x onerror=alert(1)>'
UNCLOSED = "<img src=y onerror=alert(2) "


class Tags(HTMLParser):
    """All tags of a page with their attributes."""

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def named(self, name):
        return [attributes for tag, attributes in self.found if tag == name]


def call(*arguments):
    return CliRunner().invoke(report_command, [str(part) for part in arguments])


def assert_one_line(result, *parts):
    assert result.exit_code == 2, result.output
    lines = result.output.strip().split("\n")
    assert len(lines) == 1, result.output
    for part in ("Error: ", *parts):
        assert part in lines[0], lines[0]


@pytest.fixture(scope="module")
def page(finished_run):
    return render_report(finished_run)


@pytest.fixture(scope="module")
def tags(page):
    return Tags(page)


@pytest.fixture
def run_dir(finished_run, tmp_path):
    return copy_run(finished_run, tmp_path / "run")


@pytest.fixture(scope="module")
def hostile_page(finished_run, tmp_path_factory):
    """The page of a run whose ids, texts and file names are written to do harm."""
    folder = tmp_path_factory.mktemp("hostile")
    run_dir = copy_run(finished_run, folder / IMAGE_TAG)
    manifest_path = run_dir / "embed" / "manifest.json"
    manifest = json.loads(manifest_path.read_text())
    catalog_path = folder / f"{UNCLOSED}.csv"
    with Path(manifest["inputs"]["catalog_path"]).open(newline="") as file:
        rows = list(csv.DictReader(file))
    for at, row in enumerate(rows):
        row["sample_id"] = f"{at}{IMAGE_TAG}"
        row["catalog_content"] = f"<script>alert(3)</script> & {UNCLOSED}{at}"
    with catalog_path.open("w", newline="") as file:
        lines = csv.DictWriter(file, list(rows[0]))
        lines.writeheader()
        lines.writerows(rows)
    manifest["inputs"]["catalog_path"] = str(catalog_path)
    manifest["inputs"]["catalog_sha256"] = read_catalog(catalog_path).content_sha256
    manifest["device"] = IMAGE_TAG
    manifest_path.write_text(json.dumps(manifest))
    (run_dir / "embed" / "problems.csv").write_text(
        f'sample_id,field,reason\n"{IMAGE_TAG.replace(chr(34), chr(34) * 2)}",image,'
        f"damaged file: <script>alert(4)</script>\n"
    )
    write_run_catalog(read_catalog(catalog_path), run_dir / "embed")
    record_anew(run_dir / "embed", ["problems.csv", CATALOG_NAME])
    return render_report(run_dir)


def test_the_page_holds_every_part_in_order(tags):
    assert tuple(section["id"] for section in tags.named("section")) == SECTIONS


def test_the_page_shows_the_verdict_and_every_score_of_the_report(page, finished_run):
    report = json.loads((finished_run / "stack" / "report.json").read_text())
    assert report["verdict"]["sentence"].split(". ")[0] in page.replace("&#39;", "'")
    for row in report["predictors"]:
        assert f"{row['smape']:.2f} ± {row['smape_se']:.2f}" in page
    for band in report["bands"]:
        assert f"<td>{band['smape']['network']:.2f}</td>" in page


def test_the_page_asks_for_nothing_outside(page, tags):
    assert "http" not in page.replace("http-equiv", "")
    assert "//" not in re.sub(r"base64,[^\"]+", "", page)
    policy = tags.named("meta")[1]
    assert policy["http-equiv"] == "Content-Security-Policy"
    assert policy["content"] == (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    )
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in tags.found}
    for _, attributes in tags.found:
        assert attributes.get("href", "#").startswith("#")
        assert attributes.get("xlink:href", "#").startswith(("#", "data:"))
    sources = [attributes["src"] for _, attributes in tags.found if "src" in attributes]
    assert len(sources) > 20
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)


def test_names_of_parts_are_unique_and_every_link_leads_to_one(page, tags):
    ids = [attributes["id"] for _, attributes in tags.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = re.findall(r'(?:href="|url\()#([^)"]+)', page)
    assert len(links) > 20
    assert set(links) <= set(ids)


def test_every_table_has_a_caption_and_its_headings_a_scope(page, tags):
    assert len(tags.named("table")) == len(tags.named("caption")) > 10
    assert all(heading.get("scope") in ("row", "col") for heading in tags.named("th"))


def test_every_picture_is_described(page, tags):
    assert len(tags.named("img")) > 20
    assert all(image["alt"] for image in tags.named("img"))
    charts = tags.named("svg")
    assert len(charts) == 8
    for chart in charts:
        for name in chart["aria-labelledby"].split():
            assert re.search(rf'<(title|desc) id="{name}">[^<]+<', page)


def test_the_same_run_gives_the_same_bytes(page, finished_run, tmp_path):
    # Elsewhere, for a page must not know where its run lay.
    copy = copy_run(finished_run, tmp_path / "elsewhere" / finished_run.name)
    assert render_report(copy) == page


def test_a_page_of_forty_products_is_small(page):
    assert len(page.encode()) < 1_000_000


def test_the_page_names_no_folder_of_its_maker(page, finished_run):
    manifest = json.loads((finished_run / "embed" / "manifest.json").read_text())
    for place in ("catalog_path", "images_dir", "text_weights"):
        assert str(Path(manifest["inputs"][place]).parent) not in page


def test_hostile_text_ids_and_file_names_are_shown_and_never_run(hostile_page):
    tags = Tags(hostile_page)
    assert not tags.named("script")
    assert len(tags.named("img")) == len(re.findall('<img class="photo"', hostile_page))
    for _, attributes in tags.found:
        assert not [name for name in attributes if name.startswith("on")]
    for written in ("&#34;&gt;&lt;img src=x onerror=alert(1)&gt;", "&lt;img src=y"):
        assert hostile_page.count(written) > 10
    assert "&lt;script&gt;alert(4)&lt;/script&gt;" in hostile_page


def test_a_run_without_measured_intervals_has_a_page_without_them(run_dir):
    path = run_dir / "stack" / "report.json"
    report = json.loads(path.read_text())
    del report["intervals"]
    path.write_text(json.dumps(report))
    tags = Tags(render_report(run_dir))
    assert [s["id"] for s in tags.named("section")] == list(SECTIONS)
    assert len(tags.named("svg")) == 7


def test_scores_that_do_not_exist_are_a_dash(run_dir):
    path = run_dir / "stack" / "report.json"
    report = json.loads(path.read_text())
    report["calibration_slope"]["network"] = None
    report["predictors"][0]["r2_log"] = None
    path.write_text(json.dumps(report))
    page = render_report(run_dir)
    assert "network \N{EN DASH}, chosen" in page
    assert "<td>\N{EN DASH}</td>" in page
    assert "None" not in page


def test_the_command_writes_into_the_run_and_says_where(run_dir, page):
    result = call("--run", run_dir)
    assert result.exit_code == 0, result.output
    path = run_dir / "report.html"
    assert result.output.startswith(f"{path}: 0.")
    assert result.output.endswith(" MB.\n")
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_the_command_changes_nothing_else_of_the_run(run_dir, tmp_path):
    def contents():
        return {p: p.read_bytes() for p in sorted(run_dir.glob("**/*")) if p.is_file()}

    before = contents()
    assert call("--run", run_dir, "--out", tmp_path / "page.html").exit_code == 0
    assert contents() == before


def test_the_command_opens_the_page_only_if_asked(run_dir, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr(
        "stack.html_report.page.render_report", lambda *_, **__: "a page"
    )
    assert call("--run", run_dir).exit_code == 0
    assert opened == []
    assert call("--run", run_dir, "--open").exit_code == 0
    assert opened == [(run_dir / "report.html").resolve().as_uri()]


@pytest.mark.parametrize("stage", ["embed", "finetune", "stack"])
def test_an_unfinished_run_is_one_line(run_dir, stage):
    (run_dir / stage / "manifest.json").unlink()
    result = call("--run", run_dir)
    assert_one_line(result, f"{stage}: this stage has not finished", "make ")
    assert not (run_dir / "report.html").exists()


def test_a_page_that_cannot_be_made_leaves_the_old_one(run_dir):
    (run_dir / "report.html").write_text("old")
    (run_dir / "stack" / "report.json").unlink()
    assert_one_line(call("--run", run_dir), "report.json: is missing", "evaluate")
    assert (run_dir / "report.html").read_text() == "old"
    assert not list(run_dir.glob("*.part"))


def test_a_folder_that_is_not_there_is_named_before_any_work(run_dir, tmp_path):
    result = call("--run", run_dir, "--out", tmp_path / "no" / "page.html")
    assert_one_line(result, "--out", "no", "is not there")


def test_a_package_that_is_not_installed_is_named(run_dir, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    result = call("--run", run_dir)
    assert_one_line(result, "jinja2 and matplotlib", "pip install", "extra `report`")


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def other_choice(report):
    verdict = report["verdict"]
    chosen = {"network": "stacker", "stacker": "network"}[verdict["chosen"]]
    return {"verdict": {**verdict, "chosen": chosen}}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (lambda _: {"n_products": 41}, "covers 41 products, the run has 40"),
        (other_choice, ", but the manifest chooses the"),
        (lambda r: {"predictors": r["predictors"][1:]}, "lacks the predictor 'median'"),
        (lambda _: {"bands": [{"low": 1}]}, r"bands\[0\]\.high is missing"),
        (lambda _: {"intervals": [{"level": 80}]}, r"\[0\]\.coverage is missing"),
    ],
)
def test_a_report_of_another_state_is_refused(run_dir, changes, words):
    path = run_dir / "stack" / "report.json"
    change(path, **changes(json.loads(path.read_text())))
    with pytest.raises(CacheError, match=f"report.json: .*{words}"):
        render_report(run_dir)
