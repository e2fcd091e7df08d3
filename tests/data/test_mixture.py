from collections import Counter
from typing import Any

import pytest

from tunesmith.data.mixture import (
    Draw,
    apportioned,
    check_forms,
    family_of,
    held_out,
    in_forms,
    mix,
    own_split,
    scored,
    tuned_on,
)  # fmt: skip
from tunesmith.data.templates import draw_form, load_template
from tunesmith.errors import RecipeError
from tunesmith.settings import MixtureSettings, SplitSettings, TaskSettings, TemplateSettings

INLINE = TemplateSettings(prompt="{{ a }}", target="{{ b }}")
TASKS = [
    TaskSettings(name="rte", source="a.csv", template="natural-language-inference"),
    TaskSettings(name="cb", source="a.csv", template="natural-language-inference"),
    TaskSettings(name="mood", source="a.csv", template="review-sentiment"),
    TaskSettings(name="own", source="a.csv", template=INLINE),
    TaskSettings(name="told", source="a.csv", template=INLINE, family="review-sentiment"),
]
COUNTS = {"rte": 4000, "cb": 50, "mood": 1000, "own": 10, "told": 3000}


def quotas(counts: dict[str, int] = COUNTS, **settings: Any) -> dict[str, int]:
    found = mix(TASKS, MixtureSettings(**settings), counts)
    return {share.task: share.per_epoch for share in found}


class TestShares:
    def test_in_proportion_with_a_cap_an_epoch_has_each_example_below_the_cap_once(self) -> None:
        assert quotas() == {"rte": 3000, "cb": 50, "mood": 1000, "own": 10, "told": 3000}
        assert quotas(cap=100) == {"rte": 100, "cb": 50, "mood": 100, "own": 10, "told": 100}

    def test_the_examples_of_an_epoch_are_divided_to_the_last(self) -> None:
        found = quotas(examples=1000)
        assert sum(found.values()) == 1000
        for task, size in quotas().items():
            assert abs(found[task] - 1000 * size / 7060) < 1

    def test_temperature_is_a_power_of_the_capped_sizes(self) -> None:
        found = quotas(examples=100_000, temperature=2.0)
        roots = {task: size**0.5 for task, size in quotas().items()}
        for task, root in roots.items():
            assert found[task] == pytest.approx(100_000 * root / sum(roots.values()), abs=1)
        assert set(quotas(examples=500, temperature=1e9).values()) == {100}

    def test_weights_stand_in_place_of_sizes_and_leave_out_what_they_do_not_name(self) -> None:
        found = quotas(examples=400, weights={"rte": 3.0, "own": 1.0})
        assert found == {"rte": 300, "cb": 0, "mood": 0, "own": 100, "told": 0}
        assert sum(quotas(weights={"rte": 3.0, "own": 1.0}).values()) == 3010  # what they have, capped
        assert quotas(examples=400, weights={"rte": 9.0, "own": 1.0}, temperature=2.0) == found

    def test_a_task_without_examples_has_no_share(self) -> None:
        assert quotas({**COUNTS, "cb": 0}, examples=100, weights={"cb": 9.0, "own": 1.0})["own"] == 100

    def test_what_is_left_over_goes_to_the_largest_remainders(self) -> None:
        assert apportioned(10, {"a": 5.0, "b": 3.0, "c": 2.0}) == {"a": 5, "b": 3, "c": 2}
        assert apportioned(3, {"a": 0.5, "b": 0.3, "c": 0.2}) == {"a": 1, "b": 1, "c": 1}
        assert apportioned(2, {"a": 0.5, "b": 0.3, "c": 0.2}) == {"a": 1, "b": 1, "c": 0}

    @pytest.mark.parametrize("temperature", [0.001, 1e-320])
    def test_a_low_temperature_gives_all_to_the_largest(self, temperature: float) -> None:
        assert quotas(examples=10, temperature=temperature) == {"rte": 5, "cb": 0, "mood": 0, "own": 0, "told": 5}

    def test_weights_may_be_as_large_and_as_small_as_numbers_are(self) -> None:
        weights = {"rte": 1.5e308, "own": 1.5e308, "cb": 1e-300}
        assert quotas(examples=10, weights=weights) == {"rte": 5, "cb": 0, "mood": 0, "own": 5, "told": 0}
        assert quotas(examples=9, weights=weights, temperature=1e9)["cb"] == 3
        assert apportioned(10, {"a": 1e308, "b": 1e308}) == {"a": 5, "b": 5}


class TestHeldOut:
    def test_the_family_is_that_of_the_catalog_unless_a_task_says_otherwise(self) -> None:
        families = ["natural-language-inference"] * 2 + ["review-sentiment", "own", "review-sentiment"]
        assert [family_of(task) for task in TASKS] == families

    def test_a_family_is_left_out_whole_a_task_alone(self) -> None:
        out = MixtureSettings(held_out=("natural-language-inference", "own"))
        assert held_out(TASKS, out) == ("rte", "cb", "own")
        assert tuned_on(TASKS, out) == ("mood", "told")
        assert held_out(TASKS, None) == ()
        assert quotas(held_out=("review-sentiment",), examples=99)["told"] == 0

    def test_the_number_of_tuning_tasks_counts_those_that_are_not_held_out(self) -> None:
        for number, names in enumerate([("rte",), ("rte", "mood"), ("rte", "mood", "own")], 1):
            assert tuned_on(TASKS, MixtureSettings(held_out=("cb",), tasks=number)) == names

    def test_only_held_out_tasks_may_be_scored(self) -> None:
        only = MixtureSettings(held_out=("own",), scored="held-out")
        assert scored(TASKS, only) == ("own",)
        assert [own_split(task, TASKS, SplitSettings(), only).limit.get("test") for task in TASKS] == [0, 0, 0, None, 0]
        assert scored(TASKS, MixtureSettings(held_out=("own",))) == tuple(task.name for task in TASKS)


def test_a_task_has_the_limit_of_the_mixture_or_its_own_and_never_more_than_that_of_the_split() -> None:
    mixture = MixtureSettings(limit=500, limits={"cb": 20, "own": 9000})
    split = SplitSettings(limit={"train": 800, "test": 7})
    limits = [own_split(task, TASKS, split, mixture).limit for task in TASKS]
    assert [limit["train"] for limit in limits] == [500, 20, 500, 800, 500]
    assert {limit["test"] for limit in limits} == {7}
    assert own_split(TASKS[0], TASKS, split, None) == split


class TestForms:
    def test_a_task_takes_the_forms_that_have_a_share_and_that_it_has(self) -> None:
        shares: dict[Any, float] = {"few-shot": 2.0, "chain-of-thought": 1.0}
        assert in_forms(TASKS[0], shares).forms == ("zero-shot", "few-shot", "chain-of-thought")
        assert in_forms(TASKS[2], shares).forms == ("zero-shot", "few-shot")
        assert in_forms(TASKS[3], shares).forms == ("zero-shot",)
        assert in_forms(TASKS[0], {}) == TASKS[0]

    def test_a_task_that_names_its_forms_takes_no_others(self) -> None:
        named = TASKS[0].model_copy(update={"forms": ("zero-shot",)})
        assert in_forms(named, {"zero-shot": 1.0, "few-shot": 1.0}).forms == ("zero-shot",)

    def test_a_share_of_a_form_that_no_task_has_is_refused(self) -> None:
        shares: dict[Any, float] = {"zero-shot": 1.0, "chain-of-thought": 1.0}
        check_forms([in_forms(task, shares) for task in TASKS], shares)
        with pytest.raises(RecipeError) as error:
            check_forms([in_forms(TASKS[2], shares)], shares)
        assert error.value.problems == (
            "mixture.forms: no task has a phrasing of the form chain-of-thought that it may use. Leave it out, or add "
            "it to the template or to the `forms` of a task.",
        )

    def test_forms_are_drawn_in_their_shares(self) -> None:
        shares: dict[Any, float] = {"zero-shot": 5.0, "few-shot": 3.0, "chain-of-thought": 2.0}
        template = load_template(in_forms(TASKS[0], shares))
        row = {"premise": "p", "hypothesis": "h", "label": "l", "rationale": "r"}
        ids = [f"rte/train/{number}" for number in range(5000)]
        drawn = Counter(draw_form(template, one, row, seed=0, shares=shares) for one in ids)
        assert drawn["zero-shot"] == pytest.approx(2500, abs=150)
        assert drawn["few-shot"] == pytest.approx(1500, abs=150)
        assert drawn["chain-of-thought"] == pytest.approx(1000, abs=150)

    def test_a_form_that_a_row_cannot_have_leaves_its_share_to_the_others(self) -> None:
        shares: dict[Any, float] = {"few-shot": 1.0, "chain-of-thought": 9.0}
        template = load_template(in_forms(TASKS[0], shares))
        row = {"premise": "p", "hypothesis": "h", "label": "l", "rationale": ""}
        assert {draw_form(template, str(n), row, seed=0, shares=shares) for n in range(50)} == {"few-shot"}
        alone: dict[Any, float] = {"chain-of-thought": 1.0}
        assert draw_form(load_template(in_forms(TASKS[0], alone)), "1", row, seed=0, shares=alone) == "zero-shot"


class TestEpochs:
    DRAW = Draw.among(["a"] * 7 + ["b"] * 3 + ["c"], {"a": 3, "b": 4}, seed=1)

    def test_an_epoch_has_of_each_task_what_it_should(self) -> None:
        for number in range(9):
            found = Counter("a" if place < 7 else "b" if place < 10 else "c" for place in self.DRAW.epoch(number))
            assert found == {"a": 3, "b": 4}

    def test_an_epoch_depends_on_nothing_but_seed_and_number(self) -> None:
        assert self.DRAW.epoch(4) == self.DRAW.epoch(4)
        assert self.DRAW.epoch(4) != self.DRAW.epoch(5)
        other = Draw(self.DRAW.quotas, self.DRAW.places, seed=2)
        assert [other.epoch(number) for number in range(4)] != [self.DRAW.epoch(number) for number in range(4)]

    @pytest.mark.parametrize("epochs", range(1, 12))
    def test_no_example_is_seen_twice_oftener_than_another_of_its_task(self, epochs: int) -> None:
        seen = Counter(place for number in range(epochs) for place in self.DRAW.epoch(number))
        for own in (range(7), range(7, 10)):
            counts = [seen[place] for place in own]
            assert max(counts) - min(counts) <= 1
        assert seen[10] == 0

    def test_a_task_gives_the_same_examples_whatever_the_others_do(self) -> None:
        alone = Draw.among(["a"] * 7, {"a": 3}, seed=1)
        assert [place for place in self.DRAW.epoch(2) if place < 7] == alone.epoch(2)

    def test_a_quota_without_examples_is_left_out(self) -> None:
        assert Draw.among(["a"], {"a": 2, "b": 5}, seed=0).epoch(0) == [0, 0]
