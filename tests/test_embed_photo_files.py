"""Whose photo a file is: the folders, names and ids that decide it."""

import gc
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embed.catalog.reader import Catalog, CatalogColumns, CatalogError
from embed.photos.files import _Matcher, match_photos
from embed.photos.index import PhotoIndex
from embed.photos.links import parse_link
from embed.photos.log import COLUMNS, PhotoLog

N = 8
SHOP = "https://shop.example"
NUMBERS = range(N)
MAIN = [f"{SHOP}/P{i}/main.jpg" for i in NUMBERS]
PUBLIC = [f"https://cdn.example/account/{i:04x}-a7/public" for i in NUMBERS]
PHP = [f"{SHOP}/image.php?IMAGE_ID={i}" for i in NUMBERS]
MONTHS = [f"{SHOP}/up/{2020 + i % 4}/{1 + i // 4:02}/image-0.jpg" for i in NUMBERS]
IDS = [f"{700 + i}" for i in NUMBERS]


def catalog_of(links, ids=None):
    return Catalog(
        path="catalog.csv",
        columns=CatalogColumns(),
        sample_id=np.array(ids or [str(700 + row) for row in range(len(links))]),
        text=("tea",) * len(links),
        image_link=tuple(links),
        price_text=None,
    )


@pytest.fixture
def match(tmp_path):
    """Match links with files; returns the names found, and the reasons."""

    def run(links, files, ids=None, log=None):
        folder = tmp_path / "images"
        folder.mkdir(exist_ok=True)
        for name in files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
        if log is not None:
            lines = [",".join(COLUMNS), *(",".join(line) for line in log)]
            (folder / "downloads.csv").write_text("\n".join(lines) + "\n")
        found = match_photos(catalog_of(links, ids), folder)
        names = [p.relative_to(folder).as_posix() if p else None for p in found.paths]
        assert [bool(reason) for reason in found.reasons] == [n is None for n in names]
        return names, list(found.reasons), list(found.notes)

    return run


def without_scheme(link):
    return link.partition("://")[2]


@pytest.mark.parametrize("links", [MAIN, PUBLIC, PHP, MONTHS])
def test_a_folder_mirrored_wholly_gives_each_product_its_own_photo(match, links):
    files = [without_scheme(link) for link in links]
    assert match(links, files)[0] == files


@pytest.mark.parametrize(
    ("links", "drop"), [(MAIN, 1), (PUBLIC, 1), (PUBLIC, 2), (PHP, 1), (MONTHS, 2)]
)
@pytest.mark.parametrize("below", ["", "mine/"])
def test_a_folder_mirrored_in_part_gives_each_product_its_own_photo(
    match, links, drop, below
):
    files = [below + without_scheme(link).split("/", drop)[drop] for link in links]
    assert match(links, files)[0] == files


@pytest.mark.parametrize("links", [MAIN, PUBLIC, PHP, MONTHS])
@pytest.mark.parametrize("suffix", [".jpg", ".WEBP"])
def test_photos_named_by_id_are_found_whatever_the_links_share(match, links, suffix):
    files = [sample_id + suffix for sample_id in IDS]
    assert match(links, files)[0] == files


@pytest.mark.parametrize(
    ("links", "file"),
    [
        (MAIN, "main.jpg"),
        (MAIN, "other/main.jpg"),
        (PUBLIC, "public"),
        (PUBLIC, "public.jpg"),
        (PHP, "image.php"),
        (MONTHS, "image-0.jpg"),
        (MONTHS, "1999/01/image-0.jpg"),
        ([f"{SHOP}/main.jpg?product={i}" for i in NUMBERS], "main.jpg"),
        ([f"https://{i}.example/tee.jpg" for i in NUMBERS], "tee.jpg"),
    ],
)
def test_one_file_is_not_the_photo_of_many_links(match, links, file):
    names, reasons, _ = match(links, [file])
    assert names == [None] * N
    for reason in reasons:
        assert file.rpartition("/")[2].split("?")[0] in reason
        assert "unclear" in reason or "in a folder that is not in the link" in reason


def test_a_photo_that_is_missing_from_a_mirror_is_nobody_elses(match):
    for links in (MAIN, PUBLIC, PHP, MONTHS):
        files = [without_scheme(link) for link in links]
        found = match(links, files[1:])[0]
        assert found == [None, *files[1:]]


@pytest.mark.parametrize(
    ("link", "file"),
    [
        (f"{SHOP}/new/main.jpg", "old/main.jpg"),
        (f"{SHOP}/up/2023/01/image-0.jpg", "2022/01/image-0.jpg"),
        (f"{SHOP}/new/public", "old/public"),
        (f"{SHOP}/image.php?id=8", "image.php?id=7"),
    ],
)
def test_a_single_product_gets_no_plain_name_of_another_folder(match, link, file):
    assert match([link], [file])[0] == [None]


def test_a_name_of_several_files_is_nobodys(match):
    names, (reason,), notes = match(
        [f"{SHOP}/tea-99.jpg"], ["a/tea-99.jpg", "b/tea-99.jpg"]
    )
    assert names == [None]
    assert reason.startswith("2 files fit 'tea-99.jpg' (last part of the link)")
    assert "'a/tea-99.jpg', 'b/tea-99.jpg'" in reason
    assert notes[0].endswith("1.")


def test_a_file_outside_sub_folders_goes_before_one_inside(match):
    assert match([f"{SHOP}/tea.jpg"], ["tea.jpg", "thumbs/tea.jpg"])[0] == ["tea.jpg"]


def test_links_that_mean_one_photo_share_it(match):
    links = [f"{SHOP}/tee.jpg?v=1", f"{SHOP}/tee.jpg?v=2&width=300", f"{SHOP}/tee.jpg"]
    assert match(links, ["tee.jpg"])[0] == ["tee.jpg"] * 3


@pytest.mark.parametrize(
    ("link", "file"),
    [
        ("https://x.example/a/tee.jpg?v=1", "tee.jpg?v=1"),
        ("https://x.example/a/tee.jpg?v=1", "x.example/a/tee.jpg?v=1"),
        ("https://x.example/a/tee.jpg?v=1", "tee.jpg@v=1"),
        (r"C:\photos\a.jpg", "a.jpg"),
        (r"photos\a.jpg", "photos/a.jpg"),
        ("photos/a.jpg", r"photos\a.jpg"),
        ("https://x.example/tee.jpg", "tee.webp"),
        ("https://x.example/tee.jpg", "tee.jpg.webp"),
        ("https://x.example/TEE.jpg", "tee.JPG"),
        ("https://x.example/tee", "tee.png"),
        ("a#1.jpg", "a#1.jpg"),
        ("file:///C:/photos/a.jpg", "a.jpg"),
        ("//x.example/a.jpg", "a.jpg"),
    ],
)
def test_other_spellings_of_a_name_are_found(match, link, file):
    assert match([link], [file])[0] == [file]


def test_the_closest_spelling_is_taken(match):
    links = [f"{SHOP}/71AbcD.jpg", f"{SHOP}/71abcd.jpg", f"{SHOP}/71abcd.png"]
    assert match(links, ["71AbcD.jpg"])[0] == ["71AbcD.jpg", None, None]
    files = ["71AbcD.jpg", "71abcd.jpg"]
    assert match(links, files)[0] == [*files, None]


@pytest.mark.parametrize(
    ("ids", "files", "expected"),
    [
        (["1000.0"], ["1000.jpg"], ["1000.jpg"]),
        (["01000"], ["1000.jpg"], ["1000.jpg"]),
        (["1000"], ["01000.jpg"], ["01000.jpg"]),
        (["ABC"], ["abc.jpg"], ["abc.jpg"]),
        (["1000", "01000", "1000.0"], ["1000.jpg"], ["1000.jpg", None, None]),
        (["01000", "1000.0"], ["1000.jpg"], [None, None]),
        (["1000.0", "2"], ["1000.jpg", "01000.jpg"], ["1000.jpg", None]),
        (["007"], ["07.jpg", "7.jpg"], [None]),
        (["ABC", "abc"], ["abc.jpg"], [None, "abc.jpg"]),
        (["77"], ["77.jpg", "77.png"], [None]),
        (["1000.5"], ["1000.jpg"], [None]),
    ],
)
def test_ids_in_another_spelling_are_found_where_that_is_clear(
    match, ids, files, expected
):
    names, reasons, _ = match([""] * len(ids), files, ids)
    assert names == expected
    for sample_id, name, reason in zip(ids, names, reasons, strict=True):
        assert name or repr(sample_id) in reason


def test_a_file_named_by_one_products_id_and_anothers_link_is_nobodys(match):
    names, reasons, _ = match(["", f"{SHOP}/700.jpg"], ["700.jpg"])
    assert names == [None, None]
    assert all("of another product" in reason for reason in reasons)


def test_a_folder_of_the_link_goes_before_the_id_of_another_product(match):
    names, _, _ = match(["", f"{SHOP}/x9/700.jpg"], ["x9/700.jpg"])
    assert names == [None, "x9/700.jpg"]


def test_ids_that_are_the_links_of_others_in_another_order_are_not_guessed(match):
    links = [f"{SHOP}/{sample_id}.jpg" for sample_id in IDS[1:] + IDS[:1]]
    assert match(links, [f"{i}.jpg" for i in IDS])[0] == [None] * N


def test_the_reason_says_what_was_looked_for(match):
    links = [f"{SHOP}/a/tea.jpg", "", "data:image/png;base64,AA", f"{SHOP}/"]
    reasons = match(links, ["other.jpg"])[1]
    assert reasons[0] == (
        "no photo named 'tea.jpg' (last part of the link) or '700' (sample_id) in the "
        "images folder"
    )
    assert reasons[1] == "no image link, and no photo named by the sample_id '701'"
    assert "is a picture itself" in reasons[2]
    assert "names no file" in reasons[3]


def test_names_that_are_no_utf_8_can_be_told(match):
    _, (reason,), _ = match([f"{SHOP}/tea.jpg"], ["a/tea.jpg", "b\udcff/tea.jpg"])
    assert reason.encode()


def test_without_a_folder_each_product_has_the_same_reason():
    found = match_photos(catalog_of(MAIN), None)
    assert set(found.reasons) == {"no folder of photos was given"}


def test_a_file_recorded_for_a_link_is_its_photo_whatever_its_name(match):
    log = [("1", f"{SHOP}/1/a.jpg", "odd.png", "ok", "", "1", "1")]
    names, _, notes = match([f"{SHOP}/1/a.jpg"], ["odd.png", "a.jpg"], log=log)
    assert names == ["odd.png"]
    assert "downloads.csv: products with the photo recorded" in notes[0]


@pytest.mark.parametrize("status", ["failed", "taken"])
def test_a_link_recorded_without_photo_has_none(match, status):
    log = [
        ("700", f"{SHOP}/2/a.jpg", "a.jpg", status, "why: it is so", "0", "1"),
        ("701", f"{SHOP}/1/a.jpg", "a.jpg", "ok", "", "1", "1"),
    ]
    links = [f"{SHOP}/2/a.jpg", f"{SHOP}/1/a.jpg"]
    names, reasons, notes = match(links, ["a.jpg", "700.jpg"], log=log)
    assert names == [None, "a.jpg"]
    assert f"downloads.csv: {status}: why: it is so" in reasons[0]
    assert "1; products without a photo" in notes[0]
    assert notes[0].endswith("taken: 1.")


def test_a_file_recorded_for_another_link_is_not_taken_by_name(match):
    log = [("9", f"{SHOP}/1/a.jpg", "a.jpg", "kept", "", "1", "0")]
    names, reasons, _ = match([f"{SHOP}/2/a.jpg", ""], ["a.jpg"], ["7", "a"], log=log)
    assert names == [None, None]
    assert all("saved for another link" in reason for reason in reasons)


def test_a_recorded_file_that_is_gone_or_outside_is_looked_for_by_name(match, tmp_path):
    (tmp_path / "secret.jpg").touch()
    for file in ("gone.jpg", "../secret.jpg", str(tmp_path / "secret.jpg")):
        log = [("700", f"{SHOP}/a.jpg", file, "ok", "", "1", "1")]
        assert match([f"{SHOP}/a.jpg"], ["a.jpg"], log=log)[0] == ["a.jpg"]


def test_a_foreign_downloads_csv_is_left_out_and_a_damaged_one_named(match, tmp_path):
    match([f"{SHOP}/a.jpg"], ["a.jpg"])
    record = tmp_path / "images" / "downloads.csv"
    record.write_bytes(b"day;gr\xf6\xdfe\n1;2\n")
    assert match([f"{SHOP}/a.jpg"], [])[0] == ["a.jpg"]
    record.write_text(",".join(COLUMNS) + "\n1,2\n")
    with pytest.raises(CatalogError, match=r"downloads\.csv: must be .* Delete it and"):
        match([f"{SHOP}/a.jpg"], [])


def test_the_record_itself_is_no_photo(match):
    assert match([f"{SHOP}/downloads.csv"], [], log=[])[0] == [None]


@pytest.mark.parametrize("name", ["tee.jpg", "main.jpg"])
@pytest.mark.parametrize("own", ["P{}/", "x{}/", ""])
def test_time_grows_with_the_number_of_products_and_not_faster(name, own, tmp_path):
    def seconds(n):
        files = [own.format(i) + name for i in range(n)] if own else [name]
        links = [f"{SHOP}/P{i}/{name}" for i in range(n)]
        begun = time.process_time()
        index = PhotoIndex(tmp_path, [(tmp_path / f, tmp_path / f) for f in files])
        nothing = PhotoLog(files={}, reasons={}, links={})
        matcher = _Matcher(index, nothing, links, [f"id {i}" for i in range(n)])
        found = [matcher.photo(row)[0] for row in range(n)]
        assert sum(at is not None for at in found) == (n if own == "P{}/" else 0)
        return time.process_time() - begun

    # Collecting the garbage of a whole suite takes longer than what is measured, and
    # another process may slow one of the measurements down: the least of three counts.
    gc.disable()
    try:
        few, many = (min(seconds(n) for _ in range(3)) for n in (400, 4000))
    finally:
        gc.enable()
    # Ten times the work takes ten times as long; were it squared, a hundred times.
    assert many < 40 * few


# fmt: off
FILES = [
    "a.jpg", "A.jpg", "a.png", "x/a.jpg", "y/a.jpg", "x/y/a.jpg", "1.jpg", "01.jpg",
    "main.jpg", "x/main.jpg", "i.php?id=1", "i.php?id=2", "b%20c.jpg", "b c.jpg", "1",
]
LINKS = [
    "", "http://h/a.jpg", "http://h/x/a.jpg", "http://h/A.jpg", "a.png",
    "http://h/1.jpg", "http://h/main.jpg", "http://h/x/main.jpg", "http://h/z/main.jpg",
    "http://h/i.php?id=1", "http://h/i.php?id=2", "http://h/b%20c.jpg",
]
# fmt: on
products = st.lists(
    st.tuples(
        st.sampled_from(["1", "01", "1.0", "a", "A", "main", "p q"]),
        st.sampled_from(LINKS),
    ),
    unique_by=lambda product: product[0],
    min_size=1,
    max_size=6,
)


@settings(max_examples=300, deadline=None)
@given(products, st.sets(st.sampled_from(FILES), min_size=1), st.randoms())
def test_no_file_is_the_photo_of_two_links_and_no_order_matters(table, names, random):
    root = Path("photos")
    nothing = PhotoLog(files={}, reasons={}, links={})

    def matched(rows, files):
        index = PhotoIndex(root, [(root / name, root / name) for name in files])
        ids, links = zip(*rows, strict=True)
        matcher = _Matcher(index, nothing, links, ids)
        numbers = [matcher.photo(row)[0] for row in range(len(rows))]
        return {
            row: None if at is None else index.names[at]
            for row, at in zip(rows, numbers, strict=True)
        }

    found = matched(table, sorted(names))
    owners = {}
    for (sample_id, link), name in found.items():
        owner = parse_link(link).identity if link else sample_id
        assert name is None or owners.setdefault(name, owner) == owner
    shuffled, files = list(table), list(names)
    random.shuffle(shuffled)
    random.shuffle(files)
    assert matched(shuffled, files) == found
