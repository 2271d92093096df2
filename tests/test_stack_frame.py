import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from embed.catalog.reader import read_catalog
from embed.errors import ConfigError
from stack.notebook.inputs import write_inputs
from stack.notebook.photo_links import discard_copies
from stack.notebook.problems import PlaceholderWarning, warn_of_placeholders
from stack.notebook.products import read_products


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
    (images_dir / f"{0:020x}.jpg").touch()  # of another fit
    _, images_dir = write_inputs(found, np.ones(3), tmp_path)
    assert [path.read_bytes() for path in images_dir.iterdir()] == [b"photo"]
    discard_copies(found.photo_of_name, images_dir)
    assert not images_dir.exists()
    assert (tmp_path / "x.jpg").read_bytes() == b"photo"


def test_links_to_photos_stay_until_a_fit_without_them(tmp_path):
    (tmp_path / "x.jpg").write_bytes(b"photo")
    found = read_photos(["x.jpg", None], tmp_path)
    _, images_dir = write_inputs(found, np.ones(2), tmp_path)
    discard_copies(found.photo_of_name, images_dir)
    (link,) = images_dir.iterdir()
    assert link.samefile(tmp_path / "x.jpg")
    write_inputs(read_photos([None], tmp_path), np.ones(1), tmp_path)
    assert not list(images_dir.iterdir())
    assert (tmp_path / "x.jpg").read_bytes() == b"photo"


def test_files_of_the_user_among_the_links_are_refused_and_stay(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    former = photos / f"{0:020x}.jpg"
    for path in (tmp_path / "x.jpg", photos / ".DS_Store", former):
        path.write_bytes(b"photo")
    mine = photos / "a.jpg"
    mine.write_bytes(b"mine")
    with pytest.raises(
        ConfigError, match=r"photos: must contain only files of a fit.*'a\.jpg'"
    ):
        write_inputs(read_photos(["x.jpg"], tmp_path), np.ones(1), tmp_path)
    assert mine.read_bytes() == b"mine"
    mine.unlink()
    with pytest.raises(ConfigError, match="photos given in X lie here"):
        write_inputs(read_photos([former], tmp_path), np.ones(1), tmp_path)
    assert former.read_bytes() == b"photo"
    assert not (tmp_path / "catalog.csv").exists()
    write_inputs(read_photos(["x.jpg"], tmp_path), np.ones(1), tmp_path)
    assert not former.exists()
    assert (photos / ".DS_Store").exists()


def read_photos(cells, images_dir):
    table = pd.DataFrame({"text": "tea", "photo": pd.Series(cells, dtype=object)})
    return read_products(
        table, text_columns=["text"], image_column="photo", images_dir=images_dir
    )


def test_only_the_user_s_own_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    cells = ["~$lock.jpg", "~root/x.jpg", "~/x.jpg"]
    assert read_photos(cells, tmp_path).photo == (
        tmp_path / "~$lock.jpg",
        tmp_path / "~root" / "x.jpg",
        tmp_path / "home" / "x.jpg",
    )


def test_a_photo_whose_name_is_not_utf_8_is_used_and_can_be_shown(tmp_path):
    names = [os.fsdecode(b"\xff.jpg"), "\ud800.jpg"]
    Path(tmp_path, names[0]).write_bytes(b"photo")
    found = read_photos(names, tmp_path)
    catalog_path, images_dir = write_inputs(found, np.ones(2), tmp_path)
    first, second = read_catalog(catalog_path).image_link
    assert (images_dir / first).read_bytes() == b"photo"
    assert not (images_dir / second).exists()
    discard_copies(found.photo_of_name, images_dir)
    with pytest.warns(PlaceholderWarning) as caught:
        warn_of_placeholders(found, {0: "bad", 1: "no such file"})
    message = str(caught[0].message)
    assert "?.jpg: bad" in message
    assert message.encode()


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


def test_the_first_of_several_paths_in_a_cell_is_the_photo(tmp_path):
    (tmp_path / "front.jpg").touch()
    X = pd.DataFrame({"text": ["a", "b"], "photo": ["front.jpg, back.jpg", None]})
    with pytest.warns(UserWarning, match=r"X\['photo'\]: 1 cell with several paths"):
        found = read_products(
            X, text_columns=["text"], image_column="photo", images_dir=tmp_path
        )
    assert found.photo == (tmp_path / "front.jpg", None)


def test_paths_and_links_that_lead_nowhere_are_looked_for_as_the_commands_do(tmp_path):
    for name in ("a.JPG", "b.jpg", "P1/main.jpg", "P2/main.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    cells = ["a.jpg", r"C:\photos\b.jpg", "https://x.example/P2/main.jpg"]
    cells += ["https://x.example/P3/main.jpg", "none.jpg"]
    X = pd.DataFrame({"text": ["tea"] * 5, "photo": cells})
    found = read_products(
        X, text_columns=["text"], image_column="photo", images_dir=tmp_path
    )
    expected = [tmp_path / name for name in ("a.JPG", "b.jpg", "P2/main.jpg")]
    assert list(found.photo[:3]) == expected
    assert not found.photo[3].exists()
    assert found.photo[4] == tmp_path / "none.jpg"
