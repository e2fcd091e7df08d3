import pytest

from tunesmith.metrics.scoring import score_predictions
from tunesmith.records import Example, Prediction, ScoreSheet
from tunesmith.reporting.compare import compare_sheets, headline

N = 60


def sheet(
    name: str, right: int, *, task: str = "t", empty: int = 0, metric: str = "accuracy", n: int = N
) -> ScoreSheet:
    examples = [Example(id=str(k), task=task, split="test", prompt="", target="a", references=("a",)) for k in range(n)]
    texts = ["a" if k < right else "" if k >= n - empty else "b" for k in range(n)]
    answers = [
        Prediction(example_id=str(k), text=text, prompt_tokens=1, new_tokens=1, finish="stop")
        for k, text in enumerate(texts)
    ]
    return score_predictions(examples, answers, candidate=name, task=task, metrics=[metric])


def said(*sheets: ScoreSheet) -> tuple[str, ...]:
    return headline(sheets, compare_sheets(sheets))


def starts(sentences: tuple[str, ...]) -> list[str]:
    return [sentence.split(" (95 %")[0] for sentence in sentences]


def test_the_best_is_named_against_zero_shot_and_against_the_runner_up() -> None:
    sentences = said(sheet("zero-shot", 10), sheet("full", 49), sheet("lora", 50))
    assert starts(sentences) == [
        "lora beats zero-shot by 66.7 percentage points of accuracy",
        "No difference between lora and full can be shown: +1.7 percentage points of accuracy",
    ]
    assert sentences[0].endswith(", n = 60).")


def test_a_runner_up_that_is_beaten_is_said_to_be() -> None:
    assert starts(said(sheet("full", 30), sheet("zero-shot", 10), sheet("lora", 50)))[1] == (
        "lora beats full by 33.3 percentage points of accuracy"
    )


def test_no_gain_over_zero_shot_is_claimed_that_is_not_there() -> None:
    assert starts(said(sheet("zero-shot", 30), sheet("lora", 32))) == [
        "No difference between lora and zero-shot can be shown: +3.3 percentage points of accuracy"
    ]


def test_zero_shot_may_be_the_best() -> None:
    assert starts(said(sheet("zero-shot", 50), sheet("lora", 10), sheet("full", 48))) == [
        "No candidate does better than zero-shot.",
        "No difference between zero-shot and full can be shown: +3.3 percentage points of accuracy",
    ]


def test_without_zero_shot_the_best_is_named_with_its_score() -> None:
    assert starts(said(sheet("mine", 45), sheet("theirs", 20))) == [
        "mine reaches 75.0 % accuracy",
        "mine beats theirs by 41.7 percentage points of accuracy",
    ]


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("rouge1", "lora reaches 50.0 ROUGE-1 points"),
        ("mcc", "lora reaches a Matthews correlation of 0.000"),
        ("length-ratio", "lora reaches a length ratio of 1.000"),
    ],
)
def test_one_candidate_is_compared_with_nothing(metric: str, expected: str) -> None:
    assert starts(said(sheet("lora", 30, metric=metric))) == [expected]


def test_answers_left_out_are_mentioned() -> None:
    sentences = said(sheet("zero-shot", 10), sheet("lora", 40, empty=5))
    assert sentences[1] == "lora left 5 of 60 examples without an answer."


def test_there_are_at_most_three_sentences() -> None:
    sentences = said(sheet("zero-shot", 50, empty=3), sheet("lora", 40), sheet("full", 30))
    assert len(sentences) == 3
    assert said(sheet("zero-shot", 9), sheet("lora", 40, empty=1), sheet("full", 30))[2].startswith("lora left 1 of 60")


def test_several_tasks_get_one_sentence_each() -> None:
    sheets = [sheet(name, right, task=task) for task in "wxyz" for name, right in (("zero-shot", 10), ("lora", 50))]
    sentences = said(*sheets)
    assert [sentence.split(" by ")[0] for sentence in sentences] == [f"{task}: lora beats zero-shot" for task in "wxy"]


def test_no_scores_give_no_sentence() -> None:
    assert headline([], []) == ()


def test_metrics_without_a_better_side_are_not_ranked() -> None:
    sentences = said(sheet("zero-shot", 10, metric="length-ratio"), sheet("lora", 50, metric="length-ratio"))
    assert starts(sentences) == ["zero-shot reaches a length ratio of 1.000", "lora reaches a length ratio of 1.000"]
