"""A plan of a run against the run itself: everything that can be counted is equal."""

from pathlib import Path
from typing import Any

import pytest
from probing import RATE
from workshop import FULL, LORA, example, examples, recipe

from tunesmith.errors import DataError
from tunesmith.plan_records import CandidatePlan, StagePlan
from tunesmith.planning.plan import make_plan
from tunesmith.records import Example, Split
from tunesmith.rundir import CandidateDir
from tunesmith.settings import Recipe
from tunesmith.training.tune import Ingredients, tune


def data(train: int = 12, validation: int = 4, test: int = 5) -> dict[Split, list[Example]]:
    return {
        "train": examples(train),
        "validation": examples(validation, start=500, split="validation"),
        "test": examples(test, start=700, split="test"),
    }


def planned(given: Recipe, folder: Path, **changes: Any) -> CandidatePlan:
    return {one.name: one for one in make_plan(given, folder, data(**changes)).candidates}["tuned"]


@pytest.mark.parametrize("method", [LORA, FULL], ids=["lora", "full"])
def test_what_is_counted_is_what_training_then_counts(
    request: pytest.FixtureRequest, kind: str, method: dict[str, Any], tmp_path: Path
) -> None:
    folder = request.getfixturevalue(f"tiny_{kind}")
    given = recipe(method, epochs=1.5, tokens_per_step=200, tokens_per_batch=100)
    found = planned(given, folder)
    where = CandidateDir(tmp_path)
    result = tune(Ingredients(given, folder, data()["train"], ()), "tuned", where)
    assert found.train
    assert (found.trainable, found.total, found.train.steps) == (result.trainable, result.total, result.steps)
    if kind == "causal":
        assert found.train.tokens == result.tokens
    else:
        assert found.train.tokens >= result.tokens, "padding is computed with"
    assert found.disk == pytest.approx(result.adapter_bytes, rel=0.05, abs=6000)


def test_biases_are_counted_as_training_then_counts_them(tiny_qwen2: Path, tmp_path: Path) -> None:
    given = recipe({"method": "bitfit"}, tokens_per_step=200)
    found = planned(given, tiny_qwen2)
    result = tune(Ingredients(given, tiny_qwen2, data()["train"], ()), "tuned", CandidateDir(tmp_path))
    assert found.train
    assert (found.trainable, found.total, found.train.steps) == (result.trainable, result.total, result.steps)
    # two layers, with biases for 64 queries, 32 keys and 32 values
    assert found.trainable == 2 * (64 + 32 + 32)


@pytest.fixture(params=["causal", "seq2seq"])
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def test_time_and_memory_follow_from_what_was_measured(tiny_causal: Path) -> None:
    found = planned(recipe(LORA, tokens_per_step=300, tokens_per_batch=150, epochs=2.0), tiny_causal)
    assert found.train
    assert found.train.seconds == pytest.approx(RATE * 2 * found.train.tokens, rel=0.2, abs=0.01)
    assert found.train.peak == sum(found.train.parts.values())
    assert found.train.needed == found.train.peak - found.train.parts["program"]
    assert found.train.largest <= 150
    assert found.working_disk == (16 * 3 + 4) * found.trainable
    assert found.advice == ""


def test_what_the_system_can_have_back_need_not_be_free() -> None:
    found = StagePlan(seconds=0.0, parts={"program": 1, "weights": 2, "files": 4}, peak=7, moment="reading the weights")
    assert found.needed == 2


def test_validations_cost_time_only_where_there_are_some(tiny_causal: Path) -> None:
    many = {"tokens_per_step": 300, "epochs": 1.0}
    once = planned(recipe(LORA, validations=100, **many), tiny_causal, validation=40).validating
    assert once > 0
    assert planned(recipe(LORA, validations=0, **many), tiny_causal).validating == 0
    scored = planned(recipe(LORA, validations=100, keep_best="rouge1", **many), tiny_causal, validation=40).validating
    assert scored > once


def test_the_base_answers_as_long_as_it_may_and_a_tuned_model_as_the_targets(tiny_causal: Path) -> None:
    given = recipe(LORA)
    longer = given.model_copy(update={"tasks": (given.tasks[0].model_copy(update={"max_new_tokens": 200}),)})
    base, tuned = make_plan(longer, tiny_causal, data()).candidates
    assert base.name == "zero-shot"
    assert (base.train, base.trainable, base.disk) == (None, 0, 0)
    targets = 5 * 200 - (base.answer.tokens - tuned.answer.tokens)
    assert base.answer.tokens > tuned.answer.tokens
    assert 5 < targets < 5 * 60


@pytest.mark.parametrize("choices", [(), ("lamp is late", "parcel is late")])
def test_answers_are_planned_for_choices_beams_and_shots(tiny_seq2seq: Path, choices: tuple[str, ...]) -> None:
    given = recipe({"method": "none", "shots": 2}, choices=choices)
    given = given.model_copy(update={"generate": given.generate.model_copy(update={"beams": 3})})
    asked = data()
    if choices:
        chosen = {"choices": choices, "target": choices[0], "references": choices[:1]}
        asked = {split: [one.model_copy(update=chosen) for one in found] for split, found in asked.items()}
    plain, shots = make_plan(given, tiny_seq2seq, asked).candidates
    assert shots.answer.tokens > plain.answer.tokens > 0
    assert plain.answer.peak > plain.answer.parts["program"]


def test_nothing_to_train_on_is_said(tiny_causal: Path) -> None:
    long = [example(n, target="lamp is late " * 30) for n in range(3)]
    with pytest.raises(DataError, match=r"^plan: there is nothing to train on: no example fits"):
        make_plan(recipe(LORA, max_tokens=64), tiny_causal, {**data(), "train": long})


@pytest.mark.parametrize("method", [LORA, FULL], ids=["lora", "full"])
def test_settings_against_forgetting_are_counted(
    request: pytest.FixtureRequest, kind: str, method: dict[str, Any], tmp_path: Path
) -> None:
    folder = request.getfixturevalue(f"tiny_{kind}")
    plain = planned(recipe(method, tokens_per_step=200), folder)
    mixed = planned(recipe(method, tokens_per_step=200, replay=0.25), folder)
    held = planned(recipe(method, tokens_per_step=200, kl=0.1), folder)
    searched = planned(recipe(method, tokens_per_step=200, average="auto"), folder)
    for one in (plain, mixed, held, searched):
        assert one.train
    assert plain.train and mixed.train and held.train  # noqa: PT018 for the types
    given = recipe(method, tokens_per_step=200, replay=0.25)
    result = tune(Ingredients(given, folder, data()["train"], ()), "tuned", CandidateDir(tmp_path))
    assert mixed.train.steps == result.steps > plain.train.steps
    if kind == "causal":
        assert mixed.train.tokens == result.tokens
    assert held.train.steps == plain.train.steps
    assert held.train.tokens > plain.train.tokens
    assert held.train.seconds > plain.train.seconds
    assert held.train.parts["temporary"] > plain.train.parts["temporary"] + 1_000_000
    assert searched.train == plain.train
    assert searched.validating > 2 * plain.validating


def test_tasks_in_turn_are_answered_after_each(tiny_causal: Path) -> None:
    given = recipe(LORA)
    assert planned(given.model_copy(update={"sequence": ("orders", "others")}), tiny_causal).answer.seconds == (
        pytest.approx(2 * planned(given, tiny_causal).answer.seconds)
    )
