"""Tell whether the networks of one run fit another run."""

from collections.abc import Sequence

from embed.records import EmbedManifest
from embed.table.encode import TableColumn
from finetune.config import FinetuneConfig

_SAME_SETTINGS = {
    "recipe": "--recipe",
    "n_folds": "--folds",
    "seed": "--seed",
    "n_seeds": "--seeds",
    "inputs": "--inputs",
    "max_tokens": "--max-tokens",
    "photo_size": "--image-size",
    "freeze_layers": "--freeze-layers",
    "freeze_image": "--freeze-image",
    "freeze_batch_norm": "--set freeze_batch_norm",
    "normalise_image": "--set normalise_image",
    "use_attributes": "--set use_attributes",
    "use_wide": "--set use_wide",
}
"""Settings that a network and its folds depend on, and their options."""


def find_difference(
    old: FinetuneConfig,
    old_embed: EmbedManifest,
    new: FinetuneConfig,
    new_embed: EmbedManifest,
) -> str:
    """Return why networks of a run do not fit another, "" if they do.

    Parameters
    ----------
    old, new : FinetuneConfig
        Settings of both runs.
    old_embed, new_embed : EmbedManifest
        Their embedding stages.
    """
    before, now = old_embed.inputs, new_embed.inputs
    pairs: list[tuple[str, object, object]] = [
        ("--text-encoder", before.text_weights_sha256, now.text_weights_sha256),
        ("--image-encoder", before.image_weights_sha256, now.image_weights_sha256),
        ("--id-column", before.columns.sample_id, now.columns.sample_id),
        ("--text-column", before.columns.text, now.columns.text),
        (
            "--image-size of embed",
            old_embed.config.photo_size,
            new_embed.config.photo_size,
        ),
        ("table columns", _describe(old_embed.table), _describe(new_embed.table)),
        *(
            (option, getattr(old, name), getattr(new, name))
            for name, option in _SAME_SETTINGS.items()
        ),
    ]
    if now.image_weights_sha256 == "random":
        pairs.append(("--seed of embed", old_embed.config.seed, new_embed.config.seed))
    for name, was, is_now in pairs:
        if was != is_now:
            return f"{name} was {_short(was)}, is now {_short(is_now)}"
    return ""


def _describe(table: Sequence[TableColumn]) -> list[str]:
    """Describe how columns are read, without their categories."""
    return [
        f"{column.name} ({column.kind}{_units(column)})".strip() for column in table
    ]


def _units(column: TableColumn) -> str:
    units = zip(column.units, column.factors, strict=True)
    known = " ".join(f"{unit or 'plain'}={factor:g}" for unit, factor in units)
    sign = column.decimal_sign or ""
    return f" {sign} {known}".rstrip()


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
