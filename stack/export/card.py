"""The model card: description, scores, limits and licences of an exported model.

The headings of the template follow Mitchell et al., 2019, "Model Cards for Model
Reporting", arXiv:1810.03993.
"""

from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from embed.catalog.amounts import amount
from embed.encoders.specs import RANDOM
from stack.tell.sureness import curve_sentence
from stack.tell.template import load_template

# By published name; other files have licences of their own.
_LICENCES = {
    "sentence-transformers/all-MiniLM-L6-v2": "Apache-2.0",
    "sentence-transformers/all-mpnet-base-v2": "Apache-2.0",
    "nreimers/MiniLM-L6-H384-uncased": "MIT",
    "efficientnet_b0": "BSD-3-Clause (torchvision's weights); trained on ImageNet, "
    "whose terms allow non-commercial research",
}
_TEMPLATE = Path(__file__).with_name("templates") / "model_card.md.j2"
_TOWERS = ("text", "image")
_SHOWN = ("median", "network", "stacker", "chosen")


def model_card(
    *,
    embed: Mapping[str, Any],
    finetune: Mapping[str, Any],
    stack: Mapping[str, Any],
    report: Mapping[str, Any],
    n_photos: int,
    has_prices: bool,
) -> str:
    """Fill the model card of a run.

    Parameters
    ----------
    embed, finetune, stack : mapping
        Manifests of the stages.
    report : mapping
        Content of report.json.
    n_photos : int
        Number of products with a usable photo.
    has_prices : bool
        Whether the export contains prices of the training products.

    Returns
    -------
    str
        Markdown, without paths of the machine.
    """
    return load_template(_TEMPLATE).render(
        embed=embed,
        finetune=finetune,
        stack=stack,
        report=report,
        n_photos=n_photos,
        has_prices=has_prices,
        shown=_SHOWN,
        table_columns=[f"{c['name']} ({c['kind']})" for c in embed.get("table", [])],
        # Runs without a record have both.
        inputs=finetune["config"].get("inputs", "both"),
        curve=curve_sentence(sureness)
        if (sureness := report.get("confidence"))
        else "",
        doubts=report.get("doubts", {}).get("sentences", []),
        bands=[
            (f"{amount(band['low'])} to {amount(band['high'])}", band)
            for band in report["bands"]
        ],
        towers={name: _tower(embed, name) for name in _TOWERS},
        encoders={name: _encoder(embed, name) for name in _TOWERS},
        licences={name: _licence(embed, name) for name in _TOWERS},
    )


def _tower(embed: Mapping[str, Any], name: str) -> str:
    """Name the network of a tower, without the place of its weights."""
    if embed["inputs"][f"{name}_spec"] is None:
        return "none"
    if name == "image":
        return str(embed["inputs"]["image_spec"]["name"])
    return PurePath(str(embed["config"]["text_encoder"])).name


def _encoder(embed: Mapping[str, Any], name: str) -> str:
    if embed["inputs"][f"{name}_spec"] is None:
        return "none"
    if embed["inputs"][f"{name}_weights"] == RANDOM:
        return f"{name} encoder with random weights"
    encoder = str(embed["config"][f"{name}_encoder"])
    if encoder not in _LICENCES:  # a path
        encoder = PurePath(encoder).name
    return f"{encoder} (sha256 {embed['inputs'][f'{name}_weights_sha256'][:12]})"


def _licence(embed: Mapping[str, Any], name: str) -> str:
    if embed["inputs"][f"{name}_spec"] is None:
        return "no weights"
    if embed["inputs"][f"{name}_weights"] == RANDOM:
        return "random numbers, none"
    encoder = str(embed["config"][f"{name}_encoder"])
    if encoder in _LICENCES:
        return _LICENCES[encoder]
    for published, licence in _LICENCES.items():
        if PurePath(published).name in PurePath(encoder).name:
            return f"if the file matches its name: {licence}"
    return "not known here: see where the file came from"
