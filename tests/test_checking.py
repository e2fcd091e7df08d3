from typing import Any

import pytest

from tunesmith.checking import check_rows
from tunesmith.errors import DataError
from tunesmith.recipe import recipe_from_text
from tunesmith.records import Example

FORMS = ("zero-shot", "inverted", "inverted", "chain-of-thought", "chain-of-thought", "chain-of-thought")
TRAINING = [
    Example(id=str(n), task="task", split="train", prompt="p", target="t", references=("t",), form=form)
    for n, form in enumerate(FORMS)
]


def problems(forms: str, more: str = "", **candidate: Any) -> tuple[str, ...]:
    recipe = recipe_from_text(
        f"name: a\ntasks: [{{source: a.csv, forms: {forms}{more}}}]\ncandidates: {{few: {candidate}}}\n"
    )
    with pytest.raises(DataError) as error:
        check_rows(recipe, {"train": TRAINING, "validation": [], "test": []})
    return error.value.problems


def test_only_rows_in_the_form_of_the_test_rows_are_counted_as_shots() -> None:
    asked = 'worked examples are asked for, and task "task" has'
    assert problems("[zero-shot, inverted]", method="none", shots=2) == (
        f"candidates.few.shots: 2 {asked} 1 training rows of the form zero-shot. Lower it or add rows.",
    )
    assert problems("[chain-of-thought, zero-shot]", method="none", shots=4) == (
        f"candidates.few.shots: 4 {asked} 3 training rows of the form chain-of-thought. Lower it or add rows.",
    )
    assert problems("[zero-shot]", method="none", shots=2) == (
        f"candidates.few.shots: 2 {asked} 1 training rows. Lower it or add rows.",
    )


def test_answers_that_are_written_after_their_reasons_have_no_likelihoods_of_choices() -> None:
    more = ", choices: [a, b], metrics: [accuracy-norm]"
    assert problems("[chain-of-thought]", more, method="none", shots=1) == (
        'tasks.0.metrics: accuracy-norm is read from the likelihood of choices, and task "task" writes its answers '
        "after their reasons. Begin `forms` with zero-shot, or take another metric.",
    )
