"""One new token of each slot through all layers of a causal model, in one call of compiled code.

With few tokens at a time, telling the parts of a layer one by one from Python takes as long as they do.
"""

from ctypes import c_float, c_long, c_void_p
from typing import Any

import torch
from torch import Tensor

from tunesmith.models.fused.calling import compiled, start
from tunesmith.models.fused.layer import Layer
from tunesmith.models.fused.products import Panels
from tunesmith.models.fused.stack import Stack


class Stepper:
    """All layers of a stack, told once where everything is.

    Args:
        stack: Laid out.
        kept: Keys and values of all layers, (layers, K, positions, D) each; every call adds to them.
        run: The compiled form.
    """

    def __init__(self, stack: Stack, kept: tuple[Tensor, Tensor], run: Any) -> None:
        first = stack.layers[0]
        self.run, self.heads, self.eps, self.inner = run, first.heads, first.norms[0].eps, first.down.k
        self.parts = [_parts(layer, keys, values) for layer, keys, values in zip(stack.layers, *kept, strict=True)]
        places = [0 if part is None else part.data_ptr() for parts in self.parts for part in parts]
        self.places = (c_void_p * len(places))(*places)
        self.positions = kept[0].shape[2]

    def __call__(
        self, x: Tensor, angles: tuple[Tensor, Tensor], here: Tensor, filled: tuple[Tensor, Tensor, int]
    ) -> Tensor:
        """Return what leaves the last layer, (tokens, width).

        Args:
            x: (tokens, width) embeddings, contiguous; is changed.
            angles: Cosine and sine of each token's position, (tokens, D / 2) float32.
            here: (tokens,) int64, the positions among all slots that are written to.
            filled: How far the slots of the tokens are filled: starts, lengths and prefix of ``Remembered``.
        """
        rows, width = x.shape
        heads = self.heads
        numbers = 2 * width + heads.width + heads.queries * heads.size + self.inner
        room = torch.empty(rows * numbers, dtype=x.dtype)
        rms = torch.empty(rows, dtype=torch.float32)
        sizes = (len(self.parts), width, self.inner, heads.queries, heads.keys, heads.size, self.positions)
        starts, lengths, prefix = filled
        where = map(start, (x, *angles, here, starts, lengths))
        self.run(
            self.places, *map(c_long, sizes), *where, c_long(prefix), c_long(rows), c_float(self.eps),
            c_float(heads.scale), start(room), start(rms),
        )  # fmt: skip
        return x


def stepper(stack: Stack, kept: tuple[Tensor, Tensor]) -> Stepper | None:
    """Return what takes a token through a stack at once; None where a layer has something that it does not know.

    Args:
        stack: Its weights laid out, or not.
        kept: As ``Stepper`` wants them.
    """
    run = compiled("step", *kept)
    eps = {norm.eps for layer in stack.layers for norm in layer.norms}
    if run is None or len(eps) > 1 or not all(map(_known, stack.layers)):
        return None
    return Stepper(stack, kept, run)


def _known(layer: Layer) -> bool:
    panels = [one.laid_out for one in layer.projections if isinstance(one.laid_out, Panels) and not one.rank]
    plain = layer.prefix is None and all(one.bias is None for one in layer.projections[1:])
    return plain and [one.gates for one in panels] == [one is layer.gate_up for one in layer.projections]


def _parts(layer: Layer, keys: Tensor, values: Tensor) -> list[Tensor | None]:
    """Return what a layer is made of, in the order in which ``stepping.cpp`` reads it."""
    first, second = (norm.weight.detach().to(keys.dtype) for norm in layer.norms)
    qkv, output, gate_up, down = (_weights(one.laid_out) for one in layer.projections)
    return [first, qkv, layer.qkv.bias, output, second, gate_up, down, keys, values]


def _weights(laid_out: Any) -> Tensor:
    assert isinstance(laid_out, Panels)
    return laid_out.weights
