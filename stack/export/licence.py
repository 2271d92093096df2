"""Licence of the code that is copied into an export."""

from importlib import metadata
from pathlib import Path

LICENCE_NAME = "LICENSE"
REPOSITORY = Path(__file__).resolve().parents[2]
NOTICE = """\
The code in this folder is pricestack's, under the MIT License.
Copyright (c) 2026 The pricestack authors. It comes without warranty of any kind.
The text of the licence was not installed with it: see the MIT License at spdx.org.
"""


def licence_text() -> str:
    """Return LICENSE of the repository or the installed package, else a notice."""
    for path in (*_repository_licence(), *_installed_licence()):
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
    return NOTICE


def _repository_licence() -> list[Path]:
    # In site-packages, a LICENSE there would be of some other package.
    is_repository = (REPOSITORY / "pyproject.toml").is_file()
    return [REPOSITORY / LICENCE_NAME] if is_repository else []


def _installed_licence() -> list[Path]:
    try:
        files = metadata.files("pricestack") or []
    except metadata.PackageNotFoundError:
        return []
    return [Path(file.locate()) for file in files if file.name == LICENCE_NAME]
