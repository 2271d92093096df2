"""Run every benchmark, or those named, and write RESULTS.md from what was measured.

`python -m benchmarks` runs all; `python -m benchmarks growth stacker` runs two;
`python -m benchmarks --render` only writes the page anew, from `benchmarks/records/`.
"""

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.measure import RECORDS

NAMES = (
    "text_features",
    "image_features",
    "feature_exactness",
    "finetune_speed",
    "stacker",
    "predict_one",
    "serve_load",
    "growth",
)
HEAD = """# What pricestack takes

Medians over the rounds of `make bench` on the Amazon catalog of SCORES.md, each way in
a process of its own, the ways in turn within a round. The plain ways are in this
folder, beside ours; `records/` has what each round took.

| What | Rate | Time | Peak memory | Against ours |
|---|---|---|---|---|
"""


def render() -> str:
    """Return the page, from the records of all benchmarks that have been run."""
    lines, machines = [], []
    for name in NAMES:
        path = RECORDS / f"{name}.json"
        if not path.is_file():
            continue
        record = json.loads(path.read_text())
        lines += record["lines"]
        where = record["machine"]
        rounds = len(next(iter(record["found"].values())))
        machines.append(
            f"- `{name}`: {rounds} rounds, commit {where['commit']}, {where['cores']} "
            f"cores of {where['cpu']}."
        )
    return HEAD + "\n".join(lines) + "\n\n" + "\n".join(machines) + "\n"


if __name__ == "__main__":
    arguments = sys.argv[1:]
    chosen = [name for name in arguments if name in NAMES]
    options = [argument for argument in arguments if argument not in NAMES]
    if "--render" not in options:
        for name in chosen or NAMES:
            subprocess.run(
                [sys.executable, "-m", f"benchmarks.{name}", *options], check=True
            )
    Path(__file__).with_name("RESULTS.md").write_text(render(), encoding="utf-8")
