"""Run all benchmarks, or those named, and write RESULTS.md from their records.

`python -m benchmarks` runs all; `python -m benchmarks growth stacker` runs two;
`python -m benchmarks --render` runs none and writes the page again.
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

Speed and memory, measured by `make bench` on the Amazon catalog of
[SCORES](SCORES.md). A benchmark compares ways to do the same work: "ours" is
pricestack's; "plain", "padded" and others are simpler code, described at the top of the
benchmark's module in this folder. Each way runs in its own process, once per round. The
table has medians over the rounds, and `records/` the results of each.

| What | Rate | Time | Peak memory | Against ours |
|---|---|---|---|---|
"""


def render() -> str:
    """Return the page, from the records of the benchmarks in `benchmarks/records/`."""
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
