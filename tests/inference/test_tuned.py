import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from tunesmith.errors import DataError, RecipeError, UsageError
from tunesmith.inference import decode
from tunesmith.inference import tuned as module
from tunesmith.inference.answer import answer, load_candidate
from tunesmith.inference.tuned import Tuned
from tunesmith.models.load import Loaded
from tunesmith.models.tiny import write_tiny
from tunesmith.recipe import recipe_from_text
from tunesmith.records import Example, Message, Prediction
from tunesmith.rundir import CandidateDir
from tunesmith.settings import Recipe
from tunesmith.training.tune import Ingredients, tune

ROWS = [{"said": f"My parcel of day {n} is late.", "colour": "red"} for n in range(5)]
CHOICES = ["late", "broken", "lost"]


def recipe(model: Path, method: str, *, choices: bool = False, system: bool = True) -> Recipe:
    template: dict[str, Any] = {"prompt": "Customer: {{ text }}\nIn short:", "target": "{{ label }}"}
    if system:
        template["system"] = "Be brief."
    task = {
        "source": "rows.csv", "columns": {"text": "said"}, "template": template, "max_new_tokens": 5,
        "choices": CHOICES if choices else [],
    }  # fmt: skip
    body = {
        "name": "tiny", "model": str(model), "tasks": [{"name": "a", **task}, {"name": "b", **task}],
        "train": {"precision": "float32", "learning_rate": 0.01, "max_steps": 8, "tokens_per_step": 100},
        "candidates": {"tuned": {"method": method}},
    }  # fmt: skip
    return recipe_from_text(json.dumps(body))


def examples(count: int, **changes: Any) -> list[Example]:
    said = (Message(role="system", content="Be brief."),)
    given = {"task": "a", "split": "train", "target": "it is late", "references": ("it is late",), "history": said}
    return [
        Example.model_validate(
            {"id": f"a/train/rows.csv:{n}", "prompt": f"Customer: {ROWS[n]['said']}\nIn short:", **given, **changes}
        )
        for n in range(count)
    ]


@pytest.fixture
def adapter(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Recipe, Path]:
    """A recipe, and the adapter folder that was trained with it; the parameter names model, method and choices."""
    kind, method, choices = request.param
    monkeypatch.setattr(module, "fastest_dtype", lambda: torch.float32)
    model: Path = request.getfixturevalue(f"tiny_{kind}")
    given = recipe(model, method, choices=choices)
    tune(Ingredients(given, model, examples(5), []), "tuned", CandidateDir(tmp_path))
    return given, tmp_path / "adapter"


LORA = pytest.mark.parametrize("adapter", [("causal", "lora", False)], indirect=True)


def by_the_pipeline(given: Recipe, adapter: Path, asked: list[Example]) -> list[Prediction]:
    loaded = load_candidate(given, "tuned", model=Path(given.model), adapter=adapter)
    return answer(given, "tuned", loaded, examples=asked, training=[]).predictions["a"]


@pytest.mark.parametrize(
    "adapter",
    [("causal", "lora", False), ("causal", "full", False), ("causal", "lora", True), ("seq2seq", "lora", False)],
    indirect=True,
)
def test_rows_are_answered_as_the_run_answers_its_examples(adapter: tuple[Recipe, Path]) -> None:
    given, folder = adapter
    choices = tuple(given.tasks[0].choices)
    expected = by_the_pipeline(given, folder, examples(5, split="test", choices=choices))
    assert Tuned.load(folder).answer(ROWS, task="a") == [one.text for one in expected]
    assert any(one.text for one in expected)


@LORA
def test_one_folder_serves_rows_again_and_again(adapter: tuple[Recipe, Path]) -> None:
    tuned = Tuned.load(str(adapter[1]), base=adapter[0].model)
    first = tuned.answer(ROWS, task="a")
    assert [tuned.answer([row], task="b") for row in ROWS] == [[text] for text in first]
    assert tuned.answer([], task="a") == []


@LORA
def test_a_prompt_leaves_the_context_room_for_the_answer(
    adapter: tuple[Recipe, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "fused", lambda model, dtype: nullcontext())
    tuned = Tuned.load(adapter[1])
    loaded = tuned.loaded
    narrow = Tuned(Loaded(loaded.model, loaded.tokenizer, loaded.kind, loaded.folder, 80), tuned.card)
    asked: list[int] = []
    forward = loaded.model.forward

    def spy(*args: Any, **options: Any) -> Any:
        asked.append(int(options["position_ids"].max()))
        return forward(*args, **options)

    loaded.model.forward = spy
    narrow.answer([{"said": "My parcel is late. " * 30}], task="a")
    assert 70 <= asked[0] <= 74
    assert max(asked) < 80


@LORA
def test_the_task_must_be_named_where_there_are_several(adapter: tuple[Recipe, Path]) -> None:
    tuned = Tuned.load(adapter[1])
    for task in (None, "c"):
        with pytest.raises(UsageError) as caught:
            tuned.answer(ROWS, task=task)
        assert str(caught.value) == "task: say which of a, b these rows are."


@LORA
def test_rows_without_a_column_are_named_together(adapter: tuple[Recipe, Path]) -> None:
    with pytest.raises(DataError) as caught:
        Tuned.load(adapter[1]).answer([ROWS[0], {"colour": "red"}, ROWS[1], {}], task="a")
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["row 2", "row 4"]
    assert "text" in caught.value.problems[0]


def test_a_folder_without_a_card_is_no_adapter(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        Tuned.load(tmp_path)
    assert str(caught.value) == f"{tmp_path} has no tunesmith.json. Give the adapter folder of a candidate of a run."


@LORA
def test_another_base_under_the_same_adapter_is_refused(adapter: tuple[Recipe, Path], tmp_path: Path) -> None:
    given, folder = adapter
    other = write_tiny(tmp_path / "other", kind="causal", texts=["a parcel is late"] * 20, seed=5)
    with pytest.raises(RecipeError) as caught:
        Tuned.load(folder, base=other)
    assert str(caught.value) == (
        f"{folder} was trained on {given.model}, whose weights are not those in {other}. Name its base with base=."
    )
