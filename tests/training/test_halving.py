"""Memory that runs out in the middle of a step: the step is done in smaller batches, and nothing else changes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from test_resuming import stop_after
from workshop import FULL, LORA, ingredients, make_job, read_log, recipe

from tunesmith.errors import Interrupted, ResourceError
from tunesmith.training import loop
from tunesmith.training.job import Job, Progress, trainable
from tunesmith.training.loop import train

ERRORS = {
    "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "cpu": RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 64 bytes."),
    "python": MemoryError(),
}


class Scarce:
    """A loss for which memory runs out whenever a batch has more than so many examples, from some step on."""

    def __init__(self, patch: pytest.MonkeyPatch, *, examples: int, error: Exception, calls: int = 0) -> None:
        self.batches: list[int] = []
        self.failed = 0
        self.real = loop.loss_sum
        self.examples, self.error, self.calls = examples, error, calls
        patch.setattr(loop, "loss_sum", self)

    def __call__(self, model: Any, batch: Any, kind: str, **options: Any) -> Any:
        loss = self.real(model, batch, kind, **options)
        self.batches.append(len(batch.lengths))
        if torch.is_grad_enabled() and len(self.batches) > self.calls and len(batch.lengths) > self.examples:
            self.failed += 1
            raise self.error
        return loss


def weights(job: Job) -> dict[str, Any]:
    return {name: weight.detach().clone() for name, weight in trainable(job.model).items()}


def same(one: dict[str, Any], other: dict[str, Any]) -> float:
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def trained(given: Any, where: Path) -> tuple[Job, Progress]:
    torch.set_default_dtype(torch.float64)
    try:
        job, _ = make_job(given, where, double=True)
        return job, train(job)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_weights_and_losses_are_those_of_a_run_with_enough_memory(
    tiny: Path, tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ingredients(recipe(LORA, epochs=2.0, tokens_per_step=300, tokens_per_batch=150), tiny)
    enough, progress = trained(given, tmp_path / "enough")
    scarce = Scarce(monkeypatch, examples=2, error=error, calls=3)  # the step's gradient has begun when it fails
    found, after = trained(given, tmp_path / "scarce")
    assert scarce.failed > 0
    assert after.losses == pytest.approx(progress.losses, rel=1e-9)
    assert same(weights(enough), weights(found)) < 1e-9
    assert (after.tokens, after.target_tokens, after.step) == (progress.tokens, progress.target_tokens, progress.step)


def test_the_smaller_size_stays_and_is_noted_once(
    tiny_causal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ingredients(recipe(FULL, epochs=2.0, tokens_per_step=300, tokens_per_batch=300), tiny_causal)
    scarce = Scarce(monkeypatch, examples=4, error=ERRORS["cpu"])
    _, progress = trained(given, tmp_path)
    assert scarce.failed < 4
    noted = {point.step: point.note for point in read_log(tmp_path) if point.note}
    assert list(noted) == [1]
    line = f"from here on at most {progress.limit} tokens are in memory at once, and a step is what it was."
    assert noted[1] == f"memory ran out; {line}"
    assert f"tuned: memory ran out at step 1; {line}" in capsys.readouterr().err
    assert 0 < progress.limit <= 150


def test_a_training_that_goes_on_keeps_the_smaller_size(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ingredients(recipe(LORA, max_steps=4, tokens_per_step=300, tokens_per_batch=300), tiny)
    stop_after(monkeypatch, 2)
    with monkeypatch.context() as patch:
        scarce = Scarce(patch, examples=3, error=ERRORS["cuda"])
        with pytest.raises(Interrupted):
            trained(given, tmp_path)
        assert scarce.failed > 0
    plenty = Scarce(monkeypatch, examples=10**6, error=ERRORS["cuda"])
    stop_after(monkeypatch, 10)
    _, progress = trained(given, tmp_path)
    assert progress.step == 4
    assert progress.limit > 0
    assert max(plenty.batches) <= 4, "as far as the size in tokens tells"
    planned = [len(batch) for _, step in loop.plan_steps(make_job(given, tmp_path)[0]) for batch in step]
    assert max(planned) > max(plenty.batches)


def test_a_single_example_that_does_not_fit_ends_it_with_what_to_change(
    tiny_causal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ingredients(recipe(FULL, max_steps=2), tiny_causal, train=4)
    job, _ = make_job(given, tmp_path)
    Scarce(monkeypatch, examples=0, error=ERRORS["cpu"])
    with pytest.raises(ResourceError) as caught:
        train(job)
    longest = loop.plan_steps(job)[0][1][0][0]
    example = job.train[longest]
    assert str(caught.value) == (
        f"training tuned: there is not enough memory for a single example of {example.tokens} tokens, "
        f"{example.example_id}, at step 1. Lower train.max_tokens, take a method that trains fewer weights, such as "
        "lora, or a smaller model; or end other programs and run the same command again."
    )


def test_other_errors_are_not_taken_for_a_lack_of_memory(
    tiny_causal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, _ = make_job(ingredients(recipe(FULL, max_steps=2), tiny_causal), tmp_path)
    Scarce(monkeypatch, examples=0, error=RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        train(job)
