"""A photo never gets a name under which another product would look."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embed.download.failure import shown
from embed.download.log import LogRow, Recorded, read_log, write_log
from embed.download.names import PhotoNames
from embed.errors import ConfigError
from embed.photos.files import find_image
from embed.photos.index import index_images

HOST = "https://shop.example"
# Few names, so that they meet; with and without suffix, escaped, numbered like ids.
PARTS = ["1", "2", "1.jpg", "2.png", "a.jpg", "A.jpg", "a", "a%20b.jpg", "a b.jpg", ""]
IDS = ["1", "2", "3", "a", "a b", "1.jpg", "x/y", "..", "A", "con", "a.jpg"]
LINKS = ["", *(f"{HOST}/{i}/{part}" for i in (1, 2) for part in PARTS)]
rows = st.lists(
    st.tuples(
        st.sampled_from(
            [""] + [f"{HOST}/{i}/{part}" for i in (1, 2) for part in PARTS]
        ),
        st.sampled_from(IDS),
        st.booleans(),
    ),
    unique_by=lambda row: row[1],
    max_size=8,
)


def index_of(names):
    """The index of a folder with these files, without the folder."""
    walked = [("photos", [], sorted(names))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "walk", lambda *_, **__: walked)
        patch.setattr(Path, "is_dir", lambda _: True)
        return index_images(Path("photos"))


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows)
def test_every_row_finds_the_photo_of_its_link_or_none(table):
    links, ids, loaded = zip(*table, strict=True) if table else ((), (), ())
    names = PhotoNames(links, ids)
    stored = {}
    came = {link for link, ok in zip(links, loaded, strict=True) if ok and link}
    for row, link in enumerate(links):
        name = names.name(row)
        if link in came and name:
            assert stored.setdefault(name, link) == link
    index = index_of(stored)
    for row, (link, sample_id) in enumerate(zip(links, ids, strict=True)):
        found = find_image(index, image_link=link, sample_id=sample_id)
        if found:
            assert stored[found.name] == link
        else:
            assert link not in came or not names.name(row)


def test_a_usual_catalog_keeps_the_last_parts_of_its_links():
    links = [f"{HOST}/images/I/{name}.jpg" for name in ("51mo8htw", "71AbcD", "1")]
    names = PhotoNames(links, ["101", "102", "103"])
    assert [names.name(row) for row in range(3)] == [
        "51mo8htw.jpg",
        "71AbcD.jpg",
        "1.jpg",
    ]


def test_the_name_of_another_products_id_is_not_used():
    names = PhotoNames([f"{HOST}/2.jpg", f"{HOST}/x.jpg"], ["1", "2"])
    assert names.name(0) == "1.jpg"  # as 2.jpg, product 2 would get it if x.jpg fails
    assert names.name(1) == "x.jpg"


@pytest.mark.parametrize(
    "part",
    [
        *("..", ".", ".hidden.jpg", "a\\b.jpg", "a\x07.jpg", "nul.jpg", "COM1"),
        *("a." * 150, "downloads.csv", "é" * 150, "a|b.jpg", "DOWNLOADS.csv"),
    ],
)
def test_names_that_are_unsafe_on_some_system_are_not_used(part):
    assert PhotoNames([f"{HOST}/{part}?width=3"], ["7"]).name(0) == "7.jpg"


def test_without_any_usable_name_there_is_none():
    assert PhotoNames([f"{HOST}/.."], ["x/y"]).name(0) == ""


def test_the_record_survives_awkward_text(tmp_path):
    path = tmp_path / "downloads.csv"
    written = [
        LogRow(
            sample_id='a,"b', image_link="l1", file="é, 1.jpg", status="ok", n_bytes=3
        ),
        LogRow(
            sample_id="c", image_link="l2", file="x.jpg", status="taken", reason="r"
        ),
        LogRow(sample_id="d\ne", image_link="l3", status="failed", reason="a; b\n"),
    ]
    write_log(path, written)
    assert read_log(path) == {
        "é, 1.jpg": Recorded("l1", 3),
        "x.jpg": Recorded("", 0),
    }
    assert [entry.name for entry in tmp_path.iterdir()] == ["downloads.csv"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"sample_id\n1\n",
        b"\xff\xfe\x00",
        b"sample_id,image_link,file,status,reason,bytes,attempts\na,b,c,ok,,many,1\n",
        b"sample_id,image_link,file,status,reason,bytes,attempts\na,b,c,ok\n",
        b'sample_id,image_link,file,status,reason,bytes,attempts\n"a\n',
    ],
)
def test_a_damaged_record_is_named(tmp_path, content):
    path = tmp_path / "downloads.csv"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"downloads\.csv: not the record .* Delete"):
        read_log(path)


def test_text_of_strangers_becomes_one_short_line():
    assert shown("a\r\nb\x1b[31m\x00") == "a b?[31m?"
    assert len(shown("x" * 10**6)) == 81
