"""Collect what the embedding stage's arrays depend on, and where the inputs are."""

import dataclasses
from pathlib import Path

from embed.chunks import Inputs
from embed.config import EmbedConfig
from embed.encoders.specs import NONE, RANDOM, ImageSpec, TextSpec
from embed.encoders.weights import IMAGE_FILES, TEXT_FILES, weights_key
from embed.formats import FORMAT, TEXT_FORMAT
from embed.store.manifest import sha256_strings

# The key has the weights, specifications, format and backend that these resolve to;
# the number of threads and workers does not affect the arrays.
_NOT_IN_KEY = (
    "text_encoder",
    "image_encoder",
    "text_prefix",
    "precision",
    "backend",
    "n_threads",
    "n_workers",
)


def key_parts(
    inputs: Inputs, config: EmbedConfig, images_dir: Path | None
) -> dict[str, object]:
    """Return all that the arrays depend on, for the key of the stage."""
    # The key has the name and size of each photo: hashing every file would take as long
    # as the work that an unchanged key saves.
    root = images_dir or Path()
    photos = (
        f"{p.relative_to(root).as_posix()}:{_size(p)}" if p else ""
        for p in inputs.photos
    )
    settings = dataclasses.asdict(config)
    for name in _NOT_IN_KEY:
        del settings[name]
    return {
        "format": FORMAT,
        "text_format": TEXT_FORMAT,
        "settings": settings,
        "dtype": str(inputs.encoders.dtype),
        "backend": inputs.encoders.backend,
        **_table_parts(inputs),
        "catalog_sha256": inputs.catalog.content_sha256,
        "sample_id_sha256": sha256_strings(map(str, inputs.catalog.sample_id)),
        "photos_sha256": sha256_strings(photos),
        "text_weights_sha256": weights_key(
            inputs.encoders.text_weights, TEXT_FILES, no_source=NONE
        ),
        "image_weights_sha256": weights_key(
            inputs.encoders.image_weights,
            IMAGE_FILES,
            no_source=RANDOM if inputs.encoders.image_spec else NONE,
        ),
        "text_spec": _as_json(inputs.encoders.text_spec),
        "image_spec": _as_json(inputs.encoders.image_spec),
    }


def _as_json(spec: TextSpec | ImageSpec | None) -> dict[str, object] | None:
    return spec.as_json() if spec else None


def _table_parts(inputs: Inputs) -> dict[str, object]:
    """Return the table columns; without any, they leave the key unchanged."""
    columns = [dataclasses.asdict(column) for column in inputs.table]
    return {"table": columns} if columns else {}


def _size(photo: Path) -> int:
    try:
        return photo.stat().st_size
    except OSError:  # a broken link: it gets a placeholder like any unreadable photo
        return -1


def locations_of(inputs: Inputs, images_dir: Path | None) -> dict[str, object]:
    """Return where later stages find the inputs; the key covers their content."""
    text, image = inputs.encoders.text_weights, inputs.encoders.image_weights
    no_image = RANDOM if inputs.encoders.image_spec else NONE
    return {
        "catalog_path": str(inputs.catalog.path.resolve()),
        "columns": inputs.catalog.columns,
        "images_dir": str(images_dir.resolve()) if images_dir else None,
        "text_weights": str(text.absolute()) if text else NONE,
        "image_weights": str(image.absolute()) if image else no_image,
    }
