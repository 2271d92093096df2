"""Read problems.csv, which has a row for each input that a placeholder replaces."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Problem(NamedTuple):
    """A row of problems.csv."""

    sample_id: str
    field: str
    """`text` or `image`."""

    reason: str


def read_problems(path: Path) -> Iterator[Problem]:
    """Yield the rows of problems.csv, which need not fit into memory."""
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            yield Problem(**{name: row[name] for name in Problem._fields})
