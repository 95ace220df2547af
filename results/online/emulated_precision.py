"""`orl` with matrix products of rounded numbers, for machines whose processor has none: what TF32 and bfloat16 compute.

    python emulated_precision.py bfloat16 train speq --env Hopper-v5 ...

Factors are rounded to 8 (bfloat16) or 11 (TF32) significant bits; products and sums are float32, as in hardware.
"""

import sys

import torch
from torch import Tensor

from orl.scripts.main import main


def bfloat16(x: Tensor) -> Tensor:
    """To the nearest of 8 significant bits."""
    return x.bfloat16().float()


def tf32(x: Tensor) -> Tensor:
    """To the nearest of 11 significant bits."""
    return ((x.contiguous().view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


def product(a: Tensor, b: Tensor) -> Tensor:
    """Of batches of matrices."""
    return torch.ops.aten.bmm.out(rounded(a), rounded(b), out=a.new_empty(len(a), a.shape[1], b.shape[2]))


def biased_product(bias: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """And a bias, which is not rounded."""
    out = a.new_empty(len(a), a.shape[1], b.shape[2])
    return torch.ops.aten.baddbmm.out(bias, rounded(a), rounded(b), beta=beta, alpha=alpha, out=out)


rounded = {"bfloat16": bfloat16, "tf32": tf32}[sys.argv[1]]
kernels = torch.library.Library("aten", "IMPL")
kernels.impl("bmm", product, "CPU")
kernels.impl("baddbmm", biased_product, "CPU")
main(sys.argv[2:])
