"""New tokens through all layers of a causal model, in one call of compiled code.

With few tokens at a time, telling the parts of a layer one by one from Python takes as long as they do; with many, all
cores but one wait meanwhile.
"""

from collections.abc import Sequence
from ctypes import Structure, addressof, c_float, c_long, c_void_p
from typing import Any

import torch
from torch import Tensor

from tunesmith.models.fused import ragged
from tunesmith.models.fused.calling import compiled, start
from tunesmith.models.fused.layer import Layer
from tunesmith.models.fused.products import ALIKE, SPARE, Panels
from tunesmith.models.fused.stack import Stack

Filled = tuple[Tensor, Tensor, int]
"""How far the slots of some tokens are filled: starts, lengths and prefix of ``Remembered``."""


class _Shape(Structure):
    """The same as in ``stepping.cpp``."""

    _fields_ = [
        *((name, c_long) for name in ("layers", "width", "inner", "heads", "shared", "size", "positions")),
        *((name, c_long) for name in ("alike", "spare")),
        *((name, c_float) for name in ("eps", "scale")),
    ]  # fmt: skip


class Stepper:
    """All layers of a stack, told once where everything is.

    Args:
        stack: Laid out.
        kept: Keys and values of all layers, (layers, K, positions, D) each; every call adds to them.
    """

    def __init__(self, stack: Stack, kept: tuple[Tensor, Tensor]) -> None:
        first = stack.layers[0]
        heads, width, inner = first.heads, first.qkv.k, first.down.k
        self.parts = [_parts(layer, keys, values) for layer, keys, values in zip(stack.layers, *kept, strict=True)]
        told = [[0 if part is None else part.data_ptr() for part in parts] for parts in self.parts]
        self.every, self.last = map(_places, (told, told[-1:]))
        sizes = width, inner, heads.queries, heads.keys, heads.size, kept[0].shape[2], ALIKE, SPARE
        self.shapes = [_Shape(layers, *sizes, first.norms[0].eps, heads.scale) for layers in (len(told), 1)]
        self.heads, self.dtype = heads, kept[0].dtype
        queries, panel = heads.queries * heads.size, compiled("panel", *kept)()
        self.spared = 0 if queries % panel else queries  # columns of queries: they are left out by whole panels
        self.numbers = 2 * width + heads.width + queries + inner + 5 * SPARE
        self.step, self.whole = (compiled(name, *kept) for name in ("step", "read"))

    @property
    def reads(self) -> bool:
        """Whether it takes prompts as well."""
        return self.heads.size % ragged.LANES == 0

    def __call__(self, x: Tensor, angles: tuple[Tensor, Tensor], here: Tensor, filled: Filled) -> Tensor:
        """Return what leaves the last layer, of one new token of each of some slots, (tokens, width).

        Args:
            x: (tokens, width) embeddings, contiguous; is changed.
            angles: Cosine and sine of each token's position, (tokens, D / 2) float32.
            here: (tokens,) int64, the positions among all slots that are written to.
            filled: How far the slots of the tokens are filled, these included.
        """
        return self._through(0, x, angles, here, filled)

    def enter(
        self, x: Tensor, angles: tuple[Tensor, Tensor], here: Tensor, lengths: Sequence[int], prefix: int
    ) -> Tensor:
        """Return what enters the last layer, of prompts that lie end to end; slots remember them in all layers.

        Args:
            x: As above.
            angles: As above.
            here: As above.
            lengths: Tokens of each prompt.
            prefix: Positions that all slots share and that come before.
        """
        asked = torch.tensor(lengths)
        sums = torch.empty(self.heads.queries * (len(x) + prefix * len(asked)), dtype=torch.float32)
        examples = start(asked), c_long(len(asked)), c_long(prefix)
        return self._run(self.whole, 0, (x, *angles, here), *examples, start(sums), c_long(self.spared))

    def leave(self, x: Tensor, angles: tuple[Tensor, Tensor], here: Tensor, filled: Filled) -> Tensor:
        """Return what leaves the last layer, of some of the rows that enter it; for the arguments see ``__call__``."""
        return self._through(1, x, angles, here, filled)

    def _through(self, last: int, x: Tensor, angles: tuple[Tensor, Tensor], here: Tensor, filled: Filled) -> Tensor:
        starts, lengths, prefix = filled
        return self._run(self.step, last, (x, *angles, here), start(starts), start(lengths), c_long(prefix))

    def _run(self, what: Any, last: int, row: tuple[Tensor, ...], *more: Any) -> Tensor:
        x = row[0]
        room, rms = torch.empty(len(x) * self.numbers, dtype=self.dtype), torch.empty(len(x), dtype=torch.float32)
        layers, shape = (self.every, self.last)[last], c_void_p(addressof(self.shapes[last]))
        what(layers, shape, *map(start, row), c_long(len(x)), start(room), start(rms), *more)
        return x


def stepper(stack: Stack, kept: tuple[Tensor, Tensor]) -> Stepper | None:
    """Return what takes tokens through a stack at once; None where a layer has something that it does not know.

    Args:
        stack: Its weights laid out, or not.
        kept: As ``Stepper`` wants them.
    """
    eps = {norm.eps for layer in stack.layers for norm in layer.norms}
    if compiled("step", *kept) is None or len(eps) > 1 or not all(map(_known, stack.layers)):
        return None
    return Stepper(stack, kept)


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


def _places(layers: list[list[int]]) -> Any:
    places = [place for layer in layers for place in layer]
    return (c_void_p * len(places))(*places)
