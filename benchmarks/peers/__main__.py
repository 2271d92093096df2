"""Train other tools on a run's products and folds, each in an environment of its own.

Each peer is a script in this folder that knows nothing of pricestack. It reads
products.csv (sample_id, text, image, price, fold) and writes its out-of-fold prices
beside it. They and what it took, or the error it ended with, are kept in records/, so
that a later run of ours is compared with the same; environments lie in
runs/benchmarks/peers. `python -m benchmarks.peers.score` then scores all of them
against the run, paired on the same products.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.measure import RECORDS, REPOSITORY, RESULTS, machine
from benchmarks.peers.score import PEERS, prices_path, products_key
from embed.photos.files import find_photos
from embed.text import compose_text, parse_fields
from stack.judge.compare import open_priced
from stack.run import open_run

HERE = Path(__file__).parent
WORK = RESULTS / "peers"
_ERROR_LINES = 3


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    weights = REPOSITORY.parent / "shared" / "weights"
    options.add_argument("--run", type=Path, default=Path("runs/amazon"))
    options.add_argument("--peer", action="append", choices=list(PEERS))
    options.add_argument(
        "--text-encoder", type=Path, default=weights / "all-MiniLM-L6-v2-fp16"
    )
    options.add_argument(
        "--image-encoder",
        type=Path,
        default=weights / "efficientnet_b0_reconstructed.safetensors",
    )
    options.add_argument(
        "--minutes", type=float, default=30, help="for those that take a limit [30]"
    )
    given = options.parse_args()
    work = WORK / given.run.name
    work.mkdir(parents=True, exist_ok=True)
    write_products(given.run, work / "products.csv")
    key = products_key(open_priced(given.run, "network"))
    for peer in given.peer or list(PEERS):
        record = {"peer": peer, "products_key": key, "machine": machine()}
        record |= _run(peer, given, work)
        folder = RECORDS / "peers" / given.run.name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{peer}.json").write_text(json.dumps(record, indent=1) + "\n")
        _keep_prices(work / f"{peer}.csv", given.run.name, peer, record)
        print(f"{peer}: {record.get('error') or 'done'}", flush=True)


def write_products(run_dir: Path, path: Path) -> None:
    """Write what every peer is given."""
    run = open_run(run_dir)
    catalog = run.catalog()
    images_dir = run.embed.inputs.images_dir
    photos = find_photos(catalog, Path(images_dir) if images_dir else None)
    image_ok = np.asarray(run.array("embed/image_ok"))
    folds = np.asarray(run.array("finetune/folds"))
    products = pd.DataFrame(
        {
            "sample_id": catalog.sample_id,
            "text": [compose_text(parse_fields(text)) for text in catalog.text],
            "image": [
                str(Path(photo).resolve()) if has_one else ""
                for photo, has_one in zip(photos, image_ok, strict=True)
            ],
            "price": np.asarray(run.array("finetune/price")),
            "fold": folds,
        }
    )
    products[folds >= 0].to_csv(path, index=False)


def _keep_prices(
    written: Path, run_name: str, peer: str, record: dict[str, object]
) -> None:
    """Keep a peer's prices to five digits, or none if it ended with an error."""
    kept = prices_path(run_name, peer)
    if "error" in record:
        kept.unlink(missing_ok=True)
        return
    pd.read_csv(written, dtype={"sample_id": str}).to_csv(
        kept,
        index=False,
        float_format="%.5g",
        compression={"method": "gzip", "mtime": 0},
    )


def _run(peer: str, given: argparse.Namespace, work: Path) -> dict[str, object]:
    python = _environment(peer)
    if isinstance(python, str):
        return {"error": python}
    started = time.perf_counter()
    done = subprocess.run(
        [
            *(str(python), str(HERE / f"{peer}.py")),
            *("--products", str(work / "products.csv")),
            *("--out", str(work / f"{peer}.csv")),
            *("--text-encoder", str(given.text_encoder.resolve())),
            *("--image-encoder", str(given.image_encoder.resolve())),
            *("--minutes", str(given.minutes)),
        ],
        capture_output=True,
        text=True,
        cwd=work,
    )
    (work / f"{peer}.log").write_text(done.stdout + done.stderr)
    if done.returncode:
        return {"error": _last_lines(done.stderr)}
    figures: dict[str, object] = json.loads(done.stdout.strip().splitlines()[-1])
    return {"minutes": (time.perf_counter() - started) / 60, **figures}


def _environment(peer: str) -> Path | str:
    """Return the Python of a peer's environment, or why there is none."""
    folder = WORK / "environments" / peer
    python = folder / "bin" / "python"
    if not (folder / "installed").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        requirements = HERE / "requirements" / f"{peer}.txt"
        done = subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--requirement", requirements],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            return f"cannot be installed: {_last_lines(done.stderr)}"
        (folder / "installed").touch()
    return python


def _last_lines(text: str) -> str:
    return " ".join(line.strip() for line in text.strip().splitlines()[-_ERROR_LINES:])


if __name__ == "__main__":
    main()
