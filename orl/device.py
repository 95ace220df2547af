"""The training device: which one, and how much fits on it."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Literal

import torch

from orl.allocator import give_back_memory

Precision = Literal["highest", "high", "medium"]  # torch's words


def pick_device(device: str) -> torch.device:
    """A torch device from "auto" or a name.

    Raises:
        ValueError: a name that torch does not know, or a CUDA device that is not there.
    """
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
    torch.set_float32_matmul_precision("highest")
    if precision == "highest":
        return
    matrix = torch.rand(2, 64, 64, generator=torch.Generator().manual_seed(0)).to(device)
    exact = matrix @ matrix
    torch.set_float32_matmul_precision(precision)
    if torch.equal(matrix @ matrix, exact):
        warnings.warn(f"precision {precision!r} changes nothing on {device}: products stay float32", stacklevel=2)


def available_memory(device: torch.device) -> int | None:
    """Free bytes on a device; None where the system does not say."""
    if device.type == "cuda":
        kept_by_torch = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept_by_torch
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        give_back_memory()
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
