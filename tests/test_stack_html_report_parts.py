import csv
import types

import numpy as np
import pytest
from PIL import Image

from embed.errors import CacheError
from embed.photos.decode import encode_thumbnail
from embed.records import require_embedded
from stack.html_report.curves import read_histories
from stack.html_report.gains import read_gains
from stack.html_report.products import (
    _data_uri,
    median_products,
    photo_uris,
    shorten,
    worst_products,
)
from stack.html_report.records import N_PROBLEMS, count_problems, stage_record
from stack.html_report.words import group_score, leading_words, score_words
from stack.tell import numbers as formats


def test_leading_words_are_those_of_content():
    name = "Pack of 12 - The Acme Cotton Bath Towel, 30 x 60 inch (Blue)"
    assert leading_words(name) == ["acme", "cotton", "bath", "towel", "blue"]
    assert leading_words("Crème brûlée") == ["crème", "brûlée"]
    assert len(leading_words("word other " * 50)) == 8
    assert leading_words("12 oz") == []


def test_a_word_is_judged_by_the_products_that_carry_it():
    names = ["Red Mug"] * 40 + ["Blue Lamp"] * 60
    error = np.arange(100.0)
    found = {score.label: score for score in score_words(names, error)}
    assert found.keys() == {"red mug", "blue lamp"}
    mug = found["red mug"]
    assert (mug.n, mug.share) == (40, 0.4)
    assert mug.smape == pytest.approx(error[:40].mean())
    assert mug.smape_se == pytest.approx(error[:40].std(ddof=1) / np.sqrt(40))
    assert sum(score.adds for score in found.values()) == pytest.approx(error.mean())


def test_words_that_add_most_to_the_error_come_first():
    names = ["Mug"] * 50 + ["Lamp"] * 40 + ["Chair"] * 30
    error = np.repeat([1.0, 2.0, 3.0], [50, 40, 30])
    assert [s.label for s in score_words(names, error)] == ["chair", "lamp", "mug"]


def test_a_word_stays_beside_a_pair_that_covers_few_of_its_products():
    names = ["Bath Towel"] * 30 + ["Hand Towel"] * 30
    labels = {score.label for score in score_words(names, np.ones(60))}
    assert labels == {"towel", "bath towel", "hand towel"}


@pytest.mark.parametrize(("n_all", "least"), [(40, 5), (1000, 20), (10_000, 30)])
def test_rare_words_are_left_out(n_all, least):
    names = ["Rare"] * (least - 1) + ["Enough"] * least
    names += [f"item{chr(97 + i % 26)}" for i in range(n_all - len(names))]
    labels = {score.label for score in score_words(names, np.ones(n_all), n_shown=99)}
    assert "enough" in labels
    assert "rare" not in labels


def test_only_the_most_frequent_words_are_shown():
    letters = "abcdefghijklmnopqrstuvwxyz"
    names = [f"word{letters[at]}" for at in range(26) for _ in range(30 + at)]
    found = score_words(names, np.ones(len(names)), n_shown=20)
    assert {s.label for s in found} == {f"word{letters[at]}" for at in range(6, 26)}


def test_a_group_of_one_has_no_error_bar():
    score = group_score("one", np.array([30.0]), 10)
    assert (score.smape, score.smape_se, score.adds) == (30.0, 0.0, 3.0)


def test_the_worst_and_the_median_products_are_chosen_by_error():
    error = np.random.default_rng(0).permutation(101).astype(float)
    assert error[worst_products(error)].tolist() == list(range(100, 80, -1))
    assert error[median_products(error)].tolist() == list(range(40, 60))
    assert len(median_products(np.ones(7))) == len(worst_products(np.ones(7))) == 7


def test_a_long_text_is_cut_at_a_word():
    assert shorten("short") == "short"
    cut = shorten("word " * 100)
    assert len(cut) <= 302
    assert cut.endswith("word …")
    assert len(shorten("x" * 1000)) == 302


def test_a_shown_photo_is_a_few_kilobytes():
    noise = np.random.default_rng(0).integers(0, 255, (512, 512, 3), dtype=np.uint8)
    uri = _data_uri(encode_thumbnail(noise))
    assert uri.startswith("data:image/jpeg;base64,/9j/")
    assert len(uri) < 60_000


def test_a_catalog_without_any_photo_has_no_photos_to_show():
    run = types.SimpleNamespace(thumbnails=lambda: [np.zeros(0, np.uint8)] * 3)
    assert photo_uris(run, np.array([0, 2])) == [None, None]


def test_each_row_has_its_own_photo():
    jpegs = [encode_thumbnail(np.full((8, 8, 3), v, np.uint8)) for v in (0, 250)]
    rows = [np.frombuffer(jpeg, np.uint8) for jpeg in (jpegs[0], b"", jpegs[1])]
    run = types.SimpleNamespace(thumbnails=lambda: rows)
    white, none, black = photo_uris(run, np.array([2, 1, 0]))
    assert none is None
    assert (white, black) == (_data_uri(jpegs[1]), _data_uri(jpegs[0]))
    assert white != black
    assert Image.MIME["JPEG"] in white


def write_problems(path, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("sample_id", "field", "reason"), *rows])
    return path


def test_problems_are_counted_by_reason_and_the_first_are_kept(tmp_path):
    rows = [(f"p{at}", "image", "no such file") for at in range(50)]
    rows += [("q", "text", "no usable text")]
    rows += [(f"r{at}", "image", f"damaged file: {at}") for at in range(30)]
    found = count_problems(write_problems(tmp_path / "problems.csv", rows))
    assert found.n == 81
    assert found.reasons[0] == ("image", "no such file", 50)
    assert len(found.reasons) + found.n_other_reasons == 32
    assert [row.sample_id for row in found.first] == [
        f"p{at}" for at in range(N_PROBLEMS)
    ]


def test_no_problem_is_no_error(tmp_path):
    found = count_problems(write_problems(tmp_path / "problems.csv", []))
    assert (found.n, found.reasons, found.first) == (0, [], [])


def test_a_record_keeps_only_the_last_part_of_a_path():
    record = stage_record(
        {
            "stage": "embed",
            "seconds": 1.5,
            "config": {"text_encoder": "a/b", "size": 3, "places": ["/srv/me/x"]},
            "inputs": {"catalog_path": "/srv/me/catalog.csv", "images_dir": None},
            "backends": {"text": r"C:\Users\me\model"},
            "files": {"secret.npy": {}},
        }
    )
    parts = {title: dict(rows) for title, rows in record.parts}
    assert parts["Settings"] == {"text_encoder": "a/b", "size": "3", "places": "x"}
    assert parts["Inputs"] == {"catalog_path": "catalog.csv", "images_dir": "none"}
    assert parts["Result"]["backends.text"] == "model"
    assert "secret" not in str(parts)


def write_history(folder, text):
    (folder / "fold-0").mkdir()
    (folder / "fold-0" / "history.csv").write_text(text)
    return folder


def test_a_history_with_more_columns_is_read(tmp_path):
    text = "epoch,loss,train_smape,new,held_out_smape\n1,0.5,40,7,\n2,0.4,30,8,35\n"
    (history,) = read_histories(write_history(tmp_path, text), 1)
    assert history.columns["loss"] == [0.5, 0.4]
    assert history.columns["held_out_smape"][1] == 35
    assert np.isnan(history.columns["held_out_smape"][0])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not the table of numbers"),
        ("epoch,loss,train_smape\n", "not the table of numbers"),
        ("epoch,loss,train_smape\n1,much,2\n", "could not convert"),
        ("epoch,loss,train_smape\n1,2,3,4\n", "not the table of numbers"),
        ("epoch,loss\n1,0.5\n", "has no column 'train_smape'"),
    ],
)
def test_a_damaged_history_is_named(tmp_path, text, words):
    with pytest.raises(CacheError, match=f"history.csv: .*{words}"):
        read_histories(write_history(tmp_path, text), 1)


def test_a_missing_history_is_named(tmp_path):
    with pytest.raises(CacheError, match=r"fold-0/history.csv: is missing"):
        read_histories(tmp_path, 1)


def test_gains_are_shares_that_add_up_by_block(finished_run):
    names = require_embedded(finished_run).attribute_names
    gains = read_gains(finished_run / "stack", attribute_names=names)
    assert [block for block, _, _ in gains.blocks] == [
        *("text", "image", "fused", "attributes", "network", "lightgbm"),
    ]
    total = sum(share for _, _, share in gains.blocks)
    assert total == pytest.approx(1.0 if any(gains.trees) else 0.0)
    assert {block: n for block, n, _ in gains.blocks}["image"] == 1280
    shares = [share for _, _, share in gains.features]
    assert shares == sorted(shares, reverse=True)
    raw = read_gains(finished_run / "stack" / "lightgbm", attribute_names=names)
    assert {block for block, _, _ in raw.blocks} == {"text", "image", "attributes"}


def test_missing_boosters_are_named(tmp_path):
    with pytest.raises(CacheError, match=r"booster-0.txt: .*make stack"):
        read_gains(tmp_path / "stack", attribute_names=[])


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (formats.price(0.5), "0.50"),
        (formats.price(1234.5), "1,234"),
        (formats.price(2.5e9), "2.5e+09"),
        (formats.score(41.267), "41.27"),
        (formats.signed(-0.351), "\N{MINUS SIGN}0.35"),
        (formats.signed(-0.0001), "+0.00"),
        (formats.ratio(-0.0001), "0.000"),
        (formats.percent(0.1234), "12.3 %"),
        (formats.count(1234), "1,234"),
        (formats.duration(48), "48 s"),
        (formats.duration(750), "12.5 min"),
        (formats.duration(12_240), "3.4 h"),
        (formats.times(2.4), "\N{MULTIPLICATION SIGN} 2.40"),
        (formats.times(0.25), "\N{DIVISION SIGN} 4.00"),
        (formats.times(1e-5), "\N{DIVISION SIGN} 100,000"),
    ],
)
def test_numbers_are_written_short(written, expected):
    assert written == expected


@pytest.mark.parametrize(
    "write",
    [formats.price, formats.score, formats.signed, formats.ratio, formats.percent],
)
def test_a_number_that_does_not_exist_is_a_dash(write):
    assert write(None) == "\N{EN DASH}"
