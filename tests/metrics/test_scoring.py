import subprocess
import sys

import pytest

from tunesmith.errors import RecipeError, UserError
from tunesmith.metrics.scoring import (
    GROUPS,
    collect_answers,
    expand_metrics,
    find_metric,
    score_predictions,
    scoring_notes,
)
from tunesmith.records import Example, Prediction, ScoreSheet
from tunesmith.registry import METRICS

TEXTS = {"1": "the dog bites the man", "2": "it is cold outside", "3": "yes"}


def example(name: str, *references: str, group: str = "", choices: tuple[str, ...] = ()) -> Example:
    return Example(
        id=name,
        task="t",
        split="test",
        prompt="?",
        target=references[0],
        references=references,
        group=group,
        choices=choices,
    )


def prediction(name: str, text: str, **logprobs: float) -> Prediction:
    finish = "choice" if logprobs else "stop"
    return Prediction(
        example_id=name, text=text, prompt_tokens=1, new_tokens=1, finish=finish, choice_logprobs=logprobs
    )


def score(answers: dict[str, str], metrics: list[str], **references: str) -> ScoreSheet:
    examples = [example(name, references.get(f"r{name}", TEXTS[name])) for name in TEXTS]
    predictions = [prediction(name, text) for name, text in answers.items()]
    return score_predictions(examples, predictions, candidate="lora", task="t", metrics=metrics)


def test_every_name_of_the_table_is_a_metric_that_scores() -> None:
    choices = ("yes", "no")
    examples = [example(str(k), choices[k % 2], choices=choices) for k in range(4)]
    predictions = [prediction(str(k), "yes", yes=-0.1, no=-2.0) for k in range(4)]
    sheet = score_predictions(examples, predictions, candidate="c", task="t", metrics=list(METRICS))
    assert [one.metric for one in sheet.scores] == list(METRICS)
    for one in sheet.scores:
        assert one.low <= one.value <= one.high, one.metric
        assert one.signature.startswith(one.metric.split("-")[0]), one.metric
        assert (one.metric in sheet.per_example) != (one.metric in sheet.counts), one.metric
        assert (one.metric in sheet.per_example) == find_metric(one.metric).for_each, one.metric
    assert all(metric in METRICS for group in GROUPS.values() for metric in group)


def test_units_and_directions_say_how_to_read_a_number() -> None:
    units = {name: (find_metric(name).unit, find_metric(name).better) for name in METRICS}
    assert units["rouge1"] == units["bleu"] == units["chrf"] == ("points of 100", "higher")
    assert units["ter"] == ("points of 100", "lower")
    assert units["accuracy"] == units["exact-match"] == units["macro-f1"] == ("%", "higher")
    assert units["mcc"] == ("correlation", "higher")
    assert units["perplexity"] == ("per answer", "lower")
    assert units["bits-per-byte"] == ("bits per byte", "lower")
    assert units["length-ratio"] == ("words per reference word", "neither")


@pytest.mark.parametrize(
    ("names", "has_choices", "expected"),
    [
        ([], False, ("rouge1", "rouge2", "rougeL", "rougeLsum")),
        ([], True, ("accuracy", "macro-f1")),
        (["bleu", "rouge"], True, ("bleu", "rouge1", "rouge2", "rougeL", "rougeLsum")),
        (["rouge2", "rouge"], False, ("rouge2", "rouge1", "rougeL", "rougeLsum")),
    ],
)
def test_groups_become_their_members(names: list[str], has_choices: bool, expected: tuple[str, ...]) -> None:
    assert expand_metrics(names, has_choices) == expected


def test_unknown_metrics_are_named_all_at_once_with_the_nearest_known_ones() -> None:
    with pytest.raises(RecipeError) as caught:
        expand_metrics(["rogue1", "bleu", "glue"], has_choices=False)
    known = ", ".join(sorted([*GROUPS, *METRICS]))
    assert caught.value.problems == (
        f'metric "rogue1" is not known. Did you mean "rouge1"? Known: {known}.',
        f'metric "glue" is not known. Known: {known}.',
    )


def test_a_score_is_the_mean_over_examples_with_interval_and_signature() -> None:
    sheet = score({"1": "the dog bites the man", "2": "it is very cold outside", "3": ""}, ["rouge1", "rouge1-recall"])
    f1, recall = sheet.scores
    assert sheet.per_example["rouge1"] == (100.0, pytest.approx(800 / 9), 0.0)
    assert f1.value == pytest.approx((100 + 800 / 9) / 3)
    assert recall.value == pytest.approx(200 / 3)
    assert (f1.n, f1.n_empty, f1.unit) == (3, 1, "points of 100")
    assert (f1.low, f1.high) == (0.0, 100.0)
    settings = "stem:porter|tok:a-z0-9|case:lower|refs:1|split:none|agg:mean|tunesmith:0.1.0"
    assert f1.signature == f"rouge1|F|{settings}"
    assert recall.signature == f"rouge1|R|{settings}"


def test_white_space_alone_is_an_empty_answer_and_counts_as_zero() -> None:
    sheet = score({"1": " \n", "2": "", "3": "yes"}, ["exact-match", "bleu", "length-ratio"])
    exact, bleu, ratio = sheet.scores
    assert (exact.value, exact.n, exact.n_empty) == (pytest.approx(100 / 3), 3, 2)
    assert bleu.value == 0.0
    assert ratio.value == pytest.approx(1 / 10)


def test_the_length_ratio_is_total_over_total() -> None:
    sheet = score({"1": "a", "2": "a", "3": "one two three four five six seven eight"}, ["length-ratio"])
    assert sheet.counts["length-ratio"] == ((1, 5), (1, 4), (8, 1))
    assert sheet.scores[0].value == 1.0


def test_several_references_show_in_the_signature() -> None:
    examples = [example("1", "a b", "c d"), example("2", "e")]
    answers = [prediction("2", "e"), prediction("1", "c d")]
    metrics = ["rougeLsum-unstemmed", "bleu", "exact-match"]
    sheet = score_predictions(examples, answers, candidate="c", task="t", metrics=metrics)
    rouge, bleu, exact = sheet.scores
    assert (rouge.value, exact.value) == (100.0, 100.0)
    assert "|stem:none|tok:a-z0-9|case:lower|refs:var|split:newline|" in rouge.signature
    assert "|nrefs:var|" in bleu.signature


def test_predictions_may_come_in_any_order_and_keep_the_order_of_the_examples() -> None:
    straight = score({"1": "a", "2": "it is cold outside", "3": "no"}, ["rouge1", "bleu"])
    turned = score({"3": "no", "2": "it is cold outside", "1": "a"}, ["rouge1", "bleu"])
    assert straight == turned
    assert straight.example_ids == ("1", "2", "3")


def test_examples_without_a_group_are_their_own() -> None:
    examples = [example("1", "a", group="x"), example("2", "b", group="x"), example("3", "c")]
    answers = [prediction(name, "a") for name in "123"]
    sheet = score_predictions(examples, answers, candidate="c", task="t", metrics=["accuracy"])
    assert sheet.groups == ("x", "x", "3")


def test_labels_outside_the_choices_are_wrong_but_no_label() -> None:
    choices = ("good", "bad", "so so")
    examples = [example(str(k), text, choices=choices) for k, text in enumerate(["good", "bad", "good", "bad"])]
    answers = [prediction(str(k), text) for k, text in enumerate(["good", "bad ", "good!", "so so"])]
    sheet = score_predictions(examples, answers, candidate="c", task="t", metrics=["macro-f1", "accuracy"])
    assert sheet.counts["macro-f1"] == ((1, 1), (0, 0), (1, -1), (0, 2))
    assert sheet.scores[0].value == pytest.approx(100 * (2 / 3 + 2 / 3 + 0) / 3)
    assert sheet.scores[1].value == 50.0


def test_likelihoods_of_the_choices_give_normalised_accuracy_and_cost() -> None:
    examples = [example("1", "dark green"), example("2", "blue")]
    answers = [
        prediction("1", "blue", **{"blue": -3.0, "dark green": -4.0}),
        prediction("2", "blue", **{"blue": -1.0, "dark green": -9.0}),
    ]
    metrics = ["accuracy", "accuracy-norm", "perplexity", "bits-per-byte"]
    sheet = score_predictions(examples, answers, candidate="c", task="t", metrics=metrics)
    values = [one.value for one in sheet.scores]
    assert values == pytest.approx([50, 100, 2.718281828**2.5, 5 / 14 / 0.69314718056])


def test_all_right_does_not_pretend_to_be_certain() -> None:
    sheet = score(TEXTS, ["exact-match"])
    assert (sheet.scores[0].value, sheet.scores[0].high) == (100.0, 100.0)
    assert sheet.scores[0].low == pytest.approx(100 * 0.025 ** (1 / 3))


def test_predictions_that_do_not_fit_are_named() -> None:
    examples = [example(name, "a") for name in "abcdefgh"]
    answers = [prediction(name, "a") for name in ("a", "a", "z")]
    with pytest.raises(UserError) as caught:
        score_predictions(examples, answers, candidate="lora", task="t", metrics=["rouge1"])
    assert caught.value.problems == (
        'candidate "lora", task "t": examples without a prediction: b, c, d, e, f and 2 more. Run predict again.',
        'candidate "lora", task "t": examples with more than one prediction: a. Run predict again.',
        'candidate "lora", task "t": predictions for unknown examples: z. Run predict again.',
    )


def test_examples_must_differ_and_there_must_be_some() -> None:
    with pytest.raises(UserError) as caught:
        collect_answers([example("a", "x"), example("a", "y")], [prediction("a", "x")], candidate="c", task="t")
    assert caught.value.problems == (
        'candidate "c", task "t": examples that are there more than once: a. Run predict again.',
    )
    with pytest.raises(UserError) as caught:
        score_predictions([], [], candidate="c", task="t", metrics=["rouge1"])
    assert str(caught.value) == 'candidate "c", task "t": there are no examples to score. Give the split some rows.'


def test_metrics_of_likelihood_need_likelihoods() -> None:
    with pytest.raises(UserError) as caught:
        score(TEXTS, ["perplexity"])
    assert str(caught.value) == (
        'metric "perplexity" needs the log-likelihood of the right answer, and 3 of 3 predictions have none. '
        "Give the task choices, or take the metric out."
    )


def test_notes_are_about_rouge_alone() -> None:
    examples = [example("1", "доброе утро")]
    answers = collect_answers(examples, [prediction("1", "доброе утро")], candidate="c", task="t")
    assert scoring_notes(answers, candidate="c", metrics=["bleu"]) == ()
    assert [note.split(" are in")[0] for note in scoring_notes(answers, candidate="c", metrics=["rouge1"])] == [
        "1 of 1 references",
        "1 of 1 predictions of c",
    ]


def test_an_accuracy_stands_beside_that_of_the_commonest_label() -> None:
    def notes(metrics: list[str], choices: tuple[str, ...] = ("yes", "no")) -> tuple[str, ...]:
        examples = [example(str(k), "yes" if k else "no", choices=choices) for k in range(3)]
        predictions = [prediction(str(k), "no", yes=-2.0, no=-0.1) for k in range(3)]
        return score_predictions(examples, predictions, candidate="lora", task="t", metrics=metrics).notes

    assert notes(["accuracy"]) == ('t: "yes" is right for 2 of 3 rows; given every time, it would reach 66.7 %.',)
    assert notes(["macro-f1"]) == ()
    assert notes(["accuracy"], choices=()) == ()


def test_scoring_never_imports_torch() -> None:
    code = (
        "import sys, tunesmith.metrics.files, tunesmith.reporting.compare;"
        "from tunesmith.metrics.scoring import find_metric; from tunesmith.registry import METRICS;"
        "[find_metric(name) for name in METRICS];"
        "print([name for name in ('torch', 'transformers', 'sacrebleu', 'rouge_score', 'nltk') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "[]"


def test_of_answers_with_reasons_the_final_ones_are_compared() -> None:
    rows = [
        example(str(n), f"Since {n}.\nThe answer is {n}.").model_copy(update={"form": "chain-of-thought"})
        for n in range(3)
    ]
    said = ("By another way. The answer is 0.", "1", "Since 2. The answer is 3.")
    predictions = [prediction(str(n), text) for n, text in enumerate(said)]
    sheet = score_predictions(rows, predictions, candidate="c", task="t", metrics=("exact-match", "rouge1"))
    assert sheet.per_example["exact-match"] == (100.0, 100.0, 0.0)
    assert sheet.per_example["rouge1"] == (100.0, 100.0, 0.0)
    assert all(score.signature.endswith("|answer:final") for score in sheet.scores)
    plain = [row.model_copy(update={"form": "zero-shot"}) for row in rows]
    sheet = score_predictions(plain, predictions, candidate="c", task="t", metrics=("exact-match",))
    assert sheet.per_example["exact-match"] == (0.0, 0.0, 0.0)
    assert "answer:final" not in sheet.scores[0].signature
