from typing import Any

from tunesmith.data.rows import Row
from tunesmith.data.shots import Question, joined, neighbours, put_before, shot_order
from tunesmith.data.templates import CatalogTemplate, ready
from tunesmith.settings import Phrasing

WORKED = Phrasing(form="few-shot", prompt="{{ text }}?", target="{{ label }}", intro="Say.", join=" ", separator=" / ")
TEMPLATE = ready(
    "template",
    CatalogTemplate(name="t", phrasings=(Phrasing(prompt="{{ text }}", target="{{ label }}"), WORKED)),
    forms=("zero-shot", "few-shot"),
    trusted=True,
)


def question(n: int, phrasing: int = 1, **changes: Any) -> Question:
    row = Row({"text": f"q{n}", "label": f"a{n}", **changes}, "f.csv", n)
    return Question(f"t/train/f.csv:{n}", phrasing, row, f"q {n}", f"q{n}?" if phrasing else f"q{n}")


POOL = [question(n) for n in range(12)]


def around(pool: list[Question], shots: int = 3, seed: int = 0) -> dict[str, list[str]]:
    found = neighbours(pool, range(len(pool)), shots=shots, seed=seed)
    return {pool[own].id: [pool[other].id for other in others] for own, others in found.items()}


def test_the_order_depends_on_the_seed_and_not_on_the_order_of_rows() -> None:
    ids = [one.id for one in POOL]
    order = [ids[n] for n in shot_order(ids, seed=0)]
    assert order == [ids[::-1][n] for n in shot_order(ids[::-1], seed=0)]
    assert order != [ids[n] for n in shot_order(ids, seed=1)]
    assert sorted(order) == sorted(ids)


def test_each_row_has_others_and_never_itself() -> None:
    found = around(POOL)
    assert all(own not in others and len(set(others)) == 3 for own, others in found.items())
    assert len({tuple(others) for others in found.values()}) == len(POOL)
    assert found == around(POOL[::-1])
    assert found != around(POOL, seed=1)


def test_they_are_those_that_follow_in_the_order_round_and_round() -> None:
    ids = [one.id for one in POOL]
    order = [ids[n] for n in shot_order(ids, seed=0)]
    assert around(POOL)[order[-2]] == [order[-1], order[0], order[1]]


def test_a_row_that_goes_changes_the_prompts_of_few() -> None:
    before, after = around(POOL), around(POOL[1:])
    assert sum(before[own] != others for own, others in after.items()) == 3


def test_more_than_there_are_rows_are_all_others() -> None:
    assert {len(others) for others in around(POOL[:3], shots=5).values()} == {2}
    assert around(POOL[:1]) == {POOL[0].id: []}


def test_repeats_of_a_row_are_no_worked_examples_of_it() -> None:
    twins = [question(n) for n in range(4)] + [question(n) for n in range(100, 104)]
    twins = [Question(one.id, 1, one.row, "same" if n >= 4 else one.words, one.prompt) for n, one in enumerate(twins)]
    for own, others in around(twins, shots=7).items():
        same = own in {one.id for one in twins[4:]}
        assert len(others) == (4 if same else 7)


def test_a_prompt_has_intro_examples_and_question() -> None:
    pool = [question(1), question(2, phrasing=0), question(3)]
    first, second, third = put_before(TEMPLATE, pool, shots=1, seed=0)
    assert second == "q2"
    options = {"q1": ("q2? a2", "q3? a3"), "q3": ("q1? a1", "q2? a2")}
    assert first in [f"Say. / {shot} / q1?" for shot in options["q1"]]
    assert third in [f"Say. / {shot} / q3?" for shot in options["q3"]]


def test_a_row_that_cannot_be_an_example_is_left_out() -> None:
    pool = [question(1), question(2, label="c")]
    assert put_before(TEMPLATE, pool, shots=1, seed=0, choices=["a1"])[0] == "Say. / q1?"
    assert put_before(TEMPLATE, pool, shots=1, seed=0, choices=["a1", "c"])[0] == "Say. / q2? c / q1?"


def test_the_question_ends_like_the_examples() -> None:
    phrasing = Phrasing(form="few-shot", prompt="x", target="y", join="\n= ")
    assert joined(phrasing, "", [("p", "a")], "q") == "p\n= a\n\nq\n="
