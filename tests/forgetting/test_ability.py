from math import comb

import pytest

from tunesmith.forgetting.ability import guessed, skills_had
from tunesmith.probe_records import Probe, ProbeAnswer, ProbeResult, Skill
from tunesmith.records import Example


def asked(name: str, number: int, choices: int) -> list[Example]:
    texts = tuple("abcd"[:choices])
    return [
        Example(id=f"{name}-{n}", task=name, split="test", prompt="?", target="a", references=("a",), choices=texts)
        for n in range(number)
    ]


SKILLS = (
    Skill(name="facts", metric="accuracy", max_new_tokens=8),
    Skill(name="moods", metric="accuracy", max_new_tokens=8),
    Skill(name="plurals", metric="quasi-exact-match", max_new_tokens=8),
    Skill(name="own-facts", metric="accuracy", max_new_tokens=8, own=True),
    Skill(name="own-sums", metric="rouge1", max_new_tokens=8, own=True),
)
PROBE = Probe(
    wanted="default", skills=SKILLS, prose=(),
    items=tuple([*asked("facts", 30, 4), *asked("moods", 30, 2), *asked("plurals", 28, 0), *asked("own-facts", 30, 4),
                 *asked("own-sums", 5, 0)]),
)  # fmt: skip


def base(**right: int) -> ProbeResult:
    """The first so many items of a skill are right, and no others."""
    answers = tuple(
        ProbeAnswer(item=item.id, text="", value=100.0 * (int(item.id.rpartition("-")[2]) < right.get(item.task, 0)))
        for item in PROBE.items
    )
    return ProbeResult(probe="same", seconds=1, answers=answers, prose=())


def test_the_chance_of_blind_guesses_is_that_of_the_binomial() -> None:
    exact = sum(comb(30, k) * 0.25**k * 0.75 ** (30 - k) for k in range(14, 31))
    assert guessed(14, [0.25] * 30) == pytest.approx(exact)
    assert guessed(0, [0.25] * 30) == pytest.approx(1.0)
    assert guessed(2, [1.0, 0.5]) == pytest.approx(0.5), "items may differ in their number of choices"


def test_a_base_that_guesses_has_no_skill() -> None:
    found = skills_had(PROBE, base(facts=8, moods=15, plurals=2, **{"own-facts": 8}))
    assert found == {"own-sums"}, "which is not right or wrong"


def test_a_skill_counts_from_where_guessing_cannot_be_the_reason() -> None:
    found = skills_had(PROBE, base(facts=16, moods=16, plurals=3, **{"own-facts": 16}))
    assert found == {"facts", "plurals", "own-facts", "own-sums"}


def test_shipped_skills_are_corrected_for_their_number_and_own_tasks_for_theirs() -> None:
    p = guessed(13, [0.25] * 30)
    assert 0.05 / 3 < p < 0.05, "of three shipped skills, and of one own task that can be guessed"
    assert "facts" not in skills_had(PROBE, base(facts=13))
    assert "own-facts" in skills_had(PROBE, base(**{"own-facts": 13}))
