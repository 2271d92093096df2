"""Memory does not grow with the catalog."""

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
MOST_GROWTH = 1.2


def peak_kib(n_products, folder):
    """Embed so many sample products in a process of its own; return its peak RSS."""
    done = subprocess.run(
        [sys.executable, TESTS / "embed_rows.py", str(n_products), str(folder)],
        env={"PYTHONPATH": f"{TESTS.parent}:{TESTS}", "PATH": ""},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return int(done.stdout.split()[-1])


@pytest.mark.slow
def test_embedding_ten_times_the_products_takes_hardly_more_memory(tmp_path, tally):
    few = peak_kib(10_000, tmp_path / "few")
    many = peak_kib(100_000, tmp_path / "many")
    assert many <= MOST_GROWTH * few, f"{many} KiB against {few} KiB"
    tally("MiB at the peak, 10,000 products embedded", few // 1024)
    tally("MiB at the peak, 100,000 products embedded", many // 1024)
