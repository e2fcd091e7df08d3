"""How a model reads prompts into slots and writes one token of every answer.

``decode.py`` decides which prompt is in which slot; a reader computes. ``ModelReader`` here runs on transformers' own
layers, for every model whose attention may be replaced; ``fused_reading.py`` has those that run on fused layers.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from tunesmith.inference.memory import Memory

SHORT_PREFIX = 8  # tokens below which sharing a prefix is not worth a pass of its own

Prompt = tuple[int, ...]
Reading = Sequence[tuple[int, Sequence[int]]]
"""Slot and tokens of each prompt that is read now."""
Writing = Sequence[tuple[int, Sequence[int], int]]
"""Slot of each answer that is written now, its last token and those guessed to follow, and where the first stands."""


@dataclass(frozen=True, slots=True)
class Pace:
    """When prompts are read into free slots.

    A processor takes as long as there are tokens: it reads at once, and lets go of slots that are not used. A graphics
    card takes about as long for many tokens as for one, and waits until several slots are free.
    """

    tokens: int = 1024  # after which no further prompt is read in the same call
    free: int = 1  # slots, before any prompt is read while others write their answers
    idle: int = 1  # slots, before they are let go when no prompt waits


def pace(device: torch.device, slots: int) -> Pace:
    """Return the pace of a reader with so many slots.

    >>> pace(torch.device("cpu"), 48), pace(torch.device("cuda"), 48)
    (Pace(tokens=1024, free=1, idle=6), Pace(tokens=8192, free=6, idle=24))
    """
    some = max(1, slots // 8)
    return Pace(idle=some) if device.type == "cpu" else Pace(8192, free=some, idle=max(1, slots // 2))


class Reader(Protocol):
    """What the desk needs of a model."""

    guessing: bool
    """Whether it takes guesses and leaves slots out; else every slot has one token in each call, in their order."""

    @property
    def slots(self) -> int:
        """How many answers are written at once."""

    @property
    def prefix(self) -> int:
        """Positions at the start of every slot that all prompts share."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    def start(self, prompt: Sequence[int]) -> int:
        """Return where in its slot the first token of an answer stands."""

    def read(self, reading: Reading) -> Tensor:
        """Read prompts into their slots; return the likeliest next token of each, (prompts,)."""

    def begin(self, tokens: Prompt) -> None:
        """Read once what all prompts begin with, if they begin alike."""

    def keep(self, slots: list[int]) -> None:
        """Keep only these slots, in this order."""

    def write(self, writing: Writing) -> Tensor:
        """Take tokens of answers; return the likeliest token after each of them, (tokens,)."""


class Causal(ABC):
    """What readers of causal models share: an answer follows its prompt, and prompts may begin alike."""

    guessing = False

    @abstractmethod
    def read(self, reading: Reading) -> Tensor:
        """See ``Reader``."""

    @abstractmethod
    def share_prefix(self, tokens: int) -> None:
        """Have every slot begin with what slot 0 holds at its first ``tokens`` positions."""

    def start(self, prompt: Sequence[int]) -> int:
        """See ``Reader``."""
        return len(prompt)

    def begin(self, tokens: Prompt) -> None:
        """See ``Reader``."""
        if tokens:
            self.read([(0, tokens)])
            self.share_prefix(len(tokens))


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
    def device(self) -> torch.device:
        """See ``Reader``."""
        found: torch.device = self.model.device
        return found

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
        ids, positions, ends = (tensor.to(self.model.device) for tensor in row_of(reading, memory.prefix))
        found = self.model(
            input_ids=ids[None], position_ids=positions[None], use_cache=False, logits_to_keep=ends, memory=memory
        )
        memory.reading = []
        best: Tensor = found.logits[0].argmax(-1)
        return best

    def write(self, writing: Writing) -> Tensor:
        """See ``Reader``."""
        memory = self.memory
        device = self.model.device
        _, ids, places = tokens_of(writing, device)
        memory.positions = places
        memory.mask = (torch.arange(int(places.max()) + 1, device=device) <= places[:, None])[:, None, None]
        found = self.model(input_ids=ids[:, None], position_ids=places[:, None], use_cache=False, memory=memory)
        best: Tensor = found.logits[:, -1].argmax(-1)
        return best


def row_of(reading: Reading, start: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return tokens end to end, the position of each, and where each prompt ends."""
    ids = torch.tensor([token for _, tokens in reading for token in tokens])
    positions = torch.tensor([start + n for _, tokens in reading for n in range(len(tokens))])
    return ids, positions, torch.tensor([len(tokens) for _, tokens in reading]).cumsum(0) - 1


def tokens_of(writing: Writing, device: torch.device) -> Tensor:
    """Return the slot of each token, the tokens, and where they stand, (3, tokens)."""
    rows = [(slot, token, place + n) for slot, tokens, place in writing for n, token in enumerate(tokens)]
    return torch.tensor(rows, device=device).T
