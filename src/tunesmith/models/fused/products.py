"""Products of rows with weights, in the order in which these are multiplied.

Weights that do not change may lie in panels (``products.cpp``) or in oneDNN's own order: the first of these that this
processor and these weights can be had in. Others lie as they are, and many rows at once are multiplied by panels of
them that are made on the way; torch does what is left.
"""

from collections.abc import Callable
from ctypes import c_long, c_void_p
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tunesmith.models.fused.adding import left_by_earlier
from tunesmith.models.fused.calling import compiled, rows_at, start


@dataclass(frozen=True, slots=True)
class Panels:
    """A matrix (n, k) as ``products.cpp`` reads it."""

    weights: Tensor  # (panels, k, columns of a panel)
    n: int
    k: int
    gates: bool  # half of the columns are gates, and the other half is what they scale
    run: Callable[..., None]

    def times(self, x: Tensor, add: Tensor | None, *, out: Tensor) -> Tensor:
        """Write ``x`` times the matrix turned into ``out``, plus ``add``; or, of gates, what they let through."""
        if x.stride(1) != 1 or x.stride(0) % 2:  # rows begin where a pair does
            x = x.contiguous()
        sizes = map(c_long, (len(x), self.n, self.k, self.gates))
        self.run(*rows_at(x), start(self.weights), *_rows_of(add), *rows_at(out), *sizes)
        return out


LaidOut = Tensor | Panels
ALIKE = 4096  # bytes; rows so far apart take each other's place in the nearest cache
SPARE = 32  # columns that are left empty so that they do not; an even number
MANY = 128  # rows; of fewer the making of a panel takes too large a share


def laid_out(weight: Tensor, *, gates: bool = False) -> LaidOut:
    """Return a matrix in the order in which ``product`` is fastest; as it is where there is none but that.

    Few rows, as when answers are written, are multiplied up to twice as fast: a library for large products spends its
    time on preparing the matrix, again for each token.

    Args:
        weight: (n, k).
        gates: It is for ``gated`` and not for ``product``, where panels can be had for that.
    """
    return _panels(weight.detach(), gates) or _ordered(weight)


def _panels(weight: Tensor, gates: bool) -> Panels | None:
    run = compiled("product", weight)
    if run is None or weight.shape[1] % 2 or weight.stride(1) != 1:  # two at a time
        return None
    n, k = weight.shape
    wide: int = compiled("panel", weight)()
    gates = gates and n % wide == 0
    made = torch.empty(-(-n // wide), k, wide, dtype=weight.dtype)
    write: Any = compiled("lay_out", weight)
    write(*rows_at(weight), start(made), *map(c_long, (n, k, gates)))
    return Panels(made, n, k, gates, run)


def _ordered(weight: Tensor) -> Tensor:
    try:
        found: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), None)
    except (AttributeError, RuntimeError, NotImplementedError):  # no oneDNN, not on this device, not for this format
        return weight
    return found


def rows_apart(rows: int, width: int, *, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return an empty matrix, (rows, width), whose rows do not take each other's place in the nearest cache.

    Fourteen of them are multiplied at once, and of those that are 4,096 bytes apart it holds eight.
    """
    alike = width * dtype.itemsize % ALIKE == 0
    return torch.empty(rows, width + alike * SPARE, dtype=dtype, device=device)[:, :width]


def product(x: Tensor, weight: LaidOut, add: Tensor | None = None, *, out: Tensor | None = None) -> Tensor:
    """Return ``x weight^T``, plus ``add`` where there is one, (rows, n).

    Args:
        x: (rows, k).
        weight: (n, k), as it is or ``laid_out``.
        add: (rows, n).
        out: (rows, n) to write into, of a weight that lies as it is.
    """
    if isinstance(weight, Panels):
        assert not weight.gates
        return weight.times(x, add, out=torch.empty(len(x), weight.n, dtype=x.dtype))
    if weight.is_mkldnn:
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
        return y if add is None else y.add_(add)
    if (found := _as_it_is(x, weight, add, turned=False, out=out)) is not None:
        return found
    return torch.mm(x, weight.T, out=out) if add is None else torch.addmm(add, x, weight.T, out=out)


def product_back(dy: Tensor, weight: Tensor) -> Tensor:
    """Return ``dy weight``, (rows, k): what ``product`` does, backward.

    Args:
        dy: (rows, n).
        weight: (n, k).
    """
    found = _as_it_is(dy, weight, None, turned=True)
    return torch.mm(dy, weight) if found is None else found


def add_product_back(dx: Tensor, dy: Tensor, weight: Tensor) -> None:
    """Add what ``product_back`` returns to ``dx``, (rows, k)."""
    if _as_it_is(dy, weight, dx, turned=True, out=dx) is None:
        dx.addmm_(dy, weight)


def weight_gradient(dy: Tensor, x: Tensor, weight: Tensor | None = None) -> Tensor | None:
    """Return ``dy^T x``, (n, k), the gradient of a weight; None if it was added to what earlier batches have left.

    It is in float32 where it is computed here, and in the format of the products where torch does that.

    Args:
        dy: (rows, n) gradient of the outputs.
        x: (rows, k) inputs.
        weight: That learns, (n, k); None: this is a part of a gradient, and nothing is added to what is there.
    """
    run = compiled("weight_gradient", dy, x)
    wide = weight is None or weight.dtype == torch.float32
    if run is None or not wide or len(x) < MANY or dy.stride(1) != 1 or x.stride(1) != 1:
        return torch.mm(dy.T, x)
    there = None if weight is None else left_by_earlier(weight)
    more = there is not None and there.stride(1) == 1
    y = there if there is not None and more else torch.empty(dy.shape[1], x.shape[1])
    run(*rows_at(dy), *rows_at(x), *rows_at(y), *map(c_long, (len(x), *y.shape, more)))
    return None if more else y


def _as_it_is(
    x: Tensor, weight: Tensor, add: Tensor | None, *, turned: bool, out: Tensor | None = None
) -> Tensor | None:
    """Multiply by a matrix that is not laid out, panel after panel; None where that cannot be had or does not pay."""
    run = compiled("product_as_is", x, weight, *([] if add is None else [add]))
    n, k = weight.shape[::-1] if turned else weight.shape
    if run is None or len(x) < MANY or k % 2 or x.stride(0) % 2 or x.stride(1) != 1 or weight.stride(1) != 1:
        return None
    if x.stride(0) * x.element_size() % ALIKE == 0:
        return None
    y = rows_apart(len(x), n, dtype=x.dtype, device=x.device) if out is None else out
    run(*rows_at(x), *rows_at(weight), c_long(turned), *_rows_of(add), *rows_at(y), *map(c_long, (len(x), n, k)))
    return y


def _rows_of(add: Tensor | None) -> tuple[c_void_p, c_long]:
    return (c_void_p(0), c_long(0)) if add is None else rows_at(add)


def gated(x: Tensor, weight: Panels, *, out: Tensor) -> None:
    """Write ``silu(gate) * up`` of ``x weight^T``, which is gate and up side by side, into ``out`` (Shazeer 2020).

    Args:
        x: (rows, k).
        weight: (n, k), laid out for this.
        out: (rows, n / 2).
    """
    weight.times(x, None, out=out)
