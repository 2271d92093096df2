"""Build photo encoders of torchvision, transformers and timm without a classifier.

Each maps normalised photos (batch, 3, side, side) to maps (batch, dim, height, width)
or to features (batch, dim).
"""

import importlib.util
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torchvision import models
from transformers import AutoConfig, AutoModel, PreTrainedConfig

from embed.encoders.files import (
    one_line_of_transformers,
    read_json,
    require_plain_encoder,
)
from embed.encoders.specs import EFFICIENTNET_B0, IMAGENET_MEAN, IMAGENET_STD, ImageSpec
from embed.encoders.weights import (
    TORCHVISION_NAMES,
    WeightsError,
    published_weights,
    read_image_weights,
    split_image_name,
)

PREPROCESSOR_NAME = "preprocessor_config.json"
_REMEDY = "Give a folder with the encoder's own files."
_TIMM = "timm/"  # before a name of timm's
_FIXED_SIZE = ("vit_", "maxvit_")  # names of torchvision's that take one size only
# torchvision's files of DenseNet have names of an older version of the network.
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")


class Resized(nn.Module):
    """A network that takes photos of one size only; others are resized to it."""

    def __init__(self, network: nn.Module, size: int) -> None:
        super().__init__()
        self.network, self.size = network, size

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the network's output for images (batch, 3, side, side)."""
        features: torch.Tensor = self.network(resize(images, self.size))
        return features


class TransformersTower(nn.Module):
    """A vision model of transformers; its pooled output, or the mean of its tokens."""

    def __init__(self, model: nn.Module, size: int) -> None:
        super().__init__()
        self.model, self.size = model, size

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return features of images (batch, 3, side, side)."""
        output = self.model(pixel_values=resize(images, self.size))
        pooled: torch.Tensor | None = getattr(output, "pooler_output", None)
        if pooled is not None:
            return pooled
        hidden: torch.Tensor = output.last_hidden_state
        return hidden if hidden.ndim == 4 else hidden.mean(1)


def resize(images: torch.Tensor, size: int) -> torch.Tensor:
    """Resize images (batch, 3, side, side) to another side; equal sides stay."""
    if images.shape[-1] == size:
        return images
    return F.interpolate(images, size=(size, size), mode="bilinear")


def pool_maps(features: torch.Tensor) -> torch.Tensor:
    """Average maps (batch, dim, height, width) over the photo, in float32.

    Features (batch, dim) stay as they are.
    """
    features = features.float()
    return features.mean((2, 3)) if features.ndim == 4 else features


def describe_image_encoder(name: str, weights: Path | None) -> ImageSpec:
    """Describe the photo encoder of a name.

    Parameters
    ----------
    name : str
        As in `embed.encoders.weights.find_image_weights`.
    weights : Path or None
        Result of that function; None for random weights.

    Raises
    ------
    WeightsError
        If the encoder is of a kind that cannot be used; the message says why.
    """
    network, _ = split_image_name(name)
    with torch.random.fork_rng(devices=[]):
        if weights is not None and weights.is_dir():
            return describe_folder(weights)
        if network.startswith(_TIMM):
            return describe_timm(network.removeprefix(_TIMM))
        if weights is None and network not in TORCHVISION_NAMES:
            return EFFICIENTNET_B0
        return describe_torchvision(network)


def describe_torchvision(name: str) -> ImageSpec:
    """Describe a network of torchvision by its published weights."""
    if name == EFFICIENTNET_B0.name:
        return EFFICIENTNET_B0
    network = build_torchvision(name).network
    preparation = published_weights(name).transforms()
    size = int(preparation.crop_size[0])
    return ImageSpec(
        library="torchvision",
        name=name,
        dim=_width(network, size),
        size=size,
        takes_any_size=not name.startswith(_FIXED_SIZE),
        mean=list(preparation.mean),
        std=list(preparation.std),
    )


def describe_timm(name: str, record: Mapping[str, Any] | None = None) -> ImageSpec:
    """Describe a network of timm by its name, or by the record beside its weights."""
    network = _timm(name)
    record = network.pretrained_cfg if record is None else record
    size = int(record["input_size"][-1])
    return ImageSpec(
        library="timm",
        name=name,
        dim=_width(network, size),
        size=size,
        takes_any_size=not record.get("fixed_input_size", False),
        mean=_channels(record.get("mean", IMAGENET_MEAN)),
        std=_channels(record.get("std", IMAGENET_STD)),
    )


def describe_folder(folder: Path) -> ImageSpec:
    """Describe the photo encoder of a folder, of transformers or timm.

    Raises
    ------
    WeightsError
        If a file is missing or does not describe such an encoder.
    """
    config = read_json(folder / "config.json", dict, remedy=_REMEDY)
    if "architecture" in config and "model_type" not in config:
        try:
            return describe_timm(str(config["architecture"]), config["pretrained_cfg"])
        except WeightsError:
            raise
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise WeightsError(
                f"{folder / 'config.json'}: does not describe an encoder of timm "
                f"({error!r}). Give the encoder's own."
            ) from error
    settings = read_json(folder / PREPROCESSOR_NAME, dict, remedy=_REMEDY)
    try:
        size = _photo_side(settings)
        mean, std = _channels(settings["image_mean"]), _channels(settings["image_std"])
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{folder / PREPROCESSOR_NAME}: must have image_mean, image_std (three "
            f"numbers each) and size. Give the encoder's own."
        ) from error
    tower = TransformersTower(load_transformers(folder), size)
    with one_line_of_transformers(folder, "image"):
        dim = _width(tower, size)
    return ImageSpec(
        library="transformers",
        name=str(config.get("model_type")),
        dim=dim,
        size=size,
        takes_any_size=False,
        mean=mean,
        std=std,
    )


@dataclass(frozen=True)
class Built:
    """A network of torchvision or timm with random weights, and its files' names."""

    network: nn.Module
    prefix: str = ""
    """Beginning of its tensors' names in a file."""

    head: tuple[str, ...] = ()
    """Beginnings of the names of the classifier's tensors, which it lacks."""

    def load(self, weights: Path, what: str) -> None:
        """Load a file of weights, with or without the classifier.

        Raises
        ------
        WeightsError
            If tensors are missing, have other shapes or belong to another network.
        """
        state = {
            _OLD_DENSENET.sub(r"\1\2", name).removeprefix(self.prefix): tensor.float()
            for name, tensor in read_image_weights(weights).items()
            if name.startswith(self.prefix) and not name.startswith(self.head)
        }
        own = self.network.state_dict()
        wrong = [
            name
            for name, tensor in own.items()
            if not name.endswith("num_batches_tracked")
            and (name not in state or state[name].shape != tensor.shape)
        ]
        wrong += [name for name in state if name not in own]  # a larger network
        if wrong:
            raise WeightsError(
                f"{weights}: must be {what}; {len(wrong)} "
                f"tensors are missing, have another shape or belong to another "
                f"network (NAME=FILE names another), the first: "
                f"{self.prefix}{wrong[0]}"
            )
        self.network.load_state_dict({**own, **state})


def build(spec: ImageSpec) -> Built:
    """Build a network of torchvision or timm without its classifier."""
    if spec.library == "timm":
        network = _timm(spec.name)
        names: Any = network.pretrained_cfg.get("classifier") or ()
        names = (names,) if isinstance(names, str) else names
        return Built(network, head=tuple(f"{name}." for name in names))
    return build_torchvision(spec.name)


def build_torchvision(name: str) -> Built:
    """Build a network of torchvision without its classifier."""
    network = _torchvision(name)
    if isinstance(network, models.EfficientNet):
        return Built(network.features, prefix="features.")
    head = [n for n, m in network.named_modules() if isinstance(m, nn.Linear)][-1]
    parent, _, child = head.rpartition(".")
    setattr(network.get_submodule(parent), child, nn.Identity())
    return Built(network, head=(f"{head}.",))


def load_network(
    spec: ImageSpec, weights: Path | None, *, prepare: Callable[[nn.Module], None]
) -> nn.Module:
    """Build a photo encoder and load its weights, in float32.

    Parameters
    ----------
    spec : ImageSpec
    weights : Path or None
        File or folder; None for random weights.
    prepare : callable
        Called with a network of random weights.
    """
    if spec.library == "transformers":
        assert weights is not None
        return TransformersTower(load_transformers(weights), spec.size)
    built = build(spec)
    if weights is None:
        prepare(built.network)
    else:
        file = weights / "model.safetensors" if weights.is_dir() else weights
        built.load(file, f"{spec.library}'s {spec.name}")
    if spec.takes_any_size:
        return built.network
    return Resized(built.network, spec.size)


def load_transformers(folder: Path) -> nn.Module:
    """Load the vision model of a folder, in float32, without its text part."""
    require_plain_encoder(folder, "image")
    with one_line_of_transformers(folder, "image"):
        options = {"local_files_only": True, "trust_remote_code": False}
        config: PreTrainedConfig = AutoConfig.from_pretrained(folder, **options)
        config = getattr(config, "vision_config", config)
        model, loading_info = AutoModel.from_pretrained(
            folder,
            config=config,
            use_safetensors=True,
            output_loading_info=True,
            **options,
        )
    missing = sorted(loading_info["missing_keys"])
    if missing and all(name.startswith("pooler.") for name in missing):
        model.pooler, missing = None, []
    if missing:
        raise WeightsError(
            f"image encoder {folder}: model.safetensors lacks {len(missing)} of the "
            f"model's tensors, the first: {missing[0]}. They would be random numbers; "
            f"give the encoder's own weights."
        )
    module: nn.Module = model
    return module.float()


def _torchvision(name: str) -> nn.Module:
    if name not in TORCHVISION_NAMES:
        raise WeightsError(
            f"image encoder {name!r}: torchvision has no such network, or one that "
            f"cannot be used. It has {', '.join(TORCHVISION_NAMES)}."
        )
    network: nn.Module = models.get_model(name, weights=None)
    return network


def _timm(name: str) -> Any:
    if importlib.util.find_spec("timm") is None:
        raise WeightsError(
            f"image encoder {name!r}: needs timm, not installed. Run `pip install "
            f"timm`, or install pricestack with its extra `timm`."
        )
    import timm

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecated names of networks
            return timm.create_model(name, pretrained=False, num_classes=0)
    except RuntimeError as error:
        raise WeightsError(
            f"image encoder {name!r}: timm has no such network ({error}). Give a name "
            f"of timm.list_models()."
        ) from error


@torch.no_grad()
def _width(network: nn.Module, size: int) -> int:
    """Return the width of a network's features."""
    features = network.eval()(torch.zeros(1, 3, size, size))
    return int(pool_maps(features).shape[1])


def _channels(values: Any) -> list[float]:
    red, green, blue = map(float, values)
    return [red, green, blue]


def _photo_side(settings: Mapping[str, Any]) -> int:
    """Return the side of the photos that a preprocessor makes."""
    size = settings.get("crop_size") if settings.get("do_center_crop", True) else None
    size = size or settings["size"]
    if isinstance(size, dict):
        size = size.get("height") or size["shortest_edge"]
    if not isinstance(size, int) or not 32 <= size <= 1024:
        raise ValueError(f"size is {size!r}")
    return size
