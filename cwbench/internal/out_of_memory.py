"""Telling that memory ran out, which PyTorch does in several ways."""

import torch

SIGNS = ("can't allocate memory", "out of memory", "DefaultCPUAllocator")


def out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that an allocation failed, on an accelerator or in main memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS)
