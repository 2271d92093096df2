import os

import numpy as np
import pandas as pd
import pytest

from embed.catalog import read_catalog
from stack.frame import read_products, write_inputs


def test_photos_of_one_name_in_many_folders_are_told_apart(tmp_path):
    table = pd.DataFrame({"text": ["tea", "rice"], "photo": ["a/x.jpg", "b/x.jpg"]})
    for name, content in (("a", b"1"), ("b", b"22")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.jpg").write_bytes(content)
    found = read_products(
        table, text_columns=["text"], image_column="photo", images_dir=tmp_path
    )
    catalog_path, images_dir = write_inputs(found, np.ones(2), tmp_path)
    links = read_catalog(catalog_path).image_link
    assert [(images_dir / link).read_bytes() for link in links] == [b"1", b"22"]


def test_photos_are_copied_where_they_cannot_be_linked(tmp_path, monkeypatch):
    def refuse(*names):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "x.jpg").write_bytes(b"photo")
    os.mkfifo(tmp_path / "pipe.jpg")
    table = pd.DataFrame({"text": ["tea"] * 3, "photo": ["x.jpg", "pipe.jpg", "no"]})
    found = read_products(
        table, text_columns=["text"], image_column="photo", images_dir=tmp_path
    )
    _, images_dir = write_inputs(found, np.ones(3), tmp_path)
    (images_dir / "of-another-fit.jpg").touch()
    _, images_dir = write_inputs(found, np.ones(3), tmp_path)
    assert [path.read_bytes() for path in images_dir.iterdir()] == [b"photo"]


def test_texts_and_ids_come_through_the_catalog_as_they_were(tmp_path):
    texts = ['a "quoted", one', "two\r\nlines\rand\nmore", "", " ", "na", "\0é\ud800x"]
    sizes = [1, 2.5, None, 4, 5, 6]
    table = pd.DataFrame({"name": pd.Series(texts, dtype=object), "size": sizes})
    table.index = ["01", "1", "NA", "nan", "None", "x,y"]
    found = read_products(
        table, text_columns=["name", "size"], image_column=None, images_dir=None
    )
    price = np.array([0.01, 1e-9, 1e12, 1 / 3, 5, 6])
    path, images_dir = write_inputs(found, price, tmp_path)
    assert images_dir is None
    catalog = read_catalog(path)
    assert catalog.sample_id.tolist() == table.index.tolist()
    assert catalog.text == found.text == found.catalog().text
    assert found.text[:3] == ('a "quoted", one\n1.0', texts[1] + "\n2.5", "")
    assert found.text[5] == "\0éx\n6.0"
    np.testing.assert_array_equal(catalog.price, price)


@pytest.mark.parametrize(
    "index", [["a", "a", "b"], ["", "a", "b"], ["a\n", "b", "c"], ["x" * 300, "b", "c"]]
)
def test_labels_that_cannot_be_ids_give_way_to_positions(index):
    table = pd.DataFrame({"name": ["x", "y", "z"]}, index=index)
    found = read_products(
        table, text_columns=["name"], image_column=None, images_dir=None
    )
    assert found.sample_id == ("0", "1", "2")
