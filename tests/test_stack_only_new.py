import csv
import logging
import os
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import choose, copy_run

from embed.catalog.reader import read_catalog
from embed.errors import CacheError
from embed.store.manifest import read_json, write_json
from stack.cli import predict_command
from stack.price import only_new
from stack.price.catalog import predict_prices, write_prices
from stack.price.only_new import PriceOptions, predict_new, record_path

OPTIONS = PriceOptions(n_threads=1, flags=True)


@pytest.fixture(scope="module", params=["network", "stacker"])
def run_dir(request, finished_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param) / "run"
    return choose(copy_run(finished_run, folder), request.param)


@pytest.fixture
def shop(sample_catalog, tmp_path):
    """A folder with a catalog.csv of 30 products and their photos."""
    shutil.copytree(sample_catalog.parent / "images", tmp_path / "images")
    with sample_catalog.open(newline="") as file:
        rows = list(csv.DictReader(file))
    write_rows(tmp_path, rows[:30])
    return tmp_path, rows


def write_rows(folder, rows):
    with (folder / "catalog.csv").open("w", newline="") as file:
        lines = csv.DictWriter(file, list(rows[0]))
        lines.writeheader()
        lines.writerows(rows)


@pytest.fixture
def priced(run_dir, shop, monkeypatch):
    """Price the catalog into prices.csv; returns the number of new products."""
    folder, _ = shop

    def run(options=OPTIONS, images="images"):
        prices = predict_new(
            folder / "prices.csv",
            run_dir,
            read_catalog(folder / "catalog.csv"),
            images_dir=folder / images,
            options=options,
        )
        return 0 if prices is None else len(prices.price)

    return run


def complete(run_dir, folder):
    """Return the file of a complete prediction."""
    catalog = read_catalog(folder / "catalog.csv")
    prices = predict_prices(run_dir, catalog, images_dir=folder / "images", n_threads=1)
    write_prices(folder / "complete.csv", catalog, prices, flags=True)
    return (folder / "complete.csv").read_bytes()


def test_the_first_call_prices_all_and_the_second_none(run_dir, shop, priced, caplog):
    folder, _ = shop
    assert priced() == 30
    assert (folder / "prices.csv").read_bytes() == complete(run_dir, folder)
    assert priced() == 0
    assert (folder / "prices.csv").read_bytes() == complete(run_dir, folder)
    assert "priced again" not in caplog.text


def test_only_products_with_other_inputs_are_priced(run_dir, shop, priced):
    folder, rows = shop
    photo, other = (folder / f"images/{rows[row]['sample_id']}.jpg" for row in (4, 6))
    size = max(photo.stat().st_size, other.stat().st_size)
    photo.write_bytes(photo.read_bytes().ljust(size, b"\0"))
    priced()
    status = photo.stat()
    photo.write_bytes(other.read_bytes().ljust(size, b"\0"))
    os.utime(photo, ns=(status.st_atime_ns, status.st_mtime_ns))
    changed = [*rows[2:30], *rows[30:33]]
    changed[7] = {**changed[7], "catalog_content": "Item Name: Rare Tea, 2 Ounce"}
    changed[9] = {**changed[9], "sample_id": "another id", "price": "1"}
    write_rows(folder, changed[::-1])
    # The photo, three products that were added, the text; an id is no input, but finds
    # a photo.
    assert priced() in (5, 6)
    found = list(csv.reader((folder / "prices.csv").read_text().splitlines()))
    expected = list(csv.reader(complete(run_dir, folder).decode().splitlines()))
    assert [(r[0], r[2]) for r in found] == [(r[0], r[2]) for r in expected]
    # Sums of the stacker are rounded by how many products are priced at a time.
    np.testing.assert_allclose(
        [float(row[1]) for row in found[1:]],
        [float(row[1]) for row in expected[1:]],
        rtol=1e-5,
        atol=1.01e-4,
    )


def test_a_product_priced_alone_has_the_network_s_price_to_the_byte(
    finished_run, shop, tmp_path
):
    folder, rows = shop
    run_dir = choose(copy_run(finished_run, tmp_path / "run"), "network")
    options = PriceOptions(n_threads=1, flags=True)
    for n_rows in (29, 30):
        write_rows(folder, rows[:n_rows])
        catalog = read_catalog(folder / "catalog.csv")
        predict_new(
            folder / "prices.csv",
            run_dir,
            catalog,
            images_dir=folder / "images",
            options=options,
        )
    assert (folder / "prices.csv").read_bytes() == complete(run_dir, folder)


def test_what_all_prices_depend_on_prices_all_anew_and_the_line_says_so(
    shop, priced, caplog, run_dir
):
    folder, _ = shop
    caplog.set_level(logging.INFO)
    priced()
    assert priced(PriceOptions(n_threads=1, flags=True, only_fold=1)) == 30
    assert "--only-fold was another, so all products are priced again" in caplog.text
    assert priced(PriceOptions(n_threads=1, flags=True, level=80)) == 30
    assert priced(PriceOptions(n_threads=1)) == 30
    with (folder / "prices.csv").open("a") as file:
        file.write("mine,1.0\n")
    assert priced(PriceOptions(n_threads=1)) == 30
    assert "it was changed since it was written" in caplog.text
    record_path(folder / "prices.csv").unlink()
    assert priced(PriceOptions(n_threads=1)) == 30
    assert "there is no record of what its prices were computed from" in caplog.text
    manifest = run_dir / "stack" / "manifest.json"
    write_json(manifest, {**read_json(manifest), "seconds": 1.5})
    assert priced(PriceOptions(n_threads=1)) == 30
    assert "the models were others" in caplog.text


def test_a_record_that_does_not_fit_is_refused(shop, priced):
    folder, _ = shop
    priced()
    path = record_path(folder / "prices.csv")
    write_json(path, {**read_json(path), "inputs": ["0"]})
    with pytest.raises(CacheError, match=r"does not fit prices\.csv\. Delete it"):
        priced()
    path.unlink()
    assert priced() == 30


def test_a_command_stopped_before_the_record_prices_all_the_next_time(
    shop, priced, monkeypatch
):
    folder, rows = shop
    priced()
    write_rows(folder, rows[:31])

    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(only_new, "write_record", stopped)
        with pytest.raises(KeyboardInterrupt):
            priced()
    assert priced() == 31


def test_the_command_tells_how_many_are_new(shop, run_dir):
    folder, rows = shop
    command = [
        *(str(folder / "catalog.csv"), "--run", str(run_dir), "--only-new"),
        *("--images", str(folder / "images"), "--out", str(folder / "prices.csv")),
    ]
    first = CliRunner().invoke(predict_command, command)
    assert "30 prices written to" in first.output
    assert "; 30 of them are new." in first.output
    write_rows(folder, rows[:31])
    second = CliRunner().invoke(predict_command, command)
    assert "; 1 of them are new." in second.output, second.output
