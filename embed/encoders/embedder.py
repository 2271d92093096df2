"""Load the tokeniser and both frozen encoders of a run; write no files."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from embed.config import Backend, EmbedConfig
from embed.encoders.backends import FrozenTower, Tower, batch_sizes, resolve_backend
from embed.encoders.files import load_tokenizer
from embed.encoders.towers import (
    ImageEncoder,
    ImageTower,
    TextEncoder,
    TextTower,
    feature_dim,
    load_image_backbone,
    load_text_backbone,
)
from embed.encoders.weights import WeightsError, find_image_weights, find_text_weights
from embed.machine import has_bf16, pick_device

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class EncoderSource:
    """Files of the encoders' weights, with the device, format and backend."""

    text_weights: Path
    image_weights: Path | None
    device: torch.device
    dtype: torch.dtype
    backend: Backend


def resolve_encoders(
    config: EmbedConfig, *, weights: tuple[Path, Path | None] | None = None
) -> EncoderSource:
    """Find weights, device, number format and backend.

    Parameters
    ----------
    config : EmbedConfig
    weights : tuple of Path, Path or None, optional
        Weights from `weights_of_run`; None searches for weights.

    Raises
    ------
    WeightsError, ConfigError
        If weights or the backend are missing; the message names the remedy.
    """
    device = pick_device()
    is_auto = config.precision == "auto"
    use_bf16 = config.precision == "bf16" or (is_auto and has_bf16(device))
    text, image = weights or (
        find_text_weights(config.text_encoder),
        _image_weights(config),
    )
    return EncoderSource(
        text_weights=text,
        image_weights=image,
        device=device,
        dtype=torch.bfloat16 if use_bf16 else torch.float32,
        backend=resolve_backend(config.backend, device),
    )


class Embedder:
    """Tokeniser and frozen encoders of texts and thumbnails.

    Parameters
    ----------
    source : EncoderSource
    config : EmbedConfig
    found : dict, optional
        `backends()` of a stopped run, so that it continues with them.

    Raises
    ------
    WeightsError
        If a file of weights does not fit the encoder.
    """

    def __init__(
        self,
        source: EncoderSource,
        config: EmbedConfig,
        *,
        found: dict[str, str | None] | None = None,
    ) -> None:
        self._tokenizer = load_tokenizer(source.text_weights)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(config.max_tokens)
        found = found or {}

        def load_text() -> Tower:
            return TextTower(load_text_backbone(source.text_weights))

        def load_image() -> Tower:
            backbone = load_image_backbone(source.image_weights, seed=config.seed)
            return ImageTower(backbone, size=config.image_size)

        def freeze(name: str, tower: Callable[[], Tower]) -> FrozenTower:
            return FrozenTower(
                tower,
                name=name,
                backend=source.backend,
                dtype=source.dtype,
                device=source.device,
                found=found.get(name),
            )

        sizes = batch_sizes(source.backend, source.device)
        self.text = TextEncoder(
            freeze("text", load_text),
            dim=feature_dim(source.text_weights),
            batch_tokens=sizes.tokens,
        )
        self.image = ImageEncoder(
            freeze("image", load_image),
            batch_images=sizes.images,
        )

    def tokenize(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """Return the token ids of each text, at most `config.max_tokens`."""
        return [
            np.array(encoding.ids, dtype=np.int32)
            for encoding in self._tokenizer.encode_batch(texts)
        ]

    def backends(self) -> dict[str, str | None]:
        """Return the backend of each encoder; None before its first batch."""
        return {"text": self.text.tower.used, "image": self.image.tower.used}


def _image_weights(config: EmbedConfig) -> Path | None:
    try:
        return find_image_weights(config.image_encoder)
    except WeightsError:
        if not config.random_weights:
            raise
    logger.warning(
        "image encoder %r: no weights found; --random-weights was given, so it starts "
        "from RANDOM numbers. Its frozen features are poor; label results with it.",
        config.image_encoder,
    )
    return None
