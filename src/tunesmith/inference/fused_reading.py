"""Readers on fused layers of causal models: keys and values stay where they were written.

On a graphics card prompts that are read together are one call of attention, and what writes a token is recorded once
and replayed, since telling a card what to do takes longer than its doing it.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tunesmith.inference.reading import Causal, Reading, Writing, row_of, tokens_of
from tunesmith.models.fused.answering import Remembered, keep, likeliest, remember
from tunesmith.models.fused.flash import Ends, Filled, ends_of, flash_remember
from tunesmith.models.fused.products import laid_out, product
from tunesmith.models.fused.ragged import Heads, Segments, attend
from tunesmith.models.fused.recording import Work, recorded
from tunesmith.models.fused.stack import Stack
from tunesmith.models.fused.stepping import stepper

LOGITS = 128  # rows of them in memory at once

Attend = Callable[[int, Heads, Tensor, Tensor], None]
"""Is given the number of a layer, its heads, their queries (or queries, keys and values), and where answers go."""


class FusedReader(Causal):
    """Through fused layers; keys and values stay where they were written.

    Args:
        stack: The model.
        rooms: Positions of each slot; they lie end to end.
        shared: How many of them, at the start of every slot, are in memory once.
    """

    guessing = True

    def __init__(self, stack: Stack, rooms: Sequence[int], shared: int = 0) -> None:
        heads, device = stack.layers[0].heads, stack.device
        own = [room - shared for room in rooms]
        shape = (len(stack.layers), heads.keys, shared + sum(own), heads.size)
        self.stack, self.prefix, self.device = stack, 0, device
        self.head = laid_out(stack.head.to(stack.dtype))
        self.keys, self.values = (torch.zeros(shape, dtype=stack.dtype, device=device) for _ in range(2))
        # how much further on the positions of a slot are than those of the first, the shared ones excepted
        self.starts = torch.tensor([0, *own[:-1]], device=device).cumsum(0)
        self.cosine, self.sine = stack.angles(torch.arange(max(rooms), device=device))
        self.at_once = stepper(stack, (self.keys, self.values))

    @property
    def slots(self) -> int:
        """See ``Reader``."""
        return len(self.starts)

    def share_prefix(self, tokens: int) -> None:
        """See ``Causal``."""
        self.prefix = tokens

    def keep(self, slots: list[int]) -> None:
        """See ``Reader``."""
        self.starts = self.starts[slots]

    def read(self, reading: Reading) -> Tensor:
        """See ``Reader``."""
        ids, positions, ends = (tensor.to(self.device) for tensor in row_of(reading, self.prefix))
        x, angles = self.stack.embed(ids), (self.cosine[positions], self.sine[positions])
        if self.at_once and self.at_once.reads:
            here, starts = self._places(reading), self.starts[[slot for slot, _ in reading]]
            x = self.at_once.enter(x, angles, here, [len(tokens) for _, tokens in reading], self.prefix)
            filled, angles = self.filled(starts, positions[ends] + 1), (angles[0][ends], angles[1][ends])
            return self._likeliest(self.at_once.leave(x[ends], angles, here[ends], filled))
        attend, virtual = self.looking(reading), self.stack.virtual(ids)
        for number, layer in enumerate(self.stack.layers):
            qkv = layer.queries(x, angles, virtual)[0]
            attended = layer.output.room(len(x))
            attend(number, layer.heads, qkv, attended[:, : layer.output.k])
            if number == len(self.stack.layers) - 1:  # only the token after each prompt is asked for
                x, attended = x[ends], attended[ends]
            x = layer.onward(attended, x)[0]
        return self._likeliest(x)

    def write(self, writing: Writing) -> Tensor:
        """See ``Reader``."""
        slots, ids, at = tokens_of(writing, self.device)
        return self.next(self.stack.embed(ids), at, self.starts[slots])

    def next(self, x: Tensor, at: Tensor, starts: Tensor) -> Tensor:
        """Return the likeliest tokens after others, (tokens,).

        Args:
            x: Embeddings of these, (tokens, width).
            at: Where they stand in their slots, (tokens,).
            starts: Of their slots, (tokens,).
        """
        here, angles = starts + at, (self.cosine[at], self.sine[at])
        if self.at_once:
            return self._likeliest(self.at_once(x, angles, here, self.filled(starts, at + 1)))
        remember = self.remembering(starts, at + 1)
        for number, layer in enumerate(self.stack.layers):
            qkv = layer.queries(x, angles)[0]
            q, made = parts(layer.heads, qkv)
            keep(made, here, self.keys[number], self.values[number])
            attended = layer.output.room(len(x))
            remember(number, layer.heads, q, attended[:, : layer.output.k])
            x = layer.onward(attended, x)[0]
        return self._likeliest(x)

    def looking(self, reading: Reading) -> Attend:
        """Return how prompts that are read now write into their slots, and look at these and at themselves."""
        segments = Segments(tuple(len(tokens) for _, tokens in reading), self.prefix)
        places = self._places(reading)

        def attend_all(number: int, heads: Heads, qkv: Tensor, out: Tensor) -> None:
            keys, values = self.keys[number], self.values[number]
            keep(parts(heads, qkv)[1], places, keys, values)
            attend(qkv, segments, heads, out=out, before=(keys, values))

        return attend_all

    def _places(self, reading: Reading) -> Tensor:
        """Return where among all slots the tokens of some prompts belong, (tokens,)."""
        starts = self.starts.tolist()
        return torch.cat([torch.arange(len(tokens)) + starts[slot] + self.prefix for slot, tokens in reading])

    def filled(self, starts: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, int]:
        """Return the same without the positions that all slots share, and how many these are; see ``Remembered``."""
        return starts + self.prefix, lengths - self.prefix, self.prefix

    def remembering(self, starts: Tensor, lengths: Tensor) -> Attend:
        """Return how new tokens look at so many positions of the slots that begin at ``starts``, (tokens,) both."""
        filled = self.filled(starts, lengths)

        def attend(number: int, heads: Heads, query: Tensor, out: Tensor) -> None:
            kept = Remembered(self.keys[number], self.values[number], *filled)
            remember(query, kept, scale=heads.scale, out=out)

        return attend

    def _likeliest(self, x: Tensor) -> Tensor:
        out = torch.empty_like(x)
        self.stack.norm(x, out=out)
        return torch.cat([likeliest(product(rows, self.head)) for rows in out.split(LOGITS)])


class CardReader(FusedReader):
    """The same on a graphics card; for the arguments see ``FusedReader``."""

    guessing = False  # what is replayed always has the same size

    def __init__(self, stack: Stack, rooms: Sequence[int]) -> None:
        super().__init__(stack, rooms)
        self.room = max(rooms)
        self.replayed: Work | None = None

    def share_prefix(self, tokens: int) -> None:
        """See ``Causal``: by copies, since what attends here wants the positions of a slot in one piece."""
        super().share_prefix(tokens)
        first, *others = self.starts.tolist()
        for kept in (self.keys, self.values):
            for start in others:
                kept[:, :, start : start + tokens] = kept[:, :, first : first + tokens]

    def keep(self, slots: list[int]) -> None:
        """See ``Reader``."""
        super().keep(slots)
        self.replayed = None

    def write(self, writing: Writing) -> Tensor:
        """See ``Reader``."""
        _, ids, at = tokens_of(writing, self.device)
        given = self.stack.embed(ids), at  # which virtual tokens there are is not known before
        if self.replayed is None:
            self.replayed = recorded(lambda x, at: (self.next(x, at, self.starts),), given)
        (found,) = self.replayed(*given)
        assert found is not None
        return found

    def looking(self, reading: Reading) -> Attend:
        """See ``FusedReader``."""
        slots, lengths = [slot for slot, _ in reading], [len(tokens) for _, tokens in reading]
        asked, starts = ends_of(lengths, self.device), self.starts[slots]
        known = torch.tensor(lengths, device=self.device)
        ahead = torch.arange(sum(lengths), device=self.device) + self.prefix
        here = ahead + torch.repeat_interleave(starts - asked.places[:-1], known)
        look = self._look(asked, starts, known + self.prefix)

        def attend(number: int, heads: Heads, qkv: Tensor, out: Tensor) -> None:
            q, made = parts(heads, qkv)
            keep(made, here, self.keys[number], self.values[number])
            look(number, heads, q, out)

        return attend

    def remembering(self, starts: Tensor, lengths: Tensor) -> Attend:
        """See ``FusedReader``."""
        slots = len(self.starts)
        asked = Ends(torch.arange(slots + 1, dtype=torch.int32, device=self.device), 1)
        return self._look(asked, starts, lengths)

    def _look(self, asked: Ends, starts: Tensor, lengths: Tensor) -> Attend:
        filled = Filled(torch.cat((starts, starts[:1])).to(torch.int32), lengths.to(torch.int32), self.room)

        def attend(number: int, heads: Heads, query: Tensor, out: Tensor) -> None:
            kept = self.keys[number], self.values[number]
            q = query.unflatten(1, (-1, heads.size))
            found = flash_remember(q, kept, asked, filled, scale=heads.scale)
            out.copy_(found.flatten(1))

        return attend


def parts(heads: Heads, qkv: Tensor) -> tuple[Tensor, Tensor]:
    """Return queries (T, H * D), and keys and values side by side (T, 2 * K * D)."""
    queries = heads.queries * heads.size
    return qkv[:, :queries], qkv[:, queries:]
