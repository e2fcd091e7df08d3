"""Greedy answers, many at once, as fast as a model's matrix products allow.

Prompts are read end to end without padding; what all prompts of a causal model begin with, such as an instruction or
worked examples, is read once. A slot whose answer has ended takes the next prompt at once, so that no slot waits for
the longest answer.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, islice, zip_longest

import torch

from tunesmith.errors import ResourceError
from tunesmith.inference.encoded import EncodedReader
from tunesmith.inference.fused_reading import CardReader, FusedReader
from tunesmith.inference.memory import NAME
from tunesmith.inference.reading import ModelReader, Prompt, Reader, pace, shared_prefix
from tunesmith.inference.repeats import Repeats
from tunesmith.machine import out_of_memory
from tunesmith.models.attention import attending
from tunesmith.models.fused.encoder_decoder import EncoderDecoder
from tunesmith.models.fused.packing import fused, laid_out
from tunesmith.models.fused.stack import Stack
from tunesmith.models.load import Loaded
from tunesmith.progress import say

Ends = Callable[[Sequence[int]], bool]


@dataclass(frozen=True, slots=True)
class _Order:
    """What is to be answered, and what ends an answer: a stop token, what it has become, or its length."""

    prompts: Sequence[Prompt]
    shared: int  # tokens that all prompts begin with and that are read once
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
        tokens_in_memory: Positions of all slots together, and of what they share; decides their number, at least one.
        show: Is told how many prompts are answered.
        ends: Asked after each new token whether it ends its answer, as the last of a word that ends answers.

    Returns:
        For each prompt the new tokens without the stop token that ended them, and whether they have ended.

    Raises:
        ResourceError: There is not enough memory for one slot.
    """
    limits = limits_of(max_new_tokens, len(prompts))
    marks = [loaded.after(prompt, (0,))[0] for prompt in prompts]
    shared = shared_prefix(prompts) if loaded.kind == "causal" else 0
    order = _Order(prompts, shared, limits, marks, loaded.stop_ids, ends, show)
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


def slots_for(rooms: Sequence[int], tokens_in_memory: int, *, alike: bool, shared: int = 0) -> int:
    """Return how many answers are written at once.

    Args:
        rooms: Positions of each slot, the largest first; from ``rooms_for``.
        tokens_in_memory: Positions of all slots together.
        alike: Whether all slots are as large as the first one.
        shared: Positions at the start of every slot that are in memory once; only where slots are not alike.

    >>> [slots_for([35, 29, 15], 70, alike=alike) for alike in (False, True)]
    [2, 2]
    >>> [slots_for([35, 29, 15], 80, alike=alike) for alike in (False, True)]
    [3, 2]
    >>> slots_for([35, 29, 15], 60, alike=False, shared=10)
    3
    """
    if alike:
        return max(1, min(len(rooms), tokens_in_memory // rooms[0]))
    return max(1, sum(shared + own <= tokens_in_memory for own in accumulate(room - shared for room in rooms)))


@contextmanager
def _reader(loaded: Loaded, order: _Order, tokens_in_memory: int, *, most: int) -> Iterator[Reader]:
    """Have what computes, with ``most`` slots or fewer: fused layers where the model can be had so, else its own."""
    rooms = order.rooms
    with fused(loaded.model, dtype=loaded.model.dtype) as stack:
        shared = order.shared if isinstance(stack, Stack) and not stack.flashes else 0  # in memory once
        slots = min(most, slots_for(rooms, tokens_in_memory, alike=not isinstance(stack, Stack), shared=shared))
        if isinstance(stack, Stack):
            rooms = rooms[:slots]
            with laid_out(stack):
                yield CardReader(stack, rooms) if stack.flashes else FusedReader(stack, rooms, shared)
            return
        if isinstance(stack, EncoderDecoder):
            with laid_out(stack):
                yield EncodedReader(stack, slots, 1 + max(order.limits), max(map(len, order.prompts)))
            return
    with attending(loaded.model, NAME):
        yield ModelReader(loaded.model, slots, rooms[0])


def _serve(order: _Order, reader: Reader) -> list[tuple[list[int], bool]]:
    reader.begin(order.prompts[0][: order.shared])
    return _Desk(order, reader).work()


class _Desk:
    """Which prompt is in which slot, and the loop that serves them; lives for one call of ``decode``."""

    def __init__(self, order: _Order, reader: Reader) -> None:
        self.order, self.prompts, self.reader = order, order.prompts, reader
        self.answers: list[list[int]] = [[] for _ in self.prompts]
        self.stopped = [False] * len(self.prompts)
        self.waiting = list(range(len(self.prompts)))[::-1]  # the longest is taken first
        self.owner: list[int | None] = [None] * reader.slots  # prompt in each slot
        self.repeats: dict[int, Repeats] = {}  # of each prompt whose answer is being written, where guesses are taken
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
                if self.reader.guessing:
                    self.repeats[prompt] = Repeats(self.answers[prompt])
                reading.append((slot, list(self.prompts[prompt][self.reader.prefix :])))
            tokens = self.reader.read(reading).tolist()
            for (slot, _), token in zip(reading, tokens, strict=True):
                self._take(slot, token)
            free = [slot for slot, owner in enumerate(self.owner) if owner is None]
        busy = [slot for slot, owner in enumerate(self.owner) if owner is not None]
        if not self.waiting and busy and self.reader.slots - len(busy) >= now.idle:
            self.reader.keep(busy)
            self.owner = [self.owner[slot] for slot in busy]

    def _write(self) -> None:
        """Write the next token of every answer, and more of one that repeats itself."""
        writing = [
            (slot, *self._last(owner)) for slot, owner in enumerate(self.owner)
            if owner is not None or not self.reader.guessing
        ]  # fmt: skip
        found = iter(self.reader.write(writing).tolist())
        for slot, asked, _ in writing:
            self._take_all(slot, list(islice(found, len(asked))), asked[1:])

    def _last(self, owner: int | None) -> tuple[list[int], int]:
        """Return the last token of an answer with those that are guessed to follow, and where it stands."""
        if owner is None:  # an idle slot writes where the next prompt will, and not into what all prompts share
            return [0], self.reader.prefix
        answer, mark = self.answers[owner], self.order.marks[owner]
        most = self.order.limits[owner] - len(answer) - 1
        guess = self.repeats[owner].guess(most) if owner in self.repeats else []
        place = self.reader.start(self.prompts[owner]) - 1 + len(answer)
        return [token + mark for token in (answer[-1], *guess)], place

    def _take_all(self, slot: int, tokens: Sequence[int], guess: Sequence[int]) -> None:
        """Note new tokens up to the first that was guessed otherwise; the one after a right guess counts as well."""
        owner = self.owner[slot]
        if owner is None:
            return
        right, mark = 0, self.order.marks[owner]
        for token, guessed in zip_longest(tokens, guess):
            self._take(slot, token)
            if self.owner[slot] is None or token + mark != guessed:
                break
            right += 1
        if guess and owner in self.repeats:
            self.repeats[owner].judge(right=right == len(guess))

    def _take(self, slot: int, token: int) -> None:
        """Note a new token; free the slot if the answer ends with it."""
        prompt = self.owner[slot]
        assert prompt is not None
        answer = self.answers[prompt]
        if token in self.order.stops:
            self.stopped[prompt] = True
        else:
            answer.append(token)
            if prompt in self.repeats:
                self.repeats[prompt].note()
            self.stopped[prompt] = self.order.ends(answer)
        if self.stopped[prompt] or len(answer) >= self.order.limits[prompt]:
            self.owner[slot] = None
            self.repeats.pop(prompt, None)
            self.done += 1
            self.order.show(self.done, f"{self.done}/{len(self.prompts)} prompts")
