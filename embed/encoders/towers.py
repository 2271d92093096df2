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
_PAD_TO = 8  # tokens; fewer shapes, each ready for the vector unit
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


def load_text_backbone(folder: Path, *, dropout: float | None = None) -> nn.Module:
    """Load a BERT-like encoder in float32.

    Parameters
    ----------
    folder : Path
        With config.json and model.safetensors.
    dropout : float, optional
        Hidden and attention dropout while training; the encoder's own by default.

    Raises
    ------
    WeightsError
        If the folder does not hold a model that transformers can load.
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
        backbone, found = AutoModel.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,  # left out, it would ask on the terminal
            use_safetensors=True,
            output_loading_info=True,
            **options,
        )
    # The pooler is not used, and many checkpoints lack it.
    missing = sorted(n for n in found["missing_keys"] if not n.startswith("pooler."))
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
        If config.json is not one of a model that transformers knows.
    """
    return int(read_text_config(folder).hidden_size)


def load_image_backbone(weights: Path | None, *, seed: int = 0) -> nn.Module:
    """Load EfficientNet-B0 without its classifier, in float32.

    Parameters
    ----------
    weights : Path or None
        torchvision's layout, with or without the classifier; None: random numbers.
    seed : int
        Of the random numbers.

    Returns
    -------
    nn.Module
        Images (batch, 3, height, width), normalised, to (batch, 1280, h / 32, w / 32).

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
                f"{weights}: must hold torchvision's efficientnet_b0; {len(wrong)} "
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
    """Bring RGB bytes to what the encoder was trained on.

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
    """Return tokens and mask of two texts, one of them padded, to trace with."""
    tokens = torch.ones(2, 8, dtype=torch.long)
    mask = tokens.clone()
    mask[1, 4:] = 0
    return tokens, mask


class TextTower(Tower):
    """A BERT-like network and the masked mean of its last hidden states."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.eval()

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Turn int64 tokens and mask (batch, length) into float32 (batch, dim)."""
        hidden = self.backbone(input_ids=tokens, attention_mask=mask)
        return mean_pool(hidden.last_hidden_state, mask)

    def example_inputs(self) -> tuple[torch.Tensor, ...]:
        """Return inputs to trace with; one text is padded."""
        return example_tokens()


class ImageTower(Tower):
    """EfficientNet-B0 on photos as bytes, convolutions and batch norms fused.

    Parameters
    ----------
    backbone : nn.Module
        From `load_image_backbone`; its modules are taken from it.
    size : int
        Side of the photos, pixels.
    exact_start : bool
        Whether the first three blocks compute in float32 at any precision. With all in
        bfloat16, 4 photos of 933 by OpenVINO and one by PyTorch had features with a
        cosine below 0.998; with these exact the least is 0.9992, and by OpenVINO it
        takes 1.15 times as long.
    """

    def __init__(
        self, backbone: nn.Module, *, size: int, exact_start: bool = True
    ) -> None:
        super().__init__()
        self.start: nn.Module = nn.Sequential()
        self.rest = _fuse_batch_norms(backbone.eval())
        if exact_start:
            stem, first, second, *others = self.rest.children()
            start_of_second, *rest_of_second = second.children()
            self.start = nn.Sequential(stem, first, start_of_second)
            self.rest = nn.Sequential(*rest_of_second, *others)
            self.exact_part = "start"
        self.size = size
        self.eval()

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Turn uint8 pixels (batch, size, size, 3) into float32 (batch, 1280)."""
        dtype = next(self.rest.parameters()).dtype
        maps: torch.Tensor = self.rest(self.start(normalise_images(pixels)).to(dtype))
        return maps.float().mean((2, 3))

    def example_inputs(self) -> tuple[torch.Tensor, ...]:
        """Return inputs to trace with."""
        return (torch.zeros(2, self.size, self.size, 3, dtype=torch.uint8),)


class TextEncoder:
    """A frozen text encoder: token ids to the mean of the last hidden states.

    Parameters
    ----------
    tower : FrozenTower
        Of a `TextTower`.
    dim : int
        Length of its features.
    batch_tokens : int
        Texts times their padded length, in one batch.
    """

    def __init__(self, tower: FrozenTower, *, dim: int, batch_tokens: int) -> None:
        self.tower, self.dim, self.batch_tokens = tower, dim, batch_tokens

    def encode(self, token_ids: Sequence[NDArray[np.integer]]) -> NDArray[np.float32]:
        """Encode texts, sorted by length so that little is padding.

        Returns
        -------
        ndarray of shape (len(token_ids), dim), in the order given
        """
        features = np.zeros((len(token_ids), self.dim), dtype=np.float32)
        groups = token_batches([len(ids) for ids in token_ids], self.batch_tokens)
        batches = []
        for rows in groups:
            tokens, mask = pad_tokens([token_ids[row] for row in rows])
            batches.append((tokens.numpy(), mask.numpy()))
        for rows, found in zip(groups, self.tower(batches), strict=True):
            features[rows] = found
        return features


class ImageEncoder:
    """A frozen image encoder: thumbnails to globally pooled features (1280).

    Parameters
    ----------
    tower : FrozenTower
        Of an `ImageTower`.
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
        found = self.tower(batches)
        return np.concatenate(found or [np.zeros((0, IMAGE_DIM), np.float32)])


def token_batches(lengths: Sequence[int], budget: int) -> list[NDArray[np.intp]]:
    """Group texts of like length, so that each batch has about the same work.

    Parameters
    ----------
    lengths : sequence of int
        Tokens of each text.
    budget : int
        Texts of a batch times their padded length, at most; a longer text is alone.

    Returns
    -------
    list of ndarray of int
        Rows of each batch; every row once.
    """
    order = np.argsort(lengths, kind="stable")
    batches, start = [], 0
    for at in range(1, len(order) + 1):
        is_last = at == len(order)
        if is_last or (at + 1 - start) * _padded(lengths[order[at]]) > budget:
            batches.append(order[start:at])
            start = at
    return batches


def _padded(length: int) -> int:
    return -(-length // _PAD_TO) * _PAD_TO


@torch.no_grad()
def _fit_batch_statistics(features: nn.Module) -> None:
    """Take batch statistics from noise, so that random features tell photos apart."""
    # Without them each layer shrinks its input, down to what float16 rounds to 0.
    norms = [m for m in features.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    # A colour for each picture and coarse shapes on it, as large as photos' values.
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
