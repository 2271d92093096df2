"""What the tests of the download share: a server, a catalog of links, the record."""

import csv
import dataclasses

import pytest
from bad_server import BadServer
from click.testing import CliRunner

from embed.catalog.reader import read_catalog
from embed.download.config import DownloadConfig
from embed.download.job import download_images
from embed.photos.log import LOG_NAME
from embed.store.lock import LOCK_NAME
from stack.cli import main

QUICK = DownloadConfig(
    allow_private=True,
    backoff=0.02,
    retries=2,
    connect_timeout=5.0,
    read_timeout=5.0,
    deadline=10.0,
    max_bytes=2**20,
)


@pytest.fixture
def server():
    with BadServer() as server:
        yield server


@pytest.fixture
def download(tmp_path):
    """Download the photos of links; returns the rows of downloads.csv."""

    def run(links, *, ids=None, out="photos", **settings):
        catalog = read_catalog(write_catalog(tmp_path / "catalog.csv", links, ids))
        config = dataclasses.replace(QUICK, **settings)
        download_images(catalog, tmp_path / out, config=config)
        return log_of(tmp_path / out)

    return run


def write_catalog(path, links, ids=None):
    with path.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow(("sample_id", "catalog_content", "image_link"))
        for row, link in enumerate(links):
            lines.writerow((ids[row] if ids else f"id{row}", "soap", link))
    return path


def log_of(folder):
    with (folder / LOG_NAME).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def photos_in(folder):
    names = {path.name for path in folder.iterdir()}
    return sorted(names - {LOG_NAME, LOCK_NAME})


def call(*arguments):
    return CliRunner().invoke(main, ["images", *map(str, arguments)])
