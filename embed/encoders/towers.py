"""The two towers: by default MiniLM for text and EfficientNet-B0 for photos.

Wang et al., 2020, "MiniLM: Deep Self-Attention Distillation for Task-Agnostic
Compression of Pre-Trained Transformers", arXiv:2002.10957. Tan and Le, 2019,
"EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
arXiv:1905.11946.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.ops.misc import Conv2dNormActivation
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel

from embed.encoders.backends import FrozenTower, Tower
from embed.encoders.files import (
    one_line_of_transformers,
    read_text_config,
)
from embed.encoders.pooling import MEAN, pool_tokens
from embed.encoders.specs import (
    EFFICIENTNET_B0,
    IMAGENET_MEAN,
    IMAGENET_STD,
    ImageSpec,
    Pooling,
)
from embed.encoders.vision import load_network, pool_maps
from embed.encoders.weights import WeightsError

IMAGE_DIM = EFFICIENTNET_B0.dim
_PAD_TO = 8  # tokens; fewer distinct shapes, each a multiple of the vector width
# Names of the dropouts inside an encoder, in the configurations of transformers.
_DROPOUTS = (
    "activation_dropout",
    "attention_dropout",
    "attention_probs_dropout_prob",
    "dropout",
    "embedding_dropout",
    "hidden_dropout_prob",
    "mlp_dropout",
)


def load_text_backbone(folder: Path, *, dropout: float | None = None) -> nn.Module:
    """Load a text encoder in float32.

    Parameters
    ----------
    folder : Path
        Folder with config.json and model.safetensors.
    dropout : float, optional
        Hidden and attention dropout while training; the encoder's own by default.

    Raises
    ------
    WeightsError
        If the folder has no model that transformers can load.
    """
    config = read_text_config(folder)
    options = {}
    if dropout is not None:
        options = {name: dropout for name in _DROPOUTS if hasattr(config, name)}
    backbone: PreTrainedModel
    with one_line_of_transformers(folder):
        backbone, loading_info = AutoModel.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,  # the default asks on the terminal
            use_safetensors=True,
            output_loading_info=True,
            **options,
        )
    # The pooler is not used, and many checkpoints lack it.
    missing_keys = loading_info["missing_keys"]
    missing = sorted(name for name in missing_keys if not name.startswith("pooler."))
    if missing:
        raise WeightsError(
            f"text encoder {folder}: model.safetensors lacks {len(missing)} of the "
            f"model's tensors, the first: {missing[0]}. They would be random numbers; "
            f"give the encoder's own weights."
        )
    module: nn.Module = backbone
    module.float()
    with one_line_of_transformers(folder):
        _require_token_vectors(module, config)
    return module


@torch.no_grad()
def _require_token_vectors(backbone: nn.Module, config: PreTrainedConfig) -> None:
    """Refuse a network that does not give a vector for each token of a text."""
    tokens, mask = example_tokens()
    hidden = backbone(input_ids=tokens, attention_mask=mask).last_hidden_state
    if hidden.shape != (*tokens.shape, config.hidden_size):
        raise ValueError(f"its output has the shape {tuple(hidden.shape)}")


def load_image_backbone(
    weights: Path | None, spec: ImageSpec = EFFICIENTNET_B0, *, seed: int = 0
) -> nn.Module:
    """Load a photo encoder without its classifier, in float32.

    Parameters
    ----------
    weights : Path or None
        File in the layout of the encoder's library, with or without the classifier, or
        folder; None for random weights.
    spec : ImageSpec
    seed : int
        Seed of the random weights.

    Returns
    -------
    nn.Module
        Network that maps normalised images (batch, 3, side, side) to maps (batch,
        dim, height, width) or to features (batch, dim).

    Raises
    ------
    WeightsError
        If tensors are missing, have other shapes or belong to another network.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return load_network(spec, weights, prepare=_fit_batch_statistics)


def normalise_images(
    pixels: torch.Tensor,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> torch.Tensor:
    """Normalise RGB bytes to the mean and scale of the encoder's training data.

    Parameters
    ----------
    pixels : uint8 Tensor of shape (batch, height, width, 3)
    mean, std : sequence of float
        Of each channel, for pixels from 0 to 1.

    Returns
    -------
    float32 Tensor of shape (batch, 3, height, width), channels last in memory
    """
    centre = torch.tensor(mean, device=pixels.device) * 255
    scale = torch.tensor(std, device=pixels.device) * 255
    return ((pixels.float() - centre) / scale).permute(0, 3, 1, 2)


def pad_tokens(
    token_ids: Sequence[NDArray[np.integer]], pad_id: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad token ids to the longest, rounded up to a multiple of 8.

    Parameters
    ----------
    token_ids : sequence of ndarray of int
    pad_id : int
        Token id of the padding.

    Returns
    -------
    tokens, mask : int64 Tensors of shape (batch, tokens)
    """
    width = _padded(max(len(ids) for ids in token_ids))
    tokens = torch.full((len(token_ids), width), pad_id, dtype=torch.long)
    mask = torch.zeros(len(token_ids), width, dtype=torch.long)
    for row, ids in enumerate(token_ids):
        tokens[row, : len(ids)] = torch.from_numpy(np.array(ids, dtype=np.int64))
        mask[row, : len(ids)] = 1
    return tokens, mask


def example_tokens() -> tuple[torch.Tensor, torch.Tensor]:
    """Return tokens and mask of two texts for tracing; the second text is padded."""
    tokens = torch.ones(2, 8, dtype=torch.long)
    mask = tokens.clone()
    mask[1, 4:] = 0
    return tokens, mask


class TextTower(Tower):
    """A text encoder followed by the pooling of its last hidden states."""

    def __init__(self, backbone: nn.Module, pooling: Sequence[Pooling] = MEAN) -> None:
        super().__init__()
        self.backbone, self.pooling = backbone, tuple(pooling)
        self.eval()

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Turn int64 tokens and mask (batch, length) into float32 (batch, dim)."""
        hidden = self.backbone(input_ids=tokens, attention_mask=mask)
        return pool_tokens(hidden.last_hidden_state, mask, self.pooling)

    def example_inputs(self) -> tuple[torch.Tensor, ...]:
        """Return example inputs for tracing; one text is padded."""
        return example_tokens()


class ImageTower(Tower):
    """A photo encoder on photos as bytes, with fused convolutions and batch norms.

    Parameters
    ----------
    backbone : nn.Module
        Network from `load_image_backbone`; it is modified.
    size : int
        Side of the photos, pixels.
    spec : ImageSpec
    exact_start : bool
        Whether the first three blocks of an EfficientNet compute in float32 at any
        precision. In bfloat16
        alone, the features of 4 photos of 933 with OpenVINO and of one with PyTorch
        have a cosine below 0.998 with exact features. With the exact start the least
        cosine is 0.9992, and OpenVINO takes 1.15 times as long.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        size: int,
        spec: ImageSpec = EFFICIENTNET_B0,
        exact_start: bool = True,
    ) -> None:
        super().__init__()
        self.mean, self.std = tuple(spec.mean), tuple(spec.std)
        self.start: nn.Module = nn.Sequential()
        self.rest = _fuse_batch_norms(backbone.eval())
        if exact_start and isinstance(backbone, nn.Sequential):
            stem, first, second, *later_stages = self.rest.children()
            start_of_second, *rest_of_second = second.children()
            self.start = nn.Sequential(stem, first, start_of_second)
            self.rest = nn.Sequential(*rest_of_second, *later_stages)
            self.exact_part = "start"
        self.size = size
        self.eval()

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Turn uint8 pixels (batch, size, size, 3) into float32 (batch, dim)."""
        dtype = next(self.rest.parameters()).dtype
        images = normalise_images(pixels, self.mean, self.std)
        return pool_maps(self.rest(self.start(images).to(dtype)))

    def example_inputs(self) -> tuple[torch.Tensor, ...]:
        """Return example inputs for tracing."""
        return (torch.zeros(2, self.size, self.size, 3, dtype=torch.uint8),)


class TextEncoder:
    """A frozen text encoder, from token ids to the pooled last hidden states.

    Parameters
    ----------
    tower : FrozenTower
        Frozen `TextTower`.
    dim : int
        Width of the features.
    batch_tokens : int
        Texts times their padded length, in one batch.
    pad_id : int
        Token id of the padding.
    """

    def __init__(
        self, tower: FrozenTower, *, dim: int, batch_tokens: int, pad_id: int = 0
    ) -> None:
        self.tower, self.dim = tower, dim
        self.batch_tokens, self.pad_id = batch_tokens, pad_id

    def encode(self, token_ids: Sequence[NDArray[np.integer]]) -> NDArray[np.float32]:
        """Encode texts in batches of similar length, which need little padding.

        Returns
        -------
        ndarray of shape (len(token_ids), dim), in the order of `token_ids`
        """
        features = np.zeros((len(token_ids), self.dim), dtype=np.float32)
        groups = token_batches([len(ids) for ids in token_ids], self.batch_tokens)
        batches = []
        for rows in groups:
            tokens, mask = pad_tokens([token_ids[row] for row in rows], self.pad_id)
            batches.append((tokens.numpy(), mask.numpy()))
        for rows, batch_features in zip(groups, self.tower(batches), strict=True):
            features[rows] = batch_features
        return features


class ImageEncoder:
    """A frozen image encoder, from thumbnails to globally pooled features.

    Parameters
    ----------
    tower : FrozenTower
        Frozen `ImageTower`.
    batch_images : int
        Photos in one batch.
    dim : int
        Width of the features.
    """

    def __init__(
        self, tower: FrozenTower, *, batch_images: int, dim: int = IMAGE_DIM
    ) -> None:
        self.tower, self.batch_images, self.dim = tower, batch_images, dim

    def encode(self, thumbnails: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Encode thumbnails of shape (size, size, 3).

        Returns
        -------
        ndarray of shape (len(thumbnails), dim)
        """
        batches = [
            (np.stack(thumbnails[start : start + self.batch_images]),)
            for start in range(0, len(thumbnails), self.batch_images)
        ]
        features = self.tower(batches)
        return np.concatenate(features or [np.zeros((0, self.dim), np.float32)])


class NoEncoder:
    """The place of an encoder that a run does without: its features have no columns."""

    dim = 0

    def encode(self, inputs: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Return features of width 0, shape (len(inputs), 0)."""
        return np.zeros((len(inputs), 0), np.float32)


def token_batches(lengths: Sequence[int], budget: int) -> list[NDArray[np.intp]]:
    """Group texts of similar length into batches of about the same work.

    Parameters
    ----------
    lengths : sequence of int
        Tokens of each text.
    budget : int
        Largest product of a batch's texts and their padded length; a longer text gets
        its own batch.

    Returns
    -------
    list of ndarray of int
        Rows of each batch; every row occurs once.
    """
    order = np.argsort(lengths, kind="stable")
    batches, start = [], 0
    for stop in range(1, len(order) + 1):
        is_last = stop == len(order)
        if is_last or (stop + 1 - start) * _padded(lengths[order[stop]]) > budget:
            batches.append(order[start:stop])
            start = stop
    return batches


def _padded(length: int) -> int:
    return -(-length // _PAD_TO) * _PAD_TO


@torch.no_grad()
def _fit_batch_statistics(features: nn.Module) -> None:
    """Set batch statistics from noise, so that photos get different features."""
    # Without them each layer shrinks its input until float16 rounds it to 0.
    norms = [m for m in features.modules() if isinstance(m, nn.BatchNorm2d)]
    if not norms:
        return
    for norm in norms:
        norm.momentum = 1.0
    # Noise in the range of photos: a colour for each picture, with coarse shapes on it.
    coarse = torch.randn(32, 3, 1, 1) + torch.randn(32, 3, 6, 6)
    features.train()(nn.functional.interpolate(coarse, size=96, mode="bilinear"))
    for norm in norms:
        norm.momentum = 0.1
    features.eval()


def _fuse_batch_norms(backbone: nn.Module) -> nn.Module:
    for block in backbone.modules():
        if not isinstance(block, Conv2dNormActivation):
            continue
        if len(block) > 1 and isinstance(block[1], nn.BatchNorm2d):
            block[0] = fuse_conv_bn_eval(block[0], block[1])
            block[1] = nn.Identity()
    return backbone
