from pathlib import Path
from typing import Any

import pytest

from tunesmith.data.encode import Coder
from tunesmith.inference.few_shot import choose_shots, with_shots
from tunesmith.models.load import load_tokenizer
from tunesmith.records import Example, Message


def example(n: int, **changes: Any) -> Example:
    given = {
        "id": f"t/train/f.csv:{n}", "task": "t", "split": "train", "prompt": f"Where is order {n}?",
        "target": f"It is at stop {n}.", "references": (),
    }  # fmt: skip
    return Example.model_validate({**given, **changes})


ROWS = [example(n) for n in range(20)]
QUESTION = example(4711, split="test", history=(Message(role="system", content="Be brief."),))


def chosen(rows: list[Example], seed: int = 0) -> list[str]:
    return [shot.id for shot in choose_shots(rows, task="t", shots=3, seed=seed)]


def test_the_choice_depends_on_the_seed_and_not_on_the_order_of_rows() -> None:
    assert chosen(ROWS) == chosen(ROWS[::-1])
    assert len({tuple(chosen(ROWS, seed)) for seed in range(5)}) == 5


def test_fewer_shots_are_the_first_of_more() -> None:
    ids = [shot.id for shot in choose_shots(ROWS, task="t", shots=7, seed=0)]
    assert ids[:3] == chosen(ROWS)
    assert len(set(ids)) == 7


def test_only_rows_of_the_same_task_are_chosen() -> None:
    assert chosen([*ROWS, *(example(n, id=f"u{n}", task="u") for n in range(20))]) == chosen(ROWS)
    assert choose_shots(ROWS, task="u", shots=3, seed=0) == []


def test_more_shots_than_rows_are_all_rows() -> None:
    assert len(choose_shots(ROWS[:2], task="t", shots=5, seed=0)) == 2


def test_a_row_that_goes_leaves_the_others_chosen() -> None:
    ids = chosen(ROWS)
    assert chosen([row for row in ROWS if row.id != ids[1]])[:2] == [ids[0], ids[2]]


@pytest.fixture(params=["causal", "seq2seq"])
def coder(request: pytest.FixtureRequest) -> Coder:
    folder: Path = request.getfixturevalue(f"tiny_{request.param}")
    tokenizer, kind = load_tokenizer(folder)
    return Coder(tokenizer, kind, 9999)


def test_worked_examples_stand_before_the_question_and_change_nothing_else(coder: Coder) -> None:
    longer, count = with_shots(QUESTION, ROWS[:2], coder)
    assert count == 2
    assert longer.prompt == (
        "Where is order 0?\nIt is at stop 0.\n\nWhere is order 1?\nIt is at stop 1.\n\nWhere is order 4711?"
    )
    assert longer.model_copy(update={"prompt": QUESTION.prompt}) == QUESTION


def test_there_are_as_many_as_fit(coder: Coder) -> None:
    sizes = [len(coder.ids(with_shots(QUESTION, ROWS[:n], coder)[0])) for n in range(6)]
    assert sizes == sorted(set(sizes))
    for limit in range(sizes[0] - 3, sizes[5] + 3):
        narrow = Coder(coder.tokenizer, coder.kind, limit)
        longer, count = with_shots(QUESTION, ROWS[:5], narrow)
        assert count == sum(size <= limit for size in sizes[1:])
        assert len(narrow.ids(longer)) <= limit or longer == QUESTION
