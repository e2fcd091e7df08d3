from itertools import pairwise

from tunesmith.metrics.scoring import score_predictions
from tunesmith.recipe import recipe_from_text
from tunesmith.records import Example, Prediction, ScoreSheet
from tunesmith.reporting.contents import ChoiceCount
from tunesmith.reporting.task import (
    Answers,
    cut_off_sentence,
    histogram,
    length_edges,
    split_summary,
    task_report,
    used_for,
)

RECIPE = recipe_from_text(
    "name: n\nmodel: m\n"
    "tasks:\n  - {name: t, source: t.csv}\n  - {name: u, source: u.csv}\n  - {name: out, source: out.csv}\n"
    "mixture: {held_out: [out], scored: held-out}\n"
    "candidates:\n  one: {method: lora, mixture: {tasks: 1}}\n  both: {method: lora}\n"
)


def example(name: str, target: str, *, choices: tuple[str, ...] = (), group: str = "") -> Example:
    return Example(
        id=name, task="t", split="test", prompt="one two three", target=target, references=(target,), choices=choices,
        group=group,
    )  # fmt: skip


def answers(candidate: str, *texts: str, finish: str = "stop") -> Answers:
    given = {
        str(place): Prediction(example_id=str(place), text=text, prompt_tokens=1, new_tokens=1, finish=finish)
        for place, text in enumerate(texts)
    }
    return Answers(candidate, "t", given)


def test_the_last_bin_holds_all_that_is_longer() -> None:
    assert histogram([0, 1, 2, 3, 4, 99], (0, 2, 4)) == (2, 4)


def test_no_bins_hold_nothing() -> None:
    assert histogram([3, 4], ()) == ()


def test_the_bins_reach_as_far_as_the_longest_candidate() -> None:
    edges = length_edges([10] * 50, [answers("a", *["word " * 30] * 50)])
    assert edges[0] == 0
    assert edges[-1] > 30
    assert {right - left for left, right in pairwise(edges)} == {2}


def test_the_length_ratio_is_all_words_over_all_target_words() -> None:
    examples = [example("0", "one"), example("1", "one two three")]
    found = task_report("t", examples, answers=[answers("a", "a b c", "a b c")], sheets=[], comparisons=[])
    assert found.lengths[0].ratio == 6 / 4  # the mean of the two ratios would be 2
    assert found.lengths[0].median == 3
    assert found.lengths[0].n == 2


def test_the_length_ratio_leaves_out_examples_without_an_answer() -> None:
    examples = [example("0", "one two"), example("1", "one two three")]
    found = task_report("t", examples, answers=[answers("a", "a b c d")], sheets=[], comparisons=[])
    assert found.lengths[0].ratio == 2
    assert list(found.examples[1].answers) == []


def test_blank_answers_are_empty_and_cut_ones_are_counted() -> None:
    examples = [example(str(place), "one") for place in range(3)]
    found = task_report(
        "t", examples, answers=[answers("a", "", " \n", "b", finish="length")], sheets=[], comparisons=[]
    )
    assert (found.lengths[0].empty, found.lengths[0].cut_off) == (2, 3)


def test_candidates_of_which_a_fifth_or_more_is_cut_off_are_named_with_the_mend() -> None:
    examples = [example(str(place), "one") for place in range(5)]

    def given(candidate: str, cut: int) -> Answers:
        whole, ended = answers(candidate, *"abcde"), answers(candidate, *"abcde", finish="length")
        return Answers(candidate, "t", {**whole.by_id, **dict(list(ended.by_id.items())[:cut])})

    scored = score_predictions(
        examples, list(answers("a", *"abcde").by_id.values()), candidate="a", task="t", metrics=["rouge1"]
    )
    found = task_report(
        "t", examples, answers=[given("none", 0), given("few", 1), given("all", 5)], sheets=[scored], comparisons=[]
    )
    assert cut_off_sentence([found]) == (
        "Answers were cut off at max_new_tokens: few 20 %, all 100 %. Raise it in the recipe.",
    )
    assert ": in t few 20 %, all 100 %. " in cut_off_sentence([found, found.model_copy(update={"lengths": ()})])[0]
    assert cut_off_sentence([found.model_copy(update={"lengths": found.lengths[:1]})]) == ()
    assert cut_off_sentence([found.model_copy(update={"scores": {}})]) == ()


def test_a_task_with_choices_counts_choices_instead_of_lengths() -> None:
    both = ("yes", "no")
    examples = [example("0", "yes", choices=both), example("1", "yes", choices=both), example("2", "no", choices=both)]
    found = task_report("t", examples, answers=[answers("a", "yes", "no", "no")], sheets=[], comparisons=[])
    assert found.lengths == ()
    assert found.length_edges == ()
    assert found.choices == (
        ChoiceCount(choice="yes", wanted=2, chosen={"a": 1}, right={"a": 1}),
        ChoiceCount(choice="no", wanted=1, chosen={"a": 2}, right={"a": 1}),
    )


def test_values_of_single_examples_go_to_the_example_that_the_sheet_names() -> None:
    sheet = ScoreSheet(
        candidate="a", task="t", example_ids=("1", "0"), groups=("", ""), scores=(), per_example={"m": (10.0, 0.0)}
    )
    examples = [example("0", "x"), example("1", "y")]
    found = task_report("t", examples, answers=[answers("a", "p", "q")], sheets=[sheet], comparisons=[])
    assert [row.answers["a"].scores["m"] for row in found.examples] == [0.0, 10.0]


def test_rows_without_a_group_are_groups_of_their_own() -> None:
    found = split_summary(RECIPE, "t", "test", [example("0", "x"), example("1", "x"), example("2", "x", group="g")])
    assert found.groups == 3
    assert found.prompt_words == (3, 3)
    assert found.target_words == (1, 1)


def test_an_empty_split_is_all_zeros() -> None:
    found = split_summary(RECIPE, "t", "validation", [])
    assert (found.examples, found.groups, found.prompt_words, found.target_words) == (0, 0, (0, 0), (0, 0))


def test_a_split_says_what_it_is_used_for() -> None:
    assert {task: used_for(RECIPE, task, "train") for task in ("t", "u", "out")} == {
        "t": "tuning", "u": "tuning of both", "out": "nothing is tuned on it",
    }  # fmt: skip
    assert used_for(RECIPE, "out", "test") == "scores"
    shown = RECIPE.candidates["one"].model_copy(update={"method": "none", "shots": 2})
    with_shots = RECIPE.model_copy(update={"candidates": {**RECIPE.candidates, "two-shot": shown}})
    assert used_for(with_shots, "t", "train") == "tuning, worked examples"
    assert split_summary(RECIPE, "t", "test", []).used == "not scored"
