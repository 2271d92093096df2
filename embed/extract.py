"""Turn a catalog and a folder of photos into arrays, in bounded memory.

The stage works in chunks of rows. While one chunk is encoded, the photos of the next
are decoded. Each finished chunk is recorded, so a stopped run continues after it and
ends with the same bytes as an uninterrupted run.
"""

import logging
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from embed.catalog.own_copy import CATALOG_NAME, write_run_catalog
from embed.catalog.reader import Catalog
from embed.chunks import Inputs, attribute_names, prepared_chunks, settle_config
from embed.config import DEFAULT_SIZE, EmbedConfig
from embed.encoders.embedder import resolve_encoders
from embed.encoders.specs import NONE
from embed.features import OtherFeatures
from embed.key import key_parts, locations_of
from embed.machine import describe_device, prepare_machine
from embed.photos.files import match_photos
from embed.photos.stand_ins import leave_out_stand_ins
from embed.records import EmbedInputs, EmbedManifest, EmbedProgress, Substituted
from embed.reuse import Reuse, held, open_reuse, photos_changed, remove_before
from embed.sample.law import best_reachable_prices
from embed.store.arrays import read_rows
from embed.store.checksums import record_files
from embed.store.durable import remove_partial_files
from embed.store.lock import run_lock
from embed.store.manifest import (
    MANIFEST_NAME,
    content_key,
    environment,
    read_record,
    require_utf8,
    sha256_file,
    write_record,
)
from embed.table.learn import learn_table
from embed.terminal.progress import track
from embed.verify import CHECKSUMS_NAME, verify_embedding
from embed.writer import ArrayWriter

logger = logging.getLogger(__name__)
_PROGRESS_NAME = "progress.json"
_WHOLE_FILES = (
    "sample_id.npy",
    "text_sha256.npy",
    "image_sha256.npy",
    "problems.csv",
    CATALOG_NAME,
    CHECKSUMS_NAME,
)


def extract(
    catalog: Catalog,
    run_dir: Path,
    *,
    images_dir: Path | None,
    config: EmbedConfig,
    reuse: Path | None = None,
) -> EmbedManifest:
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
    reuse : Path, optional
        Run whose features are reused, and all photos are compared by their bytes;
        default: the features of an earlier stage of this run.

    Returns
    -------
    EmbedManifest

    Raises
    ------
    WeightsError, CacheError, CatalogError, LockedError
        If an input cannot be used; the message is one line and names the remedy.
    """
    require_utf8(run_dir)
    prepare_machine(config.n_threads)
    with held(reuse, run_dir), run_lock(run_dir):
        return _extract(
            catalog, run_dir, images_dir=images_dir, config=config, reuse=reuse
        )


def _extract(
    catalog: Catalog,
    run_dir: Path,
    *,
    images_dir: Path | None,
    config: EmbedConfig,
    reuse: Path | None,
) -> EmbedManifest:
    config = settle_config(config, catalog.text)
    inputs = _resolve(catalog, images_dir, config)
    if config.image_size is None:
        image = inputs.encoders.image_spec
        config = replace(config, image_size=image.size if image else DEFAULT_SIZE)
    parts = key_parts(inputs, config, images_dir)
    locations = locations_of(inputs, images_dir)
    stage_dir = run_dir / "embed"
    stage_dir.mkdir(exist_ok=True)
    remove_partial_files(stage_dir)
    manifest = _finished(stage_dir, parts)
    # Reading all photos takes long, so the names and sizes in the key have to do.
    if manifest is not None and not (
        reuse and photos_changed(inputs, stage_dir, catalog.n_products)
    ):
        manifest = _with_catalog(manifest, catalog, stage_dir, locations)
        verify_embedding(stage_dir, manifest)
        logger.info("%s: up to date", stage_dir)
    else:
        manifest = _write_stage(
            inputs, config, run_dir, parts=parts, locations=locations, reuse=reuse
        )
    (stage_dir / _PROGRESS_NAME).unlink(missing_ok=True)
    remove_before(run_dir)
    return manifest


def _write_stage(
    inputs: Inputs,
    config: EmbedConfig,
    run_dir: Path,
    *,
    parts: dict[str, object],
    locations: dict[str, object],
    reuse: Path | None,
) -> EmbedManifest:
    """Write the stage from its first row, or from where a stopped run got to."""
    catalog, stage_dir = inputs.catalog, run_dir / "embed"
    known = open_reuse(reuse, run_dir, inputs=inputs, config=config, parts=parts)
    stage_dir.mkdir(exist_ok=True)
    done = _progress(stage_dir, content_key(parts), catalog.n_products)
    if reuse and done.rows and photos_changed(inputs, stage_dir, done.rows):
        done = _start(stage_dir, done.key)
    started = time.monotonic()
    backends = _write_all(inputs, config, stage_dir, done, known)
    stand_ins = (
        []
        if config.keep_shared_photos
        else leave_out_stand_ins(catalog, stage_dir, chunk_size=config.chunk_size)
    )
    write_run_catalog(
        catalog, stage_dir, best_prices=best_reachable_prices(catalog.path)
    )
    parts["photo_bytes_sha256"] = sha256_file(stage_dir / "image_sha256.npy")
    manifest = EmbedManifest(
        stage="embed",
        key=content_key(parts),
        config=config,
        inputs=EmbedInputs.model_validate({**parts, **locations}),
        n_products=catalog.n_products,
        attribute_names=attribute_names(inputs.table),
        table=list(inputs.table),
        substituted=_count_placeholders(stage_dir, inputs),
        stand_ins=stand_ins,
        files=record_files(stage_dir, _WHOLE_FILES),
        environment=environment(),
        device=describe_device(inputs.encoders.device),
        backends=backends,
        seconds=round(done.seconds + time.monotonic() - started, 2),
    )
    verify_embedding(stage_dir, manifest)
    write_record(stage_dir / MANIFEST_NAME, manifest)
    return manifest


def _finished(stage_dir: Path, parts: Mapping[str, Any]) -> EmbedManifest | None:
    """Return the manifest of a finished stage with these key parts, None without."""
    manifest = read_record(stage_dir / MANIFEST_NAME, EmbedManifest)
    if manifest is None:
        return None
    photo_bytes = {"photo_bytes_sha256": manifest.inputs.photo_bytes_sha256}
    return manifest if manifest.key == content_key({**parts, **photo_bytes}) else None


def _resolve(catalog: Catalog, images_dir: Path | None, config: EmbedConfig) -> Inputs:
    """Resolve the photo of each product, and the encoders."""
    if config.image_encoder == NONE and images_dir is not None:
        logger.info("%s: not read, as there is no photo encoder", images_dir)
        images_dir = None
    matches = match_photos(catalog, images_dir)
    for note in matches.notes:
        logger.info("%s", note)
    return Inputs(
        catalog=catalog,
        photos=matches.paths,
        encoders=resolve_encoders(config),
        reasons=matches.reasons,
        table=learn_table(catalog),
    )


def _with_catalog(
    manifest: EmbedManifest,
    catalog: Catalog,
    stage_dir: Path,
    locations: dict[str, object],
) -> EmbedManifest:
    """Update a finished stage's catalog copy: prices may change, the key has none."""
    write_run_catalog(
        catalog, stage_dir, best_prices=best_reachable_prices(catalog.path)
    )
    files = {**manifest.files, **record_files(stage_dir, [CATALOG_NAME])}
    inputs = manifest.inputs.model_copy(update=locations)
    updated = manifest.model_copy(update={"inputs": inputs, "files": files})
    if updated != manifest:
        write_record(stage_dir / MANIFEST_NAME, updated)
    return updated


def _progress(stage_dir: Path, key: str, n_products: int) -> EmbedProgress:
    path = stage_dir / _PROGRESS_NAME
    done = read_record(path, EmbedProgress, key=key)
    if done is not None:
        done.require_within(n_products, path)
        logger.info("%s: goes on after product %d", stage_dir, done.rows)
        return done
    return _start(stage_dir, key)


def _start(stage_dir: Path, key: str) -> EmbedProgress:
    # Delete both records before any array that they describe is overwritten.
    (stage_dir / MANIFEST_NAME).unlink(missing_ok=True)
    (stage_dir / _PROGRESS_NAME).unlink(missing_ok=True)
    return EmbedProgress(key=key, rows=0, problem_bytes=0, backends={}, seconds=0.0)


def _write_all(
    inputs: Inputs,
    config: EmbedConfig,
    stage_dir: Path,
    done: EmbedProgress,
    known: Reuse,
) -> dict[str, str | None]:
    """Write all rows that are left; without known features that prove to be others."""
    while True:
        try:
            return _write_chunks(inputs, config, stage_dir, done, known)
        except OtherFeatures as error:
            known = known.without(str(error))
            done = _start(stage_dir, done.key)


def _write_chunks(
    inputs: Inputs,
    config: EmbedConfig,
    stage_dir: Path,
    done: EmbedProgress,
    known: Reuse,
) -> dict[str, str | None]:
    started = time.monotonic()
    with ExitStack() as stack:
        writer = ArrayWriter(inputs, config, stage_dir, done, stack, known)
        inputs = replace(inputs, is_known=known.is_known)
        chunks = prepared_chunks(inputs, config, done.rows)
        for chunk in track(
            ((len(chunk.rows), chunk) for chunk in chunks),
            total=inputs.catalog.n_products - done.rows,
            label="embed",
            unit="products",
        ):
            writer.write(chunk)
            write_record(
                stage_dir / _PROGRESS_NAME,
                EmbedProgress(
                    key=done.key,
                    rows=chunk.rows.stop,
                    problem_bytes=writer.flush(),
                    backends=writer.embedder.backends(),
                    seconds=done.seconds + time.monotonic() - started,
                ),
            )
        if known.where is not None:
            logger.info(
                "%s: encoded %d texts and %d photos; other features are from %s",
                stage_dir,
                writer.text.n_encoded,
                writer.image.n_encoded,
                known.where,
            )
        return writer.embedder.backends()


def _count_placeholders(stage_dir: Path, inputs: Inputs) -> Substituted:
    """Count the products with a placeholder, by field; an input not used has none."""
    n_text, n_image = (
        int((~read_rows(stage_dir / f"{field}_ok.npy")).sum()) if spec else 0
        for field, spec in (
            ("text", inputs.encoders.text_spec),
            ("image", inputs.encoders.image_spec),
        )
    )
    return Substituted(text=n_text, image=n_image)
