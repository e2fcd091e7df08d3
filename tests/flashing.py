"""FlashAttention where there is no graphics card: plain torch in the place of its kernels, forward and backward."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tunesmith.models.fused import flash as flashes
from tunesmith.models.fused import packing
from tunesmith.models.fused.stack import Stack

Places = list[tuple[slice, slice]]


def stand_in(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let fused layers attend as on a graphics card; return the list into which every call is written."""
    calls: list[str] = []

    def forward(q: Tensor, k: Tensor, v: Tensor, *places: Any, scale: Any, seqused_k: Any = None) -> tuple[Tensor, ...]:
        calls.append("read" if seqused_k is None else "remembered")
        cum_q, cum_k, _, longest, dropout, causal, _ = places
        assert (dropout, causal) == (0.0, True)
        used = cum_k.diff() if seqused_k is None else seqused_k
        assert {cum_q.dtype, cum_k.dtype, used.dtype} == {torch.int32}
        assert int(used.max()) <= longest
        out = torch.full_like(q, torch.nan)  # what nobody writes is seen
        for rows, kept in spans(cum_q, cum_k, used):
            out[rows] = attended(q[rows], k[kept], v[kept], scale)
        return out, q.new_zeros(1), q.new_zeros(2), q.new_zeros(0), q.new_zeros(0)

    def backward(dout: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, *rest: Any, scale: Any) -> list[Tensor]:
        calls.append("backward")
        cum_q = rest[1]
        given = [part.detach().clone().requires_grad_() for part in (q, k, v)]
        with torch.enable_grad():
            answer = torch.cat(
                [attended(*(part[rows] for part in given), scale) for rows, _ in spans(cum_q, cum_q, cum_q.diff())]
            )
            assert torch.allclose(answer, out, atol=1e-5)
            return list(torch.autograd.grad(answer, given, dout))

    monkeypatch.setattr(flashes, "_forward", forward)
    monkeypatch.setattr(flashes, "_backward", backward)
    monkeypatch.setattr(packing, "takes_flash", lambda device, dtype, size: True)
    monkeypatch.setattr(Stack, "flashes", True)
    return calls


def spans(cum_q: Tensor, cum_k: Tensor, used: Tensor) -> Places:
    """Return the rows of queries and of keys that belong together."""
    ends = zip(cum_q.tolist(), cum_q.tolist()[1:], cum_k.tolist(), used.tolist(), strict=False)
    return [(slice(start, end), slice(first, first + count)) for start, end, first, count in ends]


def attended(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Return attention (t, H, D) of the last t of T tokens over all of them up to each."""
    times = q.shape[1] // k.shape[1]
    k, v = (part.repeat_interleave(times, 1) for part in (k, v))
    scores = torch.einsum("thd,shd->hts", q, k) * scale
    seen = torch.ones(len(q), len(k), dtype=torch.bool, device=q.device).tril(len(k) - len(q))
    return torch.einsum("hts,shd->thd", scores.masked_fill(~seen, -torch.inf).softmax(-1), v)
