import random

import pytest

from tunesmith.errors import UserError
from tunesmith.metrics.comparison import compare_sheets, title
from tunesmith.metrics.scoring import score_predictions
from tunesmith.records import Comparison, Example, Prediction, ScoreSheet

WORDS = "order lamp parcel bill chair table phone cable delivery refund"


def sheet(
    name: str, share: float, metrics: list[str], *, n: int = 80, per_group: int = 1, task: str = "t"
) -> ScoreSheet:
    """Answers that keep about ``share`` of the words of their references, the same words for every name."""
    rng = random.Random(0)
    examples, answers = [], []
    for place in range(n):
        words = rng.choices(WORDS.split(), k=12)
        luck = [rng.random() for _ in words]
        target = " ".join(words)
        group = f"g{place // per_group}"
        examples.append(
            Example(id=str(place), task=task, split="test", prompt="", target=target, references=(target,), group=group)
        )
        kept = " ".join(word for word, chance in zip(words, luck, strict=True) if chance < share)
        answers.append(Prediction(example_id=str(place), text=kept, prompt_tokens=1, new_tokens=1, finish="stop"))
    return score_predictions(examples, answers, candidate=name, task=task, metrics=metrics)


def marks(name: str, right: list[bool], per_group: int = 1) -> ScoreSheet:
    examples = [
        Example(id=str(k), task="t", split="test", prompt="", target="a", references=("a",), group=f"g{k // per_group}")
        for k in range(len(right))
    ]
    answers = [
        Prediction(example_id=str(k), text="a" if one else "b", prompt_tokens=1, new_tokens=1, finish="choice")
        for k, one in enumerate(right)
    ]
    return score_predictions(examples, answers, candidate=name, task="t", metrics=["accuracy"])


def only(comparisons: tuple[Comparison, ...]) -> Comparison:
    (comparison,) = comparisons
    return comparison


def test_a_clear_gain_is_said_with_its_size_and_interval() -> None:
    zero_shot, lora = sheet("zero-shot", 0.3, ["rouge1"]), sheet("lora", 0.6, ["rouge1"])
    found = only(compare_sheets([zero_shot, lora]))
    assert (found.better, found.than, found.test, found.n) == ("lora", "zero-shot", "paired bootstrap", 80)
    assert found.difference == pytest.approx(lora.scores[0].value - zero_shot.scores[0].value)
    assert 0 < found.low < found.difference < found.high
    assert found.p_value < 0.001
    assert found.sentence == (
        f"lora beats zero-shot by {found.difference:.1f} ROUGE-1 points "
        f"(95 % CI {found.low:.1f} to {found.high:.1f}, n = 80)."
    )


def test_the_order_of_the_sheets_does_not_matter() -> None:
    sheets = [sheet("zero-shot", 0.3, ["bleu"]), sheet("lora", 0.6, ["bleu"])]
    assert compare_sheets(sheets) == compare_sheets(sheets[::-1])


def test_no_difference_is_not_called_one() -> None:
    right = [k % 3 > 0 for k in range(60)]
    other = [one != (k in (3, 4, 7)) for k, one in enumerate(right)]
    found = only(compare_sheets([marks("full", right), marks("lora", other)]))
    assert (found.test, found.p_value) == ("McNemar", 1.0)
    assert found.sentence == (
        f"No difference between full and lora can be shown: +{found.difference:.1f} percentage points of accuracy "
        f"(95 % CI \N{MINUS SIGN}{-found.low:.1f} to {found.high:.1f}, n = 60)."
    )
    assert found.low < 0 < found.high


def test_right_and_wrong_are_judged_by_mcnemar() -> None:
    found = only(compare_sheets([marks("a", [True] * 30 + [False] * 30), marks("b", [True] * 20 + [False] * 40)]))
    assert found.test == "McNemar"
    assert found.p_value == pytest.approx(2 / 2**10)
    assert found.sentence.startswith("a beats b by 16.7 percentage points of accuracy (95 % CI ")


def test_answers_that_belong_together_are_not_judged_by_mcnemar() -> None:
    first, second = [True] * 30 + [False] * 30, [True] * 20 + [False] * 40
    found = only(compare_sheets([marks("a", first, per_group=10), marks("b", second, per_group=10)]))
    assert found.test == "paired bootstrap"
    assert found.p_value > 0.05
    assert found.sentence.endswith("n = 60 in 6 groups).")


def test_few_examples_claim_nothing() -> None:
    found = only(compare_sheets([marks("a", [True] * 5), marks("b", [False] * 5)]))
    assert found.sentence == (
        "Too few examples to tell a and b apart: +100.0 percentage points of accuracy (95 % CI 100.0 to 100.0, n = 5)."
    )


def test_equal_answers_differ_by_nothing() -> None:
    found = only(compare_sheets([sheet("a", 0.5, ["rouge1"]), sheet("b", 0.5, ["rouge1"])]))
    assert (found.better, found.difference, found.low, found.high, found.p_value) == ("a", 0, 0, 0, 1)
    assert found.sentence == (
        "No difference between a and b can be shown: +0.0 ROUGE-1 points (95 % CI 0.0 to 0.0, n = 80)."
    )


def test_where_lower_is_better_a_drop_is_a_gain() -> None:
    found = only(compare_sheets([sheet("worse", 0.3, ["ter"], n=20), sheet("better", 0.7, ["ter"], n=20)]))
    assert (found.better, found.than) == ("better", "worse")
    assert 0 < found.low < found.difference
    assert found.sentence.startswith("better beats worse by ")
    assert found.sentence.endswith(", n = 20; lower is better).")


def test_all_pairs_of_all_metrics_with_a_better_side_are_compared() -> None:
    metrics = ["rouge1", "bleu", "length-ratio"]
    sheets = [sheet(name, share, metrics, n=20) for name, share in (("a", 0.2), ("b", 0.4), ("c", 0.6))]
    found = compare_sheets(sheets)
    assert [(one.metric, one.better, one.than) for one in found] == [
        (metric, *pair) for metric in ("rouge1", "bleu") for pair in (("b", "a"), ("c", "a"), ("c", "b"))
    ]


def test_tasks_are_kept_apart_and_a_lone_candidate_is_not_compared() -> None:
    sheets = [
        sheet("a", 0.2, ["rouge1"], n=10, task="x"),
        sheet("a", 0.4, ["rouge1"], n=12, task="y"),
        sheet("b", 0.4, ["rouge1"], n=12, task="y"),
    ]
    assert [(one.task, one.n) for one in compare_sheets(sheets)] == [("y", 12)]
    assert compare_sheets(sheets[:1]) == ()
    assert compare_sheets([]) == ()


def test_a_small_but_sure_gain_is_not_printed_as_nothing() -> None:
    def tiny(name: str, value: float) -> ScoreSheet:
        base = marks(name, [True] * 50)
        score = base.scores[0].model_copy(update={"metric": "rouge1", "unit": "points of 100", "value": value})
        return base.model_copy(update={"scores": (score,), "per_example": {"rouge1": (value,) * 50}})

    found = only(compare_sheets([tiny("a", 40.012), tiny("b", 40.0)]))
    assert found.sentence == "a beats b by 0.01 ROUGE-1 points (95 % CI 0.01 to 0.01, n = 50)."


def test_other_examples_or_settings_are_refused() -> None:
    first = sheet("a", 0.3, ["rouge1"], n=10)
    changed = first.scores[0].model_copy(update={"signature": "rouge1|F|stem:none"})
    other = first.model_copy(update={"candidate": "c", "scores": (changed,)})
    with pytest.raises(UserError) as caught:
        compare_sheets([first, sheet("b", 0.3, ["rouge1"], n=11), other])
    assert caught.value.problems == (
        'task "t": candidates "a" and "b" were not scored on the same examples. Score both again.',
        f'task "t": candidates "a" and "c" have rouge1 with different settings, {first.scores[0].signature} and '
        "rouge1|F|stem:none. Score both again.",
    )


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("rouge1", "ROUGE-1"),
        ("rougeL-recall", "ROUGE-L (recall)"),
        ("rougeW-1.2", "ROUGE-W (1.2)"),
        ("chrf++", "chrF++"),
        ("accuracy", "accuracy"),
        ("macro-f1", "macro F1"),
        ("quasi-exact-match", "quasi exact match"),
    ],
)
def test_metrics_are_called_by_their_usual_names(metric: str, expected: str) -> None:
    assert title(metric) == expected
