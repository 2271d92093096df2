"""Set up and describe this machine: threads, memory allocator, number formats."""

import ctypes
import sys

import torch

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


def prepare_machine(n_threads: int) -> None:
    """Set the thread count and keep freed memory in the process (glibc).

    Otherwise glibc maps and zeroes the output of every convolution again, and
    EfficientNet-B0 runs at half its speed on a CPU.
    """
    torch.set_num_threads(n_threads)
    if sys.platform == "linux":
        try:
            libc = ctypes.CDLL("libc.so.6")
            libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
            libc.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
        except (OSError, AttributeError):
            return  # another C library (musl) is only slower


def pick_device() -> torch.device:
    """Return the CUDA device if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def has_bf16(device: torch.device) -> bool:
    """Tell whether the device multiplies bf16 matrices in hardware."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    avx512 = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(avx512 and avx512())


def describe_device(device: torch.device) -> str:
    """Return the device's name for the manifest."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu, {torch.get_num_threads()} threads"
