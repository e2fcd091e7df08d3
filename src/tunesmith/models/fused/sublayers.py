"""The three kinds of sub-layer of T5, forward and backward: self-attention, attention over the encoder, feed-forward.

Each is a norm, products, and a sum with what came in. Rows are tokens; examples lie end to end. What is cheap (norms,
activations, weights of attention, random masks) is computed again on the way back, but for the inner products of LoRA,
which are small.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from tunesmith.models.fused.adding import Gradients
from tunesmith.models.fused.biased import Dropout, Looking, attend_biased, attend_biased_backward
from tunesmith.models.fused.kernels import geglu, geglu_backward
from tunesmith.models.fused.layer import Norm, normed, normed_again
from tunesmith.models.fused.projection import Projection

WEIGHTS, OUT, INNER = range(3)  # what dropout masks in a sub-layer


@dataclass(slots=True)
class Kept:
    """What a sub-layer leaves for its backward pass."""

    x: Tensor
    inverse: Tensor  # 1 / rms
    inner: tuple[Tensor, ...]  # outputs of the first products
    low: tuple[Tensor, ...]  # what LoRA makes of inputs that are computed again
    attended: Tensor | None = None  # the input of the last product


def _added(projection: Projection, h: Tensor, x: Tensor, dropout: Dropout) -> Tensor:
    """Return ``x`` plus the masked output of a projection."""
    if not dropout.rate:
        return projection(h, x)
    return dropout.apply(projection(h), OUT).add_(x)


@dataclass(frozen=True, slots=True)
class SelfAttention:
    """Tokens of an example look at each other."""

    size: int  # of a head
    norm: Norm
    qkv: Projection
    output: Projection

    @property
    def projections(self) -> tuple[Projection, ...]:
        """Both."""
        return self.qkv, self.output

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What learns, in the order in which ``backward`` answers."""
        return [*self.norm.parameters, *self.qkv.parameters, *self.output.parameters]

    def forward(self, x: Tensor, looking: Looking, dropout: Dropout) -> tuple[Tensor, Kept]:
        """Return the output and what the backward pass needs.

        Args:
            x: (T, width).
            looking: The examples, with the bias of the stack.
            dropout: Of this sub-layer.
        """
        h, inverse = normed(self.norm, x, self.qkv)
        q, k, v = self.qkv(h).split(self.qkv.rows, 1)
        attended = self.output.room(len(x))
        attend_biased(q, (k, v), looking, dropout=dropout.at(WEIGHTS), out=attended[:, : self.output.k])
        y = _added(self.output, attended, x, dropout)
        return y, Kept(x, inverse, (q, k, v), (self.qkv.inner(h),), attended)

    def backward(self, dy: Tensor, kept: Kept, looking: Looking, dropout: Dropout) -> Gradients:
        """Turn ``dy`` into the gradient of the input; return those of ``parameters``."""
        assert kept.attended is not None
        d_out = dropout.applied(dy, OUT)
        d_attended, du = self.output.input_gradient(d_out)
        output = self.output.weight_gradients(d_out, kept.attended, du)
        q, k, v = kept.inner
        d_qkv = torch.empty(len(q), sum(self.qkv.rows), dtype=q.dtype, device=q.device)
        dq, dk, dv = d_qkv.split(self.qkv.rows, 1)
        attend_biased_backward(d_attended, q, (k, v), looking, dropout=dropout.at(WEIGHTS), into=(dq, dk, dv))
        d_h, du = self.qkv.input_gradient(d_qkv)
        own: Gradients = []
        if self.qkv.trains:
            own = self.qkv.weight_gradients(d_qkv, normed_again(self.norm, kept.x, self.qkv, kept.low[0]), du)
        norm = self.norm.weight_gradients(d_h, kept.x, kept.inverse)
        self.norm.backward(d_h, kept.x, kept.inverse, dx=dy)
        return [*norm, *own, *output]


@dataclass(frozen=True, slots=True)
class CrossAttention:
    """Tokens of the decoder look at those of the encoder."""

    size: int
    norm: Norm
    query: Projection
    memory: Projection  # keys and values, of the encoder's output
    output: Projection

    @property
    def projections(self) -> tuple[Projection, ...]:
        """All three."""
        return self.query, self.memory, self.output

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What learns, in the order in which ``backward`` answers."""
        parts = (self.norm, self.query, self.memory, self.output)
        return [parameter for part in parts for parameter in part.parameters]

    def forward(self, x: Tensor, encoded: Tensor, looking: Looking, dropout: Dropout) -> tuple[Tensor, Kept]:
        """Return the output and what the backward pass needs.

        Args:
            x: (U, width) of the decoder.
            encoded: (T, width) output of the encoder.
            looking: The examples of both.
            dropout: Of this sub-layer.
        """
        h, inverse = normed(self.norm, x, self.query)
        q, read = self.query(h), self._read(encoded)
        k, v = self._keys_and_values(read)
        attended = self.output.room(len(x))
        attend_biased(q, (k, v), looking, dropout=dropout.at(WEIGHTS), out=attended[:, : self.output.k])
        y = _added(self.output, attended, x, dropout)
        return y, Kept(x, inverse, (q, k, v), (self.query.inner(h), self.memory.inner(read)), attended)

    def backward(
        self, dy: Tensor, encoded: tuple[Tensor, Tensor | None], kept: Kept, looking: Looking, dropout: Dropout
    ) -> Gradients:
        """Turn ``dy`` into the gradient of the input; return those of ``parameters``.

        Args:
            dy: (U, width) gradient of the output; is changed.
            encoded: (T, width) output of the encoder, and the gradient of it, to which is added; None: nobody wants it.
            kept: What ``forward`` kept.
            looking: As in ``forward``.
            dropout: As in ``forward``.
        """
        assert kept.attended is not None
        d_out = dropout.applied(dy, OUT)
        d_attended, du = self.output.input_gradient(d_out)
        output = self.output.weight_gradients(d_out, kept.attended, du)
        q, k, v = kept.inner
        dq, d_kv = torch.empty_like(q), torch.empty(len(k), sum(self.memory.rows), dtype=k.dtype, device=k.device)
        dk, dv = d_kv.split(self.memory.rows, 1)
        attend_biased_backward(d_attended, q, (k, v), looking, dropout=dropout.at(WEIGHTS), into=(dq, dk, dv))
        if encoded[1] is None:
            du = self.memory.inner_gradient(d_kv)
        else:
            d_read, du = self.memory.input_gradient(d_kv)
            encoded[1].add_(d_read)
        memory: Gradients = []
        if self.memory.trains:
            read = self._read(encoded[0])
            read[:, self.memory.k :] = kept.low[1]
            memory = self.memory.weight_gradients(d_kv, read, du)
        d_h, du = self.query.input_gradient(dq)
        own: Gradients = []
        if self.query.trains:
            own = self.query.weight_gradients(dq, normed_again(self.norm, kept.x, self.query, kept.low[0]), du)
        norm = self.norm.weight_gradients(d_h, kept.x, kept.inverse)
        self.norm.backward(d_h, kept.x, kept.inverse, dx=dy)
        return [*norm, *own, *memory, *output]

    def remembered(self, encoded: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values of the encoder's output, (T, H * D) each."""
        return self._keys_and_values(self._read(encoded))

    def _keys_and_values(self, read: Tensor) -> tuple[Tensor, Tensor]:
        k, v = self.memory(read).split(self.memory.rows, 1)
        return k, v

    def _read(self, encoded: Tensor) -> Tensor:
        if not self.memory.rank:
            return encoded
        h = self.memory.room(len(encoded))
        h[:, : self.memory.k] = encoded
        return h


@dataclass(frozen=True, slots=True)
class FeedForward:
    """Two products with an activation between them; with a gate, one of the first product's halves scales the other."""

    act: Literal["relu", "geglu"]
    norm: Norm
    wide: Projection
    narrow: Projection

    @property
    def projections(self) -> tuple[Projection, ...]:
        """Both."""
        return self.wide, self.narrow

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What learns, in the order in which ``backward`` answers."""
        return [*self.norm.parameters, *self.wide.parameters, *self.narrow.parameters]

    def forward(self, x: Tensor, dropout: Dropout) -> tuple[Tensor, Kept]:
        """Return the output, (T, width), and what the backward pass needs."""
        h, inverse = normed(self.norm, x, self.wide)
        inner = self.wide(h)
        act = self.narrow.room(len(x))
        inside = act[:, : self.narrow.k]
        if self.act == "geglu":
            geglu(inner, out=inside)
        else:
            torch.clamp_min(inner, 0, out=inside)
        dropout.apply(inside, INNER)
        y = _added(self.narrow, act, x, dropout)
        return y, Kept(x, inverse, (inner,), (self.wide.inner(h), self.narrow.inner(act)))

    def backward(self, dy: Tensor, kept: Kept, dropout: Dropout) -> Gradients:
        """Turn ``dy`` into the gradient of the input; return those of ``parameters``."""
        d_out = dropout.applied(dy, OUT)
        d_act, narrow_du = self.narrow.input_gradient(d_out)
        dropout.apply(d_act, INNER)
        act, inner = self.narrow.room(len(dy)), kept.inner[0]
        inside = act[:, : self.narrow.k]
        if self.act == "geglu":
            geglu_backward(d_act, inner, out=inside)
            d_inner = inner
        else:
            torch.clamp_min(inner, 0, out=inside)
            d_inner = d_act * (inner > 0)
        narrow: Gradients = []
        if self.narrow.trains:
            dropout.apply(inside, INNER)
            act[:, self.narrow.k :] = kept.low[1]
            narrow = self.narrow.weight_gradients(d_out, act, narrow_du)
        d_h, du = self.wide.input_gradient(d_inner)
        wide: Gradients = []
        if self.wide.trains:
            wide = self.wide.weight_gradients(d_inner, normed_again(self.norm, kept.x, self.wide, kept.low[0]), du)
        norm = self.norm.weight_gradients(d_h, kept.x, kept.inverse)
        self.norm.backward(d_h, kept.x, kept.inverse, dx=dy)
        return [*norm, *wide, *narrow]
