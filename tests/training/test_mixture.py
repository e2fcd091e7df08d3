"""Training on a mixture: the steps hold what the draw says, and a training that was cut goes on with the same ones."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from workshop import LORA, ingredients, make_job, recipe

from tunesmith.data.mixture import Draw
from tunesmith.errors import Interrupted
from tunesmith.training import loop
from tunesmith.training.batches import all_steps
from tunesmith.training.job import Job, trainable
from tunesmith.training.loop import train

DRAW = Draw.among(["a"] * 6 + ["b"] * 2 + ["out"] * 3, {"a": 4, "b": 5}, seed=0)
SIZES = [20 + number for number in range(11)]


def seen(epochs: float, *, seed: int = 0) -> list[int]:
    settings = recipe(LORA, epochs=epochs, tokens_per_step=60).train
    steps = all_steps(SIZES, settings, seed=seed, tokens_per_batch=30, draw=DRAW)
    return [index for _, step in steps for batch in step for index in batch]


def test_an_epoch_has_just_what_is_drawn_for_it() -> None:
    for number in range(3):
        found = Counter(seen(number + 1)) - Counter(seen(number) if number else [])
        assert found == Counter(DRAW.epoch(number))
    assert not {8, 9, 10}.intersection(seen(3))


def test_tasks_are_mixed_within_a_step_and_the_order_is_that_of_the_seed() -> None:
    settings = recipe(LORA, epochs=2.0, tokens_per_step=90).train
    steps = all_steps(SIZES, settings, seed=0, tokens_per_batch=200, draw=DRAW)
    kinds = [{"a" if index < 6 else "b" for batch in step for index in batch} for _, step in steps]
    assert {"a", "b"} in kinds
    assert seen(2) == seen(2)
    assert seen(2) != seen(2, seed=1)


def test_half_an_epoch_is_half_of_its_steps() -> None:
    assert seen(1)[: len(seen(0.5))] == seen(0.5)
    assert 0 < len(seen(0.5)) < len(seen(1))


def test_a_training_on_a_mixture_that_is_cut_after_every_step_ends_as_if_it_had_not_been(
    tiny_causal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ingredients(recipe(LORA, epochs=2.0, tokens_per_step=150), tiny_causal, train=11)

    def job(where: str) -> Job:
        return replace(make_job(given, tmp_path / where)[0], draw=DRAW)

    whole = job("whole")
    steps = train(whole).step

    @contextmanager
    def at_once() -> Iterator[Callable[[], bool]]:
        yield lambda: True

    monkeypatch.setattr(loop, "stop_requests", at_once)
    for _ in range(steps):
        pieces = job("pieces")
        with pytest.raises(Interrupted):
            train(pieces)
    pieces = job("pieces")
    assert train(pieces).step == steps > 3
    for name, weight in trainable(whole.model).items():
        assert torch.equal(weight, trainable(pieces.model)[name])
