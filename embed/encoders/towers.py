"""The two encoders: MiniLM for text, EfficientNet-B0 for photos.

Wang et al., 2020, "MiniLM: Deep Self-Attention Distillation for Task-Agnostic
Compression of Pre-Trained Transformers", arXiv:2002.10957. Tan and Le, 2019,
"EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
arXiv:1905.11946.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models import efficientnet_b0
from torchvision.ops.misc import Conv2dNormActivation
from transformers import AutoModel, PreTrainedModel

from embed.encoders.backends import FrozenTower, Tower
from embed.encoders.files import (
    one_line_of_transformers,
    read_text_config,
    require_plain_encoder,
)
from embed.encoders.weights import WeightsError, read_image_weights

IMAGE_DIM = 1280
_PAD_TO = 8  # tokens; fewer distinct shapes, each a multiple of the vector width
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


def load_text_backbone(folder: Path, *, dropout: float | None = None) -> nn.Module:
    """Load a BERT-like encoder in float32.

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
    require_plain_encoder(folder)
    options = {}
    if dropout is not None:
        options = {
            "hidden_dropout_prob": dropout,
            "attention_probs_dropout_prob": dropout,
        }
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
    return module.float()


def feature_dim(folder: Path) -> int:
    """Return the width of a BERT-like encoder's hidden states.

    Raises
    ------
    WeightsError
        If config.json does not describe a model that transformers supports.
    """
    return int(read_text_config(folder).hidden_size)


def load_image_backbone(weights: Path | None, *, seed: int = 0) -> nn.Module:
    """Load EfficientNet-B0 without its classifier, in float32.

    Parameters
    ----------
    weights : Path or None
        File in torchvision's layout, with or without the classifier; None for random
        weights.
    seed : int
        Seed of the random weights.

    Returns
    -------
    nn.Module
        Network that maps normalised images (batch, 3, height, width) to maps (batch,
        1280, height / 32, width / 32).

    Raises
    ------
    WeightsError
        If tensors are missing, have other shapes or belong to another network.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        features: nn.Module = efficientnet_b0().features
        if weights is None:
            _fit_batch_statistics(features)
    if weights is not None:
        state = {
            name.removeprefix("features."): tensor.float()
            for name, tensor in read_image_weights(weights).items()
            if name.startswith("features.")
        }
        own = features.state_dict()
        wrong = [
            name
            for name, tensor in own.items()
            if not name.endswith("num_batches_tracked")
            and (name not in state or state[name].shape != tensor.shape)
        ]
        wrong += [name for name in state if name not in own]  # a larger EfficientNet
        if wrong:
            raise WeightsError(
                f"{weights}: must be torchvision's efficientnet_b0; {len(wrong)} "
                f"tensors are missing, have another shape or belong to another "
                f"network, the first: features.{wrong[0]}"
            )
        features.load_state_dict({**own, **state})
    return features


def mean_pool(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Average token vectors where the mask is 1, in float32.

    Parameters
    ----------
    hidden : Tensor of shape (batch, tokens, dim)
    mask : Tensor of shape (batch, tokens), 0 or 1
    """
    weights = mask.unsqueeze(-1).float()
    return (hidden.float() * weights).sum(1) / weights.sum(1).clamp(min=1)


def normalise_images(pixels: torch.Tensor) -> torch.Tensor:
    """Normalise RGB bytes to the mean and scale of the encoder's training data.

    Parameters
    ----------
    pixels : uint8 Tensor of shape (batch, height, width, 3)

    Returns
    -------
    float32 Tensor of shape (batch, 3, height, width), channels last in memory
    """
    mean = torch.tensor(_IMAGENET_MEAN, device=pixels.device) * 255
    std = torch.tensor(_IMAGENET_STD, device=pixels.device) * 255
    return ((pixels.float() - mean) / std).permute(0, 3, 1, 2)


def pad_tokens(
    token_ids: Sequence[NDArray[np.integer]],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad token ids to the longest, rounded up to a multiple of 8.

    Returns
    -------
    tokens, mask : int64 Tensors of shape (batch, tokens)
    """
    width = _padded(max(len(ids) for ids in token_ids))
    tokens = torch.zeros(len(token_ids), width, dtype=torch.long)
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
    """A BERT-like network followed by the masked mean of its last hidden states."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.eval()

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Turn int64 tokens and mask (batch, length) into float32 (batch, dim)."""
        hidden = self.backbone(input_ids=tokens, attention_mask=mask)
        return mean_pool(hidden.last_hidden_state, mask)

    def example_inputs(self) -> tuple[torch.Tensor, ...]:
        """Return example inputs for tracing; one text is padded."""
        return example_tokens()


class ImageTower(Tower):
    """EfficientNet-B0 on photos as bytes, with fused convolutions and batch norms.

    Parameters
    ----------
    backbone : nn.Module
        Network from `load_image_backbone`; it is modified.
    size : int
        Side of the photos, pixels.
    exact_start : bool
        Whether the first three blocks compute in float32 at any precision. In bfloat16
        alone, the features of 4 photos of 933 with OpenVINO and of one with PyTorch
        have a cosine below 0.998 with exact features. With the exact start the least
        cosine is 0.9992, and OpenVINO takes 1.15 times as long.
    """

    def __init__(
        self, backbone: nn.Module, *, size: int, exact_start: bool = True
    ) -> None:
        super().__init__()
        self.start: nn.Module = nn.Sequential()
        self.rest = _fuse_batch_norms(backbone.eval())
        if exact_start:
            stem, first, second, *later_stages = self.rest.children()
            start_of_second, *rest_of_second = second.children()
            self.start = nn.Sequential(stem, first, start_of_second)
            self.rest = nn.Sequential(*rest_of_second, *later_stages)
            self.exact_part = "start"
        self.size = size
        self.eval()

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Turn uint8 pixels (batch, size, size, 3) into float32 (batch, 1280)."""
        dtype = next(self.rest.parameters()).dtype
        maps: torch.Tensor = self.rest(self.start(normalise_images(pixels)).to(dtype))
        return maps.float().mean((2, 3))

    def example_inputs(self) -> tuple[torch.Tensor, ...]:
        """Return example inputs for tracing."""
        return (torch.zeros(2, self.size, self.size, 3, dtype=torch.uint8),)


class TextEncoder:
    """A frozen text encoder, from token ids to the mean of the last hidden states.

    Parameters
    ----------
    tower : FrozenTower
        Frozen `TextTower`.
    dim : int
        Width of the features.
    batch_tokens : int
        Texts times their padded length, in one batch.
    """

    def __init__(self, tower: FrozenTower, *, dim: int, batch_tokens: int) -> None:
        self.tower, self.dim, self.batch_tokens = tower, dim, batch_tokens

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
            tokens, mask = pad_tokens([token_ids[row] for row in rows])
            batches.append((tokens.numpy(), mask.numpy()))
        for rows, batch_features in zip(groups, self.tower(batches), strict=True):
            features[rows] = batch_features
        return features


class ImageEncoder:
    """A frozen image encoder, from thumbnails to globally pooled features (1280).

    Parameters
    ----------
    tower : FrozenTower
        Frozen `ImageTower`.
    batch_images : int
        Photos in one batch.
    """

    dim = IMAGE_DIM

    def __init__(self, tower: FrozenTower, *, batch_images: int) -> None:
        self.tower, self.batch_images = tower, batch_images

    def encode(self, thumbnails: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Encode thumbnails of shape (size, size, 3).

        Returns
        -------
        ndarray of shape (len(thumbnails), 1280)
        """
        batches = [
            (np.stack(thumbnails[start : start + self.batch_images]),)
            for start in range(0, len(thumbnails), self.batch_images)
        ]
        features = self.tower(batches)
        return np.concatenate(features or [np.zeros((0, IMAGE_DIM), np.float32)])


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
        if isinstance(block, Conv2dNormActivation):
            block[0] = fuse_conv_bn_eval(block[0], block[1])
            block[1] = nn.Identity()
    return backbone
