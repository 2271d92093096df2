"""Plant price errors in a catalog, review it, and score what is found and named.

    python -m benchmarks.review --catalog amazon/catalog.csv --images amazon/images \\
      --work runs/review --seed 0 --reuse runs/amazon

`--reuse` names a finished run of the right catalog: its features are used again, as no
feature depends on a price; networks and trees are fitted on the wrong prices. With
`--over` instead, nothing is fitted: the wrong prices are compared with the out-of-fold
prices of that run. This takes a minute, and serves to compare rankings over many seeds.
"""

import argparse
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.review.plant import Planted, plant
from benchmarks.review.score import describe, read_planted
from stack.review.review import review_run
from stack.run import FinishedRun, Run, open_finished_run

_COMMAND = "from stack.cli import main; main()"
_QUICK = ("--freeze-image", "--freeze-layers", "6")


@dataclass(frozen=True, kw_only=True)
class PlantedRun(Run):
    """A run of the right catalog with wrong prices and exchanged photos."""

    errors: list[Planted] = field(default_factory=list)

    def array(self, name: str) -> NDArray[Any]:
        """Return an array of the run; with the errors, if it holds prices or photos."""
        array = super().array(name)
        if name == "finetune/price":
            array = np.array(array)
            array[[error.row for error in self.errors]] = [e.price for e in self.errors]
        if name == "embed/image":
            moved = [error for error in self.errors if error.photo_row is not None]
            changed = np.array(array)
            for error in moved:
                changed[error.row] = array[error.photo_row]
            array = changed
        return array


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--catalog", type=Path, required=True)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seed", type=int, nargs="+", default=[0])
    parser.add_argument("--errors", type=int, default=200)
    parser.add_argument("--level", type=int, default=90)
    parser.add_argument("--image-encoder", default="efficientnet_b0")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--reuse", type=Path, help="run whose features are used")
    parser.add_argument("--over", type=Path, help="run whose prices are used")
    given = parser.parse_args()
    for seed in given.seed:
        folder = given.work / f"seed-{seed}"
        errors = plant(
            given.catalog, folder, n=given.errors, seed=seed, images=given.images
        )
        finished = _over(given.over, errors) if given.over else _train(folder, given)
        suspects = review_run(finished, level=given.level).suspects
        print(f"\nseed {seed}, {len(suspects)} suspects\n")
        print(describe(suspects, read_planted(folder / "planted.csv")), flush=True)


def _over(run_dir: Path, errors: list[Planted]) -> FinishedRun:
    finished = open_finished_run(run_dir, verify=())
    run = finished.run
    planted = PlantedRun(
        run_dir=run.run_dir, embed=run.embed, finetune=run.finetune, errors=errors
    )
    return FinishedRun(run=planted, stack=finished.stack)


def _train(folder: Path, given: argparse.Namespace) -> FinishedRun:
    run_dir, threads = folder / "run", ("--threads", str(given.threads))
    images = ("--images", str(given.images)) if given.images else ()
    reuse = ("--reuse", str(given.reuse)) if given.reuse else ()
    encoder = ("--image-encoder", given.image_encoder)
    catalog = str(folder / "catalog.csv")
    for command in (
        ("embed", catalog, *images, *reuse, *encoder),
        ("finetune", "--drop-unpriced", *_QUICK),
        ("stack", "--no-ablation"),
    ):
        arguments = (*command, "--run", str(run_dir), *threads)
        subprocess.run([sys.executable, "-c", _COMMAND, *arguments], check=True)
    return open_finished_run(run_dir, verify=())


if __name__ == "__main__":
    main()
