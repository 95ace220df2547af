"""What `orl` takes from torch without its promise to keep it, in one place, each with its reason.

`tests/core/test_updates.py` and `tests/core/test_networks.py` compare each with what torch has in public.
"""

import torch
import torch.multiprocessing.reductions

# The kernel of Adam. `torch.optim.Adam(fused=True)` calls it behind 0.2 ms of bookkeeping a step (decision 0014).
fused_adam = torch._fused_adam_

# target <- target + weight (online - target) for lists of tensors: one call where a loop has one for each parameter.
foreach_lerp = torch._foreach_lerp_

# Copies lists of tensors: the inputs of a captured update, in one call.
foreach_copy = torch._foreach_copy_

# Forward and backward of layer normalisation that give and take the statistics: gradients derived by hand need them.
native_layer_norm = torch.native_layer_norm
native_layer_norm_backward = torch.ops.aten.native_layer_norm_backward

# A reference that does not own a tensor's memory: programs tell by it which tensors share some.
StorageWeakRef = torch.multiprocessing.reductions.StorageWeakRef

# The gradient of ReLU in one pass, without a mask in memory.
threshold_backward = torch.ops.aten.threshold_backward


def times_written(tensor: torch.Tensor) -> int:
    """How often a tensor was written in place: whether what was computed from it still holds."""
    return tensor._version
