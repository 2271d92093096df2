"""Price one product at a time with a finished run, loaded once.

The run is one on the Amazon catalog; the products are its own, a third with photo.
"""

import argparse
import time
from typing import Any

import numpy as np

from benchmarks.measure import main, median, parser

N_PRODUCTS, N_WARM = 300, 20


def all_folds(given: argparse.Namespace) -> dict[str, Any]:
    return _one_by_one(given, folds=None)


def one_fold(given: argparse.Namespace) -> dict[str, Any]:
    return _one_by_one(given, folds=[0])


def _one_by_one(
    given: argparse.Namespace, *, folds: list[int] | None
) -> dict[str, Any]:
    from embed.catalog.reader import read_catalog
    from embed.chunks import NO_PHOTO_GIVEN, prepare_chunk
    from embed.photos.decode import load_image
    from embed.photos.files import find_photos
    from stack.price.predictor import Predictor

    started = time.perf_counter()
    predictor = Predictor(given.run, n_threads=given.threads, folds=folds)
    loaded = time.perf_counter() - started
    catalog = read_catalog(given.data / "catalog.csv")
    photos = find_photos(catalog, given.data / "images")
    with_photo = [row for row, photo in enumerate(photos) if photo is not None]
    without = [row for row, photo in enumerate(photos) if photo is None]
    rng = np.random.default_rng(0)
    rows = [
        *rng.choice(with_photo, N_PRODUCTS // 3, replace=False),
        *rng.choice(without, N_PRODUCTS - N_PRODUCTS // 3, replace=False),
    ]
    rng.shuffle(rows)
    size = predictor.config.photo_size
    milliseconds = []
    for row in [*rows[:N_WARM], *rows]:
        started = time.perf_counter()
        path = photos[row]
        photo = load_image(path, size=size) if path else NO_PHOTO_GIVEN
        price = predictor.price(
            prepare_chunk(
                [catalog.text[row]], [photo], decimal=predictor.config.decimal
            )
        )
        milliseconds.append(1000 * (time.perf_counter() - started))
        assert np.isfinite(price).all()
    taken = milliseconds[N_WARM:]
    has_photo = np.array([photos[row] is not None for row in rows])
    return {
        "load_seconds": loaded,
        "p50_ms": float(np.percentile(taken, 50)),
        "p99_ms": float(np.percentile(taken, 99)),
        "p50_with_photo_ms": float(np.percentile(np.array(taken)[has_photo], 50)),
    }


WAYS = {"all_folds": all_folds, "one_fold": one_fold}


def summarise(found: dict[str, list[dict[str, Any]]]) -> list[str]:
    lines = []
    for way, label in (("all_folds", "all folds"), ("one_fold", "`--only-fold 1`")):
        ours = found[way]
        p50, p99, photo = (
            median(ours, name) for name in ("p50_ms", "p99_ms", "p50_with_photo_ms")
        )
        lines.append(
            f"| one product, loaded, {label} | p50 {p50:.0f} ms, p99 {p99:.0f} ms | "
            f"with photo p50 {photo:.0f} ms | {median(ours, 'peak_mib'):.0f} MiB | "
            f"loading takes {median(ours, 'load_seconds'):.1f} s |"
        )
    return lines


if __name__ == "__main__":
    main("predict_one", WAYS, summarise, options=parser(__doc__))
