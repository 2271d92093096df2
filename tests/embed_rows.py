"""Embed a catalog of some thousand sample products and print the memory it took.

Run in a process of its own: `python embed_rows.py N_PRODUCTS FOLDER`.
"""

import csv
import itertools
import sys
from pathlib import Path

from conftest import write_tiny_encoder
from stages import run_stage

from embed.sample.law import write_sample

N_SAMPLE = 300
PHOTO_EVERY = 10  # rows; decoding one for each would take most of the time


def write_catalog(folder: Path, n_products: int) -> Path:
    """Repeat a sample's products under other ids, each text different."""
    with write_sample(folder, n_products=N_SAMPLE).open(newline="") as file:
        records = list(csv.DictReader(file))
    path = folder / "many.csv"
    with path.open("w", newline="") as file:
        lines = csv.DictWriter(file, list(records[0]))
        lines.writeheader()
        for number, record in zip(
            range(n_products), itertools.cycle(records), strict=False
        ):
            text = f"{record['catalog_content']} No. {number}"
            link = record["image_link"] if number % PHOTO_EVERY == 0 else ""
            lines.writerow(
                {
                    **record,
                    "sample_id": f"{number}",
                    "catalog_content": text,
                    "image_link": link,
                }
            )
    return path


if __name__ == "__main__":
    n_products, folder = int(sys.argv[1]), Path(sys.argv[2])
    encoder = write_tiny_encoder(folder / "encoder")
    catalog = write_catalog(folder, n_products)
    run_stage("embed", folder / "run", catalog, encoder, chunk_size=512)
    # Not `ru_maxrss`: that is at least what the process had that started this one.
    status = Path("/proc/self/status").read_text()
    sys.stdout.write(status.partition("VmHWM:")[2].split()[0] + "\n")
