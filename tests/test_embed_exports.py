"""Exports of shops: which rows are products, and what each of them is read as."""

import csv
import io

import pytest
from click.testing import CliRunner

from embed.__main__ import embed_command
from embed.catalog.own_copy import read_run_catalog
from embed.catalog.reader import CatalogColumns, CatalogError, read_catalog
from embed.records import EmbedManifest, Substituted, require_embedded
from embed.text import parse_fields

SHOPIFY = (
    "Handle,Title,Body (HTML),Vendor,Option1 Name,Option1 Value,Variant SKU,"
    "Variant Price,Image Src,Image Position,Variant Image"
)
WOO = (
    "ID,Type,SKU,Name,Short description,Description,Regular price,Images,Parent,"
    "Attribute 1 value(s)"
)
GOOGLE = "id,title,description,link,image_link,price,availability"
AMAZON = (
    "item_sku,item_name,product_description,bullet_point1,standard_price,"
    "main_image_url,parent_child"
)
FLIPKART = "uniq_id,product_name,retail_price,image,description"


def write(folder, header, *rows, name="export.csv", delimiter=",", encoding="utf-8"):
    """Write rows given as dicts by column, or as lists."""
    names = header.split(",")
    text = io.StringIO()
    lines = csv.writer(text, delimiter=delimiter)
    lines.writerow(names)
    for row in rows:
        cells = row if isinstance(row, list) else [row.get(n, "") for n in names]
        assert not isinstance(row, dict) or row.keys() <= set(names)
        lines.writerow(cells)
    path = folder / name
    path.write_bytes(text.getvalue().encode(encoding))
    return path


def names_of(catalog):
    return [parse_fields(text).name for text in catalog.text]


MUG = {
    "Handle": "mug",
    "Title": "Steel Mug",
    "Body (HTML)": "<p>Hot.</p>\n<p>Value: 5</p>",
    "Option1 Value": "350 ml",
    "Variant SKU": "M-S",
    "Variant Price": "12.00",
    "Image Src": "http://i/1.jpg",
}


@pytest.fixture
def shopify(tmp_path):
    return write(
        tmp_path,
        SHOPIFY,
        MUG,
        {
            **{"Handle": "mug", "Option1 Value": "500 ml", "Variant SKU": "M-L"},
            **{"Variant Price": "15.50", "Image Src": "http://i/2.jpg"},
            "Variant Image": "http://i/l.jpg",
        },
        {"Handle": "mug", "Option1 Value": "1 l", "Variant Price": "20"},
        {"Handle": "mug", "Image Src": "http://i/3.jpg", "Image Position": "3"},
        {
            **{"Handle": "pot", "Title": "Pot", "Option1 Value": "Default Title"},
            **{"Variant SKU": "X", "Variant Price": "30.00"},
        },
        {"Handle": "cup", "Title": "Cup", "Variant SKU": "X", "Variant Price": "3"},
    )


def test_shopify_variants_inherit_from_their_handle(shopify):
    catalog = read_catalog(shopify)
    assert names_of(catalog) == [
        "Steel Mug, 350 ml",
        "Steel Mug, 500 ml",
        "Steel Mug, 1 l",
        "Pot",
        "Cup",
    ]
    assert [parse_fields(text).description for text in catalog.text] == [
        *["Hot. Value: 5"] * 3,
        *["", ""],
    ]
    assert parse_fields(catalog.text[0]).value is None
    assert catalog.image_link[:3] == (
        *("http://i/1.jpg", "http://i/l.jpg", "http://i/1.jpg"),
    )
    assert catalog.price.tolist() == [12, 15.5, 20, 30, 3]


def test_shopify_ids_are_skus_where_they_are_unique(shopify):
    assert read_catalog(shopify).sample_id.tolist() == [
        *("M-S", "M-L", "mug-3", "pot-1", "cup-1"),
    ]


def test_a_sku_that_is_like_the_number_of_another_variant_is_no_id(tmp_path):
    path = write(
        tmp_path,
        SHOPIFY,
        {"Handle": "a", "Title": "A", "Variant Price": "1"},
        {"Handle": "b", "Title": "B", "Variant Price": "1", "Variant SKU": "a-1"},
        {"Handle": "a-1", "Title": "C", "Variant Price": "1"},
    )
    assert read_catalog(path).sample_id.tolist() == ["a-1", "b-1", "a-1-1"]


def test_what_an_export_was_read_as_is_told_and_left_out_rows_are_counted(shopify):
    assert read_catalog(shopify).notes == (
        "Shopify product export: title, text, price and photo read from Title, Body "
        "(HTML), Variant Price and Image Src. Ids are from the variant's SKU where it "
        "is unique, else the handle and a number.",
        "5 products in 6 rows; 1 of the rows are not products (rows with a photo "
        "alone: 1).",
    )


def test_rows_of_a_message_are_those_of_the_file(shopify):
    assert read_catalog(shopify).describe(3) == "row 5, sample_id 'pot-1'"


def test_columns_that_the_user_names_win_over_the_exports(shopify):
    columns = CatalogColumns(text=("Vendor", "Title"), image="Variant Image")
    catalog = read_catalog(shopify, columns=columns)
    assert catalog.text[:3] == ("Steel Mug",) * 3
    assert catalog.image_link[:3] == ("", "http://i/l.jpg", "")
    assert "text, price and photo read from Vendor, Title, Variant" in catalog.notes[0]
    with pytest.raises(CatalogError, match=r"no column 'Titel'.*--text-column Title"):
        read_catalog(shopify, columns=CatalogColumns(text=("Titel",)))
    named = CatalogColumns(sample_id="Handle")
    with pytest.raises(CatalogError, match="rows 1 and 2 have the same Handle 'mug'"):
        read_catalog(shopify, columns=named)


def test_every_row_is_a_product_if_the_user_says_that_it_is_no_export(shopify):
    columns = CatalogColumns(
        sample_id="Image Src", text=("Title",), price="Variant Price", export="none"
    )
    with pytest.raises(CatalogError, match="row 3: column 'Image Src' is blank"):
        read_catalog(shopify, columns=columns)


def test_an_export_of_photos_alone_is_refused(tmp_path):
    path = write(tmp_path, SHOPIFY, {"Handle": "a", "Image Src": "http://i/1.jpg"})
    with pytest.raises(
        CatalogError, match=r"none of which is a product.*--export none"
    ):
        read_catalog(path)


def test_shopifys_other_names_of_columns_are_known(tmp_path):
    path = write(
        tmp_path,
        "Title,URL handle,Description,SKU,Option1 value,Price,Product image URL",
        ["Mug", "mug", "d", "", "S", "9", "http://i/1.jpg"],
        ["", "mug", "", "", "L", "19", ""],
    )
    catalog = read_catalog(path)
    assert names_of(catalog) == ["Mug, S", "Mug, L"]
    assert catalog.image_link == ("http://i/1.jpg",) * 2
    assert catalog.price.tolist() == [9, 19]


def test_a_title_may_stand_below_a_variant(tmp_path):
    path = write(
        tmp_path,
        SHOPIFY,
        {"Handle": "mug", "Option1 Value": "1 l", "Variant Price": "20"},
        MUG,
    )
    assert names_of(read_catalog(path)) == ["Steel Mug, 1 l", "Steel Mug, 350 ml"]


def test_woocommerce_variations_inherit_from_their_parent(tmp_path):
    path = write(
        tmp_path,
        WOO,
        ["12", "variation", "", "Shirt", "", "own", "12,50", "http://m", "TS", "M"],
        ["10", "variable", "TS", "Shirt", "Soft", "Long", "", "http://a", "", "S, M"],
        ["11", "variation", "TS-S", "Shirt - S", "", "", "10,50", "", "id:10", "S"],
        ["13", "simple", "", "Mug", "", "A mug", "7,00", "", "", ""],
        ["14", "simple, virtual", "", "Card", "", "", "", "", "", ""],
        ["15", "grouped", "", "Set", "", "", "", "", "", ""],
        ["16", "variable", "", "Cap", "", "", "", "", "", "red"],
        ["17", "variation", "", "Hat", "", "", "5,00", "", "id:99", ""],
        [""] * 10,
    )
    catalog = read_catalog(path)
    assert catalog.sample_id.tolist() == ["12", "11", "13", "14", "16", "17"]
    assert names_of(catalog) == ["Shirt, M", "Shirt - S", "Mug", "Card", "Cap", "Hat"]
    descriptions = [parse_fields(text).description for text in catalog.text]
    assert descriptions[:3] == ["Soft own", "Soft Long", "A mug"]
    assert catalog.image_link[:2] == ("http://m", "http://a")
    assert catalog.price[[0, 1, 2, 5]].tolist() == [12.5, 10.5, 7, 5]
    assert catalog.columns.parse_prices
    assert catalog.notes[1:] == (
        "6 products in 9 rows; 3 of the rows are not products (blank rows: 1, parents "
        "of variations: 1, groups of products: 1).",
        "Variations whose parent is not in the file: 1.",
    )


FEED = [
    ["A1", "Mug", "A <b>mug</b>", "http://l", "http://i/1", "12.99 USD", "in stock"],
    ["A2", "Pot", "Of glass", "http://l", "http://i/2", "1,299.00 USD", "in stock"],
]


def assert_is_feed(catalog):
    assert catalog.sample_id.tolist() == ["A1", "A2"]
    assert names_of(catalog) == ["Mug", "Pot"]
    assert parse_fields(catalog.text[0]).description == "A mug"
    assert catalog.image_link == ("http://i/1", "http://i/2")
    assert catalog.price.tolist() == [12.99, 1299]


@pytest.mark.parametrize("header", [GOOGLE, GOOGLE.replace("_", " ")])
def test_a_feed_of_google_is_read_with_its_currency(tmp_path, header, caplog):
    path = write(tmp_path, header, *FEED, name="feed.tsv", delimiter="\t")
    catalog = read_catalog(path)
    assert_is_feed(catalog)
    assert len(catalog.notes) == 1
    assert not caplog.records


ITEM = (
    "<{0}><g:id>{1}</g:id><title>of the feed</title><g:title>{2}</g:title>"
    "<g:description><![CDATA[{3}]]></g:description><g:image_link>{5}</g:image_link>"
    "<g:shipping><g:price>9 USD</g:price></g:shipping><g:price>{6}</g:price>"
    "<g:image_link>http://other</g:image_link></{0}>"
)
RSS = (
    '<?xml version="1.0"?><rss xmlns:g="http://base.google.com/ns/1.0" version="2.0">'
    "<channel><title>Shop</title>{}</channel></rss>"
)
ATOM = (
    '<feed xmlns="http://www.w3.org/2005/Atom" '
    'xmlns:g="http://base.google.com/ns/1.0"><title>Shop</title>{}</feed>'
)


@pytest.mark.parametrize(
    ("frame", "tag", "encoding"),
    [(RSS, "item", "utf-8"), (ATOM, "entry", "utf-8"), (RSS, "item", "utf-16")],
)
def test_a_feed_in_xml_is_read_like_a_table(tmp_path, frame, tag, encoding):
    path = tmp_path / "feed.xml"
    items = "".join(ITEM.format(tag, *row) for row in FEED)
    path.write_bytes(frame.format(items).encode(encoding))
    assert_is_feed(read_catalog(path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '<!DOCTYPE a [<!ENTITY x "y">]><rss><item><id>&x;</id></item></rss>',
            "line 1",
        ),
        (
            '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><rss>&x;</rss>',
            "document type.*Remove <!DOCTYPE",
        ),
        ('<!DOCTYPE a SYSTEM "http://localhost/a.dtd"><rss/>', "document type"),
        ("<rss><item><id>1</id>", "not well-formed XML.*no element found"),
        ("<rss><item><id>a & b</id></item></rss>", "not well-formed.*as &amp;"),
        ("<rss><item><id>&nbsp;</id></item></rss>", "undefined entity"),
        ("<rss></rss>", "has no <item> or <entry>"),
        ("<a>" * 1000, "at most 100 deep"),
        ("<rss><item><x>1</x></item></rss>", "no column 'catalog_content'"),
        ('<?xml version="1.0" encoding="foo"?><rss/>', "not well-formed"),
        ("", "not well-formed XML"),
    ],
)
def test_a_feed_that_is_unsafe_or_damaged_is_refused_in_one_line(
    tmp_path, text, message
):
    path = tmp_path / "feed.xml"
    path.write_text(text)
    with pytest.raises(CatalogError, match=message) as caught:
        read_catalog(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


LABELS = ["Seller SKU", "Product Name", "Description", "Features", "Price", "Image"]
SETTINGS = ["TemplateType=fptcustom", "Version=2021.1", "The top 3 rows, do not change"]


@pytest.mark.parametrize("rows_above", [[], [LABELS], [SETTINGS, LABELS]])
def test_a_flat_file_of_amazon_has_one_to_three_header_rows(tmp_path, rows_above):
    rows = [
        *rows_above,
        AMAZON.split(","),
        ["P", "Tee", "", "", "", "", "parent"],
        ["P-S", "Tee S", "A tee", "Soft", "9.99", "http://i/1", "child"],
        ["P-M", "Tee M", "", "", "12.99"],
    ]
    path = tmp_path / "flat.txt"
    path.write_text("\n".join("\t".join(row) for row in rows) + "\n")
    catalog = read_catalog(path)
    assert catalog.sample_id.tolist() == ["P-S", "P-M"]
    product = parse_fields(catalog.text[0])
    assert (product.name, product.bullets) == ("Tee S", ("Soft",))
    assert product.description == "A tee"
    assert catalog.price.tolist() == [9.99, 12.99]
    assert "Amazon listings file" in catalog.notes[1]
    assert "parents of variations: 1" in catalog.notes[2]


def test_a_listing_report_of_amazon_is_known(tmp_path):
    header = "item-name,item-description,listing-id,seller-sku,price,image-url"
    row = ["Mug", "d", "L", "S1", "5.00", "http://i"]
    path = write(tmp_path, header, row, name="report.txt", delimiter="\t")
    assert read_catalog(path).sample_id.tolist() == ["S1"]


def test_the_first_link_of_a_flipkart_cell_is_the_photo(tmp_path):
    links = '["http://i/1.jpeg", "http://i/2.jpeg"]'
    path = write(tmp_path, FLIPKART, ["c2", "Shorts", "999", links, "d"])
    catalog = read_catalog(path)
    assert catalog.image_link == ("http://i/1.jpeg",)
    assert catalog.price.tolist() == [999]


def test_a_plain_catalog_is_taken_for_no_export(tmp_path):
    path = write(tmp_path, f"sample_id,catalog_content,{GOOGLE}", ["1", "t", *FEED[0]])
    catalog = read_catalog(path)
    assert (catalog.text, catalog.notes) == (("t",), ())
    assert catalog.columns.export == "none"


def test_an_export_that_the_file_is_not_is_refused(tmp_path):
    path = write(tmp_path, GOOGLE, *FEED)
    with pytest.raises(
        CatalogError,
        match=r"is not a Shopify product export: it has no column 'handle'",
    ):
        read_catalog(path, columns=CatalogColumns(export="shopify"))


def test_an_export_of_plain_prices_is_not_parsed(tmp_path):
    path = write(tmp_path, SHOPIFY, {**MUG, "Variant Price": "1.299"})
    assert read_catalog(path).price.tolist() == [1.299]


def test_an_export_in_parquet_is_read_like_csv(tmp_path, shopify):
    pd = pytest.importorskip("pandas")
    path = tmp_path / "export.parquet"
    pd.read_csv(shopify, dtype=str).to_parquet(path)
    catalog, of_csv = read_catalog(path), read_catalog(shopify)
    assert catalog.content_sha256 == of_csv.content_sha256
    assert catalog.price.tolist() == of_csv.price.tolist()


def test_later_stages_read_the_catalog_as_it_was_read_first(shopify):
    catalog = read_catalog(shopify)
    again = read_catalog(shopify, columns=catalog.columns)
    assert again.content_sha256 == catalog.content_sha256
    assert again.price.tolist() == catalog.price.tolist()


@pytest.fixture
def embed_export(monkeypatch, tmp_path):
    """Run `embed` up to the encoding; returns its result and the catalog."""

    def run(*arguments):
        seen = []

        def stand_in(catalog, run_dir, **_):
            seen.append(catalog)
            nothing = Substituted(text=0, image=0)
            return EmbedManifest.model_construct(
                n_products=1, seconds=0, substituted=nothing
            )

        monkeypatch.setattr("embed.extract.extract", stand_in)
        options = ["--run", str(tmp_path / "run"), *map(str, arguments)]
        return CliRunner().invoke(embed_command, options), seen

    return run


def test_embed_takes_an_export_as_it_is_and_says_what_it_read(embed_export, shopify):
    result, seen = embed_export(shopify)
    assert result.exit_code == 0, result.output
    assert "export.csv: Shopify product export: title, text, price" in result.output
    assert seen[0].n_products == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "Name the catalog once, as CATALOG or with --catalog; none was given"),
        (["a.csv", "--catalog", "b.csv"], "both were given"),
        (["a.csv", "--encoding", "klingon"], "no text encoding of that name"),
        (["a.csv", "--encoding", "base64"], "no text encoding of that name"),
        (["a.csv", "--delimiter", "ab"], "must be a single sign"),
        (["a.csv", "--delimiter", '"'], "must be a single sign"),
        (["a.csv", "--export", "ebay"], "'ebay' is not one of 'auto'"),
        (["a.csv", "--export", "google"], "no such file"),
    ],
)
def test_options_that_cannot_be_used_are_refused(embed_export, options, message):
    result, seen = embed_export(*options)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert not seen


@pytest.mark.parametrize("delimiter", ["semicolon", ";", "TAB", "\\t", "bar", "~"])
def test_a_delimiter_is_named_by_its_sign_or_name(embed_export, tmp_path, delimiter):
    sign = {"semicolon": ";", "TAB": "\t", "\\t": "\t", "bar": "|"}.get(
        delimiter, delimiter
    )
    path = write(tmp_path, GOOGLE, *FEED, delimiter=sign)
    result, seen = embed_export(path, "--delimiter", delimiter)
    assert result.exit_code == 0, result.output
    assert_is_feed(seen[0])
    assert "separated by" not in result.output


def test_a_run_of_an_export_is_embedded_read_again_and_priced_by_its_columns(
    shopify, tmp_path, tiny_encoder
):
    run_dir = tmp_path / "run"
    arguments = [str(shopify), "--run", str(run_dir), "--random-weights"]
    arguments += ["--text-encoder", str(tiny_encoder), "--image-size", "32"]
    result = CliRunner().invoke(embed_command, arguments)
    assert result.exit_code == 0, result.output
    manifest = require_embedded(run_dir)
    assert manifest.inputs.columns.export == "shopify"
    assert read_run_catalog(run_dir, manifest).n_products == manifest.n_products == 5
    columns = manifest.inputs.columns.for_another_file()
    other = write(tmp_path, GOOGLE, *FEED, name="new.tsv", delimiter="\t")
    assert_is_feed(read_catalog(other, columns=columns))


def test_an_encoding_of_the_run_is_tried_on_another_file(tmp_path):
    rows = [["1", "jalapeño"]]
    header = "sample_id,catalog_content"
    old = write(tmp_path, header, *rows, encoding="latin-1")
    columns = read_catalog(old, columns=CatalogColumns(encoding="latin-1")).columns
    for encoding in ("latin-1", "utf-8", "utf-16"):
        new = write(tmp_path, header, *rows, name="new.csv", encoding=encoding)
        catalog = read_catalog(new, columns=columns.for_another_file())
        assert catalog.text == ("jalapeño",)


@pytest.mark.parametrize("named", ["windows-1252", "latin-1", "cp1252"])
def test_the_remedy_for_an_unsure_encoding_works(tmp_path, named):
    path = write(
        tmp_path, "sample_id,catalog_content", ["1", "jalapeño"], encoding="cp1252"
    )
    with pytest.raises(CatalogError, match="such as --encoding windows-1252"):
        read_catalog(path)
    catalog = read_catalog(path, columns=CatalogColumns(encoding=named))
    assert (catalog.text, catalog.notes) == (("jalapeño",), ())


def test_a_named_encoding_that_does_not_fit_is_refused_with_its_place(tmp_path):
    path = write(
        tmp_path, "sample_id,catalog_content", ["1", "jalapeño"], encoding="cp1252"
    )
    with pytest.raises(
        CatalogError, match=r"not ascii text at byte 35, line 2 \(0xf1\)"
    ):
        read_catalog(path, columns=CatalogColumns(encoding="ascii"))


def test_a_guessed_encoding_and_delimiter_are_told(tmp_path):
    path = write(
        tmp_path,
        "sample_id,catalog_content",
        ["1", "Müller\u2019s Tee \u2013 groß; Café"],
        delimiter=";",
        encoding="cp1252",
    )
    catalog = read_catalog(path)
    assert catalog.text == ("Müller\u2019s Tee \u2013 groß; Café",)
    assert catalog.notes == (
        "Not UTF-8: read as Windows-1252, in which line 2 has 'Müller\u2019s'. If that "
        "is wrong, name the encoding with --encoding.",
        "Cells are separated by semicolons, by the header. If that is wrong, name the "
        "sign with --delimiter.",
    )


def test_a_header_under_another_sign_names_the_option(tmp_path):
    path = write(tmp_path, "sample_id,catalog_content", ["1", "a"], delimiter="~")
    with pytest.raises(CatalogError, match=r"another sign than a comma.*--delimiter"):
        read_catalog(path)


@pytest.mark.parametrize("option", ["--encoding=latin-1", "--delimiter=;"])
@pytest.mark.parametrize("name", ["c.parquet", "c.xlsx", "c.xml"])
def test_options_of_text_are_refused_for_other_files(
    embed_export, tmp_path, name, option
):
    (tmp_path / name).write_bytes(b"")
    result, seen = embed_export(tmp_path / name, option)
    assert result.exit_code == 2
    assert f"{option.partition('=')[0]} '" in result.output
    assert "is for CSV and other text" in result.output
    assert not seen


def test_a_damaged_row_is_counted_from_the_header_although_rows_are_read_ahead(
    tmp_path,
):
    path = tmp_path / "export.csv"
    path.write_text(f'{SHOPIFY}\n{"x," * 10}x\nmug,"a" b{"," * 9}\n')
    with pytest.raises(CatalogError, match="malformed CSV in row 2, which begins in l"):
        read_catalog(path)
