"""The output head and the loss together, so that logits never exist for all positions at once."""

from typing import Any

import torch
from torch import Tensor

from tunesmith.models.fused.adding import left_by_earlier
from tunesmith.models.fused.kernels import cross_entropy

LOGITS_BYTES = 64_000_000  # of a chunk


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
    """Hidden states to the summed loss, in chunks of rows; the gradient is taken on the way."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
        rows = max(1, LOGITS_BYTES // (head.shape[0] * hidden.element_size()))
        weight = head.detach().to(hidden.dtype)
        dx = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        dw: Tensor | None = None
        total = torch.zeros((), dtype=torch.promote_types(hidden.dtype, torch.float32), device=hidden.device)
        for start in range(0, len(hidden), rows):
            part = slice(start, start + rows)
            logits = torch.mm(hidden[part], weight.T)
            losses = cross_entropy(logits, labels[part])
            if weights is not None:
                losses.mul_(weights[part])
                logits.mul_(weights[part, None])
            total += losses.sum()
            if dx is not None:
                torch.mm(logits, weight, out=dx[part])
            if ctx.needs_input_grad[1]:  # as large as the head, so it does not begin as zeros
                found = torch.mm(logits.T, hidden[part])
                dw = found if dw is None else dw.to(head.dtype).add_(found)
        ctx.head, ctx.found = head, (dx, dw)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        dx, dw = ctx.found
        ctx.found = None
        scale = gradients[0]
        if dw is not None:
            there = left_by_earlier(ctx.head)
            if there is None:
                dw = dw.to(ctx.head.dtype).mul_(scale)
            else:
                there.add_(dw, alpha=float(scale))
                dw = None
        return None if dx is None else dx.mul_(scale), dw, None, None
