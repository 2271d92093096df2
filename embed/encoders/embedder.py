"""Load the tokeniser and both frozen encoders of a run; write no files."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from embed.config import Backend, EmbedConfig
from embed.encoders.backends import FrozenTower, Tower, batch_sizes, resolve_backend
from embed.encoders.describe_text import describe_text_encoder
from embed.encoders.files import load_tokenizer
from embed.encoders.specs import NONE, ImageSpec, TextSpec
from embed.encoders.towers import (
    ImageEncoder,
    ImageTower,
    NoEncoder,
    TextEncoder,
    TextTower,
    load_image_backbone,
    load_text_backbone,
)
from embed.encoders.vision import describe_image_encoder
from embed.encoders.weights import (
    WeightsError,
    find_image_weights,
    find_text_weights,
    weights_of_run,
)
from embed.errors import ConfigError
from embed.machine import has_bf16, pick_device
from embed.records import EmbedManifest

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class EncoderSource:
    """Encoders and files of their weights, with the device, format and backend."""

    text_spec: TextSpec | None
    """None without a text encoder, as its weights."""

    image_spec: ImageSpec | None
    """None without a photo encoder."""

    text_weights: Path | None
    image_weights: Path | None
    """None without a photo encoder, or with random weights."""

    device: torch.device
    dtype: torch.dtype
    backend: Backend


def resolve_encoders(
    config: EmbedConfig, run: EmbedManifest | None = None
) -> EncoderSource:
    """Find encoders, weights, device, number format and backend.

    Parameters
    ----------
    config : EmbedConfig
    run : EmbedManifest, optional
        Run whose encoders to find again; None searches for those of `config`.

    Raises
    ------
    WeightsError, ConfigError
        If weights or the backend are missing; the message names the remedy.
    """
    device = pick_device()
    is_auto = config.precision == "auto"
    use_bf16 = config.precision == "bf16" or (is_auto and has_bf16(device))
    if run is not None:
        text, image = weights_of_run(run)
        specs = run.inputs.text_spec, run.inputs.image_spec
    else:
        text, image = _text_weights(config), _image_weights(config)
        specs = _describe(config, text, image)
    return EncoderSource(
        text_spec=specs[0],
        image_spec=specs[1],
        text_weights=text,
        image_weights=image,
        device=device,
        dtype=torch.bfloat16 if use_bf16 else torch.float32,
        backend=resolve_backend(config.backend, device),
    )


def _describe(
    config: EmbedConfig, text: Path | None, image: Path | None
) -> tuple[TextSpec | None, ImageSpec | None]:
    text_spec = image_spec = None
    if text is not None:
        text_spec = describe_text_encoder(text, prefix=config.text_prefix)
        if config.max_tokens > text_spec.max_tokens:
            raise ConfigError(
                f"--max-tokens must be 8 to {text_spec.max_tokens}, the positions of "
                f"the text encoder, got {config.max_tokens}"
            )
    if config.image_encoder != NONE:
        image_spec = describe_image_encoder(config.image_encoder, image)
    return text_spec, image_spec


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
        self._tokenizer = None
        if source.text_weights is not None:
            self._tokenizer = load_tokenizer(source.text_weights)
            self._tokenizer.no_padding()
            self._tokenizer.enable_truncation(config.max_tokens)
        found = found or {}

        def load_text(weights: Path, spec: TextSpec) -> Tower:
            return TextTower(load_text_backbone(weights), spec.pooling)

        def load_image(spec: ImageSpec) -> Tower:
            backbone = load_image_backbone(source.image_weights, spec, seed=config.seed)
            return ImageTower(backbone, size=config.photo_size, spec=spec)

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
        self.text: TextEncoder | NoEncoder = NoEncoder()
        self._prefix = ""
        if source.text_spec is not None and source.text_weights is not None:
            self._prefix = source.text_spec.prefix
            self.text = TextEncoder(
                freeze(
                    "text", partial(load_text, source.text_weights, source.text_spec)
                ),
                dim=source.text_spec.dim,
                batch_tokens=sizes.tokens,
                pad_id=source.text_spec.pad_id,
            )
        self.image: ImageEncoder | NoEncoder = NoEncoder()
        if source.image_spec is not None:
            self.image = ImageEncoder(
                freeze("image", partial(load_image, source.image_spec)),
                batch_images=sizes.images,
                dim=source.image_spec.dim,
            )

    def tokenize(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """Return the token ids of each text, at most `config.max_tokens`.

        Without a text encoder there are none.
        """
        if self._tokenizer is None:
            return [np.zeros(0, np.int32) for _ in texts]
        return [
            np.array(encoding.ids, dtype=np.int32)
            for encoding in self._tokenizer.encode_batch(
                [self._prefix + text for text in texts]
            )
        ]

    def backends(self) -> dict[str, str | None]:
        """Return the backend of each encoder; None before its first batch."""
        encoders = {"text": self.text, "image": self.image}
        return {
            name: encoder.tower.used
            for name, encoder in encoders.items()
            if not isinstance(encoder, NoEncoder)
        }


def _text_weights(config: EmbedConfig) -> Path | None:
    if config.text_encoder == NONE:
        return None
    return find_text_weights(config.text_encoder)


def _image_weights(config: EmbedConfig) -> Path | None:
    if config.image_encoder == NONE:
        return None
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
