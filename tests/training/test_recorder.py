"""Steps as a graphics card computes them: filled up to a few sizes, with the loss and the gradients that they had."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from flashing import stand_in
from torch import Tensor
from ways import moved, virtual_of

from tunesmith.data.encode import Encoded
from tunesmith.methods import full, lora, prefix, soft_prompt
from tunesmith.models.load import load
from tunesmith.settings import TrainSettings
from tunesmith.training import recorder
from tunesmith.training.below import with_known
from tunesmith.training.computing import ready
from tunesmith.training.job import Job
from tunesmith.training.loop import gradients

WAYS: dict[str, Callable[[Any], Any]] = {
    "full": lambda model: full.attach(full.Settings(), model, "causal"),
    "lora": lambda model: lora.attach(lora.Settings(rank=4), model, "causal"),
    "soft-prompt": lambda model: soft_prompt.attach(soft_prompt.Settings(tokens=3, init="vocab"), model, "causal"),
    "prefix": lambda model: prefix.attach(prefix.Settings(tokens=3), model, "causal"),
    "the last layer": lambda model: only(model, "model.layers.2."),
}
STEPS = (((0, 1, 2),), ((0,), (1, 2)), ((3, 4, 0),), ((0, 1, 2),))


def only(model: Any, part: str) -> Any:
    for name, weight in model.named_parameters():
        weight.requires_grad_(part in name)
    return model


def job_of(way: str, folder: Path, tmp_path: Path) -> Job:
    torch.manual_seed(0)
    model = moved(WAYS[way](load(folder).model))
    draw = torch.Generator().manual_seed(1)
    examples = []
    for number, length in enumerate((9, 30, 4, 17, 23)):
        ids = (*virtual_of(model), *torch.randint(20, 300, (length,), generator=draw).tolist())
        trains = (False,) * (len(ids) - 2) + (True,) * 2
        examples.append(Encoded(f"e/{number}", ids, ids[-2:], trains))
    return Job(
        "x", model, "causal", 0, examples, (), TrainSettings(), 1e-3, 0, False, tmp_path, tmp_path / "log", "",
    )  # fmt: skip


def found(job: Job) -> list[tuple[float, dict[str, Tensor]]]:
    """Loss and gradients of every step; weights stay what they are."""
    said = []
    for step in STEPS:
        job.model.zero_grad(set_to_none=True)
        if job.stack:
            job.stack.refresh()
        loss = gradients(job, step)
        learned = {name: weight.grad for name, weight in job.model.named_parameters() if weight.grad is not None}
        said.append((loss, {name: gradient.clone() for name, gradient in learned.items()}))
    return said


@pytest.mark.parametrize("way", WAYS)
def test_loss_and_gradients_are_those_of_steps_that_are_not_filled_up(
    way: str, tiny_tall: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ready(job_of(way, tiny_tall, tmp_path)) as job:
        assert job.stack
        assert not job.recorder
        expected = found(with_known(job, passes=2, validations=0))
    stand_in(monkeypatch)
    monkeypatch.setattr(recorder, "TOKENS", 40)
    replayed = as_if_recorded(monkeypatch)
    with ready(job_of(way, tiny_tall, tmp_path)) as job:
        assert job.recorder
        again = with_known(job, passes=2, validations=0)
        assert bool(again.below) == (way == "the last layer")
        for (loss, learned), (wanted, gradients_wanted) in zip(found(again), expected, strict=True):
            assert loss == pytest.approx(wanted, rel=1e-5)
            assert learned.keys() == gradients_wanted.keys()
            for name, gradient in gradients_wanted.items():
                torch.testing.assert_close(learned[name], gradient, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: n + m)
    assert replayed, "a size that comes a second time is recorded"


def as_if_recorded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let what is replayed write its answers into the same tensors each time, as a card does."""
    calls: list[int] = []

    def recorded(run: Any, given: Any, *, pool: Any) -> Any:
        kept = [None if one is None else one.clone() for one in run(*given)]

        def replay(*now: Tensor) -> Any:
            calls.append(len(now[0]))
            for place, value in zip(kept, run(*now), strict=True):
                if place is not None:
                    place.copy_(value)
            return kept

        return replay

    monkeypatch.setattr(recorder, "recorded", recorded)
    return calls


def test_few_sizes_are_recorded(tiny_tall: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch)
    monkeypatch.setattr(recorder, "TOKENS", 16)
    monkeypatch.setattr(recorder, "MOST", 1)
    replayed = as_if_recorded(monkeypatch)
    with ready(job_of("lora", tiny_tall, tmp_path)) as job:
        for number in (1, 2, 1, 2, 1, 2):
            gradients(job, ((number,),))
        assert job.recorder
        assert len(job.recorder.known) == 1
        assert sorted(job.recorder.seen.values()) == [3, 3]
    assert len(replayed) == 2
