"""Attention with a learned bias for each distance between two tokens, and its backward pass (Raffel and others 2020).

Examples lie end to end. The weights of one example and layer are small enough to stay in the cache, so they are
computed as a matrix, and again on the way back. T5 does not scale the products. As in ``kernels.py`` there are two
forms with equal results up to rounding: compiled C++ (``biased.cpp``), and torch.
"""

from collections.abc import Sequence
from ctypes import c_float, c_long, c_uint, c_void_p
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from tunesmith.models.fused.calling import compiled, rows_at, start
from tunesmith.models.fused.kernels import drop, dropped
from tunesmith.models.fused.ragged import LANES


@dataclass(slots=True)
class Bias:
    """What is added to the products of one stack of layers; every layer adds the same."""

    table: nn.Parameter  # (buckets, H)
    buckets: Tensor  # (T, T) int64, for the longest example
    matrix: Tensor  # (H, T, T); -inf where a token may not look
    gradient: Tensor | None  # (H, T, T), summed over examples and layers; None: the table does not learn
    causal: bool  # whether a token may not look at later ones

    def table_gradient(self) -> Tensor | None:
        """Return the gradient of the table, (buckets, H)."""
        if self.gradient is None:
            return None
        found = torch.zeros(self.table.shape, dtype=self.gradient.dtype, device=self.gradient.device)
        found.index_add_(0, self.buckets.flatten(), self.gradient.flatten(1).T)
        return found.to(self.table.dtype)


def make_bias(attention: Any, longest: int, *, causal: bool, dtype: torch.dtype) -> Bias:
    """Return the bias of a stack of layers.

    Args:
        attention: transformers' layer that has the table.
        longest: T, tokens of the longest example.
        causal: Whether a token may not look at later ones.
        dtype: Number format of the products.
    """
    table = attention.relative_attention_bias.weight
    place = torch.arange(longest, device=table.device)
    buckets = attention._relative_position_bucket(
        place[None] - place[:, None], bidirectional=not causal,
        num_buckets=attention.relative_attention_num_buckets, max_distance=attention.relative_attention_max_distance,
    )  # fmt: skip
    matrix = table.detach()[buckets].permute(2, 0, 1).to(dtype).contiguous()
    if causal:
        matrix.masked_fill_(torch.ones(longest, longest, dtype=torch.bool, device=table.device).triu(1), -torch.inf)
    wide = torch.promote_types(dtype, torch.float32)
    gradient = torch.zeros(matrix.shape, dtype=wide, device=table.device) if table.requires_grad else None
    return Bias(table, buckets, matrix, gradient, causal)


@dataclass(frozen=True, slots=True)
class Dropout:
    """Random masks that are drawn a second time on the way back instead of being kept."""

    rate: float  # 0 = none
    seed: int = 0  # of one batch
    place: tuple[int, ...] = ()  # in the model

    def at(self, *place: int) -> "Dropout":
        """Return the same for a part of the model, told by numbers."""
        return Dropout(self.rate, self.seed, (*self.place, *place)) if self.rate else self

    def apply(self, x: Tensor, *place: int) -> Tensor:
        """Mask ``x`` in place, (..., width) and contiguous but for its rows, and return it.

        Args:
            x: Is multiplied by 0 or 1 / (1 - rate).
            place: What tells this mask from the others of its place.
        """
        if self.rate:
            drop(x if x.ndim == 2 else x.view(-1, x.shape[-1]), self.rate, self.seed_of(*place))
        return x

    def seed_of(self, *place: int) -> int:
        """Return the 64 bits that a mask of this place is drawn from."""
        return hash((self.seed, *self.place, *place)) & (2**64 - 1)

    def applied(self, x: Tensor, *place: int) -> Tensor:
        """Return ``x`` masked as ``apply`` does, and leave it as it is."""
        return self.apply(x.clone(), *place) if self.rate else x


@dataclass(frozen=True, slots=True)
class Looking:
    """Who looks at whom: examples of queries and of keys, end to end each, T and S tokens in all."""

    queries: tuple[int, ...]  # tokens of each example
    keys: tuple[int, ...]
    size: int  # D, of a head
    bias: Bias | None = None  # added to the products

    def pairs(self) -> Sequence[tuple[slice, slice]]:
        """Return the rows of queries and of keys of each example."""
        return list(zip(spans(self.queries), spans(self.keys), strict=True))


def spans(lengths: Sequence[int]) -> list[slice]:
    """Return the rows of each example.

    >>> spans((2, 3))
    [slice(0, 2, None), slice(2, 5, None)]
    """
    ends = list(accumulate(lengths))
    return [slice(end - length, end) for end, length in zip(ends, lengths, strict=True)]


def _by_head(x: Tensor, size: int) -> Tensor:
    """Return rows (T, H * D) as (H, T, D), a view."""
    found: Tensor = x.unflatten(1, (-1, size)).transpose(0, 1)
    return found


def _weights(q: Tensor, k: Tensor, bias: Bias | None) -> Tensor:
    """Return whom each query looks at, (H, T, S)."""
    products = torch.bmm(q, k.transpose(1, 2))
    if bias is not None:
        products += bias.matrix[:, : q.shape[1], : k.shape[1]]
    wide = torch.promote_types(products.dtype, torch.float32)
    weights: Tensor = torch.softmax(products, -1, dtype=wide).to(products.dtype)
    return weights


def _compiled(name: str, looking: Looking, dropout: Dropout, *tensors: Tensor) -> Any:
    """Return the compiled form of ``name`` as a function of the matrices and of what stands before the bias."""
    run = compiled(name, *tensors) if looking.size % LANES == 0 else None
    if run is None:
        return None
    bias, count = looking.bias, len(looking.queries)
    lengths = torch.tensor([looking.queries, looking.keys])
    added = (c_void_p(0), c_long(0), c_long(0))
    if bias is not None:
        added = (start(bias.matrix), c_long(bias.matrix.shape[-1]), c_long(bias.causal))
    seeds = torch.tensor([dropout.seed_of(n) for n in range(count) if dropout.rate], dtype=torch.uint64)
    heads = tensors[0].shape[1] // looking.size

    def call(*matrices: Tensor, before: tuple[c_void_p, ...] = ()) -> None:
        given = [part for matrix in matrices for part in rows_at(matrix)]
        rows = start(lengths[0]), start(lengths[1]), c_long(count)
        limit, scale = dropped(dropout.rate)
        sizes = c_uint(limit), c_float(scale), c_long(heads), c_long(looking.size)
        run(*given, *rows, *before, *added, start(seeds) if dropout.rate else c_void_p(0), *sizes)

    return call


def attend_biased(q: Tensor, kv: tuple[Tensor, Tensor], looking: Looking, *, dropout: Dropout, out: Tensor) -> None:
    """Write each query's attention over the keys of its example into ``out``, (T, H * D).

    Args:
        q: (T, H * D).
        kv: Keys and values, (S, H * D) each.
        looking: The examples, and the bias if there is one.
        dropout: Of the weights of this layer.
        out: Is written.
    """
    if run := _compiled("attend_biased", looking, dropout, q, *kv, out):
        run(q, *kv, out)
        return
    size = looking.size
    for number, (rows, others) in enumerate(looking.pairs()):
        weights = _weights(_by_head(q[rows], size), _by_head(kv[0][others], size), looking.bias)
        found = torch.bmm(dropout.apply(weights, number), _by_head(kv[1][others], size))
        out[rows].unflatten(1, (-1, size)).copy_(found.transpose(0, 1))


def attend_biased_backward(
    dout: Tensor, q: Tensor, kv: tuple[Tensor, Tensor], looking: Looking, *,
    dropout: Dropout, into: tuple[Tensor, Tensor, Tensor],
) -> None:  # fmt: skip
    """Write the gradients of queries, keys and values into ``into``; add that of the bias to its own.

    Args:
        dout: (T, H * D) gradient of what ``attend_biased`` wrote.
        q: As it read it.
        kv: As it read it.
        looking: As it read it.
        dropout: As it drew it.
        into: (T, H * D), (S, H * D), (S, H * D).
    """
    size, bias = looking.size, looking.bias
    if run := _compiled("attend_biased_backward", looking, dropout, q, *kv, dout, *into):
        gradient = None if bias is None else bias.gradient
        run(dout, q, *kv, *into, before=(c_void_p(0) if gradient is None else start(gradient),))
        return
    for number, (rows, others) in enumerate(looking.pairs()):
        parts = (q[rows], kv[0][others], kv[1][others], dout[rows])
        query, key, value, d_out = (_by_head(x, size) for x in parts)
        weights = _weights(query, key, bias)
        d_value = torch.bmm(dropout.applied(weights, number).transpose(1, 2), d_out)
        d_weights = dropout.apply(torch.bmm(d_out, value.transpose(1, 2)), number)
        d_products = torch._softmax_backward_data(d_weights, weights, -1, weights.dtype)
        if bias is not None and bias.gradient is not None:
            bias.gradient[:, : weights.shape[1], : weights.shape[2]] += d_products
        found = (torch.bmm(d_products, key), torch.bmm(d_products.transpose(1, 2), query), d_value)
        for part, where, span in zip(found, into, (rows, others, others), strict=True):
            where[span].unflatten(1, (-1, size)).copy_(part.transpose(0, 1))
