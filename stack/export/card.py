"""The model card: description, scores, limits and licences of an exported model.

Headings follow Mitchell et al., 2019, "Model Cards for Model Reporting",
arXiv:1810.03993.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from embed.catalog.amounts import amount
from stack.blocks.registry import PRICE_BLOCKS

# By published name; other files have licences of their own.
_LICENCES = {
    "sentence-transformers/all-MiniLM-L6-v2": "Apache-2.0",
    "nreimers/MiniLM-L6-H384-uncased": "MIT",
    "efficientnet_b0": "BSD-3-Clause (torchvision's weights); trained on ImageNet, "
    "whose terms allow non-commercial research",
}
_INPUT_NAMES = {"both": "text and photo", "text": "text alone", "image": "photo alone"}
_UNKNOWN_LICENCE = "not known here: see where the file came from"
_NOT_FOR = """\
- Prices are estimates of the training catalog's prices, in its currency and at its
  time. They are not offers, valuations or advice, and do not reflect stock, season,
  competition or cost.
- Products unlike the training catalog's (another market, language, category or
  currency) also get a price, without a warning that it is wrong.
- Do not use it to price people, their work, or goods with regulated prices."""
_LIMITS = """\
- Scores are out of fold: the network of each product was not trained on it or its
  duplicates. They apply to new products of the same kind only. The exported model
  averages all folds; the average is not scored, and usually errs less.
- Text is read up to {max_tokens} tokens ({fold_max_tokens} by the networks), in the
  language of the encoder; photos at {image_size} pixels ({fold_image_size} by the
  networks).
- A product without text or photo is priced from the rest, with a larger error."""


def model_card(
    *,
    embed: Mapping[str, Any],
    finetune: Mapping[str, Any],
    stack: Mapping[str, Any],
    report: Mapping[str, Any],
    n_photos: int,
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

    Returns
    -------
    str
        Markdown, without paths of the machine.
    """
    sizes = {
        "max_tokens": embed["config"]["max_tokens"],
        "image_size": embed["config"]["image_size"],
        "fold_max_tokens": finetune["config"]["max_tokens"],
        "fold_image_size": finetune["config"]["image_size"],
    }
    sections = [
        ("", _what_it_is(finetune, stack)),
        ("How to use it", _usage(stack)),
        ("Training data", _training_data(embed, report, n_photos)),
        ("Settings", _settings(embed, finetune, stack)),
        ("Results", _results(report)),
        *([("Doubts", doubts)] if (doubts := _doubts(report)) else []),
        ("SMAPE by true price", _parts(report["bands"], map(_range, report["bands"]))),
        ("SMAPE by photo", _parts(report["image"].values(), report["image"])),
        ("Prediction intervals", _intervals(report)),
        ("What it is not for", _NOT_FOR),
        ("Limits", _LIMITS.format(**sizes)),
        ("Licences", _licences(embed)),
        ("Versions", _table(("Package", "Version"), stack["environment"].items())),
    ]
    parts = [f"## {title}\n\n{text}" if title else text for title, text in sections]
    return "\n\n".join(["# Price model", *parts]) + "\n"


def _what_it_is(finetune: Mapping[str, Any], stack: Mapping[str, Any]) -> str:
    n_folds, n_seeds = (finetune["config"][name] for name in ("n_folds", "n_seeds"))
    has_wide = finetune["config"]["use_wide"] and _inputs(finetune) != "image"
    wide = ", and a shallow network on words and sizes" if has_wide else ""
    text = (
        f"Predicts the price of a product from its catalog text and its photo: the "
        f"average, in log price, of {n_folds * n_seeds} two-tower networks (MiniLM and "
        f"EfficientNet-B0{wide}), each fine-tuned on {n_folds - 1} of {n_folds} folds"
    )
    if stack["chosen"] == "stacker":
        start = "start" in stack["config"]["blocks"]
        kernel = " and by a kernel ridge (two weights)" if start else ""
        return f"{text}{kernel}, corrected by LightGBM trees fitted on its residual."
    return f"{text}. LightGBM trees were tried on their residual and not kept."


def required_packages(stack: Mapping[str, Any]) -> str:
    """Return the packages that an export needs, as `pip install` takes them.

    Parameters
    ----------
    stack : mapping
        Manifest of the stacking stage.
    """
    packages = ["numpy", "pillow", "onnxruntime", "tokenizers"]
    if stack["chosen"] == "stacker":
        packages.append("lightgbm")
    if _has_price_blocks(stack):
        packages.append("scikit-learn")
    return " ".join(packages)


def _has_price_blocks(stack: Mapping[str, Any]) -> bool:
    blocks = {*stack["config"]["blocks"]}
    return stack["chosen"] == "stacker" and bool(blocks & PRICE_BLOCKS.keys())


def _usage(stack: Mapping[str, Any]) -> str:
    warning = (
        "\n\nThe trees use the prices of similar products, so `known/` and `blocks/` "
        "contain prices, features and words of the training products. Do not share the "
        "model with anyone who must not see them."
    )
    return (
        f"```\npip install -r model/requirements.txt\n"
        f"python model/predict.py --catalog new.csv --images photos --out prices.csv\n"
        f"```\n\n"
        f"`embed/`, `finetune/` and `stack/` contain its code. `LICENSE` (MIT) covers "
        f"this code, not the weights. The ONNX graphs take any number of products at "
        f"once."
        f"{warning if _has_price_blocks(stack) else ''}"
    )


def _training_data(
    embed: Mapping[str, Any], report: Mapping[str, Any], n_photos: int
) -> str:
    facts: list[tuple[str, object]] = [
        ("Products with a price", f"{report['n_products']:,}"),
        ("Products without, left out", f"{report['n_unpriced']:,}"),
        ("Products in all", f"{embed['n_products']:,}"),
        ("With a usable photo", f"{n_photos:,}"),
        ("Without usable text", f"{embed['substituted']['text']:,}"),
        ("sha256 of ids, texts and links", f"`{embed['inputs']['catalog_sha256']}`"),
        ("Text columns", ", ".join(embed["inputs"]["columns"]["text"])),
    ]
    return _table(("", ""), facts)


def _settings(
    embed: Mapping[str, Any], finetune: Mapping[str, Any], stack: Mapping[str, Any]
) -> str:
    encoders = {name: _encoder(embed, name) for name in ("text", "image")}
    config = finetune["config"]
    facts = [
        ("Text encoder", encoders["text"]),
        ("Image encoder", encoders["image"]),
        ("Recipe", config["recipe"]),
        ("Epochs", f"{config['smooth_l1_epochs']} + {config['smape_epochs']}"),
        ("Folds", config["n_folds"]),
        ("Networks of each fold", config["n_seeds"]),
        ("Inputs of the networks", _INPUT_NAMES[_inputs(finetune)]),
        ("Photo tower", _photo_tower(finetune)),
        ("Seed", config["seed"]),
        ("Blocks of the trees", ", ".join(stack["config"]["blocks"])),
        ("Boosters averaged into each fold's", stack["config"]["n_seeds"]),
        ("Trees of each booster", ", ".join(map(str, stack["rounds"]["stacker"]))),
        ("Used", stack["chosen"]),
    ]
    return _table(("", ""), facts)


def _photo_tower(finetune: Mapping[str, Any]) -> str:
    if _inputs(finetune) == "text":
        return "none"
    return "frozen" if finetune["config"]["freeze_image"] else "fine-tuned"


def _inputs(finetune: Mapping[str, Any]) -> str:
    """Return the inputs of the networks; runs without a record have both."""
    inputs: str = finetune["config"].get("inputs", "both")
    return inputs


def _doubts(report: Mapping[str, Any]) -> str:
    """Return the doubts about the run as a list; "" without doubts."""
    sentences = report.get("doubts", {}).get("sentences", [])
    return "\n".join(f"- {sentence}" for sentence in sentences)


def _results(report: Mapping[str, Any]) -> str:
    rows = [
        (
            row["label"],
            f"{row['smape']:.2f}",
            f"{row['smape_se']:.2f}",
            f"{row['smape'] - 1.96 * row['smape_se']:.2f} to "
            f"{row['smape'] + 1.96 * row['smape_se']:.2f}",
            f"{row['smape_half']:.2f}",
            f"{row['smape_log1p']:.2f}",
            amount(row["mae"]),
            f"{row['median_ape']:.1f} %",
        )
        for row in report["predictors"]
    ]
    heads = (
        "",
        "SMAPE",
        "s.e.",
        "95 % interval",
        "0-100",
        "log1p",
        "MAE",
        "median APE",
    )
    verdict = report["verdict"]
    differences = [
        (
            name,
            f"{interval['mean']:+.3f}",
            f"{interval['low']:+.3f} to {interval['high']:+.3f}",
        )
        for name, interval in (
            ("stacker - network", verdict["interval_network"]),
            ("stacker - blend", verdict["interval_blend"]),
        )
    ]
    return "\n\n".join(
        (
            f"Out of fold, {report['n_products']:,} products in {report['n_folds']} "
            f"folds. SMAPE is the official one, 0 to 200; 0-100 is half of it; log1p "
            f"is SMAPE of log1p prices. They are never compared with each other.",
            _table(heads, rows),
            _table(("Difference in SMAPE", "Mean", "95 % interval"), differences),
            f"Verdict: {verdict['sentence']}",
        )
    )


def _parts(parts: Iterable[Mapping[str, Any]], names: Iterable[str]) -> str:
    rows = [
        (name, f"{part['n']:,}", *map(_score, map(part["smape"].get, _SHOWN)))
        for name, part in zip(names, parts, strict=True)
    ]
    return _table(("", "Products", *(name.capitalize() for name in _SHOWN)), rows)


_SHOWN = ("median", "network", "stacker", "chosen")


def _intervals(report: Mapping[str, Any]) -> str:
    rows = [
        (
            f"{interval['level']} %",
            f"{100 * interval['coverage']:.1f} %",
            f"{interval['width_ratio']:.2f}",
            ", ".join(f"{100 * band['coverage']:.0f} %" for band in interval["bands"]),
        )
        for interval in report["intervals"]
    ]
    heads = (
        "Level",
        "Coverage",
        "High / low (median)",
        "Coverage, cheapest fifth first",
    )
    return _table(heads, rows) + (
        "\n\nSplit-conformal, measured out of fold. The level is kept over all "
        "products, not within a price band."
    )


def _licences(embed: Mapping[str, Any]) -> str:
    rows = [
        (
            _encoder(embed, name),
            "random numbers, none"
            if embed["inputs"][f"{name}_weights"] == "random"
            else _licence(str(embed["config"][f"{name}_encoder"])),
        )
        for name in ("text", "image")
    ]
    return _table(("Weights begun from", "Licence"), rows) + (
        "\n\nThe terms of the training data may apply to the model too."
    )


def _licence(encoder: str) -> str:
    if encoder in _LICENCES:
        return _LICENCES[encoder]
    for published, licence in _LICENCES.items():
        if PurePath(published).name in PurePath(encoder).name:
            return f"if the file matches its name: {licence}"
    return _UNKNOWN_LICENCE


def _encoder(embed: Mapping[str, Any], name: str) -> str:
    if embed["inputs"][f"{name}_weights"] == "random":
        return f"{name} encoder with random weights"
    encoder = str(embed["config"][f"{name}_encoder"])
    if encoder not in _LICENCES:  # a path
        encoder = PurePath(encoder).name
    return f"{encoder} (sha256 {embed['inputs'][f'{name}_weights_sha256'][:12]})"


def _range(band: Mapping[str, Any]) -> str:
    return f"{amount(band['low'])} to {amount(band['high'])}"


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(
        f"| {' | '.join(str(cell).replace('|', '/') for cell in line)} |"
        for line in lines
    )
