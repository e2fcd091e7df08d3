"""What happens between the matrix products: norms, rotations, gated activations, the loss. One pass over memory each.

Every function has two forms with equal results up to rounding: compiled C++ (``kernels.cpp``) for float32 and bfloat16
on a CPU, and torch for everything else. Matrices are (rows, width), rows being tokens; the last dimension is
contiguous, rows may lie further apart.
"""

from ctypes import c_float, c_long, c_uint

import torch
from torch import Tensor
from torch.nn.functional import gelu, silu

from tunesmith.models.fused.calling import compiled, rows_at, start


def rms_norm(x: Tensor, weight: Tensor, eps: float, *, out: Tensor, own: bool = False) -> Tensor:
    """Write ``weight * x / rms(x)`` into ``out`` and return 1 / rms(x) for each row (Zhang and Sennrich 2019).

    Args:
        x: (rows, width).
        weight: (width,).
        eps: Added to the mean square.
        out: (rows, width); may be part of a wider matrix.
        own: Keep float64 in the products, as T5 does; Llama rounds to float32 first.
    """
    inverse = torch.empty(x.shape[0], dtype=torch.float32, device=x.device)
    if run := compiled("rms_norm", x, weight, out):
        run(*rows_at(x), start(weight), c_float(eps), *rows_at(out), start(inverse), *map(c_long, x.shape))
        return inverse
    inverse = (x.float().square().mean(-1) + eps).rsqrt()
    out.copy_(weight * (_wide(x, own) * inverse[:, None]).to(x.dtype))
    return inverse


def _wide(x: Tensor, own: bool) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32)) if own else x.float()


def rms_norm_backward(dy: Tensor, x: Tensor, weight: Tensor, inverse: Tensor, *, dx: Tensor, own: bool = False) -> None:
    """Add the gradient of ``rms_norm``'s input to ``dx``.

    Args:
        dy: (rows, width) gradient of its output.
        x: (rows, width) its input.
        weight: (width,).
        inverse: (rows,) what it returned.
        dx: (rows, width), changed in place.
        own: As in ``rms_norm``.
    """
    if run := compiled("rms_norm_backward", dy, x, weight, dx):
        run(*rows_at(dy), *rows_at(x), start(weight), start(inverse), *rows_at(dx), *map(c_long, x.shape))
        return
    r = inverse[:, None]
    g, wide = _wide(dy * weight, own), _wide(x, own)
    through_size = x.float() * ((g * wide).sum(-1, keepdim=True).float() * r**3 / x.shape[1])
    dx += (g * r - through_size).to(dx.dtype)


def rms_norm_weight_gradient(dy: Tensor, x: Tensor, inverse: Tensor, *, own: bool = False) -> Tensor:
    """Return the gradient of ``rms_norm``'s weight, (width,)."""
    return (_wide(dy, own) * _wide(x, own)).mul_(inverse[:, None]).sum(0)


def rotate(x: Tensor, cosine: Tensor, sine: Tensor, *, heads: int, back: bool = False) -> None:
    """Rotate the first ``heads`` heads of each row in place by the angle of its position (Su and others 2021).

    Args:
        x: (rows, more than heads * size).
        cosine: (rows, size / 2) float32.
        sine: (rows, size / 2) float32.
        heads: How many.
        back: By the negative angle, which is the backward pass.
    """
    half = cosine.shape[1]
    if run := compiled("rotate", x):
        sign = c_float(-1.0 if back else 1.0)
        run(*rows_at(x), start(cosine), start(sine), sign, *map(c_long, (x.shape[0], heads, 2 * half)))
        return
    pairs = x[:, : heads * 2 * half].unflatten(1, (heads, 2, half))
    c, s = cosine[:, None].to(x.dtype), sine[:, None].to(x.dtype) * (-1 if back else 1)
    a, b = pairs[:, :, 0] * c - pairs[:, :, 1] * s, pairs[:, :, 1] * c + pairs[:, :, 0] * s
    pairs[:, :, 0], pairs[:, :, 1] = a, b


def swiglu(gate_up: Tensor, *, out: Tensor) -> None:
    """Write ``silu(gate) * up`` into ``out`` (Shazeer 2020).

    Args:
        gate_up: (rows, 2 * width): gate, then up.
        out: (rows, width).
    """
    if run := compiled("swiglu", gate_up, out):
        run(*rows_at(gate_up), *rows_at(out), *map(c_long, out.shape))
        return
    gate, up = gate_up.chunk(2, 1)
    out.copy_(silu(gate) * up)


def swiglu_backward(dy: Tensor, gate_up: Tensor, *, out: Tensor) -> None:
    """Turn ``gate_up`` into its gradient, and write ``silu(gate) * up`` into ``out`` once more.

    Args:
        dy: (rows, width) gradient of ``swiglu``'s output.
        gate_up: (rows, 2 * width), changed in place.
        out: (rows, width).
    """
    if run := compiled("swiglu_backward", dy, gate_up, out):
        run(*rows_at(dy), *rows_at(gate_up), *rows_at(out), *map(c_long, out.shape))
        return
    gate, up = gate_up.chunk(2, 1)
    s = gate.sigmoid()
    smooth = gate * s
    out.copy_(smooth * up)
    d_gate, d_up = dy * up * (s + smooth * (1 - s)), dy * smooth
    gate.copy_(d_gate)
    up.copy_(d_up)


def geglu(gate_up: Tensor, *, out: Tensor) -> None:
    """Write ``gelu(gate) * up`` into ``out``, with the tanh form of gelu (Shazeer 2020).

    Args:
        gate_up: (rows, 2 * width): gate, then up.
        out: (rows, width).
    """
    if run := compiled("geglu", gate_up, out):
        run(*rows_at(gate_up), *rows_at(out), *map(c_long, out.shape))
        return
    gate, up = gate_up.chunk(2, 1)
    out.copy_(gelu(gate, approximate="tanh") * up)


def geglu_backward(dy: Tensor, gate_up: Tensor, *, out: Tensor) -> None:
    """Turn ``gate_up`` into its gradient, and write ``gelu(gate) * up`` into ``out`` once more.

    Args:
        dy: (rows, width) gradient of ``geglu``'s output.
        gate_up: (rows, 2 * width), changed in place.
        out: (rows, width).
    """
    if run := compiled("geglu_backward", dy, gate_up, out):
        run(*rows_at(dy), *rows_at(gate_up), *rows_at(out), *map(c_long, out.shape))
        return
    gate, up = gate_up.chunk(2, 1)
    smooth = gelu(gate, approximate="tanh")
    out.copy_(smooth * up)
    d_gate = torch.ops.aten.gelu_backward(dy * up, gate, approximate="tanh")
    d_up = dy * smooth
    gate.copy_(d_gate)
    up.copy_(d_up)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return each row's negative log-likelihood in nats; ``logits`` become the gradient of it.

    Args:
        logits: (rows, vocabulary), contiguous, changed in place to softmax - one-hot.
        labels: (rows,) int64.
    """
    if run := compiled("cross_entropy", logits):
        loss = torch.empty(logits.shape[0], dtype=torch.float32)
        run(start(logits), start(labels), start(loss), *map(c_long, logits.shape))
        return loss
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    rows = torch.arange(logits.shape[0], device=logits.device)
    everything = wide.logsumexp(-1, keepdim=True)
    loss = everything[:, 0] - wide[rows, labels]
    logits.copy_((wide - everything).exp_())
    logits[rows, labels] -= 1
    return loss


def drop(x: Tensor, rate: float, seed: int) -> None:
    """Multiply ``x`` in place by a random mask, 0 or 1 / (1 - rate) (Srivastava and others 2014).

    Args:
        x: (rows, width).
        rate: Share of zeros; above 0 and below 1.
        seed: 64 bits. The same one, and the same shape, draw the same mask in every format and on every machine.
    """
    limit, scale = dropped(rate)
    low, high = seed & _BITS, seed >> 32 & _BITS
    if run := compiled("drop", x):
        run(*rows_at(x), *map(c_uint, (low, high, limit)), c_float(scale), *map(c_long, x.shape))
        return
    row = _mixed(_mixed(torch.arange(x.shape[0], device=x.device) + low & _BITS) ^ high)
    number = _mixed(torch.arange(x.shape[1], device=x.device) + row[:, None] & _BITS)
    x.mul_((number >= limit).to(x.dtype).mul_(scale))


def dropped(rate: float) -> tuple[int, float]:
    """Return below which number, of 2**32, a place is masked, and by what all others are multiplied."""
    return round(rate * 2**32), 1 / (1 - rate)


_BITS = 0xFFFFFFFF


def _mixed(x: Tensor) -> Tensor:
    """Return a well mixed number for each, below 2**32 (Wellons 2018, "Prospecting for Hash Functions": lowbias32)."""
    x = (x ^ x >> 16) * 0x7FEB352D & _BITS
    x = (x ^ x >> 15) * 0x846CA68B & _BITS  # what goes beyond 64 bits is above those that are kept
    return x ^ x >> 16
