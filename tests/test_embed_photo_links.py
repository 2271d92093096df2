"""Which link of a cell is the photo, and which links mean the same one."""

import pytest

from embed.catalog.reader import read_catalog
from embed.photos.links import parse_link, split_links

SHOP = "https://shop.example"


@pytest.mark.parametrize(
    ("cell", "links"),
    [
        ("front.jpg, back.jpg", ["front.jpg", "back.jpg"]),
        ("front.jpg,back.jpg,", ["front.jpg", "back.jpg"]),
        ('["a.jpg", "b.jpg"]', ["a.jpg", "b.jpg"]),
        ('["a","b"]', ["a", "b"]),
        ('["", "b.jpg"]', ["b.jpg"]),
        ("['a.jpg', 'b.jpg']", ["a.jpg", "b.jpg"]),
        (r"['C:\photos\a.jpg', 'b.jpg']", [r"C:\photos\a.jpg", "b.jpg"]),
        (r'["https:\/\/shop.example\/a.jpg"]', [f"{SHOP}/a.jpg"]),
        ("[a.jpg, b.jpg]", ["a.jpg", "b.jpg"]),
        ("{a.jpg,b.jpg}", ["a.jpg", "b.jpg"]),
        ("a|b", ["a", "b"]),
        ("a.jpg|b.jpg", ["a.jpg", "b.jpg"]),
        ("a.jpg ; b.jpg", ["a.jpg", "b.jpg"]),
        ("a\nb", ["a", "b"]),
        (r"C:\p\a.jpg;C:\p\b.jpg", [r"C:\p\a.jpg", r"C:\p\b.jpg"]),
        ("a.jpg, b.jpg; c.jpg", ["a.jpg", "b.jpg", "c.jpg"]),
        (f"{SHOP}/a.jpg {SHOP}/b.jpg", [f"{SHOP}/a.jpg", f"{SHOP}/b.jpg"]),
        (f"{SHOP}/a\r\n{SHOP}/b", [f"{SHOP}/a", f"{SHOP}/b"]),
        (f"{SHOP}/a,{SHOP}/b", [f"{SHOP}/a", f"{SHOP}/b"]),
        (f"{SHOP}/a?v=1|{SHOP}/b?v=1", [f"{SHOP}/a?v=1", f"{SHOP}/b?v=1"]),
        (f'"{SHOP}/a.jpg","{SHOP}/b.jpg"', [f"{SHOP}/a.jpg", f"{SHOP}/b.jpg"]),
        (f"{SHOP}/a.jpg, back.jpg", [f"{SHOP}/a.jpg", "back.jpg"]),
        ("//cdn/a.jpg, //cdn/b.jpg", ["//cdn/a.jpg", "//cdn/b.jpg"]),
    ],
)
def test_several_links_of_a_cell_are_told_apart(cell, links):
    assert split_links(cell) == links


@pytest.mark.parametrize(
    "cell",
    [
        f"{SHOP}/w_300,h_300/x.jpg",
        f"{SHOP}/fit-in/300x300/filters:fill(white),crop/a.jpg",
        f"{SHOP}/a|b.jpg",
        f"{SHOP}/i?u=a|b,c;d",
        f"{SHOP}/a;jsessionid=1",
        f"{SHOP}/a.jpg,b.jpg",
        f"{SHOP}/my photo, front.jpg",
        f"{SHOP}/compose?of=https://a.example/x.jpg|https://b.example/y.jpg",
        f"{SHOP}/fetch/w_300,f_auto/https://a.example/x.jpg",
        f"{SHOP}/{{a,b}}.jpg",
        "my photo.jpg",
        "Tee, blue.jpg",
        "photos/a|b.jpg",
        "Tee, blue",
        "data:image/png;base64,AAAA,BBBB",
        "[a].jpg",
    ],
)
def test_one_link_with_a_separator_inside_stays_whole(cell):
    assert split_links(f" {cell}\n") == [cell]


@pytest.mark.parametrize("cell", ["", "  ", ",", "[]", "[1, 2]", '[""]', "|;,"])
def test_a_cell_without_a_link_has_none(cell):
    assert split_links(cell) == []


def test_a_catalog_keeps_the_first_link_of_a_cell_and_counts_such_cells(tmp_path):
    path = tmp_path / "catalog.csv"
    path.write_text(
        'sample_id,catalog_content,image_link\n1,a,"f.jpg, b.jpg"\n2,b,c.jpg\n3,c,\n'
    )
    catalog = read_catalog(path)
    assert catalog.image_link == ("f.jpg", "c.jpg", "")
    assert catalog.n_link_lists == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("http://shop.example/a/t.jpg", "https://SHOP.example/a/t.jpg"),
        (f"{SHOP}/t.jpg?v=1&width=300", f"{SHOP}/t.jpg?v=2#top"),
        (f"{SHOP}/a%20b.jpg", f"{SHOP}/a b.jpg"),
        (f"{SHOP}/image.php?id=1&w=30", f"{SHOP}/image.php?w=60&id=1"),
        (f"{SHOP}/p?id=1&X-Amz-Date=1", f"{SHOP}/p?id=1&X-Amz-Date=2"),
        (r"photos\a.jpg", "./photos/a.jpg"),
    ],
)
def test_links_of_one_photo_have_one_identity(one, other):
    assert parse_link(one).identity == parse_link(other).identity


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (f"{SHOP}/1/t.jpg", f"{SHOP}/2/t.jpg"),
        ("https://a.example/t.jpg", "https://b.example/t.jpg"),
        (f"{SHOP}/image.php?IMAGE_ID=1", f"{SHOP}/image.php?IMAGE_ID=2"),
        (f"{SHOP}/image.php?1", f"{SHOP}/image.php?2"),
        (f"{SHOP}/main.jpg?product=1", f"{SHOP}/main.jpg?product=2"),
        (f"{SHOP}/t.jpg", f"{SHOP}/T.jpg"),
    ],
)
def test_links_of_other_photos_have_other_identities(one, other):
    assert parse_link(one).identity != parse_link(other).identity
