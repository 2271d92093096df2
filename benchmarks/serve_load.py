"""Ask a service for prices from another process, one at a time and eight at a time.

The products are the run's own, each with its photo if it has one; the last way asks
for explanations too.
"""

import argparse
import base64
import json
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import REPOSITORY, main, median, parser

N_REQUESTS, N_WARM, N_EXPLAINED = 200, 16, 20


def ask(
    given: argparse.Namespace, *, n_clients: int, n: int, explain: bool
) -> dict[str, Any]:
    options = ["--port", "0", "--run", given.run, "--threads", str(given.threads)]
    program = "from stack.service.command import serve_command as serve; serve()"
    service = subprocess.Popen(
        [sys.executable, "-c", program, *options],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert service.stdout is not None
    try:
        url = next(
            word
            for line in service.stdout
            if "ready at" in line
            for word in line.split()
            if word.startswith("http")
        )
        bodies = requests_of(given.run, n + N_WARM)
        price = partial(timed, url.rstrip("/") + "/price" + "?explain=true" * explain)
        with ThreadPoolExecutor(n_clients) as clients:
            list(clients.map(price, bodies[:N_WARM]))
            started = time.perf_counter()
            milliseconds = list(clients.map(price, bodies[N_WARM:]))
            taken = time.perf_counter() - started
    finally:
        service.terminate()
        service.communicate(timeout=60)
    assert service.returncode == 0, service.returncode
    return {
        "p50_ms": float(np.percentile(milliseconds, 50)),
        "p99_ms": float(np.percentile(milliseconds, 99)),
        "rate": len(milliseconds) / taken,
    }


def requests_of(run_dir: Path, n: int) -> list[bytes]:
    from embed.catalog.own_copy import read_run_catalog
    from embed.photos.files import find_photos
    from stack.run import open_run

    embed = open_run(run_dir).embed
    catalog = read_run_catalog(run_dir, embed)
    images = embed.inputs.images_dir
    photos = find_photos(catalog, Path(images) if images else None)
    rows = np.random.default_rng(0).choice(catalog.n_products, n)
    bodies = []
    for row in rows:
        path = photos[row]
        image = base64.b64encode(path.read_bytes()).decode() if path else None
        body = {"text": catalog.text[row], "image": image}
        bodies.append(json.dumps(body).encode())
    return bodies


def timed(url: str, body: bytes) -> float:
    """Return the milliseconds to a price; an error or no price ends the benchmark."""
    started = time.perf_counter()
    asked = urllib.request.Request(  # noqa: S310  # the service's own address
        url, body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(asked, timeout=120) as answer:  # noqa: S310
        assert json.load(answer)["price"] > 0
    return 1000 * (time.perf_counter() - started)


WAYS = {
    "one": partial(ask, n_clients=1, n=N_REQUESTS, explain=False),
    "eight": partial(ask, n_clients=8, n=N_REQUESTS, explain=False),
    "explained": partial(ask, n_clients=1, n=N_EXPLAINED, explain=True),
}


def summarise(found: dict[str, list[dict[str, Any]]]) -> list[str]:
    labels = {
        "one": "service, a client",
        "eight": "service, eight clients at once",
        "explained": "service, explained",
    }
    return [
        f"| {labels[way]} | {median(figures, 'rate'):.1f} requests/s | p50 "
        f"{median(figures, 'p50_ms'):.0f} ms, p99 {median(figures, 'p99_ms'):.0f} ms "
        f"| - | - |"
        for way, figures in found.items()
    ]


if __name__ == "__main__":
    main("serve_load", WAYS, summarise, options=parser(__doc__))
