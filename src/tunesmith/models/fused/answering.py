"""What answers are written with: products of few rows, attention of one new token to what was remembered.

As in ``kernels.py``, attention has two forms with equal results up to rounding: compiled C++ (``answering.cpp``), and
torch.
"""

from ctypes import c_float, c_long, c_void_p
from dataclasses import dataclass

import torch
from torch import Tensor

from tunesmith.models.fused.calling import compiled, rows_at, start

_attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


def laid_out(weight: Tensor) -> Tensor:
    """Return a matrix in the order in which oneDNN multiplies by it, for ``product``; as it is where that fails.

    Few rows, as when answers are written, are multiplied up to twice as fast: a library for large products spends its
    time on preparing the matrix, again for each token.

    Args:
        weight: (n, k).
    """
    try:
        found: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), None)
    except (AttributeError, RuntimeError, NotImplementedError):  # no oneDNN, not on this device, not for this format
        return weight
    return found


def product(x: Tensor, weight: Tensor, add: Tensor | None = None) -> Tensor:
    """Return ``x weight^T``, plus ``add`` where there is one, (rows, n).

    Args:
        x: (rows, k).
        weight: (n, k), as it is or ``laid_out``.
        add: (rows, n).
    """
    if weight.is_mkldnn:
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
        return y if add is None else y.add_(add)
    return torch.mm(x, weight.T) if add is None else torch.addmm(add, x, weight.T)


@dataclass(frozen=True, slots=True)
class Remembered:
    """What one layer remembers: first what all slots share, then the positions of each."""

    keys: Tensor  # (K, positions, D), contiguous
    values: Tensor  # the same
    starts: Tensor  # (slots,) int64, where the own positions of a slot begin
    lengths: Tensor  # (slots,) int64, at least 1: how many of them it has written
    prefix: int = 0  # positions that stand before those of every slot


def remember(query: Tensor, kept: Remembered, *, scale: float, out: Tensor) -> None:
    """Write the attention of one new token per slot over what its slot remembers into ``out``.

    What all slots share comes from memory once for all of them, and not once for each (Juravsky and others 2024,
    "Hydragen: High-Throughput LLM Inference with Shared Prefixes").

    Args:
        query: (slots, H * D); K divides H.
        kept: Keys and values.
        scale: Of the products.
        out: (slots, H * D).
    """
    shared, positions, size = kept.keys.shape
    heads = query.shape[1] // size
    sums = torch.empty(len(query), heads, dtype=torch.float32, device=query.device) if kept.prefix else None
    if run := compiled("remember", query, kept.keys, kept.values, out):
        sizes = map(c_long, (len(query), heads, shared, positions, size))
        places = map(start, (kept.keys, kept.values, kept.starts, kept.lengths))
        more = c_void_p(0) if sums is None else start(sums)
        run(*rows_at(query), *places, *rows_at(out), more, c_float(scale), *sizes)
    else:
        _remember(query.unflatten(1, (shared, -1, size)), kept, scale=scale, out=out, sums=sums)
    if sums is not None:
        before, all_sums = _look_back(query, kept, scale=scale)
        own = torch.sigmoid(sums - all_sums)[..., None]  # the share of what the slot alone remembers
        by_head = out.unflatten(1, (heads, size))
        by_head.copy_(torch.lerp(before, by_head, own.to(out.dtype)))


def _remember(query: Tensor, kept: Remembered, *, scale: float, out: Tensor, sums: Tensor | None) -> None:
    """Do what ``remember`` does but for what is shared; query: (slots, K, H / K, D), sums: (slots, H)."""
    within = torch.arange(int(kept.lengths.max()), device=query.device)
    at = (kept.starts[:, None] + within).clamp(max=kept.keys.shape[1] - 1)
    wide = torch.promote_types(query.dtype, torch.float32)
    keys, values = (part[:, at].transpose(0, 1).to(wide) for part in (kept.keys, kept.values))
    scores = (query.to(wide) @ keys.transpose(2, 3)).mul_(scale)
    scores.masked_fill_((within >= kept.lengths[:, None])[:, None, None], -torch.inf)
    out.copy_((scores.softmax(-1) @ values).flatten(1))
    if sums is not None:
        sums.copy_(scores.logsumexp(-1).flatten(1))


def _look_back(query: Tensor, kept: Remembered, *, scale: float) -> tuple[Tensor, Tensor]:
    """Return the attention to what is shared, (slots, H, D), and the log of the sum of exponentials, (slots, H)."""
    keys, values = (part[None, :, : kept.prefix] for part in (kept.keys, kept.values))
    slots, size = len(query), keys.shape[3]
    together = query.unflatten(1, (keys.shape[1], -1, size)).transpose(0, 1).flatten(1, 2)  # all that see one head
    found, sums = _attention(together[None], keys, values, scale=scale)
    found, sums = (part[0].unflatten(1, (slots, -1)).transpose(0, 1).flatten(1, 2) for part in (found, sums))
    return found, sums
