import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
FOUND = "Found 1 known vulnerability in 1 package\nname 1.0 PYSEC-1"
UNKNOWN = "Name Skip Reason\na could not be audited: a\nb could not be audited: b"


@pytest.fixture
def check(tmp_path):
    """Run `make check` with tools that say what the test wants."""

    def check(said, status):
        tools = tmp_path / "venv" / "bin"
        tools.mkdir(parents=True)
        for name in ("ruff", "mypy", "pip-audit"):
            (tools / name).write_text("#!/bin/sh\n")
            (tools / name).chmod(0o755)
        lines = "".join(f"echo '{line}' >&2\n" for line in said.splitlines())
        (tools / "pip-audit").write_text(f"#!/bin/sh\n{lines}exit {status}\n")
        (tmp_path / "venv" / "installed").touch()
        for name in ("Makefile", "constraints.txt", "pyproject.toml"):
            shutil.copy(REPOSITORY / name, tmp_path)
        (tmp_path / "venv" / "installed").touch()
        return subprocess.run(
            ["make", "check", "VENV=venv"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )

    return check


def test_versions_without_a_known_vulnerability_pass(check):
    done = check("No known vulnerabilities found\n" + UNKNOWN, 0)
    assert done.returncode == 0, done.stderr
    assert "no known vulnerability; of " in done.stdout
    assert "packages, 2 are unknown to the index asked" in done.stdout


def test_a_known_vulnerability_fails_the_check_and_is_shown(check):
    done = check(FOUND, 1)
    assert done.returncode != 0
    assert "PYSEC-1" in done.stdout


def test_without_a_network_the_check_passes_and_says_so(check):
    done = check("ERROR: Failed to establish a new connection", 1)
    assert done.returncode == 0, done.stderr
    assert "NOT AUDITED" in done.stdout


def test_another_fault_of_the_audit_fails_the_check(check):
    done = check("ERROR: invalid requirement", 1)
    assert done.returncode != 0
    assert "invalid requirement" in done.stdout
