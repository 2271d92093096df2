"""Settings of the embedding stage."""

from typing import Annotated, Literal, get_args

from pydantic.dataclasses import dataclass

from embed.catalog.currencies import DecimalSign
from embed.store.records import SETTINGS, config_errors
from embed.store.rules import Flag, Text, Whole, whole

Precision = Literal["auto", "fp32", "bf16"]
Backend = Literal["auto", "eager", "compile", "openvino"]
TextDecimalSign = Literal["auto", ".", ",", "unknown"]
DEFAULT_SIZE = 224
"""Side of the thumbnails without a photo encoder, pixels."""


@config_errors
@dataclass(frozen=True, kw_only=True, config=SETTINGS)
class EmbedConfig:
    """Settings of the frozen features; the manifest records all of them."""

    text_encoder: Text = "sentence-transformers/all-MiniLM-L6-v2"
    """Name, folder, or `none`. This encoder is tuned for sentence similarity, so its
    frozen features work better than those of nreimers/MiniLM-L6-H384-uncased, its
    start."""

    image_encoder: Text = "efficientnet_b0"
    """Name of torchvision's or on the hub, folder, file (`NAME=FILE`, without a name
    EfficientNet-B0's), or `none`."""

    text_prefix: Text | None = None
    """Text before each product's text. None: the encoder's prompt for documents, if it
    records one."""

    random_weights: Flag = False
    """Start an image encoder whose weights cannot be found from random numbers."""

    max_tokens: Annotated[
        int,
        whole(
            8,
            8192,
            "--max-tokens must be 8 to 512 (to 8192 if the encoder has the positions)",
        ),
    ] = 128
    """Tokens of each text that are kept, including both special tokens."""

    image_size: (
        Annotated[int, whole(32, 1024, "--image-size must be 32 to 1024 pixels")] | None
    ) = None
    """Side of the square thumbnail, pixels. None: the side that the photo encoder was
    trained on, 224 for EfficientNet-B0."""

    chunk_size: Annotated[int, whole(1, rule="the chunk size must be at least 1")] = 512
    """Products between two records of progress; bounds memory (about 150 kB each)."""

    precision: Precision = "auto"
    """`auto` is bf16 if the processor computes in it, else fp32 (exact). The first
    blocks of the photo tower always compute in fp32."""

    backend: Backend = "auto"
    """Backend of the towers: eager PyTorch, torch.compile (a minute to start) or
    OpenVINO (a separate package); `auto` is OpenVINO if it is installed."""

    n_threads: Annotated[int, whole(1, rule="--threads must be at least 1")] = 2
    """Threads for arithmetic."""

    n_workers: Annotated[int, whole(1, rule="--workers must be at least 1")] = 2
    """Workers that decode photos one chunk ahead; any number gives the same arrays."""

    keep_shared_photos: Flag = False
    """Keep a picture that many products of unlike texts share; otherwise it is a
    stand-in and counts as no photo."""

    seed: Whole = 0
    """Seed of random weights."""

    text_decimal_sign: TextDecimalSign = "auto"
    """Decimal sign of sizes in texts: with a point, "1,500 g" is 1500 g, with a comma
    1.5 g. `auto` infers the sign from the catalog's names, and the manifest records the
    result; `unknown` reads each name alone."""

    @property
    def photo_size(self) -> int:
        """Side of the thumbnails, pixels; the manifest records it."""
        return self.image_size or DEFAULT_SIZE

    @property
    def decimal(self) -> DecimalSign | None:
        """Decimal sign of sizes, None if unknown."""
        signs: tuple[DecimalSign, ...] = get_args(DecimalSign)
        return next((sign for sign in signs if sign == self.text_decimal_sign), None)
