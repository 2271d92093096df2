"""Workbooks of Excel: what each cell is read as, and which sheet."""

import sys
import zipfile
from xml.sax.saxutils import escape

import pytest

from embed.catalog import excel_format as catalog_xlsx
from embed.catalog.reader import CatalogColumns, CatalogError, read_catalog

SPACE = "http://schemas.openxmlformats.org"
HEADER = ["sample_id", "catalog_content", "image_link", "price"]


def _cell(value):
    if isinstance(value, bool):
        return f'<c t="b"><v>{int(value)}</v></c>'
    if isinstance(value, int | float):
        return f"<c><v>{value}</v></c>"
    return f'<c t="inlineStr"><is><t>{escape(value)}</t></is></c>'


def _sheet(rows):
    lines = "".join(f"<row>{''.join(map(_cell, row))}</row>" for row in rows)
    return (
        f'<worksheet xmlns="{SPACE}/spreadsheetml/2006/main"><sheetData>{lines}'
        "</sheetData></worksheet>"
    )


def write_xlsx(path, **sheets):
    """Write a workbook of the fewest parts that Excel opens."""
    kinds = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    relations = f"{SPACE}/officeDocument/2006/relationships"
    package = f"{SPACE}/package/2006"
    numbered = list(enumerate(sheets, start=1))
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{package}/content-types">'
        '<Default Extension="rels" ContentType='
        '"application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Override PartName="/xl/workbook.xml" ContentType="{kinds}.sheet.main+xml"/>'
        "</Types>",
        "_rels/.rels": f'<Relationships xmlns="{package}/relationships"><Relationship '
        f'Id="r1" Type="{relations}/officeDocument" Target="xl/workbook.xml"/>'
        "</Relationships>",
        "xl/workbook.xml": f'<workbook xmlns="{SPACE}/spreadsheetml/2006/main" '
        f'xmlns:r="{relations}"><sheets>'
        + "".join(f'<sheet name="{s}" sheetId="{n}" r:id="s{n}"/>' for n, s in numbered)
        + "</sheets></workbook>",
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{package}/relationships">'
        + "".join(
            f'<Relationship Id="s{n}" Type="{relations}/worksheet" '
            f'Target="worksheets/s{n}.xml"/>'
            for n, _ in numbered
        )
        + "</Relationships>",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in parts.items():
            archive.writestr(name, text)
        for n, name in numbered:
            archive.writestr(f"xl/worksheets/s{n}.xml", _sheet(sheets[name]))
    return path


@pytest.fixture(autouse=True)
def _needs_the_reader(request):
    if "without_reader" not in request.node.name:
        pytest.importorskip("python_calamine")


def test_cells_are_read_as_a_csv_file_would_hold_them(tmp_path):
    path = write_xlsx(
        tmp_path / "c.xlsx",
        Products=[
            HEADER,
            [7, "Tea & honey", "a.jpg", 12.5],
            ["007", "two\nlines", "", 3],
            ["", "", "", ""],
            [True, 0.1, "", 2],
        ],
    )
    catalog = read_catalog(path)
    assert catalog.sample_id.tolist() == ["7", "007", "TRUE"]
    assert catalog.text == ("Tea & honey", "two\nlines", "0.1")
    assert catalog.image_link == ("a.jpg", "", "")
    assert catalog.price.tolist() == [12.5, 3, 2]
    assert catalog.notes == ()


def test_prices_that_are_numbers_are_not_parsed(tmp_path):
    path = write_xlsx(tmp_path / "c.xlsx", A=[HEADER, ["1", "a", "", 1.125]])
    columns = CatalogColumns(parse_prices=True)
    assert read_catalog(path, columns=columns).price.tolist() == [1.125]


def test_the_sheet_with_the_products_is_read_and_named(tmp_path):
    path = write_xlsx(
        tmp_path / "c.xlsx",
        Help=[["How to fill it in"]],
        Export=[
            ["Handle", "Title", "Option1 Value", "Variant Price"],
            ["mug", "Mug", "S", 12],
            ["mug", "", "L", 15],
        ],
    )
    catalog = read_catalog(path)
    assert catalog.notes[0] == "Read sheet 'Export', of 2 sheets."
    assert "Shopify product export" in catalog.notes[1]
    assert catalog.sample_id.tolist() == ["mug-1", "mug-2"]
    assert catalog.price.tolist() == [12, 15]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "has no cells"),
        ([["a", "b"], [1, 2]], "no column 'catalog_content', 'sample_id'"),
        ([HEADER], "no rows"),
        ([HEADER, [2**53, "a", "", 1]], "row 1: column 'sample_id' holds ids as"),
        ([HEADER, [1, "a", "", 1], [1, "b", "", 1]], "have the same sample_id '1'"),
    ],
)
def test_a_workbook_that_cannot_be_used_is_refused(tmp_path, rows, message):
    with pytest.raises(CatalogError, match=message):
        read_catalog(write_xlsx(tmp_path / "c.xlsx", A=rows))


@pytest.mark.parametrize("content", [b"", b"a,b\n", b"PK\x03\x04", b"\xd0\xcf\x11\xe0"])
def test_what_is_no_workbook_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "c.xlsx"
    path.write_bytes(content)
    with pytest.raises(CatalogError, match="not a usable workbook") as caught:
        read_catalog(path)
    assert "\n" not in str(caught.value)


def test_a_workbook_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    path = write_xlsx(tmp_path / "c.xlsx", A=[HEADER, ["1", "a" * 100_000, "", 1]])
    monkeypatch.setattr(catalog_xlsx, "MAX_UNPACKED_BYTES", 100_000)
    with pytest.raises(CatalogError, match="at most 100000 are read"):
        read_catalog(path)


def test_without_reader_the_command_that_installs_it_is_named(tmp_path, monkeypatch):
    path = write_xlsx(tmp_path / "c.xlsx", A=[HEADER])
    monkeypatch.setitem(sys.modules, "python_calamine", None)
    with pytest.raises(CatalogError, match="Run `pip install python-calamine`, or"):
        read_catalog(path)
