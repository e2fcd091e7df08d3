"""Counted work is that of the code: of the batches that training makes, of the calls that decoding makes."""

import random
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tunesmith.data.encode import Encoded
from tunesmith.inference import decode as decoding_room
from tunesmith.inference.decode import decode, rooms_for, slots_for
from tunesmith.inference.fused_reading import FusedReader
from tunesmith.models.load import load
from tunesmith.planning.shapes import Shape, Stack
from tunesmith.planning.work import (
    Load,
    batch_load,
    batch_memory,
    decoding,
    padded_writing,
    step_work,
    writing_work,
)
from tunesmith.training.batches import make_batch

SHAPE = Shape("causal", (Stack(4, 1000),), 8, 50, 6, 3, 2000, 100, True)
TWO = Shape("seq2seq", (Stack(2, 300), Stack(3, 700)), 8, 50, 6, 6, 2000, 0, False)


FUSED = replace(TWO, own=True)


def encoded(lengths: list[tuple[int, int]], kind: str) -> list[Encoded]:
    return [
        Encoded("x", (5,) * n, (6,) * u, () if kind == "seq2seq" else (False,) * (n - u) + (True,) * u)
        for n, u in lengths
    ]


@pytest.mark.parametrize("shape", [SHAPE, TWO, FUSED], ids=["causal", "padded", "fused"])
def test_the_load_of_a_batch_is_that_of_its_tensors(shape: Shape) -> None:
    draw = random.Random(3)
    for _ in range(20):
        lengths = [(draw.randint(9, 40), draw.randint(1, 8)) for _ in range(draw.randint(1, 6))]
        batch = make_batch(encoded(lengths, shape.kind), kind=shape.kind, pad_id=0)
        load = batch_load(lengths, shape)
        if shape is TWO:
            assert load.tokens == (batch.input_ids.numel(), batch.labels.numel())
            assert load.labelled == batch.labels.numel()
        else:
            assert sum(load.tokens) == batch.tokens
            assert load.labelled == batch.target_tokens
            assert load.pairs[0] == sum(n * n for n in batch.lengths)


def test_the_work_of_a_step_is_the_sum_over_its_batches() -> None:
    one, other = Load((10,), (100,), 4), Load((6,), (36,), 2)
    assert step_work(SHAPE, [one, other], 5) == [2, 8, 16_000.0, 6 * 4 * 136.0, 6 * 50 * 8.0, 5, 10]
    assert step_work(TWO, [Load((10, 4), (100, 30), 4)], 0)[2:4] == [3000.0 + 2800.0, 6.0 * (200 + 90)]


def test_the_memory_of_a_batch_counts_each_stack_apart() -> None:
    assert batch_memory(SHAPE, Load((10,), (100,), 4)) == [1, 4 * 8 * 10, 8 * 10, 400, 200]
    assert batch_memory(TWO, Load((10, 4), (100, 30), 4)) == [1, 2 * 8 * 10, 3 * 8 * 4, 8 * 14, 290, 200]


@pytest.mark.parametrize("tokens_in_memory", [50, 120, 10_000])
def test_decoding_takes_as_many_calls_as_counted(
    tiny_causal: Path, monkeypatch: pytest.MonkeyPatch, tokens_in_memory: int
) -> None:
    loaded = load(tiny_causal)
    monkeypatch.setattr(decoding_room, "fused", lambda model, dtype: nullcontext())  # so that calls can be counted
    loaded.model.generation_config.eos_token_id = [511]
    prompts = sorted({tuple(range(20 + n, 20 + 2 * n)) for n in range(3, 12)}, key=len, reverse=True)
    forward, calls = loaded.model.forward, []

    def counting(*args: Any, **options: Any) -> Any:
        calls.append(options["input_ids"].shape)
        return forward(*args, **options)

    monkeypatch.setattr(loaded.model, "forward", counting)
    found = decode(loaded, prompts, max_new_tokens=9, tokens_in_memory=tokens_in_memory)
    rooms = rooms_for([len(prompt) for prompt in prompts], [9] * len(prompts))
    slots = slots_for(rooms, tokens_in_memory, alike=True)
    new = [len(ids) for ids, _ in found]
    counted = decoding([len(prompt) for prompt in prompts], new, slots=slots)
    writing = [shape for shape in calls if shape[1] == 1]
    assert counted.read == (sum(map(len, prompts)),)
    assert counted.cached == sum(len(p) + n for p, n in zip(prompts[:slots], new[:slots], strict=True))
    # the first token of an answer comes from reading its prompt
    assert abs(counted.steps - len(writing)) <= len(prompts) // slots + 1


@pytest.mark.parametrize("tokens_in_memory", [60, 10_000])
def test_what_prompts_share_is_read_and_kept_once(
    tiny_causal: Path, monkeypatch: pytest.MonkeyPatch, tokens_in_memory: int
) -> None:
    loaded, start = load(tiny_causal), tuple(range(20, 40))
    prompts = sorted({(*start, *range(50 + n, 50 + 2 * n)) for n in range(3, 9)}, key=len, reverse=True)
    readers, read = [], []

    class Counting(FusedReader):
        def __init__(self, stack: Any, rooms: Any, shared: int = 0) -> None:
            super().__init__(stack, rooms, shared)
            readers.append((len(rooms), self.keys.shape[2]))

        def read(self, reading: Any) -> Any:
            read.append(sum(len(tokens) for _, tokens in reading))
            return super().read(reading)

    monkeypatch.setattr(decoding_room, "FusedReader", Counting)
    decode(loaded, prompts, max_new_tokens=4, tokens_in_memory=tokens_in_memory)
    lengths, shared = [len(prompt) for prompt in prompts], len(start)
    rooms = rooms_for(lengths, [4] * len(prompts))
    slots = slots_for(rooms, tokens_in_memory, alike=False, shared=shared)
    counted = decoding(lengths, [4] * len(prompts), slots=slots, shared=shared, kept_once=shared)
    assert readers == [(slots, counted.cached)]
    assert counted.read == (sum(read),)
    assert slots > slots_for(rooms, 60, alike=False)


def test_a_padded_batch_is_as_long_as_its_longest() -> None:
    found = padded_writing([10, 6], [4, 2], "causal")
    assert (found.read, found.steps, found.written, found.cached) == ((20,), 4, 8, 28)
    two = padded_writing([10, 6], [4, 2], "seq2seq")
    assert (two.read, two.pairs) == ((20, 0), (200, 8 * 14))
    assert writing_work(TWO, two)[:4] == [4, 12, 20 * 300.0, 700 * 8.0]
