"""Device and number format in which a network runs."""

import contextlib
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch

from embed.machine import has_bf16
from finetune.config import Precision


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """Device and number format of a network."""

    device: torch.device
    autocast_dtype: torch.dtype | None

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context in which the network runs."""
        if self.autocast_dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.autocast_dtype)

    def scaler(self) -> torch.amp.GradScaler:
        """Return the gradient scaler; it does nothing unless the format is fp16."""
        enabled = self.autocast_dtype is torch.float16
        return torch.amp.GradScaler(self.device.type, enabled=enabled)


def choose_arithmetic(precision: Precision, device: torch.device) -> Arithmetic:
    """Pick the number format.

    Parameters
    ----------
    precision : {"auto", "fp32", "bf16", "fp16"}
        `auto` is fp16 on CUDA, bf16 on a CPU that supports it, else fp32.
    """
    dtypes = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
    if precision != "auto":
        return Arithmetic(device=device, autocast_dtype=dtypes[precision])
    if device.type == "cuda":
        return Arithmetic(device=device, autocast_dtype=torch.float16)
    dtype = torch.bfloat16 if has_bf16(device) else None
    return Arithmetic(device=device, autocast_dtype=dtype)
