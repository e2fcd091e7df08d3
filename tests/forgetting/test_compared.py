from math import comb

import pytest

from tunesmith.forgetting.compared import compare_results, prose_change
from tunesmith.metrics.statistics import holm
from tunesmith.probe_records import Paragraph, Probe, ProbeAnswer, ProbeResult, ProseLoss, Skill
from tunesmith.records import Example


def item(skill: str, number: int, choices: int = 4) -> Example:
    texts = tuple(f"{skill} {letter}" for letter in "abcd"[:choices])
    return Example(
        id=f"{skill}-{number}", task=skill, split="test", prompt=f"{skill} {number}?", target=f"{skill} a",
        references=(f"{skill} a",), choices=texts,
    )  # fmt: skip


PROBE = Probe(
    wanted="default",
    skills=(
        Skill(name="facts", metric="accuracy", max_new_tokens=8),
        Skill(name="moods", metric="accuracy", max_new_tokens=8),
        Skill(name="own", metric="rouge1", max_new_tokens=8, own=True),
    ),
    items=(*(item("facts", n) for n in range(20)), *(item("moods", n, 2) for n in range(20)),
           *(item("own", n, 0) for n in range(8))),
    prose=tuple(Paragraph(id=f"p{n}", field="history", text="x") for n in range(10)),
)  # fmt: skip


def result(right: dict[str, int], *, rouge: float, nats: float, probe: str = "same") -> ProbeResult:
    """The first so many items of a skill are right."""
    answers = []
    for one in PROBE.items:
        number = int(one.id.rpartition("-")[2])
        value = rouge + number if one.task == "own" else 100.0 * (number < right[one.task])
        answers.append(ProbeAnswer(item=one.id, text=one.target if value == 100 else "wrong", value=value))
    prose = tuple(ProseLoss(paragraph=p.id, nats=nats * (n + 1), tokens=n + 1) for n, p in enumerate(PROBE.prose))
    return ProbeResult(probe=probe, seconds=1, answers=tuple(answers), prose=prose)


BASE = result({"facts": 18, "moods": 15}, rouge=30, nats=3.0)
TUNED = result({"facts": 6, "moods": 16}, rouge=28, nats=3.5)


class TestOneTuning:
    def test_change_lost_and_won_are_counted_by_skill(self) -> None:
        facts, moods, own = compare_results(PROBE, BASE, TUNED, candidate="full").skills
        assert (facts.before, facts.after, facts.change, facts.lost, facts.won) == (90.0, 30.0, -60.0, 12, 0)
        assert (moods.before, moods.after, moods.change, moods.lost, moods.won) == (75.0, 80.0, 5.0, 0, 1)
        assert (facts.blind, moods.blind, own.blind) == (25.0, 50.0, None)
        assert (own.unit, own.change, own.lost, own.won) == ("points of 100", -2.0, None, None)

    def test_right_and_wrong_are_tested_by_mcnemar_and_corrected_for_the_number_of_skills(self) -> None:
        facts, moods, own = compare_results(PROBE, BASE, TUNED, candidate="full").skills
        assert facts.p_value == pytest.approx(2 * comb(12, 0) / 2**12)
        assert moods.p_value == 1.0
        assert [facts.p_holm, moods.p_holm] == pytest.approx(holm([facts.p_value, 1.0]))
        assert own.p_holm == own.p_value, "an own task is no shipped skill"
        assert facts.p_holm > facts.p_value

    def test_all_items_together_are_the_shipped_ones(self) -> None:
        found = compare_results(PROBE, BASE, TUNED, candidate="full").all
        assert (found.n, found.lost, found.won) == (40, 12, 1)
        assert found.change == pytest.approx(-100 * 11 / 40)
        assert found.low < found.change < found.high < 0

    def test_the_lost_items_stand_with_both_answers(self) -> None:
        lost = compare_results(PROBE, BASE, TUNED, candidate="full").lost
        assert [one.id for one in lost] == [f"facts-{n}" for n in range(6, 18)]
        assert (lost[0].prompt, lost[0].target, lost[0].before, lost[0].after) == (
            "facts 6?", "facts a", "facts a", "wrong",
        )  # fmt: skip

    def test_prose_is_weighed_by_tokens(self) -> None:
        found = compare_results(PROBE, BASE, TUNED, candidate="full").prose
        assert (found.n, found.tokens) == (10, 55)
        assert (found.before, found.after, found.change) == pytest.approx((3.0, 3.5, 0.5))
        assert (found.low, found.high) == pytest.approx((0.5, 0.5))

    def test_the_interval_of_prose_covers_what_paragraphs_differ_in(self) -> None:
        before = [ProseLoss(paragraph=str(n), nats=30.0, tokens=10) for n in range(40)]
        after = [ProseLoss(paragraph=str(n), nats=30.0 + n % 4, tokens=10) for n in range(40)]
        found = prose_change(before, after, seed=0)
        assert found.change == pytest.approx(0.15)
        spread = (0.0125 / 40) ** 0.5  # 0, 0.1, 0.2, 0.3 nats a token, each as often
        assert found.low == pytest.approx(0.15 - 1.96 * spread, abs=0.005)
        assert found.high == pytest.approx(0.15 + 1.96 * spread, abs=0.005)

    def test_no_change_is_not_sure_to_be_none(self) -> None:
        facts = compare_results(PROBE, BASE, BASE, candidate="full").skills[0]
        assert (facts.change, facts.lost, facts.won, facts.p_value) == (0.0, 0, 0, 1.0)
        edge = 100 * (1 - 0.025 ** (1 / 20))
        assert (facts.low, facts.high) == pytest.approx((-edge, edge))

    def test_results_of_different_probes_are_not_compared(self) -> None:
        with pytest.raises(ValueError, match="results of different probes"):
            compare_results(PROBE, BASE, TUNED.model_copy(update={"probe": "other"}), candidate="full")
