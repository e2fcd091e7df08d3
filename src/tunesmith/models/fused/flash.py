"""Attention on a graphics card: all examples of a row in one call of FlashAttention-2 (Dao 2023), forward and backward.

torch brings the kernels. They take float16 and bfloat16, and grouped queries as they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from tunesmith.progress import say

_forward = torch.ops.aten._flash_attention_forward
_backward = torch.ops.aten._flash_attention_backward
LARGEST, MULTIPLE = 256, 8  # sizes of a head that the kernels take
AMPERE = (8, 0)  # the first generation of cards that they are written for


def takes_flash(device: torch.device, dtype: torch.dtype, size: int) -> bool:
    """Tell whether attention with heads of this size can be had here."""
    if device.type != "cuda" or dtype not in (torch.float16, torch.bfloat16):
        return False
    fits = size <= LARGEST and size % MULTIPLE == 0
    return fits and torch.cuda.get_device_capability(device) >= AMPERE and _works(device, dtype, size)


@cache
def _works(device: torch.device, dtype: torch.dtype, size: int) -> bool:
    """Tell whether torch's kernels are there and take what is given to them here; where they do not, say so once."""
    try:
        with torch.inference_mode(False), torch.no_grad():
            _try(device, dtype, size)
    except (AttributeError, NotImplementedError, RuntimeError, TypeError) as error:
        say(f"without FlashAttention, which is slower: torch says {str(error).splitlines()[0]}")
        return False
    return True


def _try(device: torch.device, dtype: torch.dtype, size: int) -> None:
    ends = ends_of((2, 1), device)
    q, k, v = (torch.zeros(3, heads, size, device=device, dtype=dtype) for heads in (2, 1, 1))
    answer, kept = flash(q, k, v, ends, scale=1.0)
    flash_backward(answer, (q, k, v), answer, kept, ends, scale=1.0)
    filled = Filled(ends.places, ends.places.diff(), 2)
    flash_remember(q, (k.transpose(0, 1), v.transpose(0, 1)), ends, filled, scale=1.0)


@dataclass(frozen=True, slots=True)
class Ends:
    """Where examples that lie end to end begin and end."""

    places: Tensor  # (B + 1,) int32: where each begins, and where the last one ends
    longest: int  # tokens


def ends_of(lengths: Sequence[int], device: torch.device) -> Ends:
    """Return where examples of these lengths begin and end.

    >>> ends_of([3, 2], torch.device("cpu"))
    Ends(places=tensor([0, 3, 5], dtype=torch.int32), longest=3)
    """
    places = torch.tensor([0, *lengths], device=device).cumsum(0).to(torch.int32)
    return Ends(places, max(lengths, default=0))


def flash(q: Tensor, k: Tensor, v: Tensor, ends: Ends, *, scale: float | None) -> tuple[Tensor, list[Tensor]]:
    """Return causal attention within each example, (T, H, D), and what the backward pass wants.

    Args:
        q: (T, H, D); rows may lie further apart.
        k: (T, K, D) with K dividing H.
        v: (T, K, D).
        ends: The examples.
        scale: Of the products; None: one over the square root of D.
    """
    answer, *kept, _ = _forward(
        q, k, v, ends.places, ends.places, ends.longest, ends.longest, 0.0, True, False, scale=scale
    )
    return answer, kept


def flash_backward(
    dout: Tensor, given: tuple[Tensor, Tensor, Tensor], out: Tensor, kept: Sequence[Tensor], ends: Ends, *,
    scale: float | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the gradients of queries, keys and values, shaped as these.

    Args:
        dout: (T, H, D) gradient of ``out``.
        given: Queries, keys and values as ``flash`` read them.
        out: What it answered.
        kept: What else it returned.
        ends: The examples.
        scale: As before.
    """
    sums, state, unused = kept
    longest = ends.longest
    dq, dk, dv = _backward(
        dout, *given, out, sums, ends.places, ends.places, longest, longest, 0.0, True, state, unused, scale=scale
    )
    return dq, dk, dv


@dataclass(frozen=True, slots=True)
class Filled:
    """How far slots are filled whose positions lie end to end."""

    starts: Tensor  # (slots + 1,) int32: where the positions of a slot begin; the last number is not read
    lengths: Tensor  # (slots,) int32: how many positions of it count
    longest: int  # at least the largest of these


def flash_remember(query: Tensor, kept: tuple[Tensor, Tensor], asked: Ends, filled: Filled, *, scale: float) -> Tensor:
    """Return the attention of the newest tokens of every slot over all that the slot remembers, (T, H, D).

    Args:
        query: (T, H, D) new tokens, those of a slot together; their keys and values are remembered already.
        kept: Keys and values of all slots, (K, positions, D) each.
        asked: Which of the new tokens belong to which slot.
        filled: How far the slots are filled, the new tokens included.
        scale: Of the products.
    """
    keys, values = (part.transpose(0, 1) for part in kept)
    answer: Tensor = _forward(
        query, keys, values, asked.places, filled.starts, asked.longest, filled.longest, 0.0, True, False,
        scale=scale, seqused_k=filled.lengths,
    )[0]  # fmt: skip
    return answer


def attend_apart(q: Tensor, k: Tensor, v: Tensor, ends: Ends, *, scale: float | None) -> Tensor:
    """Return what ``flash`` returns, (T, H, D), with gradients; for layers that are not fused."""
    run: Any = _Flash.apply
    found: Tensor = run(q, k, v, (ends, scale))
    return found


class _Flash(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, given: tuple[Ends, float | None]) -> Tensor:
        ends, scale = given
        out, kept = flash(q, k, v, ends, scale=scale)
        ctx.save_for_backward(q, k, v, out, *kept)
        ctx.ends, ctx.scale = ends, scale
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, *kept = ctx.saved_tensors
        return (*flash_backward(gradients[0], (q, k, v), out, kept, ctx.ends, scale=ctx.scale), None)
