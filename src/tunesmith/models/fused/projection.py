"""The linear layers that read the same input, with their LoRA corrections, as one matrix product.

LoRA adds (alpha / r) B A x to W x (Hu and others 2021). Written as one product,

    W x + s B (A x)  =  [W | s B] [x ; A x],

the correction costs a slightly wider product instead of two small ones and a pass over the output; backward, the
gradient of A x falls out of the same product as that of x. For several layers B is block-diagonal.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tunesmith.machine import Release
from tunesmith.models.fused.adding import Gradients
from tunesmith.models.fused.kernels import swiglu
from tunesmith.models.fused.products import (
    LaidOut,
    Panels,
    add_product_back,
    gated,
    laid_out,
    product,
    product_back,
    rows_apart,
    weight_gradient,
)


@dataclass(frozen=True, slots=True)
class Part:
    """One linear layer of a projection: n x k, with a correction of rank r or none."""

    weight: nn.Parameter  # (n, k)
    bias: nn.Parameter | None  # (n,)
    a: nn.Parameter | None  # (r, k)
    b: nn.Parameter | None  # (n, r)
    scale: float

    @property
    def rank(self) -> int:
        """Width of the correction; 0 = none."""
        return self.a.shape[0] if self.a is not None else 0


def is_linear(module: Any) -> bool:
    """Tell a linear layer that is nothing more."""
    return type(module) is nn.Linear


def read_part(module: Any) -> Part | None:
    """Return a linear layer's weights, plain or with peft's LoRA; None for anything that computes something else."""
    if is_linear(module):
        return Part(module.weight, module.bias, None, None, 0.0)
    if type(module).__module__ != "peft.tuners.lora.layer" or type(module).__name__ != "Linear":
        return None
    base, names = module.base_layer, list(module.active_adapters)
    if not is_linear(base) or len(names) != 1 or module.disable_adapters or module.merged:
        return None
    name = names[0]
    if name not in module.lora_A:
        return None
    odd = (
        module.use_dora.get(name) or module.lora_bias.get(name) or getattr(module, "fan_in_fan_out", False)
        or type(module.lora_dropout[name]) is not nn.Identity or name in getattr(module, "lora_variant", {})
    )  # fmt: skip
    if odd:
        return None
    a, b = module.lora_A[name].weight, module.lora_B[name].weight
    return Part(base.weight, base.bias, a, b, float(module.scaling[name]))


class Projection:
    """Several parts with one input of k features; n outputs and a rank of r in all.

    Args:
        parts: At least one.
        dtype: Number format of the computation.
        gates: Whether there are two parts, of which the first one's outputs are gates of the second's.
    """

    def __init__(self, parts: Sequence[Part], dtype: torch.dtype, *, gates: bool = False) -> None:
        self.parts, self.dtype, self.gates = tuple(parts), dtype, gates
        self.k = parts[0].weight.shape[1]
        self.rank = sum(part.rank for part in parts)
        self.rows = [part.weight.shape[0] for part in parts]
        self.single = len(parts) == 1 and not self.rank and parts[0].weight.dtype == dtype
        self.weight: Tensor = parts[0].weight  # (n, k + r) once packed
        self.laid_out: LaidOut | None = None  # the same once more, for answering
        self.a: Tensor = parts[0].weight[:0]  # (r, k)
        self.bias: Tensor | None = None  # (n,)

    @property
    def trains(self) -> bool:
        """Whether anything of it learns."""
        return bool(self.parameters)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What learns, in the order in which ``weight_gradients`` answers."""
        every = [w for part in self.parts for w in (part.weight, part.bias, part.a, part.b)]
        return [weight for weight in every if weight is not None and weight.requires_grad]

    @torch.inference_mode(False)  # a model that has answered may be trained on
    def pack(self, release: Release = lambda start, size: None) -> None:
        """Move the base weights into the wide matrix; where the number format agrees, layers keep a view of it.

        Args:
            release: Is told of memory that nobody reads any more.
        """
        first = self.parts[0].weight
        if any(part.bias is not None for part in self.parts):
            self.bias = torch.zeros(sum(self.rows), dtype=self.dtype, device=first.device)
        if not self.single:
            self.weight = torch.zeros(sum(self.rows), self.k + self.rank, dtype=self.dtype, device=first.device)
            self.a = torch.zeros(self.rank, self.k, dtype=self.dtype, device=first.device)
            self._move_in(release)
        self.refresh()

    def _move_in(self, release: Release) -> None:
        with torch.no_grad():
            for part, rows in zip(self.parts, self._row_slices(), strict=True):
                place = self.weight.detach()[rows, : self.k]
                place.copy_(part.weight)
                if part.weight.dtype == self.dtype:
                    before = part.weight.data
                    part.weight.data = place
                    if before.is_contiguous():
                        release(before.data_ptr(), before.nbytes)

    @torch.inference_mode(False)
    def unpack(self) -> None:
        """Give every layer a matrix of its own again."""
        if not self.single:
            for part in self.parts:
                part.weight.data = part.weight.data.clone(memory_format=torch.contiguous_format)
            self.weight = self.parts[0].weight

    @torch.no_grad()
    def refresh(self) -> None:
        """Take over what an optimizer step has changed."""
        column = self.k
        for part, rows in zip(self.parts, self._row_slices(), strict=True):
            if part.weight.dtype != self.dtype and part.weight.requires_grad:
                self.weight[rows, : self.k] = part.weight.to(self.dtype)
            if part.bias is not None and self.bias is not None:
                self.bias[rows] = part.bias.to(self.dtype)
            if part.a is not None and part.b is not None:
                columns = slice(column, column + part.rank)
                self.weight[rows, columns] = (part.b * part.scale).to(self.dtype)
                self.a[columns.start - self.k : columns.stop - self.k] = part.a.to(self.dtype)
                column += part.rank

    def lay_out(self) -> None:
        """Have the weights once more in the order in which answering reads them, until ``laid_out`` is None again."""
        self.laid_out = laid_out(self.weight, gates=self.gates and self.bias is None)

    def room(self, tokens: int) -> Tensor:
        """Return an empty input, (tokens, k + r); its first k columns are to be filled."""
        return rows_apart(tokens, self.k + self.rank, dtype=self.dtype, device=self.weight.device)

    def reduce(self, x: Tensor) -> None:
        """Fill the last r columns of an input, (tokens, k + r), with A x."""
        if self.rank:
            product(x[:, : self.k], self.a, out=x[:, self.k :])

    def inner(self, x: Tensor) -> Tensor:
        """Return a copy of the last r columns of an input, A x, (tokens, r)."""
        return x[:, self.k :].clone(memory_format=torch.contiguous_format)

    def __call__(self, x: Tensor, add: Tensor | None = None) -> Tensor:
        """Return the outputs of all parts side by side, (tokens, n), plus ``add`` of the same shape."""
        self.reduce(x)
        y = product(x, self.weight.detach() if self.laid_out is None else self.laid_out, add)
        return y if self.bias is None else y.add_(self.bias)

    def gated(self, x: Tensor, *, out: Tensor) -> Tensor | None:
        """Write ``silu(gate) * up`` into ``out``, (tokens, n / 2); return gate and up if they are written."""
        if isinstance(self.laid_out, Panels) and self.laid_out.gates:
            self.reduce(x)
            gated(x, self.laid_out, out=out)
            return None
        gate_up = self(x)
        swiglu(gate_up, out=out)
        return gate_up

    def input_gradient(self, dy: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradient of the input, (tokens, k), and of A x, (tokens, r).

        Args:
            dy: (tokens, n) gradient of the output.
        """
        wide = product_back(dy, self.weight.detach())
        dx, du = wide[:, : self.k], wide[:, self.k :]
        if self.rank:
            add_product_back(dx, du, self.a)
        return dx, du

    def inner_gradient(self, dy: Tensor) -> Tensor:
        """Return the gradient of A x alone, (tokens, r), where nothing below learns."""
        return torch.mm(dy, self.weight.detach()[:, self.k :])

    def weight_gradients(self, dy: Tensor, x: Tensor, du: Tensor) -> Gradients:
        """Return the gradients of ``parameters``; None for what was added to those of earlier batches.

        Args:
            dy: (tokens, n) gradient of the output.
            x: (tokens, k + r) the input, with A x in its last columns.
            du: (tokens, r) gradient of A x.
        """
        found: Gradients = []
        features, column = x[:, : self.k], 0
        low = [part for part in self.parts if part.a is not None and part.a.requires_grad]
        da = weight_gradient(du, features) if low else None
        for part, rows in zip(self.parts, self._row_slices(), strict=True):
            own = dy[:, rows]
            if part.weight.requires_grad:
                found.append(weight_gradient(own, features, part.weight))
            if part.bias is not None and part.bias.requires_grad:
                found.append(own.float().sum(0).to(part.bias.dtype))
            columns = slice(column, column + part.rank)
            column += part.rank
            if da is not None and part.a is not None and part.a.requires_grad:
                found.append(da[columns].to(part.a.dtype))
            if part.b is not None and part.b.requires_grad:
                turned = weight_gradient(x[:, self.k + columns.start : self.k + columns.stop], own)
                assert turned is not None
                found.append(turned.T.contiguous().to(part.b.dtype).mul_(part.scale))
        return found

    def _row_slices(self) -> list[slice]:
        ends = torch.tensor(self.rows).cumsum(0).tolist()
        return [slice(end - rows, end) for end, rows in zip(ends, self.rows, strict=True)]


def same_weights(mine: Sequence[Projection], theirs: Sequence[Projection]) -> bool:
    """Tell whether two readings of a model found the same weights in the same places."""
    return all(
        a is b
        for one, two in zip(mine, theirs, strict=True)
        for first, second in zip(one.parts, two.parts, strict=True)
        for a, b in ((first.weight, second.weight), (first.a, second.a), (first.b, second.b))
    )
