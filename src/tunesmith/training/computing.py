"""How the model computes while it is trained, and while it answers in between: layers, attention, number format."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from tunesmith.machine import memory_kept
from tunesmith.models.attention import NAME, attending, takes_ragged
from tunesmith.models.fused.packing import fused
from tunesmith.models.fused.stack import Stack
from tunesmith.models.load import plain
from tunesmith.training.job import Job
from tunesmith.training.recorder import Recorder


@contextmanager
def ready(job: Job) -> Iterator[Job]:
    """Have the model as the loop computes with it: in fused layers where it can be had so, else in its own."""
    with attention(job), fused(plain(job.model), dtype=computed_in(job)) as stack, settled(), memory_kept():
        yield replace(
            job, stack=stack, recorder=Recorder(stack) if isinstance(stack, Stack) and stack.flashes else None
        )


@contextmanager
def settled() -> Iterator[None]:
    """Let Python look for garbage only among what is made inside the block.

    What libraries have loaded, half a million objects, would be looked through every few steps.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def attention(job: Job) -> Iterator[None]:
    """Let a causal model take examples end to end in one row."""
    model = plain(job.model)
    if job.kind == "causal" and takes_ragged(model):
        with attending(model, NAME):
            yield
    else:
        yield


@contextmanager
def answering(model: Any) -> Iterator[None]:
    """Let a model that is in training write answers: padded batches, no dropout; afterwards it trains on."""
    whole = plain(model)
    was_training = model.training
    model.eval()
    usual = whole.config._attn_implementation
    try:
        with attending(whole, "sdpa" if usual == NAME else usual):
            yield
    finally:
        model.train(was_training)


def computed_in(job: Job) -> torch.dtype:
    """Return the number format of the products: bfloat16 where asked for, else that of the weights."""
    own: torch.dtype = next(job.model.parameters()).dtype
    return torch.bfloat16 if job.autocast else own


@contextmanager
def computing(job: Job) -> Iterator[None]:
    """Compute in bfloat16 where the weights are fp32 and the machine is faster with it."""
    with torch.autocast(job.model.device.type, torch.bfloat16, enabled=job.autocast):
        yield
