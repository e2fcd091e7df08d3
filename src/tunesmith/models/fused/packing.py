"""Which models fused layers can take, and the packing of their weights for these.

Anything that is not known to compute exactly this (another family, dropout, hooks, adapters of another kind) is left
to transformers' own code.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from tunesmith.machine import available_memory, compute_device, fastest_dtype, give_back, releaser
from tunesmith.models.fused.flash import takes_flash
from tunesmith.models.fused.projection import same_weights
from tunesmith.models.fused.stack import Packed, hooked, read_stack
from tunesmith.models.fused.t5_reading import read_encoder_decoder
from tunesmith.models.load import plain

MARK = "_tunesmith_stack"  # where a packed model keeps its stack
PLENTY = 4  # times what is taken has to be free


def read_fused(model: Any, *, dtype: torch.dtype) -> Packed | None:
    """Return a model of either architecture as fused layers, or None; see ``read_stack``."""
    return _read(model, dtype, model.device)


def takes_fused(model: Any) -> bool:
    """Tell whether fused layers can take a model, or could take one without weights once it has some."""
    model = plain(model)
    if model.device.type == "meta":
        return _read(model, fastest_dtype(), compute_device()) is not None
    return _read(model, model.dtype, model.device) is not None


def _read(model: Any, dtype: torch.dtype, device: torch.device) -> Packed | None:
    if _is_t5(model):
        return None if hooked(model) or device.type != "cpu" else read_encoder_decoder(model, dtype)
    stack = read_stack(model, dtype=dtype)
    if stack and device.type != "cpu" and not takes_flash(device, dtype, stack.layers[0].heads.size):
        return None
    return stack


def _is_t5(model: Any) -> bool:
    return getattr(getattr(model, "config", None), "model_type", "") == "t5" and model.config.is_encoder_decoder


@contextmanager
def fused(model: Any, *, dtype: torch.dtype) -> Iterator[Packed | None]:
    """Have a model's weights packed for fused layers inside the block; None where it has to compute by itself.

    Inside, the model itself computes what it did; its layers look at parts of the packed matrices.
    """
    model = plain(model)
    if found := _packed_already(model, dtype):
        yield found
        return
    stack = keep_fused(model, dtype=dtype)
    try:
        yield stack
    finally:
        if stack:
            delattr(model, MARK)
            for projection in stack.projections:
                projection.unpack()


def keep_fused(model: Any, *, dtype: torch.dtype) -> Packed | None:
    """Pack a model's weights for good, as for one that will only answer; later ``fused`` blocks find them packed."""
    model = plain(model)
    if found := _packed_already(model, dtype):
        return found
    stack = read_fused(model, dtype=dtype)
    if stack is not None:
        release = [releaser()] if stack.device.type == "cpu" else []  # only main memory has files mapped into it
        for projection in stack.projections:
            projection.pack(*release)
        give_back()
        setattr(model, MARK, stack)
    return stack


@contextmanager
def laid_out(stack: Packed) -> Iterator[None]:
    """Have packed weights once more in the order in which answering reads them, where there is plenty of memory."""
    taken = sum(projection.weight.nbytes for projection in stack.projections)
    if stack.device.type == "cpu" and PLENTY * taken <= available_memory():
        for projection in stack.projections:
            projection.lay_out()
    try:
        yield
    finally:
        for projection in stack.projections:
            projection.laid_out = None


def _packed_already(model: Any, dtype: torch.dtype) -> Packed | None:
    """Return the stack that a model is packed as, if it still is what was packed then; take its weights over anew."""
    old: Packed | None = getattr(model, MARK, None)
    if old is None:
        return None
    now = read_fused(model, dtype=dtype)
    if (
        now is not None
        and type(old) is type(now)
        and old.dtype == now.dtype
        and same_weights(old.projections, now.projections)
    ):
        old.refresh()
        return old
    for projection in old.projections:  # an adapter has come or gone since
        projection.unpack()
    delattr(model, MARK)
    return None
