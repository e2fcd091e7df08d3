import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tunesmith.data.encode import Coder
from tunesmith.errors import RecipeError
from tunesmith.inference import answer as module
from tunesmith.inference.answer import answer, load_candidate, room
from tunesmith.inference.generate import generate
from tunesmith.inference.rank import rank_choices
from tunesmith.models.load import Loaded, load
from tunesmith.recipe import recipe_from_text
from tunesmith.records import Cut, Example
from tunesmith.settings import Recipe

LABELS = ("late", "broken", "sent to another address")


def recipe(*, choices: tuple[str, ...] = (), shots: int = 0, new: int = 5, tasks: int = 1, **train: Any) -> Recipe:
    body = {
        "name": "tiny", "model": "tiny", "train": {"precision": "float32", **train},
        "tasks": [
            {"name": f"t{n}", "source": "rows.csv", "max_new_tokens": new, "choices": list(choices)}
            for n in range(tasks)
        ],
        "candidates": {"asked": {"method": "none", "shots": shots}},
    }  # fmt: skip
    return recipe_from_text(json.dumps(body))


def example(n: int, *, task: str = "t0", **changes: Any) -> Example:
    given = {
        "id": f"{task}/test/rows.csv:{n}", "task": task, "split": "test",
        "prompt": f"My parcel of day {n % 4} is late.", "target": "late", "references": ("late",),
    }  # fmt: skip
    return Example.model_validate({**given, **changes})


@pytest.fixture(params=["causal", "seq2seq"])
def loaded(request: pytest.FixtureRequest) -> Loaded:
    folder: Path = request.getfixturevalue(f"tiny_{request.param}")
    return load(folder)


def test_every_example_has_its_answer_in_the_order_of_the_examples(loaded: Loaded) -> None:
    given = recipe()
    asked = [example(n) for n in range(7)]
    found = answer(given, "asked", loaded, examples=asked, training=[])
    coder = Coder(loaded.tokenizer, loaded.kind, 1024)
    direct = generate(loaded, [coder.ids(one) for one in asked], settings=given.generate, max_new_tokens=5)
    (predictions,) = found.predictions.values()
    assert [one.example_id for one in predictions] == [one.id for one in asked]
    assert [one.new_tokens for one in predictions] == [len(one.ids) for one in direct]
    assert [one.finish for one in predictions] == [one.finish for one in direct]
    texts = [loaded.tokenizer.decode(one.ids, skip_special_tokens=True).strip() for one in direct]
    assert [one.text for one in predictions] == texts
    assert predictions[0].text == predictions[4].text, "the same prompt has the same answer"
    result = found.result
    assert result.prompts == 4
    assert result.prompt_tokens == sum(len(coder.ids(one)) for one in asked) == result.encoding.prompt_tokens
    assert result.new_tokens == sum(len(one.ids) for one in direct)
    assert (result.shots_asked, result.shots_fitting) == (0, {})
    assert result.seconds > 0
    assert result.peak_bytes > 50_000_000


def test_only_training_rows_in_the_form_of_the_question_are_shots(tiny_causal: Path) -> None:
    forms = ("inverted", "few-shot", "chain-of-thought", "zero-shot")
    training = [example(n, split="train", form=form) for n, form in enumerate(forms)]
    for form in ("zero-shot", "chain-of-thought"):
        asked = [example(9, form=form)]
        found = answer(recipe(shots=3), "asked", load(tiny_causal), examples=asked, training=training)
        assert [one.shots for one in found.predictions["t0"]] == [1]


def test_tasks_are_answered_apart(loaded: Loaded) -> None:
    asked = [example(n, task=f"t{n % 2}") for n in range(5)]
    found = answer(recipe(tasks=3), "asked", loaded, examples=asked, training=[])
    assert {task: [one.example_id for one in them] for task, them in found.predictions.items()} == {
        "t0": [asked[n].id for n in (0, 2, 4)],
        "t1": [asked[n].id for n in (1, 3)],
    }


def test_choices_are_ranked_and_the_likeliest_is_the_answer(loaded: Loaded) -> None:
    asked = [example(n, choices=LABELS) for n in range(4)]
    found = answer(recipe(choices=LABELS), "asked", loaded, examples=asked, training=[])
    coder = Coder(loaded.tokenizer, loaded.kind, 1024)
    for one, prediction in zip(asked, found.predictions["t0"], strict=True):
        targets = [coder.target(one.model_copy(update={"target": label})) for label in LABELS]
        logprobs = rank_choices(loaded, coder.ids(one), targets)
        assert prediction.choice_logprobs == pytest.approx(dict(zip(LABELS, logprobs, strict=True)), abs=1e-5)
        assert prediction.text == max(LABELS, key=lambda label: prediction.choice_logprobs[label])
        assert (prediction.finish, prediction.new_tokens) == ("choice", 0)


def test_shots_stand_in_the_prompt_and_are_counted(loaded: Loaded) -> None:
    training = [example(n, split="train", id=f"t0/train/rows.csv:{n}", target="late " * 20 * (n % 2)) for n in range(6)]
    asked = [example(0), example(1, prompt="My parcel is late. " * 20)]
    bare = answer(recipe(), "asked", loaded, examples=asked, training=training).predictions["t0"]
    found = answer(recipe(shots=4), "asked", loaded, examples=asked, training=training)
    predictions = found.predictions["t0"]
    assert found.result.shots_asked == 4
    assert found.result.shots_fitting == {"4": 2}
    assert [one.shots for one in predictions] == [4, 4]
    assert all(one.prompt_tokens > less.prompt_tokens + 20 for one, less in zip(predictions, bare, strict=True))


def test_where_not_all_shots_fit_it_is_said_for_how_many(tiny_causal: Path) -> None:
    short = load(tiny_causal)
    narrow = Loaded(short.model, short.tokenizer, short.kind, short.folder, 150)
    training = [example(n, split="train", id=f"t0/train/rows.csv:{n}") for n in range(6)]
    asked = [example(0), example(1), example(2, prompt="My parcel is late. " * 18)]
    found = answer(recipe(shots=5), "asked", narrow, examples=asked, training=training)
    counts = [one.shots for one in found.predictions["t0"]]
    assert counts[0] == counts[1] > counts[2]
    assert found.result.shots_fitting == {str(counts[0]): 2, str(counts[2]): 1}
    assert all(one.prompt_tokens <= 145 for one in found.predictions["t0"])


def test_a_cut_prompt_is_counted_and_named(loaded: Loaded) -> None:
    asked = [example(0), example(1, prompt="My parcel is late. " * 30)]
    found = answer(recipe(max_tokens=60), "asked", loaded, examples=asked, training=[])
    assert found.result.encoding.limit == 60
    before = len(Coder(loaded.tokenizer, loaded.kind, 9999).ids(asked[1]))
    after = found.predictions["t0"][1].prompt_tokens
    assert found.result.encoding.cut == (Cut(example_id=asked[1].id, tokens_before=before, tokens_after=after),)
    assert after <= 60 < before


def test_the_room_of_a_prompt_is_that_of_training_and_with_shots_that_of_the_model(loaded: Loaded) -> None:
    task = recipe(new=24).tasks[0]
    narrow = Loaded(loaded.model, loaded.tokenizer, loaded.kind, loaded.folder, 100)
    whole = 76 if loaded.kind == "causal" else 100  # an encoder-decoder keeps its answer apart
    assert room(recipe(max_tokens=50), "asked", narrow, task) == 50
    assert room(recipe(max_tokens=90), "asked", narrow, task) == min(90, whole)
    assert room(recipe(max_tokens=50, shots=2), "asked", narrow, task) == whole
    endless = Loaded(loaded.model, loaded.tokenizer, loaded.kind, loaded.folder, 0)
    assert room(recipe(shots=2), "asked", endless, task) == (4072 if loaded.kind == "causal" else 4096)


def test_an_answer_longer_than_the_context_is_refused(tiny_causal: Path) -> None:
    short = load(tiny_causal)
    given = recipe(new=1024)
    with pytest.raises(RecipeError) as caught:
        answer(given, "asked", short, examples=[example(0)], training=[])
    assert str(caught.value) == (
        "tasks.t0.max_new_tokens: 1024 leaves no room for a prompt, the model's context is 1024 tokens. Lower it."
    )


def test_nothing_asked_is_nothing_answered(loaded: Loaded) -> None:
    found = answer(recipe(), "asked", loaded, examples=[], training=[])
    assert found.predictions == {}
    assert (found.result.prompts, found.result.encoding.limit) == (0, 0)


def test_answering_in_the_middle_of_a_training_leaves_its_peak_alone(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden() -> None:
        raise AssertionError("this would forget the memory that training took")

    monkeypatch.setattr(module, "reset_peak", forbidden)
    answer(recipe(), "asked", loaded, examples=[example(0)], training=[])


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_the_base_is_loaded_in_the_precision_of_the_recipe(tiny_causal: Path, precision: str, dtype: Any) -> None:
    given = recipe(precision=precision)
    found = load_candidate(given, "asked", model=tiny_causal, adapter=Path("/nowhere"))
    assert {weight.dtype for weight in found.model.parameters()} == {dtype}
    assert not found.model.training
