"""Keys and values of prompts and answers, kept in place: written once, never copied as answers grow.

There is a fixed number of slots. A prompt is read into a free slot while other slots are in the middle of their
answers; what all prompts begin with is read once and stands at the start of every slot.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface

NAME = "tunesmith_memory"


@dataclass(slots=True)
class Memory:
    """The keys and values of all layers, and what the pass that runs now does with them."""

    slots: int
    room: int  # positions of a slot
    prefix: int = 0  # positions at the start of every slot that all prompts share
    keys: dict[int, Tensor] = field(default_factory=dict)  # layer -> (slots, K, room, D)
    values: dict[int, Tensor] = field(default_factory=dict)
    reading: list[tuple[int, int]] = field(default_factory=list)  # (slot, tokens) of each prompt in this pass
    positions: Tensor | None = None  # (slots,) where each slot's next token stands; only between reading
    mask: Tensor | None = None  # (slots, 1, 1, longest) True = may be attended to

    def layer(self, number: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values of a layer, made when they are first asked for.

        Args:
            number: Of the layer.
            like: (1, K, T, D) keys or values of that layer.
        """
        if number not in self.keys:
            shape = (self.slots, like.shape[1], self.room, like.shape[3])
            self.keys[number], self.values[number] = like.new_zeros(shape), like.new_zeros(shape)
        return self.keys[number], self.values[number]

    def share_prefix(self, tokens: int) -> None:
        """Copy what slot 0 holds at its first ``tokens`` positions into every slot."""
        self.prefix = tokens
        for kept in (*self.keys.values(), *self.values.values()):
            kept[1:, :, :tokens] = kept[:1, :, :tokens]

    def keep(self, slots: list[int]) -> None:
        """Keep only these slots, in this order."""
        self.slots = len(slots)
        for kept in (self.keys, self.values):
            for number, tensor in kept.items():
                kept[number] = tensor[slots]


def memory_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Causal attention that writes to and reads from a Memory.

    Args:
        module: The attention layer; its ``layer_idx`` says which one.
        query: (1, H, T, D) while reading prompts end to end; (slots, H, 1, D) while writing answers.
        key: The same with K heads.
        value: The same with K heads.
        attention_mask: None; the memory says all.
        options: ``memory``, ``scaling``, ``sliding_window``.

    Returns:
        (1, T, H, D) or (slots, 1, H, D), and no attention weights.
    """
    memory: Memory = options["memory"]
    keys, values = memory.layer(module.layer_idx, key)
    window, scale = options.get("sliding_window"), options.get("scaling")
    if memory.reading:
        return _read(memory, query, (key, value), (keys, values), window=window, scale=scale), None
    assert memory.positions is not None
    assert memory.mask is not None
    rows = torch.arange(memory.slots, device=query.device)
    keys[rows, :, memory.positions], values[rows, :, memory.positions] = key[:, :, 0], value[:, :, 0]
    longest = memory.mask.shape[-1]
    mask = memory.mask
    if window:
        mask = mask & (torch.arange(longest, device=query.device) > memory.positions[:, None, None, None] - window)
    out = scaled_dot_product_attention(
        query,
        keys[:, :, :longest],
        values[:, :, :longest],
        attn_mask=mask,
        scale=scale,
        enable_gqa=_grouped(query, key),
    )
    return out.transpose(1, 2).contiguous(), None


def _read(
    memory: Memory, query: Tensor, new: tuple[Tensor, Tensor], kept: tuple[Tensor, Tensor], *,
    window: int | None, scale: float | None,
) -> Tensor:  # fmt: skip
    """Write each prompt's keys and values into its slot, and attend to the shared prefix and to itself."""
    lengths = [tokens for _, tokens in memory.reading]
    start, out = memory.prefix, []
    parts = (tensor.split(lengths, 2) for tensor in (query, *new))
    for (slot, tokens), q, k, v in zip(memory.reading, *parts, strict=True):
        end = start + tokens
        kept[0][slot, :, start:end], kept[1][slot, :, start:end] = k[0], v[0]
        mask = None
        if start or (window and tokens > window):
            k, v = kept[0][slot : slot + 1, :, :end], kept[1][slot : slot + 1, :, :end]
            ones = torch.ones(tokens, end, dtype=torch.bool, device=q.device)
            mask = ones.tril(start)
            if window:
                mask &= ones.triu(start + 1 - window)
        out.append(
            scaled_dot_product_attention(
                q, k, v, attn_mask=mask, is_causal=mask is None, scale=scale, enable_gqa=_grouped(q, k)
            )
        )
    return torch.cat(out, 2).transpose(1, 2).contiguous()


def _grouped(query: Tensor, key: Tensor) -> bool:
    return query.shape[1] != key.shape[1]


def _no_mask(*_: Any, **__: Any) -> None:
    return None


AttentionInterface.register(NAME, memory_attention)
AttentionMaskInterface.register(NAME, _no_mask)
