"""How compiled kernels are found and told where tensors are."""

from ctypes import c_long, c_void_p
from typing import Any

import torch
from torch import Tensor

from tunesmith.models.fused.build import library

SUFFIX = {torch.float32: "float", torch.bfloat16: "bf16"}


def compiled(name: str, *tensors: Tensor) -> Any:
    """Return the compiled form of a kernel if it can take these tensors, else None."""
    first = tensors[0]
    if first.device.type != "cpu" or first.dtype not in SUFFIX or any(t.dtype != first.dtype for t in tensors):
        return None
    found = library()  # may be None, and leaves out what would not be faster on this processor
    return getattr(found, f"{name}_{SUFFIX[first.dtype]}", None)


def rows_at(tensor: Tensor) -> tuple[c_void_p, c_long]:
    """Return where a matrix begins, and how far apart its rows are."""
    return start(tensor), c_long(tensor.stride(0))


def start(tensor: Tensor) -> c_void_p:
    """Return where a tensor begins."""
    return c_void_p(tensor.data_ptr())
