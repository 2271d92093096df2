"""Time and peak memory as a catalog's arrays grow.

Each way writes as many rows as its name says, in chunks as the embedding stage does
(features as a float16 memmap, token ids as a ragged array, each chunk brought to disk),
then reads them all in batches as the stacker does.
"""

import argparse
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import main, median, parser

CHUNK, DIM = 512, 384


def grow(given: argparse.Namespace) -> dict[str, Any]:
    from embed.store.arrays import (
        RaggedWriter,
        flush_rows,
        open_rows,
        read_rows,
        write_rows,
    )
    from stack.trees.matrix import BlockMatrix

    n_rows = int(given.way)
    folder = Path(given.work)
    rng = np.random.default_rng(0)
    features = rng.normal(size=(CHUNK, DIM)).astype(np.float16)
    tokens = rng.integers(30_000, size=(CHUNK, 80)).astype(np.int32)
    started = time.perf_counter()
    rows = open_rows(
        folder / "text.npy", shape=(n_rows, DIM), dtype="float16", resume=False
    )
    ragged = RaggedWriter(
        folder / "tokens.npy", n_rows=n_rows, dtype="int32", rows_done=0
    )
    with ragged as writer:
        for start in range(0, n_rows, CHUNK):
            n = min(CHUNK, n_rows - start)
            write_rows(rows, start, features[:n])
            writer.extend(list(tokens[:n]))
            flush_rows(rows)
            writer.flush()
    del rows
    matrix = BlockMatrix({"text": read_rows(folder / "text.npy")})
    total = 0.0
    for start in range(0, n_rows, matrix.batch_size):
        total += float(matrix[start : start + matrix.batch_size].sum())
    shutil.rmtree(folder)
    seconds = time.perf_counter() - started
    return {"rows": n_rows, "total": total, "seconds": seconds}


WAYS = {str(n): grow for n in (10_000, 100_000, 1_000_000)}


def summarise(found: dict[str, list[dict[str, Any]]]) -> list[str]:
    per_row = {w: median(f, "seconds") / int(w) for w, f in found.items()}
    peak = {way: median(figures, "peak_mib") for way, figures in found.items()}
    first, base = "100000", "10000"
    return [
        f"| memmaps of {int(way):,} rows | {1e6 * per_row[way]:.0f} us/row | "
        f"{per_row[way] * int(way):.1f} s | {peak[way]:.0f} MiB | "
        f"{per_row[way] / per_row[first]:.2f} times the time per row of 100,000, "
        f"{peak[way] / peak[base]:.2f} times the memory of 10,000 |"
        for way in found
    ]


if __name__ == "__main__":
    main("growth", WAYS, summarise, options=parser(__doc__))
