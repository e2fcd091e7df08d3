"""One decoder layer of the Llama family, forward and backward: attention and SwiGLU between two norms.

What the backward pass needs is kept where it is dear to compute (products, attention) or small (the inner products of
LoRA), and computed again where it is cheap (norms, SwiGLU): about 23 KB per token and layer for SmolLM2-135M in
float32.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tunesmith.models.fused.adding import Gradients
from tunesmith.models.fused.kernels import (
    rms_norm,
    rms_norm_backward,
    rms_norm_weight_gradient,
    rotate,
    swiglu_backward,
)
from tunesmith.models.fused.prefix import Prefix
from tunesmith.models.fused.projection import Projection
from tunesmith.models.fused.ragged import Heads, Segments, attend, attend_backward


@dataclass(frozen=True, slots=True)
class Norm:
    """An RMSNorm."""

    weight: nn.Parameter  # (width,)
    eps: float
    own: bool = False  # whether products stay in float64 where the model is in it

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What learns of it."""
        return [self.weight] if self.weight.requires_grad else []

    def __call__(self, x: Tensor, *, out: Tensor) -> Tensor:
        """Normalise into ``out``; return 1 / rms of each row."""
        return rms_norm(x, self.weight.detach().to(x.dtype), self.eps, out=out, own=self.own)

    def backward(self, dy: Tensor, x: Tensor, inverse: Tensor, *, dx: Tensor) -> None:
        """Add the gradient of the input to ``dx``."""
        rms_norm_backward(dy, x, self.weight.detach().to(x.dtype), inverse, dx=dx, own=self.own)

    def weight_gradients(self, dy: Tensor, x: Tensor, inverse: Tensor) -> Gradients:
        """Return the gradients of ``parameters``."""
        if not self.weight.requires_grad:
            return []
        return [rms_norm_weight_gradient(dy, x, inverse, own=self.own).to(self.weight.dtype)]


def normed(norm: Norm, x: Tensor, projection: Projection) -> tuple[Tensor, Tensor]:
    """Return the input of a projection, and 1 / rms of each row."""
    h = projection.room(len(x))
    return h, norm(x, out=h[:, : projection.k])


def normed_again(norm: Norm, x: Tensor, projection: Projection, low: Tensor) -> Tensor:
    """Compute the input of a projection again, and put what LoRA made of it beside it."""
    h, _ = normed(norm, x, projection)
    h[:, projection.k :] = low
    return h


@dataclass(frozen=True, slots=True)
class Row:
    """What all layers need to know of a batch: examples end to end, T tokens."""

    segments: Segments
    cosine: Tensor  # (T, D / 2) float32
    sine: Tensor  # (T, D / 2) float32
    counted: Tensor  # (C,) positions whose hidden state is wanted at the end
    virtual: Tensor | None = None  # (T,) number of the virtual token there, -1 = a real one; None: all are real


@dataclass(slots=True)
class Kept:
    """What one layer leaves for its backward pass; rows are tokens."""

    x: Tensor
    first: Tensor  # 1 / rms
    qkv: Tensor
    sums: list[Tensor]
    attended: Tensor  # the input of the output projection
    middle: Tensor  # after attention
    second: Tensor  # 1 / rms
    gate_up: Tensor
    low: list[Tensor]  # A x of queries, keys and values; of gate and up; of the last projection


@dataclass(frozen=True, slots=True)
class Layer:
    """Norms and projections of one decoder layer."""

    heads: Heads
    norms: tuple[Norm, Norm]
    qkv: Projection
    output: Projection
    gate_up: Projection
    down: Projection
    prefix: Prefix | None = None

    @property
    def projections(self) -> tuple[Projection, ...]:
        """All four."""
        return self.qkv, self.output, self.gate_up, self.down

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What learns, in the order in which ``backward`` answers."""
        first, second = self.norms
        parts = (first, self.qkv, self.prefix, self.output, second, self.gate_up, self.down)
        return [parameter for part in parts if part for parameter in part.parameters]

    def forward(self, x: Tensor, row: Row, *, last: bool, keep: bool) -> tuple[Tensor, Kept | None]:
        """Return the layer's output, and what its backward pass needs if it is to be kept.

        Args:
            x: (T, width).
            row: The batch.
            last: Nothing reads the positions that are not counted any more: leave them out after attention.
            keep: Whether there will be a backward pass.
        """
        low: list[Tensor] = []
        qkv, first = self.queries(x, (row.cosine, row.sine), row.virtual, low=low if keep else None)
        attended = self.output.room(len(x))
        sums = attend(qkv, row.segments, self.heads, out=attended[:, : self.output.k])
        chosen, residual = (attended[row.counted], x[row.counted]) if last else (attended, x)
        y, middle, second, gate_up = self.onward(chosen, residual, low=low if keep else None)
        if not keep:
            return y, None
        assert gate_up is not None  # weights that learn are not laid out
        return y, Kept(x, first, qkv, sums, attended, middle, second, gate_up, low)

    def queries(
        self, x: Tensor, angles: tuple[Tensor, Tensor], virtual: Tensor | None = None,
        low: list[Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Return rotated queries and keys, and values, side by side, (T, width); and 1 / rms of each row.

        Args:
            x: (T, width).
            angles: Cosine and sine of each position, as in ``Row``.
            virtual: As in ``Row``.
            low: Is given what LoRA makes of the input.
        """
        h, inverse = normed(self.norms[0], x, self.qkv)
        qkv = self.qkv(h)
        if low is not None:
            low.append(self.qkv.inner(h))
        if self.prefix:
            self.prefix.put(qkv, virtual)
        rotate(qkv, *angles, heads=self.heads.queries + self.heads.keys)
        return qkv, inverse

    def onward(
        self, attended: Tensor, x: Tensor, low: list[Tensor] | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Return the layer's output, and on the way to it: what follows attention, its 1 / rms, and gate and up.

        Args:
            attended: Input of the output projection, from its ``room``.
            x: The layer's input in the same rows.
            low: Is given what LoRA makes of the inputs of the MLP's projections.
        """
        middle = self.output(attended, x)
        h, inverse = normed(self.norms[1], middle, self.gate_up)
        act = self.down.room(len(middle))
        gate_up = self.gate_up.gated(h, out=act[:, : self.down.k])
        y = self.down(act, middle)
        if low is not None:
            low += self.gate_up.inner(h), self.down.inner(act)
        return y, middle, inverse, gate_up

    def backward(self, dy: Tensor, row: Row, kept: Kept, *, last: bool, below: bool) -> tuple[Tensor | None, Gradients]:
        """Return the gradient of the layer's input (None unless something below learns), and of its parameters.

        Args:
            dy: Gradient of the output; is changed in place.
            row: The batch.
            kept: What ``forward`` kept; is changed.
            last: As in ``forward``.
            below: Whether the gradient of the input is wanted.
        """
        second = self._mlp_backward(dy, kept)
        attended = kept.attended[row.counted] if last else kept.attended
        if last:
            self.output.reduce(attended)
        d_attended, du = self.output.input_gradient(dy)
        output = self.output.weight_gradients(dy, attended, du)
        if last:
            dy, d_attended = (_scattered(part, row.counted, len(kept.x)) for part in (dy, d_attended))
        first, dx = self._attention_backward(dy, d_attended, row, kept, below=below)
        norm_one, qkv = first
        norm_two, gate_up, down = second
        return dx, [*norm_one, *qkv, *output, *norm_two, *gate_up, *down]

    def _mlp_backward(self, dy: Tensor, kept: Kept) -> tuple[Gradients, Gradients, Gradients]:
        """Add what comes back through the MLP to ``dy``; return the gradients of norm, gate and up, down."""
        d_act, du = self.down.input_gradient(dy)
        act = self.down.room(len(dy))
        swiglu_backward(d_act, kept.gate_up, out=act[:, : self.down.k])
        d_gate_up = kept.gate_up
        down: Gradients = []
        if self.down.trains:
            act[:, self.down.k :] = kept.low[2]
            down = self.down.weight_gradients(dy, act, du)
        d_h, du = self.gate_up.input_gradient(d_gate_up)
        gate_up: Gradients = []
        if self.gate_up.trains:
            h = normed_again(self.norms[1], kept.middle, self.gate_up, kept.low[1])
            gate_up = self.gate_up.weight_gradients(d_gate_up, h, du)
        norm = self.norms[1].weight_gradients(d_h, kept.middle, kept.second)
        self.norms[1].backward(d_h, kept.middle, kept.second, dx=dy)
        return norm, gate_up, down

    def _attention_backward(
        self, dy: Tensor, d_attended: Tensor, row: Row, kept: Kept, *, below: bool
    ) -> tuple[tuple[Gradients, Gradients], Tensor | None]:
        """Return the gradients of norm and of queries, keys, values; and of the input, for which ``dy`` is used."""
        answers = kept.attended[:, : self.output.k]
        d_qkv = attend_backward(d_attended, kept.qkv, answers, kept.sums, segments=row.segments, heads=self.heads)
        rotate(d_qkv, row.cosine, row.sine, heads=self.heads.queries + self.heads.keys, back=True)
        prefix = self.prefix.gradients(d_qkv, row.virtual) if self.prefix else []
        norm = self.norms[0]
        if below or norm.parameters:
            d_h, du = self.qkv.input_gradient(d_qkv)
        else:
            d_h, du = None, self.qkv.inner_gradient(d_qkv)
        qkv: Gradients = []
        if self.qkv.trains:
            qkv = self.qkv.weight_gradients(d_qkv, normed_again(norm, kept.x, self.qkv, kept.low[0]), du)
        qkv += prefix
        if d_h is None:
            return ([], qkv), None
        gradients = norm.weight_gradients(d_h, kept.x, kept.first)
        norm.backward(d_h, kept.x, kept.first, dx=dy)
        return (gradients, qkv), dy if below else None


def _scattered(part: Tensor, places: Tensor, rows: int) -> Tensor:
    whole = torch.zeros(rows, part.shape[1], dtype=part.dtype, device=part.device)
    whole[places] = part
    return whole


def all_parameters(layers: Sequence[Layer]) -> list[nn.Parameter]:
    """Return what learns in a stack of layers, lowest first."""
    return [parameter for layer in layers for parameter in layer.parameters]
