"""Turn a catalog and a folder of photos into arrays, in bounded memory.

The stage works in chunks of rows. While one chunk is encoded, the photos of the next
are decoded. Each finished chunk is recorded, so a stopped run continues after it and
ends with the same bytes as an uninterrupted run.
"""

import dataclasses
import logging
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from embed.attributes import ATTRIBUTE_NAMES
from embed.catalog.own_copy import CATALOG_NAME, write_run_catalog
from embed.catalog.reader import Catalog
from embed.chunks import Inputs, prepared_chunks, settle_config
from embed.config import EmbedConfig
from embed.encoders.embedder import resolve_encoders
from embed.key import key_parts, locations_of
from embed.machine import describe_device, prepare_machine
from embed.photos.files import match_photos
from embed.photos.stand_ins import leave_out_stand_ins
from embed.sample.law import best_reachable_prices
from embed.store.arrays import read_rows
from embed.store.checksums import CHECKSUMS_NAME, record_files, verify_embedding
from embed.store.durable import remove_partial_files
from embed.store.lock import run_lock
from embed.store.manifest import (
    MANIFEST_NAME,
    content_key,
    environment,
    read_json,
    require_utf8,
    write_json,
)
from embed.store.schema import STAGES, check_record, progress_of
from embed.terminal.progress import track
from embed.writer import ArrayWriter

logger = logging.getLogger(__name__)
_PROGRESS_NAME = "progress.json"
_WHOLE_FILES = ("sample_id.npy", "problems.csv", CATALOG_NAME, CHECKSUMS_NAME)


def extract(
    catalog: Catalog, run_dir: Path, *, images_dir: Path | None, config: EmbedConfig
) -> dict[str, Any]:
    """Write `run_dir/embed`: frozen features, attributes, token ids and thumbnails.

    Parameters
    ----------
    catalog : Catalog
        Catalog, whose row i is row i of every array.
    run_dir : Path
        Run folder; made if missing. Finished work for the same inputs is reused.
    images_dir : Path, optional
        Folder of the photos.
    config : EmbedConfig

    Returns
    -------
    dict
        The stage's manifest.

    Raises
    ------
    WeightsError, CacheError, CatalogError, LockedError
        If an input cannot be used; the message is one line and names the remedy.
    """
    require_utf8(run_dir)
    prepare_machine(config.n_threads)
    with run_lock(run_dir):
        return _extract(catalog, run_dir, images_dir=images_dir, config=config)


def _extract(
    catalog: Catalog, run_dir: Path, *, images_dir: Path | None, config: EmbedConfig
) -> dict[str, Any]:
    config = settle_config(config, catalog.text)
    inputs = _resolve(catalog, images_dir, config)
    parts = key_parts(inputs, config, images_dir)
    key = content_key(parts)
    locations = locations_of(inputs, images_dir)
    stage_dir = run_dir / "embed"
    stage_dir.mkdir(exist_ok=True)
    remove_partial_files(stage_dir)
    finished = read_json(stage_dir / MANIFEST_NAME)
    if finished is not None and finished.get("key") == key:
        return _up_to_date(finished, catalog, stage_dir, locations)
    done = _progress(stage_dir, key, catalog.n_products)
    started = time.monotonic()
    backends = _write_chunks(inputs, config, stage_dir, done)
    stand_ins = (
        []
        if config.keep_shared_photos
        else leave_out_stand_ins(catalog, stage_dir, chunk_size=config.chunk_size)
    )
    _write_catalog(catalog, stage_dir)
    manifest = {
        "stage": "embed",
        "key": key,
        "config": dataclasses.asdict(config),
        "inputs": {**parts, **locations},
        "n_products": catalog.n_products,
        "attribute_names": list(ATTRIBUTE_NAMES),
        "substituted": _count_placeholders(stage_dir),
        "stand_ins": stand_ins,
        "files": record_files(stage_dir, _WHOLE_FILES),
        "environment": environment(),
        "device": describe_device(inputs.encoders.device),
        "backends": backends,
        "seconds": round(done["seconds"] + time.monotonic() - started, 2),
    }
    verify_embedding(stage_dir, manifest)
    write_json(stage_dir / MANIFEST_NAME, manifest)
    (stage_dir / _PROGRESS_NAME).unlink(missing_ok=True)
    return manifest


def _resolve(catalog: Catalog, images_dir: Path | None, config: EmbedConfig) -> Inputs:
    """Resolve the photo of each product, and the encoders."""
    matches = match_photos(catalog, images_dir)
    for note in matches.notes:
        logger.info("%s", note)
    return Inputs(
        catalog=catalog,
        photos=matches.paths,
        encoders=resolve_encoders(config),
        reasons=matches.reasons,
    )


def _up_to_date(
    manifest: dict[str, Any],
    catalog: Catalog,
    stage_dir: Path,
    locations: dict[str, Any],
) -> dict[str, Any]:
    """Check a finished stage, and update its catalog: the key covers no prices."""
    check_record(manifest, stage_dir / MANIFEST_NAME, STAGES["embed"])
    _write_catalog(catalog, stage_dir)
    files = {**manifest["files"], **record_files(stage_dir, [CATALOG_NAME])}
    inputs = {**manifest["inputs"], **locations}
    updated = {**manifest, "inputs": inputs, "files": files}
    if updated != manifest:
        write_json(stage_dir / MANIFEST_NAME, updated)
    verify_embedding(stage_dir, updated)
    (stage_dir / _PROGRESS_NAME).unlink(missing_ok=True)
    logger.info("%s: up to date", stage_dir)
    return updated


def _write_catalog(catalog: Catalog, stage_dir: Path) -> None:
    best_prices = best_reachable_prices(catalog.path)
    write_run_catalog(catalog, stage_dir, best_prices=best_prices)


def _progress(stage_dir: Path, key: str, n_products: int) -> dict[str, Any]:
    done = read_json(stage_dir / _PROGRESS_NAME)
    if done is not None and done.get("key") == key:
        check_record(done, stage_dir / _PROGRESS_NAME, progress_of(n_products))
        logger.info("%s: goes on after product %d", stage_dir, done["rows"])
        return done
    # Delete both records before any array that they describe is overwritten.
    (stage_dir / MANIFEST_NAME).unlink(missing_ok=True)
    (stage_dir / _PROGRESS_NAME).unlink(missing_ok=True)
    return {"key": key, "rows": 0, "problem_bytes": 0, "backends": {}, "seconds": 0.0}


def _write_chunks(
    inputs: Inputs, config: EmbedConfig, stage_dir: Path, done: dict[str, Any]
) -> dict[str, str | None]:
    started = time.monotonic()
    with ExitStack() as stack:
        writer = ArrayWriter(inputs, config, stage_dir, done, stack)
        chunks = prepared_chunks(inputs, config, done["rows"])
        for chunk in track(
            ((len(chunk.rows), chunk) for chunk in chunks),
            total=inputs.catalog.n_products - done["rows"],
            label="embed",
            unit="products",
        ):
            writer.write(chunk)
            write_json(
                stage_dir / _PROGRESS_NAME,
                {
                    "key": done["key"],
                    "rows": chunk.rows.stop,
                    "problem_bytes": writer.flush(),
                    "backends": writer.embedder.backends(),
                    "seconds": done["seconds"] + time.monotonic() - started,
                },
            )
        return writer.embedder.backends()


def _count_placeholders(stage_dir: Path) -> dict[str, int]:
    """Count the products with a placeholder, by field."""
    return {
        field: int((~read_rows(stage_dir / f"{field}_ok.npy")).sum())
        for field in ("text", "image")
    }
