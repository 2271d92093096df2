from importlib import metadata

import pytest

from stack.export import licence
from stack.export.licence import NOTICE, licence_text


@pytest.fixture
def site_packages(tmp_path, monkeypatch):
    """A folder that packages are installed into, with another one's LICENSE in it."""
    (tmp_path / "LICENSE").write_text("of some other package")
    monkeypatch.setattr(licence, "REPOSITORY", tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def install(site_packages, *, record):
    info = site_packages / "pricestack-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pricestack\n")
    (info / "RECORD").write_text(record)
    return info


def test_an_installed_wheel_gives_the_licence_it_came_with(site_packages):
    info = install(
        site_packages, record="pricestack-0.1.0.dist-info/licenses/LICENSE,,\n"
    )
    (info / "licenses").mkdir()
    (info / "licenses" / "LICENSE").write_text("as installed")
    assert licence_text() == "as installed"


@pytest.mark.parametrize("record", ["", "pricestack-0.1.0.dist-info/LICENSE,,\n"])
def test_a_wheel_that_lost_its_licence_gives_a_notice_that_names_it(
    site_packages, record
):
    install(site_packages, record=record)
    assert licence_text() == NOTICE
    assert "MIT License" in NOTICE


def test_code_that_was_never_installed_gives_a_notice(site_packages, monkeypatch):
    def refuse(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", refuse)
    assert licence_text() == NOTICE
