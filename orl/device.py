"""The training device: which one, and how much fits on it; and the memory that this process holds on to.

Importing this does not import torch, which the command line is faster without.
"""

from __future__ import annotations

import ctypes
import os
import platform
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h
IS_GLIBC = platform.libc_ver()[0] == "glibc"
Precision = Literal["highest", "high", "medium"]  # torch's words


def pick_device(device: str) -> torch.device:
    """A torch device from "auto" or a name.

    Raises:
        ValueError: a name that torch does not know, or a CUDA device that is not there.
    """
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError:
        chosen = None
    if chosen is None or chosen.type not in ("cpu", "cuda"):
        raise ValueError(f"device={device!r}: give 'auto', 'cpu', 'cuda' or 'cuda:1'")
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device={device!r}: this machine has no CUDA device; use 'auto' or 'cpu'")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device={device!r}: this machine has CUDA devices 0 to {torch.cuda.device_count() - 1}")
    return chosen


def set_precision(precision: Precision, device: torch.device) -> None:
    """How float32 matrices are multiplied, in this process: `torch.set_float32_matmul_precision`.

    "highest" is float32; "high" is TF32 on CUDA; "medium" is bfloat16 on processors that multiply it, TF32 on CUDA.
    Sums, parameters and optimizers stay float32. Warns where the device has nothing faster.
    """
    import torch

    torch.set_float32_matmul_precision("highest")
    if precision == "highest":
        return
    matrix = torch.rand(2, 64, 64, generator=torch.Generator().manual_seed(0)).to(device)
    exact = matrix @ matrix
    torch.set_float32_matmul_precision(precision)
    if torch.equal(matrix @ matrix, exact):
        warnings.warn(f"precision {precision!r} changes nothing on {device}: products stay float32", stacklevel=2)


def available_memory(device: torch.device) -> int | None:
    """Free bytes on a device, once this process has given unused ones back; None where the system does not say."""
    if device.type == "cuda":
        import torch

        kept_by_torch = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept_by_torch
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        if IS_GLIBC:
            ctypes.CDLL(None).malloc_trim(ctypes.c_size_t(0))
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        if "MemAvailable" in fields:
            return int(fields["MemAvailable"].split()[0]) * 1024
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def refuse_memory(size: int, device: torch.device, what: str, remedy: str) -> None:
    """Raise MemoryError, naming both numbers, when `size` bytes do not fit on the device."""
    free = available_memory(device)
    if free is not None and size > free:
        raise MemoryError(
            f"{what}: {size / 2**30:.1f} GiB needed, and {device} has {free / 2**30:.1f} GiB free; {remedy}"
        )


def keep_memory() -> None:
    """From now on this process keeps the memory that it frees.

    glibc gives blocks of more than 32 MB back, and faults the next one in page by page: half of the time of an update
    of 64 learners on a CPU (docs/performance.md). With another C library this does nothing.
    """
    if IS_GLIBC:
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)
