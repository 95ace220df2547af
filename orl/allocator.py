"""Memory of the C library: kept for the next tensor, or given back."""

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h
IS_GLIBC = platform.libc_ver()[0] == "glibc"


def keep_memory() -> None:
    """From now on this process keeps the memory that it frees.

    glibc gives blocks of more than 32 MB back, and faults the next one in page by page: half of the time of an update
    of 64 learners on a CPU (docs/performance.md). With another C library this does nothing.
    """
    if IS_GLIBC:
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)


def give_back_memory() -> None:
    """Give back what was kept and is not in use, once."""
    if IS_GLIBC:
        ctypes.CDLL(None).malloc_trim(ctypes.c_size_t(0))
