"""Settings of the embedding stage."""

from dataclasses import dataclass
from typing import Literal, get_args

from embed.catalog.currencies import DecimalSign
from embed.errors import ConfigError

Precision = Literal["auto", "fp32", "bf16"]
Backend = Literal["auto", "eager", "compile", "openvino"]
TextDecimalSign = Literal["auto", ".", ",", "unknown"]


@dataclass(frozen=True, kw_only=True)
class EmbedConfig:
    """Settings of the frozen features; the manifest records all of them."""

    text_encoder: str = "sentence-transformers/all-MiniLM-L6-v2"
    """Name or path. This encoder is tuned for sentence similarity, so its frozen
    features work better than those of nreimers/MiniLM-L6-H384-uncased, its start."""

    image_encoder: str = "efficientnet_b0"
    """`efficientnet_b0` (torchvision, IMAGENET1K_V1) or a path to its weights."""

    random_weights: bool = False
    """Start an image encoder whose weights cannot be found from random numbers."""

    max_tokens: int = 128
    """Tokens of each text that are kept, including both special tokens."""

    image_size: int = 224
    """Side of the square thumbnail, pixels; EfficientNet-B0 was trained at 224."""

    chunk_size: int = 512
    """Products between two records of progress; bounds memory (about 150 kB each)."""

    precision: Precision = "auto"
    """`auto` is bf16 if the processor computes in it, else fp32 (exact). The first
    blocks of the photo tower always compute in fp32."""

    backend: Backend = "auto"
    """Backend of the towers: eager PyTorch, torch.compile (a minute to start) or
    OpenVINO (a separate package); `auto` is OpenVINO if it is installed."""

    n_threads: int = 2
    """Threads for arithmetic."""

    n_workers: int = 2
    """Workers that decode photos one chunk ahead; any number gives the same arrays."""

    keep_shared_photos: bool = False
    """Keep a picture that many products of unlike texts share; otherwise it is a
    stand-in and counts as no photo."""

    seed: int = 0
    """Seed of random weights."""

    text_decimal_sign: TextDecimalSign = "auto"
    """Decimal sign of sizes in texts: with a point, "1,500 g" is 1500 g, with a comma
    1.5 g. `auto` infers the sign from the catalog's names, and the manifest records the
    result; `unknown` reads each name alone."""

    @property
    def decimal(self) -> DecimalSign | None:
        """Decimal sign of sizes, None if unknown."""
        signs: tuple[DecimalSign, ...] = get_args(DecimalSign)
        return next((sign for sign in signs if sign == self.text_decimal_sign), None)

    def __post_init__(self) -> None:
        """Refuse values that no run can use."""
        for name, count in (
            ("the chunk size", self.chunk_size),
            ("--threads", self.n_threads),
            ("--workers", self.n_workers),
        ):
            if count < 1:
                raise ConfigError(f"{name} must be at least 1, got {count}")
        if not 8 <= self.max_tokens <= 512:
            raise ConfigError(
                f"--max-tokens must be 8 to 512 (the encoder has 512 positions), got "
                f"{self.max_tokens}"
            )
        if not 32 <= self.image_size <= 1024:
            raise ConfigError(
                f"--image-size must be 32 to 1024 pixels, got {self.image_size}"
            )
