"""Two ways for a model to read prompts into slots and to write one token of every answer.

``decode.py`` decides which prompt is in which slot; a reader computes. ``FusedReader`` runs on fused layers,
``ModelReader`` on transformers' own, for every model whose attention may be replaced.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from tunesmith.inference.memory import Memory
from tunesmith.models.fused.kernels import product, remember, rotate, swiglu
from tunesmith.models.fused.layer import Layer
from tunesmith.models.fused.ragged import Segments
from tunesmith.models.fused.stack import Stack

SHORT_PREFIX = 8  # tokens below which sharing a prefix is not worth a pass of its own

Prompt = tuple[int, ...]
Reading = Sequence[tuple[int, Sequence[int]]]
"""Slot and tokens of each prompt that is read now."""


class Reader(Protocol):
    """What the desk needs of a model."""

    @property
    def slots(self) -> int:
        """How many answers are written at once."""

    @property
    def prefix(self) -> int:
        """Positions at the start of every slot that all prompts share."""

    def start(self, prompt: Sequence[int]) -> int:
        """Return where in its slot the first token of an answer stands."""

    def read(self, reading: Reading) -> Tensor:
        """Read prompts into their slots; return the likeliest next token of each, (prompts,)."""

    def begin(self, prompts: Sequence[Prompt]) -> None:
        """Do once what serves all prompts that will be read."""

    def keep(self, slots: list[int]) -> None:
        """Keep only these slots, in this order."""

    def write(self, last: Sequence[int], places: Sequence[int]) -> Tensor:
        """Take each slot's last token, which stands at ``places``; return the likeliest next ones, (slots,)."""


class Causal(ABC):
    """What readers of causal models share: an answer follows its prompt, and prompts may begin alike."""

    @abstractmethod
    def read(self, reading: Reading) -> Tensor:
        """See ``Reader``."""

    @abstractmethod
    def share_prefix(self, tokens: int) -> None:
        """Copy what slot 0 holds at its first ``tokens`` positions into every slot."""

    def start(self, prompt: Sequence[int]) -> int:
        """See ``Reader``."""
        return len(prompt)

    def begin(self, prompts: Sequence[Prompt]) -> None:
        """See ``Reader``: read what all prompts begin with."""
        if prefix := shared_prefix(prompts):
            self.read([(0, prompts[0][:prefix])])
            self.share_prefix(prefix)


def shared_prefix(prompts: Sequence[Prompt]) -> int:
    """Return how many tokens all prompts begin with, leaving each at least one of its own; 0 if it is not worth it.

    >>> shared_prefix([(1,) * 20 + (2, 3), (1,) * 20 + (4,)]), shared_prefix([(1, 2), (1, 3)])
    (20, 0)
    """
    if len(prompts) < 2:
        return 0
    first, last = min(prompts), max(prompts)
    same = next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    same = min(same, min(map(len, prompts)) - 1)
    return same if same >= SHORT_PREFIX else 0


class ModelReader(Causal):
    """Through transformers' layers, with ``memory_attention`` as their attention."""

    def __init__(self, model: Any, slots: int, room: int) -> None:
        self.model, self.memory = model, Memory(slots, room)

    @property
    def slots(self) -> int:
        """See ``Reader``."""
        return self.memory.slots

    @property
    def prefix(self) -> int:
        """See ``Reader``."""
        return self.memory.prefix

    def share_prefix(self, tokens: int) -> None:
        """See ``Causal``."""
        self.memory.share_prefix(tokens)

    def keep(self, slots: list[int]) -> None:
        """See ``Reader``."""
        self.memory.keep(slots)

    def read(self, reading: Reading) -> Tensor:
        """See ``Reader``."""
        memory = self.memory
        memory.reading = [(slot, len(tokens)) for slot, tokens in reading]
        ids, positions, ends = (tensor.to(self.model.device) for tensor in _row(reading, memory.prefix))
        found = self.model(
            input_ids=ids[None], position_ids=positions[None], use_cache=False, logits_to_keep=ends, memory=memory
        )
        memory.reading = []
        best: Tensor = found.logits[0].argmax(-1)
        return best

    def write(self, last: Sequence[int], places: Sequence[int]) -> Tensor:
        """See ``Reader``."""
        memory = self.memory
        device = self.model.device
        memory.positions = torch.tensor(places, device=device)
        memory.mask = (torch.arange(max(places) + 1, device=device) <= memory.positions[:, None])[:, None, None]
        ids = torch.tensor(last, device=device)[:, None]
        found = self.model(input_ids=ids, position_ids=memory.positions[:, None], use_cache=False, memory=memory)
        best: Tensor = found.logits[:, -1].argmax(-1)
        return best


class FusedReader(Causal):
    """Through fused layers; keys and values stay where they were written.

    Args:
        stack: The model.
        rooms: Positions of each slot; they lie end to end.
    """

    def __init__(self, stack: Stack, rooms: Sequence[int]) -> None:
        heads = stack.layers[0].heads
        shape = (len(stack.layers), heads.keys, sum(rooms), heads.size)
        self.stack, self.prefix = stack, 0
        self.keys, self.values = (torch.zeros(shape, dtype=stack.dtype) for _ in range(2))
        self.starts = torch.tensor([0, *rooms[:-1]]).cumsum(0)  # of the slots
        self.cosine, self.sine = stack.angles(torch.arange(max(rooms)))

    @property
    def slots(self) -> int:
        """See ``Reader``."""
        return len(self.starts)

    def share_prefix(self, tokens: int) -> None:
        """See ``Causal``."""
        self.prefix = tokens
        first, *others = self.starts.tolist()
        for kept in (self.keys, self.values):
            for start in others:
                kept[:, :, start : start + tokens] = kept[:, :, first : first + tokens]

    def keep(self, slots: list[int]) -> None:
        """See ``Reader``."""
        self.starts = self.starts[slots]

    def read(self, reading: Reading) -> Tensor:
        """See ``Reader``."""
        ids, positions, ends = _row(reading, self.prefix)
        x, angles = self.stack.embed(ids), (self.cosine[positions], self.sine[positions])
        segments = Segments(tuple(len(tokens) for _, tokens in reading))
        starts = self.starts.tolist()
        masks = [_mask(length, self.prefix) for length in segments.lengths]
        for number, layer in enumerate(self.stack.layers):
            qkv = self._queries(layer, x, angles)
            attended = layer.output.room(len(x))
            for (slot, _), rows, mask in zip(reading, segments.spans(), masks, strict=True):
                attended[rows, : layer.output.k] = self._read_one(number, layer, qkv[rows], starts[slot], mask)
            if number == len(self.stack.layers) - 1:  # only the token after each prompt is asked for
                x, attended = x[ends], attended[ends]
            x = _onward(layer, x, attended)
        return self._likeliest(x)

    def write(self, last: Sequence[int], places: Sequence[int]) -> Tensor:
        """See ``Reader``."""
        at = torch.tensor(places)
        here, lengths = self.starts + at, at + 1
        x, angles = self.stack.embed(torch.tensor(last)), (self.cosine[at], self.sine[at])
        for number, layer in enumerate(self.stack.layers):
            qkv = self._queries(layer, x, angles)
            q, k, v = _parts(layer, qkv)
            keys, values = self.keys[number], self.values[number]
            keys[:, here], values[:, here] = k.transpose(0, 1), v.transpose(0, 1)
            attended = layer.output.room(len(x))
            out = attended[:, : layer.output.k]
            remember(q, (keys, values), self.starts, lengths, scale=layer.heads.scale, out=out)
            x = _onward(layer, x, attended)
        return self._likeliest(x)

    def _queries(self, layer: Layer, x: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
        """Return rotated queries and keys, and values, (T, width)."""
        h = layer.qkv.room(len(x))
        layer.norms[0](x, out=h[:, : layer.qkv.k])
        qkv = layer.qkv(h)
        rotate(qkv, *angles, heads=layer.heads.queries + layer.heads.keys)
        return qkv

    def _read_one(self, number: int, layer: Layer, qkv: Tensor, start: int, mask: Tensor | None) -> Tensor:
        """Write a prompt's keys and values into the slot that begins at ``start``; return its attention, (T, H * D)."""
        q, k, v = _parts(layer, qkv)
        end = self.prefix + len(qkv)
        keys, values = (kept[number, :, start : start + end] for kept in (self.keys, self.values))
        keys[:, self.prefix :], values[:, self.prefix :] = k.transpose(0, 1), v.transpose(0, 1)
        query = q.unflatten(1, (-1, layer.heads.size)).transpose(0, 1)
        found = scaled_dot_product_attention(
            query[None], keys[None], values[None], attn_mask=mask, is_causal=mask is None,
            scale=layer.heads.scale, enable_gqa=layer.heads.queries != layer.heads.keys,
        )  # fmt: skip
        return found[0].transpose(0, 1).flatten(1)

    def _likeliest(self, x: Tensor) -> Tensor:
        out = torch.empty_like(x)
        self.stack.norm(x, out=out)
        return product(out, self.stack.head.detach().to(out.dtype)).argmax(-1)


def _row(reading: Reading, start: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return tokens end to end, the position of each, and where each prompt ends."""
    ids = torch.tensor([token for _, tokens in reading for token in tokens])
    positions = torch.tensor([start + n for _, tokens in reading for n in range(len(tokens))])
    return ids, positions, torch.tensor([len(tokens) for _, tokens in reading]).cumsum(0) - 1


def _mask(length: int, prefix: int) -> Tensor | None:
    """Return which of prefix and prompt each token of a prompt sees; None = the usual triangle."""
    return torch.ones(length, prefix + length, dtype=torch.bool).tril(prefix) if prefix else None


def _parts(layer: Layer, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries (T, H * D), keys and values (T, K, D)."""
    heads = layer.heads
    q, k, v = qkv.split((heads.queries * heads.size, heads.keys * heads.size, heads.keys * heads.size), 1)
    return q, k.unflatten(1, (heads.keys, heads.size)), v.unflatten(1, (heads.keys, heads.size))


def _onward(layer: Layer, x: Tensor, attended: Tensor) -> Tensor:
    """Return a layer's output from its input and its attention."""
    middle = layer.output(attended, x)
    h = layer.gate_up.room(len(middle))
    layer.norms[1](middle, out=h[:, : layer.gate_up.k])
    gate_up = layer.gate_up(h)
    act = layer.down.room(len(middle))
    swiglu(gate_up, out=act[:, : layer.down.k])
    return layer.down(act, middle)
