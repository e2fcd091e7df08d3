"""The output head and the loss together, so that logits never exist for all positions at once."""

from typing import Any

import torch
from torch import Tensor

from tunesmith.models.fused.adding import added
from tunesmith.models.fused.kernels import cross_entropy
from tunesmith.models.fused.products import product, weight_gradient

LOGITS_BYTES = 64_000_000  # of a chunk
WORDS = 8192  # of a head whose number format is converted, at once


def head_loss(hidden: Tensor, head: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the summed negative log-likelihood in nats, as a scalar of at least float32.

    Args:
        hidden: (C, width) of the counted positions.
        head: (V, width).
        labels: (C,) int64.
        weights: (C,) of the positions in the sum; None: all count once.
    """
    run: Any = _Head.apply
    loss: Tensor = run(hidden, head if head.requires_grad else head.detach(), labels, weights)
    return loss


class _Head(torch.autograd.Function):
    """Hidden states to the summed loss, in chunks of rows; the gradient is taken on the way.

    That of a head that learns waits for the backward pass where one chunk is all: it is added where it is to stand.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
        rows = max(1, LOGITS_BYTES // (head.shape[0] * hidden.element_size()))
        learns = ctx.needs_input_grad[1]
        waits = learns and 0 < len(hidden) <= rows
        dx = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        dw = logits = None
        total = torch.zeros((), dtype=torch.promote_types(hidden.dtype, torch.float32), device=hidden.device)
        for start in range(0, len(hidden), rows):
            part = slice(start, start + rows)
            logits = _logits(hidden[part], head.detach())
            losses = cross_entropy(logits, labels[part])
            if weights is not None:
                losses.mul_(weights[part])
                logits.mul_(weights[part, None])
            total += losses.sum()
            if dx is not None:
                dx[part] = _back(logits, head.detach())
            if learns and not waits:  # as large as the head, so it does not begin as zeros
                found = torch.mm(logits.T, hidden[part])
                dw = found if dw is None else dw.to(head.dtype).add_(found)
        ctx.given = head, dx, dw, (logits, hidden) if waits else None
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (head, dx, dw, waiting), (scale,) = ctx.given, gradients
        ctx.given = None
        if waiting:
            logits, hidden = waiting
            scaled = (hidden.to(scale.dtype) * scale).to(hidden.dtype)  # a scale that is rounded would be off in all
            dw = weight_gradient(logits, scaled, head)
        elif dw is not None:
            dw = dw.to(head.dtype).mul_(scale)
        return None if dx is None else dx.mul_(scale), *added([head], [dw]), None, None


def _logits(hidden: Tensor, head: Tensor) -> Tensor:
    """Return ``hidden head^T``, (rows, V)."""
    if head.dtype == hidden.dtype:
        return torch.mm(hidden, head.T)
    found = torch.empty(len(hidden), len(head), dtype=hidden.dtype, device=hidden.device)
    for words in _blocks(head):
        product(hidden, head[words].to(hidden.dtype), out=found[:, words])
    return found


def _back(logits: Tensor, head: Tensor) -> Tensor:
    """Return ``logits head``, (rows, width)."""
    if head.dtype == logits.dtype:
        return torch.mm(logits, head)
    found = torch.zeros(len(logits), head.shape[1], dtype=head.dtype, device=head.device)
    for words in _blocks(head):
        found += torch.mm(logits[:, words], head[words].to(logits.dtype))
    return found


def _blocks(head: Tensor) -> list[slice]:
    """Return the words of a head in another number format that are converted together: then no copy is as large."""
    size = WORDS if head.device.type == "cpu" else len(head)
    return [slice(start, start + size) for start in range(0, len(head), size)]
