"""Memory that is kept, and given back."""

import platform
import subprocess
import sys

import pytest

FREED = """
import numpy as np
import resource
from pathlib import Path
import torch
from orl.device import available_memory, keep_memory

def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

{first}
before = resident()
block, above = np.ones(64 << 17), np.ones(1)  # 64 MiB, and what keeps the heap from shrinking
del block
kept = resident() - before
available_memory(torch.device("cpu"))  # which gives back what is unused
print(kept >> 20, (resident() - before) >> 20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
@pytest.mark.parametrize(("first", "expected"), [("", 0), ("keep_memory()", 64)])
def test_memory_is_kept_until_it_is_given_back(first: str, expected: int) -> None:
    words = [sys.executable, "-c", FREED.format(first=first)]
    printed = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    kept, left = map(int, printed.split())
    assert abs(kept - expected) <= 2
    assert left <= 2
