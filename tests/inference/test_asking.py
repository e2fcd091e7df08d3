"""The same row gets the same answer, wherever it stands and whatever is asked beside it."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from tiny_tuning import THINGS, recipe, tuned

from tunesmith.data.templates import catalog
from tunesmith.inference.asking import Asker
from tunesmith.inference.tuned import Tuned

TEMPLATE = "dialogue-summary"
ROWS = [{"dialogue": f"Customer: My {thing} of day {n} is late.", "summary": ""} for n, thing in enumerate(THINGS)]
METHODS = {"lora": {"method": "lora", "rank": 4}, "ia3": {"method": "ia3"}, "prefix": {"method": "prefix", "tokens": 3}}


@pytest.fixture(autouse=True)
def in_full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("tuned", "together"):
        monkeypatch.setattr(f"tunesmith.inference.{module}.fastest_dtype", lambda: torch.float32)


@pytest.fixture(params=["causal", "seq2seq"])
def model(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(f"tiny_{request.param}")
    return found


@pytest.fixture
def folders(model: Path, tmp_path: Path) -> Mapping[str, Path]:
    """Adapters whose card names a template with several phrasings."""
    for name, candidate in METHODS.items():
        given = recipe(candidate, max_steps=4, learning_rate=0.03)
        tasks = (given.tasks[0].model_copy(update={"template": TEMPLATE}),)
        tuned(given.model_copy(update={"tasks": tasks, "model": str(model)}), model, tmp_path / name)
    return {name: tmp_path / name / "adapter" for name in METHODS}


def test_answers_do_not_depend_on_a_rows_place_nor_on_what_is_asked_beside_it(
    model: Path, folders: Mapping[str, Path]
) -> None:
    assert len(catalog()[TEMPLATE].phrasings) > 1
    alone = {}
    for name, folder in folders.items():
        one = Tuned.load(folder)
        alone[name] = [one.answer([row])[0] for row in ROWS]
        assert one.answer([ROWS[3]] * 9) == [alone[name][3]] * 9
        assert one.answer(ROWS[::-1]) == alone[name][::-1]
    shared = Tuned.load(model, folders)
    asked = [(name, n) for n in range(len(ROWS))[::-1] for name in folders]
    found = shared.answer([ROWS[n] for _, n in asked], adapter=[name for name, _ in asked])
    assert found == [alone[name][n] for name, n in asked]


def test_a_row_is_put_into_the_first_phrasing_that_is_asked(folders: Mapping[str, Path]) -> None:
    one = Tuned.load(folders["lora"])
    asker = Asker(one.card, one.loaded.virtual)
    asked = asker.questions(one.loaded, {7: ROWS[0], 8: ROWS[1], 9: ROWS[0]}, asker.task(None))
    assert asked[0] == asked[2] != asked[1]
    first = catalog()[TEMPLATE].phrasings[0].prompt.split("\n")[0]
    assert first in one.loaded.tokenizer.decode(asked[0].ids)
