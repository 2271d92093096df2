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
    """What the frozen features are made with; the whole of it is in the manifest."""

    text_encoder: str = "sentence-transformers/all-MiniLM-L6-v2"
    """Name or path. Tuned for sentence similarity, so its frozen features serve better
    than those of the same network before that (nreimers/MiniLM-L6-H384-uncased)."""

    image_encoder: str = "efficientnet_b0"
    """`efficientnet_b0` (torchvision, IMAGENET1K_V1) or a path to its weights."""

    random_weights: bool = False
    """Start an image encoder whose weights cannot be found from random numbers."""

    max_tokens: int = 128
    """Tokens kept of each text, both special tokens included."""

    image_size: int = 224
    """Side of the square thumbnail, pixels; what EfficientNet-B0 was trained on."""

    chunk_size: int = 512
    """Products between two records of progress; bounds memory (about 150 kB each)."""

    precision: Precision = "auto"
    """`auto` is bf16 where the processor computes in it, else fp32 (exact). The start
    of the photo tower is fp32 in either."""

    backend: Backend = "auto"
    """What computes the features: eager PyTorch, torch.compile (a minute to start) or
    OpenVINO (a package of its own); `auto` is OpenVINO where it is installed."""

    n_threads: int = 2
    """Threads for arithmetic."""

    n_workers: int = 2
    """Workers that decode photos, one chunk ahead; the arrays are the same for any."""

    keep_shared_photos: bool = False
    """Keep a picture that many products of unlike texts share, which is otherwise
    taken for a stand-in and counts as no photo."""

    seed: int = 0
    """Of random weights, where they are asked for."""

    text_decimal_sign: TextDecimalSign = "auto"
    """Decimal sign of sizes in texts: where it is a point, "1,500 g" is 1500 g, else
    1.5 g. `auto` is the sign that the catalog's names show, and the manifest records
    it; `unknown` reads each name alone."""

    @property
    def decimal(self) -> DecimalSign | None:
        """Decimal sign of sizes, None where it is not known."""
        signs: tuple[DecimalSign, ...] = get_args(DecimalSign)
        return next((sign for sign in signs if sign == self.text_decimal_sign), None)

    def __post_init__(self) -> None:
        """Refuse values that no run can use."""
        for name in ("chunk_size", "n_threads", "n_workers"):
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"EmbedConfig.{name} must be at least 1, got {getattr(self, name)}"
                )
        if not 8 <= self.max_tokens <= 512:
            raise ConfigError(
                f"EmbedConfig.max_tokens must be 8 to 512 (the encoder has 512 "
                f"positions), got {self.max_tokens}"
            )
        if not 32 <= self.image_size <= 1024:
            raise ConfigError(
                f"EmbedConfig.image_size must be 32 to 1024 pixels, "
                f"got {self.image_size}"
            )
