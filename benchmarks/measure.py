"""Run the ways of one benchmark in processes of their own, and keep what they took.

A benchmark module has `WAYS`, a mapping of names to functions that do the work and
return figures. `main` runs each way in a fresh process, the ways in turn within each
round, so that a slow minute of the machine falls on all of them.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "runs" / "benchmarks"  # what the ways leave
RECORDS = Path(__file__).with_name("records")  # what they took, kept with the page
Way = Callable[[argparse.Namespace], dict[str, Any]]
Summarise = Callable[[dict[str, list[dict[str, Any]]]], list[str]]


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return the options that all benchmarks share."""
    options = argparse.ArgumentParser(description=description)
    data = REPOSITORY.parent / "shared"
    options.add_argument(
        "--data", type=Path, default=data / "data" / "amazon", help="catalog and photos"
    )
    options.add_argument(
        "--image-encoder",
        default=str(data / "weights" / "efficientnet_b0_reconstructed.safetensors"),
    )
    options.add_argument("--run", type=Path, default=Path("runs/amazon"))
    options.add_argument("--runs", type=int, default=3, help="rounds [3]")
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--way", help=argparse.SUPPRESS)
    options.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    return options


def main(
    name: str,
    ways: dict[str, Way],
    summarise: Summarise,
    *,
    options: argparse.ArgumentParser,
) -> None:
    """Measure all ways, or in a child process one of them."""
    given = options.parse_args()
    if given.way:
        started = time.perf_counter()
        figures = ways[given.way](given)
        figures.setdefault("seconds", time.perf_counter() - started)
        usage = resource.getrusage(resource.RUSAGE_SELF)
        print(json.dumps({**figures, "peak_mib": usage.ru_maxrss / 1024}))
        return
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    for round_ in range(given.runs):
        for way in ways:
            work = RESULTS / name / way
            work.mkdir(parents=True, exist_ok=True)
            figures = _run_child(name, way, work)
            found[way].append(figures)
            print(f"{name}, round {round_ + 1}, {way}: {json.dumps(figures)}")
    lines = summarise(found)
    record = {"name": name, "machine": machine(), "found": found, "lines": lines}
    RECORDS.mkdir(exist_ok=True)
    (RECORDS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    print("\n".join(lines))


def least_cosine(one: Path, other: Path) -> float:
    """Return the least cosine between the rows of two saved arrays.

    Rows that are zero in both, products without photo, do not count.
    """
    a, b = (np.load(path).astype(np.float64) for path in (one, other))
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    encoded = a.any(axis=1) | b.any(axis=1)
    assert (norms[encoded] > 0).all(), "a row was encoded in one of the two only"
    return float(((a * b).sum(1)[encoded] / norms[encoded]).min())


def median(figures: list[dict[str, Any]], key: str) -> float:
    """Return the median of one figure over the rounds."""
    return statistics.median(float(found[key]) for found in figures)


def machine() -> dict[str, Any]:
    """Return commit, processor and versions."""
    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    git = ["git", "-C", str(REPOSITORY)]
    commit = subprocess.run(
        [*git, "describe", "--always", "--dirty"], capture_output=True, text=True
    ).stdout.strip()
    return {"commit": commit, "cpu": cpu, "cores": os.cpu_count()}


def _run_child(name: str, way: str, work: Path) -> dict[str, Any]:
    module = [sys.executable, "-m", f"benchmarks.{name}", *sys.argv[1:]]
    done = subprocess.run(
        [*module, "--way", way, "--work", str(work)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    figures: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures
