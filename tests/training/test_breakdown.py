"""Numbers that are none: noticed at the step where they come up, and nothing is learned from them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from workshop import LORA, ingredients, make_job, read_log, recipe

from tunesmith.errors import UserError
from tunesmith.training import loop
from tunesmith.training.job import Job, trainable
from tunesmith.training.loop import plan_steps, train
from tunesmith.training.tune import CandidateDir, tune

NAN, INF = float("nan"), float("inf")


def poke(job: Job) -> None:
    with torch.no_grad():
        next(iter(trainable(job.model).values()))[0, 0] = NAN


def before_step(number: int, do: Callable[[Job], None], monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Do something before a step; the list that is returned holds the weights of that moment."""
    real, kept = loop.optimizer_step, []

    def step(job: Job, *arguments: Any) -> Any:
        if arguments[-1].step == number - 1:
            do(job)
            kept.append({name: weight.detach().clone() for name, weight in trainable(job.model).items()})
        return real(job, *arguments)

    monkeypatch.setattr(loop, "optimizer_step", step)
    return kept


def text(job: Job, step: int, loss: str, norm: str, rate: str) -> str:
    ids = [job.train[index].example_id for batch in plan_steps(job)[step - 1][1] for index in batch]
    return (
        f"training tuned broke down at step {step}: loss {loss}, gradient norm {norm}. Nothing was learned from this "
        f"step. Lower train.learning_rate (it is {rate}), or look at its examples: {', '.join(ids)}."
    )


def nothing_learned(job: Job, kept: list[dict[str, Any]]) -> bool:
    return all(
        torch.equal(weight, kept[0][name]) or bool(weight.isnan().any())
        for name, weight in trainable(job.model).items()
    )


def test_a_ruined_weight_is_noticed_at_that_step(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job, _ = make_job(ingredients(recipe(LORA, schedule="constant"), tiny), tmp_path)
    kept = before_step(3, poke, monkeypatch)
    with pytest.raises(UserError) as caught:
        train(job)
    assert str(caught.value) == text(job, 3, "nan", "nan", "0.01")
    assert nothing_learned(job, kept)
    assert [point.step for point in read_log(tmp_path)] == [1, 2]


@pytest.mark.parametrize("bad", [NAN, INF])
def test_a_ruined_loss_is_noticed_at_that_step(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: float
) -> None:
    job, _ = make_job(ingredients(recipe(LORA, schedule="constant", tokens_per_batch=60), tiny), tmp_path)
    real = loop.loss_sum
    kept = before_step(
        2,
        lambda _: monkeypatch.setattr(loop, "loss_sum", lambda *given, **options: real(*given, **options) * bad),
        monkeypatch,
    )
    with pytest.raises(UserError) as caught:
        train(job)
    assert str(caught.value) in [text(job, 2, str(bad), norm, "0.01") for norm in ("nan", "inf")]
    assert nothing_learned(job, kept)


def test_a_ruined_gradient_is_noticed_though_the_loss_is_a_number(
    tiny_causal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, _ = make_job(ingredients(recipe(LORA, schedule="constant"), tiny_causal), tmp_path)

    def spoil(job: Job) -> None:
        next(iter(trainable(job.model).values())).register_hook(lambda gradient: gradient * INF)

    kept = before_step(4, spoil, monkeypatch)
    with pytest.raises(UserError, match=r"broke down at step 4: loss \d+\.\d+, gradient norm (nan|inf)\. Nothing"):
        train(job)
    assert nothing_learned(job, kept)


def ruin_the_last_step(monkeypatch: pytest.MonkeyPatch) -> None:
    real = loop.rate_at
    monkeypatch.setattr(
        loop, "rate_at", lambda step, steps, **given: INF if step == steps - 1 else real(step, steps=steps, **given)
    )


def test_weights_ruined_by_the_last_step_do_not_leave_the_house(
    tiny_causal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ruin_the_last_step(monkeypatch)
    where = CandidateDir(tmp_path)
    with pytest.raises(UserError) as caught:
        tune(ingredients(recipe(LORA, max_steps=2), tiny_causal), "tuned", where)
    weights = 2 * 7  # A and B of seven layers
    assert str(caught.value) == (
        f"training tuned broke down after step 2: {weights} weights are not numbers, the first "
        "base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight. "
        "Lower train.learning_rate (it is 0.01)."
    )
    assert not where.adapter.exists()
    assert not where.train_result.exists()


def test_a_validation_loss_that_is_no_number_ends_training(
    tiny_causal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ruin_the_last_step(monkeypatch)
    job, _ = make_job(ingredients(recipe(LORA, max_steps=4, validations=2), tiny_causal, validation=2), tmp_path)
    with pytest.raises(UserError) as caught:
        train(job)
    assert str(caught.value) == (
        "training tuned broke down after step 4: the validation loss is nan. Lower train.learning_rate (it is 0.01)."
    )
    assert [point.step for point in read_log(tmp_path) if point.validation_loss is not None] == [2]
