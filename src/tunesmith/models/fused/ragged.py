"""Causal attention over examples that lie end to end in one row, with its backward pass written out.

All examples may begin with the same tokens. Those stand in the row once: at its start, before the first example.
"""

from collections.abc import Iterator, Sequence
from ctypes import c_float, c_long, c_void_p
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tunesmith.models.fused.calling import compiled, rows_at, start
from tunesmith.models.fused.flash import Ends, flash, flash_backward

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


@dataclass(frozen=True, slots=True)
class Heads:
    """Shape of an attention layer; K divides H (grouped queries)."""

    queries: int  # H
    keys: int  # K, also of values
    size: int  # D
    scale: float

    @property
    def width(self) -> int:
        """Columns of queries, keys and values side by side."""
        return (self.queries + 2 * self.keys) * self.size


@dataclass(frozen=True, slots=True)
class Segments:
    """Where the examples of a row begin and end; T = shared + sum(lengths)."""

    lengths: tuple[int, ...]  # tokens of each example, without the shared ones
    shared: int = 0  # tokens at the start of the row that every example begins with
    ends: Ends | None = None  # where FlashAttention is what attends; then nothing is shared

    def spans(self, *, known: bool = False) -> Iterator[slice]:
        """Yield the rows of each example, without the shared ones; known: of a matrix that has none of these."""
        start = 0 if known else self.shared
        for length in self.lengths:
            yield slice(start, start + length)
            start += length


def _with_shared(x: Tensor, rows: slice, shared: Tensor) -> Tensor:
    """Return the rows of one example after the shared ones; a view where nothing is shared."""
    return torch.cat((shared, x[rows])) if len(shared) else x[rows]


def _as_rows(before: tuple[Tensor, Tensor], shared: int, heads: Heads) -> Tensor:
    """Return rows of zeros for queries, and of known keys and values, (shared, width)."""
    keys, values = (part[:, :shared].transpose(0, 1).flatten(1) for part in before)
    return torch.cat((keys.new_zeros(shared, heads.queries * heads.size), keys, values), 1)


def _heads(qkv: Tensor, heads: Heads) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries (T, H, D), keys and values (T, K, D) of rows (T, width), as views."""
    q, k, v = qkv.unflatten(1, (-1, heads.size)).split((heads.queries, heads.keys, heads.keys), 1)
    return q, k, v


def _split(x: Tensor, heads: Heads) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries (1, H, T, D), keys and values (1, K, T, D) of rows (T, width), as views."""
    parts = x.unflatten(1, (-1, heads.size)).transpose(0, 1)[None]
    q, k, v = parts.split((heads.queries, heads.keys, heads.keys), 1)
    return q, k, v


LANES = 16  # what the compiled form wants a head's size to be a multiple of


def _compiled(name: str, segments: Segments, heads: Heads, *tensors: Tensor) -> Any:
    """Return the compiled form of ``name`` as a function of the matrices and of the sums, if there is one."""
    run = compiled(name, *tensors) if heads.size % LANES == 0 else None
    if run is None:
        return None
    lengths = torch.tensor(segments.lengths)

    def call(*matrices: Tensor, sums: Tensor, before: Sequence[Any] = ()) -> None:
        given = [part for matrix in matrices for part in rows_at(matrix)]
        examples = start(lengths), *map(c_long, (len(lengths), segments.shared))
        sizes = map(c_long, (heads.queries, heads.keys, heads.size))
        run(*given, *examples, *before, start(sums), c_float(heads.scale), *sizes)

    return call


def attend(
    qkv: Tensor, segments: Segments, heads: Heads, *, out: Tensor, before: tuple[Tensor, Tensor] | None = None
) -> list[Tensor]:
    """Write each token's attention over the tokens of its example up to itself into ``out``.

    Args:
        qkv: (T, width): queries, keys, values, already rotated.
        segments: The examples.
        heads: Shape of the layer.
        out: (T, H * D).
        before: Keys and values (K, positions, D), those of the shared tokens first: where they are known, and neither
            ``qkv`` nor ``out`` has rows for these tokens.

    Returns:
        What the backward pass wants: the logs of the sums of exponentials, or what ``flash`` keeps.
    """
    if segments.ends is not None:
        answer, kept = flash(*_heads(qkv, heads), segments.ends, scale=heads.scale)
        out.copy_(answer.flatten(1))
        return kept
    shared = segments.shared
    if run := _compiled("attend", segments, heads, qkv, out):
        places = sum(segments.lengths) + shared * len(segments.lengths)
        found = torch.empty(heads.queries * places, dtype=torch.float32)
        known = (*map(start, before), c_long(before[0].shape[1])) if before else (c_void_p(), c_void_p(), c_long())
        run(qkv, out, sums=found, before=known)
        return [found]
    sums, first = [], _as_rows(before, shared, heads) if before else qkv[:shared]
    for number, rows in enumerate(segments.spans(known=before is not None)):
        q, k, v = _split(_with_shared(qkv, rows, first), heads)
        answer, everything = _forward(q, k, v, 0.0, True, scale=heads.scale)
        answer = answer[0].transpose(0, 1).flatten(1)
        out[rows] = answer[shared:]
        if shared and number == 0 and not before:
            out[:shared] = answer[:shared]
        sums.append(everything)
    return sums


def attend_backward(
    dout: Tensor, qkv: Tensor, out: Tensor, sums: Sequence[Tensor], *, segments: Segments, heads: Heads
) -> Tensor:
    """Return the gradient of ``qkv``, (T, width).

    Args:
        dout: (T, H * D) gradient of ``out``.
        qkv: As ``attend`` read it.
        out: As ``attend`` wrote it.
        sums: What ``attend`` returned.
        segments: The examples.
        heads: Shape of the layer.
    """
    if segments.ends is not None:
        gradient, answer = (x.unflatten(1, (-1, heads.size)) for x in (dout, out))
        given, scale = _heads(qkv, heads), heads.scale
        return torch.cat(flash_backward(gradient, given, answer, sums, segments.ends, scale=scale), 1).flatten(1)
    shared = segments.shared
    dqkv = torch.empty_like(qkv)
    if run := _compiled("attend_backward", segments, heads, dout, qkv, out):
        run(dout, qkv, out, dqkv, sums=sums[0])
        return dqkv
    dqkv[:shared] = 0
    for number, (rows, everything) in enumerate(zip(segments.spans(), sums, strict=True)):
        q, k, v = _split(_with_shared(qkv, rows, qkv[:shared]), heads)
        answer, gradient = _with_shared(out, rows, out[:shared]), _with_shared(dout, rows, dout[:shared])
        if shared and number:
            gradient[:shared] = 0  # the answers of shared tokens count once
        answer, gradient = (x.unflatten(1, (-1, heads.size)).transpose(0, 1)[None] for x in (answer, gradient))
        parts = _backward(gradient, q, k, v, answer, everything, 0.0, True, scale=heads.scale)
        found = torch.cat([part[0].transpose(0, 1).flatten(1) for part in parts], 1)
        dqkv[rows] = found[shared:]
        if shared:
            dqkv[:shared] += found[:shared]
    return dqkv
