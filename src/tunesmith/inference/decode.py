"""Greedy answers, many at once, as fast as a model's matrix products allow.

Prompts are read end to end without padding; what all prompts of a causal model begin with, such as an instruction or
worked examples, is read once. A slot whose answer has ended takes the next prompt at once, so that no slot waits for
the longest answer.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate

import torch

from tunesmith.errors import ResourceError
from tunesmith.inference.encoded import EncodedReader
from tunesmith.inference.fused_reading import CardReader, FusedReader
from tunesmith.inference.memory import NAME
from tunesmith.inference.reading import ModelReader, Prompt, Reader, pace
from tunesmith.machine import out_of_memory
from tunesmith.models.attention import attending
from tunesmith.models.fused.encoder_decoder import EncoderDecoder
from tunesmith.models.fused.packing import fused
from tunesmith.models.fused.stack import Stack
from tunesmith.models.load import Loaded
from tunesmith.progress import say

Ends = Callable[[Sequence[int]], bool]


@dataclass(frozen=True, slots=True)
class _Order:
    """What is to be answered, and what ends an answer: a stop token, what it has become, or its length."""

    prompts: Sequence[Prompt]
    limits: Sequence[int]
    marks: Sequence[int]  # of the adapter that answers each prompt
    stops: frozenset[int]
    ends: Ends
    show: Callable[[float, str], None]

    @property
    def rooms(self) -> list[int]:
        """Positions that the slots need, one for each prompt."""
        return rooms_for([len(prompt) for prompt in self.prompts], self.limits)


@torch.inference_mode()
def decode(
    loaded: Loaded, prompts: Sequence[Prompt], *, max_new_tokens: int | Sequence[int], tokens_in_memory: int,
    show: Callable[[float, str], None] = lambda done, text: None, ends: Ends = lambda answer: False,
) -> list[tuple[list[int], bool]]:  # fmt: skip
    """Answer prompts greedily.

    Args:
        loaded: A causal model whose attention may be replaced (``models.attention.takes_ragged``), or an
            encoder-decoder that fused layers can take.
        prompts: Distinct, the longest first, so that slots that run together are alike.
        max_new_tokens: Longest answer; one number for all prompts, or one for each.
        tokens_in_memory: Positions of all slots together; decides their number, at least one.
        show: Is told how many prompts are answered.
        ends: Asked after each new token whether it ends its answer, as the last of a word that ends answers.

    Returns:
        For each prompt the new tokens without the stop token that ended them, and whether they have ended.

    Raises:
        ResourceError: There is not enough memory for one slot.
    """
    limits = limits_of(max_new_tokens, len(prompts))
    marks = [loaded.after(prompt, (0,))[0] for prompt in prompts]
    order = _Order(prompts, limits, marks, loaded.stop_ids, ends, show)
    slots = len(prompts)
    while True:
        try:
            with _reader(loaded, order, tokens_in_memory, most=slots) as reader:
                slots = reader.slots
                return _serve(order, reader)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
        if slots == 1:
            raise ResourceError(
                f"there is not enough memory to answer a single prompt of {len(prompts[0])} tokens. Lower "
                "train.max_tokens or max_new_tokens, take a smaller model, or end other programs and run again."
            )
        slots //= 2  # all answers are begun again; the first prompts are the longest, so that little is lost
        say(f"memory ran out; the answers begin again, {slots} at once")


def limits_of(max_new_tokens: int | Sequence[int], prompts: int) -> list[int]:
    """Return the longest answer of each prompt."""
    return [max_new_tokens] * prompts if isinstance(max_new_tokens, int) else list(max_new_tokens)


def rooms_for(prompts: Sequence[int], limits: Sequence[int]) -> list[int]:
    """Return how many positions each slot needs, were there one for every prompt.

    A slot takes the prompt of its place first, and then any that come after all those.

    Args:
        prompts: Tokens of each, the longest first.
        limits: Tokens of the longest answer to each.

    >>> rooms_for([30, 20, 10], [5, 9, 5])
    [35, 29, 15]
    """
    whole = [prompt + limit for prompt, limit in zip(prompts, limits, strict=True)]
    return list(accumulate(reversed(whole), max))[::-1]


def slots_for(rooms: Sequence[int], tokens_in_memory: int, *, alike: bool) -> int:
    """Return how many answers are written at once.

    Args:
        rooms: Positions of each slot, the largest first; from ``rooms_for``.
        tokens_in_memory: Positions of all slots together.
        alike: Whether all slots are as large as the first one.

    >>> [slots_for([35, 29, 15], 70, alike=alike) for alike in (False, True)]
    [2, 2]
    >>> [slots_for([35, 29, 15], 80, alike=alike) for alike in (False, True)]
    [3, 2]
    """
    if alike:
        return max(1, min(len(rooms), tokens_in_memory // rooms[0]))
    return max(1, sum(filled <= tokens_in_memory for filled in accumulate(rooms)))


@contextmanager
def _reader(loaded: Loaded, order: _Order, tokens_in_memory: int, *, most: int) -> Iterator[Reader]:
    """Have what computes, with ``most`` slots or fewer: fused layers where the model can be had so, else its own."""
    rooms = order.rooms
    with fused(loaded.model, dtype=loaded.model.dtype) as stack:
        slots = min(most, slots_for(rooms, tokens_in_memory, alike=not isinstance(stack, Stack)))
        if isinstance(stack, Stack):
            yield (CardReader if stack.flashes else FusedReader)(stack, rooms[:slots])
            return
        if isinstance(stack, EncoderDecoder):
            yield EncodedReader(stack, slots, 1 + max(order.limits), max(map(len, order.prompts)))
            return
    with attending(loaded.model, NAME):
        yield ModelReader(loaded.model, slots, rooms[0])


def _serve(order: _Order, reader: Reader) -> list[tuple[list[int], bool]]:
    reader.begin(order.prompts)
    return _Desk(order, reader).work()


class _Desk:
    """Which prompt is in which slot, and the loop that serves them; lives for one call of ``decode``."""

    def __init__(self, order: _Order, reader: Reader) -> None:
        self.order, self.prompts, self.reader = order, order.prompts, reader
        self.answers: list[list[int]] = [[] for _ in self.prompts]
        self.stopped = [False] * len(self.prompts)
        self.waiting = list(range(len(self.prompts)))[::-1]  # the longest is taken first
        self.owner: list[int | None] = [None] * reader.slots  # prompt in each slot
        self.done = 0

    def work(self) -> list[tuple[list[int], bool]]:
        """Serve until every prompt is answered."""
        self._fill()
        while any(owner is not None for owner in self.owner):
            self._write()
            self._fill()
        return list(zip(self.answers, self.stopped, strict=True))

    def _fill(self) -> None:
        """Read waiting prompts into free slots; with none waiting, let go of slots that only take time."""
        now = pace(self.reader.device, self.reader.slots)
        free = [slot for slot, owner in enumerate(self.owner) if owner is None]
        while self.waiting and len(free) >= now.free:
            reading: list[tuple[int, list[int]]] = []
            while self.waiting and free and sum(len(tokens) for _, tokens in reading) < now.tokens:
                slot, prompt = free.pop(0), self.waiting.pop()
                self.owner[slot] = prompt
                reading.append((slot, list(self.prompts[prompt][self.reader.prefix :])))
            tokens = self.reader.read(reading).tolist()
            for (slot, _), token in zip(reading, tokens, strict=True):
                self._take(slot, token)
            free = [slot for slot, owner in enumerate(self.owner) if owner is None]
        busy = [slot for slot, owner in enumerate(self.owner) if owner is not None]
        if not self.waiting and busy and len(busy) <= self.reader.slots // 2:
            self.reader.keep(busy)
            self.owner = [self.owner[slot] for slot in busy]

    def _write(self) -> None:
        """Write one token of every answer."""
        lengths, last = [], []
        for owner in self.owner:
            answer = self.answers[owner] if owner is not None else []
            # an idle slot writes where the next prompt will, and not into what all prompts share
            before = self.reader.start(self.prompts[owner]) - 1 if owner is not None else self.reader.prefix
            lengths.append(before + len(answer))
            last.append(answer[-1] + self.order.marks[owner] if owner is not None else 0)
        found = self.reader.write(last, lengths).tolist()
        for slot, token in enumerate(found):
            if self.owner[slot] is not None:
                self._take(slot, token)

    def _take(self, slot: int, token: int) -> None:
        """Note a new token; free the slot if the answer ends with it."""
        prompt = self.owner[slot]
        assert prompt is not None
        answer = self.answers[prompt]
        if token in self.order.stops:
            self.stopped[prompt] = True
        else:
            answer.append(token)
            self.stopped[prompt] = self.order.ends(answer)
        if self.stopped[prompt] or len(answer) >= self.order.limits[prompt]:
            self.owner[slot] = None
            self.done += 1
            self.order.show(self.done, f"{self.done}/{len(self.prompts)} prompts")
