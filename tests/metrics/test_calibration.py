import numpy as np
import pytest

from tunesmith.errors import UserError
from tunesmith.metrics.calibration import (
    area_of_sums,
    coverage_columns,
    equal_mass_edges,
    error_of_sums,
    one_bin,
    probabilities,
    surest_of_sums,
    ten_bins,
)
from tunesmith.metrics.contract import Floats
from tunesmith.metrics.scoring import score_predictions
from tunesmith.records import Example, Prediction, ScoreSheet

NAMES = ["ece", "ece-1", "selective-accuracy", "coverage-auc", "brier"]


def totals(counts: Floats) -> Floats:
    return counts.sum(axis=0, keepdims=True)


def draws(n: int, seed: int = 0) -> Floats:
    """Confidences with as many right answers as they promise, (n, 2)."""
    random = np.random.default_rng(seed)
    confidence = random.uniform(0.3, 1.0, n)
    return np.stack([confidence, random.uniform(size=n) < confidence], axis=1).astype(float)


def sheet(*ranked: tuple[str, dict[str, float]], metrics: list[str] = NAMES) -> ScoreSheet:
    examples = [
        Example(
            id=str(n), task="t", split="test", prompt="?", target=right, references=(right,), choices=tuple(chances)
        )
        for n, (right, chances) in enumerate(ranked)
    ]
    predictions = [
        Prediction(
            example_id=str(n), text=max(chances, key=lambda choice: chances[choice]), prompt_tokens=1, new_tokens=0,
            finish="choice", choice_logprobs={choice: float(np.log(chance)) for choice, chance in chances.items()},
        )
        for n, (_, chances) in enumerate(ranked)
    ]  # fmt: skip
    return score_predictions(examples, predictions, candidate="c", task="t", metrics=metrics)


def test_the_softmax_is_over_the_choices_however_unlikely_they_all_are() -> None:
    found = probabilities({"a": -2000.0, "b": -2000.0 + float(np.log(3))})
    assert found == {"a": pytest.approx(0.25), "b": pytest.approx(0.75)}
    assert sum(probabilities({"a": -1.0, "b": -7.0, "c": -3.0}).values()) == pytest.approx(1)


def test_bins_of_equal_mass_are_parted_in_the_middle() -> None:
    assert equal_mass_edges(np.array([0.9, 0.1, 0.5, 0.3]), 2).tolist() == [0.4, 1.0]
    # 5 in 2 bins: the larger part comes first, as numpy splits
    assert equal_mass_edges(np.array([0.1, 0.2, 0.3, 0.4, 0.5]), 2).tolist() == [0.35, 1.0]


def test_equal_confidences_share_a_bin() -> None:
    assert equal_mass_edges(np.full(40, 0.7), 10).tolist() == [0.7, 1.0]
    counts = np.array([[0.7, 1.0]] * 20 + [[0.7, 0.0]] * 20)
    assert error_of_sums(totals(ten_bins(counts)))[0] == pytest.approx(20)


def test_the_error_of_a_hand_worked_example() -> None:
    # ten bins of two: confidence 0.95 and right, but for the lowest one, where both are wrong at 0.5 and 0.6
    counts = np.array([[0.5, 0], [0.6, 0], *[[0.95 + n / 1000, 1] for n in range(18)]])
    gaps = [0.55] + [1 - (0.95 + (2 * n + 0.5) / 1000) for n in range(9)]
    assert error_of_sums(totals(ten_bins(counts)))[0] == pytest.approx(100 * sum(gaps) / 10)
    assert error_of_sums(totals(one_bin(counts)))[0] == pytest.approx(100 * abs(counts[:, 0].mean() - 0.9))


def test_an_honest_model_has_a_small_error_that_shrinks_with_examples() -> None:
    small, large = (error_of_sums(totals(ten_bins(draws(n))))[0] for n in (100, 20_000))
    assert large < 2 < small


def exact_area(counts: Floats) -> float:
    right = counts[np.argsort(-counts[:, 0]), 1]
    return float(100 * np.mean(right.cumsum() / np.arange(1, len(right) + 1)))


def test_the_area_is_the_mean_accuracy_of_the_surest() -> None:
    counts = np.array([[0.9, 1], [0.5, 1], [0.7, 0], [0.6, 1]])
    assert exact_area(counts) == pytest.approx(100 * (1 + 1 / 2 + 2 / 3 + 3 / 4) / 4)
    assert area_of_sums(totals(coverage_columns(counts)))[0] == pytest.approx(exact_area(counts))
    assert area_of_sums(totals(coverage_columns(draws(150))))[0] == pytest.approx(exact_area(draws(150)))


def test_many_examples_are_followed_in_steps_that_hardly_matter() -> None:
    counts = draws(5000)
    assert coverage_columns(counts).shape[1] <= 2 * 202
    assert area_of_sums(totals(coverage_columns(counts)))[0] == pytest.approx(exact_area(counts), abs=0.1)
    right = counts[np.argsort(-counts[:, 0]), 1]
    assert surest_of_sums(totals(coverage_columns(counts)))[0] == pytest.approx(100 * right[:501].mean())


def test_of_equal_confidences_every_order_counts_alike() -> None:
    counts = np.array([[0.6, 1.0], [0.6, 0.0]])
    orders = [exact_area(counts), exact_area(counts[::-1])]
    assert sorted(orders) == [25, 75]
    assert area_of_sums(totals(coverage_columns(counts)))[0] == pytest.approx(50)


@pytest.mark.parametrize(("n", "taken"), [(1, 1), (9, 1), (10, 2), (25, 3)])
def test_the_surest_tenth_is_rounded_down_and_one_more(n: int, taken: int) -> None:
    right = np.array([k % 3 != 1 for k in range(n)], dtype=float)
    counts = np.stack([np.linspace(0.9, 0.5, n), right], axis=1)
    assert surest_of_sums(totals(coverage_columns(counts)))[0] == pytest.approx(100 * right[:taken].mean())


def test_a_sheet_has_all_of_them_with_units_and_intervals() -> None:
    found = sheet(*[("a", {"a": 0.8, "b": 0.2})] * 3, ("b", {"a": 0.8, "b": 0.2}))
    values = {one.metric: one.value for one in found.scores}
    brier = (3 * (0.2**2 + 0.2**2) + 0.8**2 + 0.8**2) / 4
    expected = {"ece": 5, "ece-1": 5, "selective-accuracy": 75, "coverage-auc": 75, "brier": brier}
    assert values == pytest.approx(expected)
    assert found.counts["ece"] == (*[(pytest.approx(0.8), 1.0)] * 3, (pytest.approx(0.8), 0.0))
    assert all(one.low <= one.value <= one.high for one in found.scores)
    assert [one.higher_is_better for one in found.scores] == [False, False, True, True, False]
    assert found.scores[0].signature == "ece|bins:10-equal-mass|confidence:softmax-of-choices|tunesmith:0.1.0"


def test_a_right_answer_that_is_no_choice_costs_all_of_it() -> None:
    assert sheet(("c", {"a": 0.5, "b": 0.5}), metrics=["brier"]).scores[0].value == pytest.approx(1.5)


def test_few_examples_are_noted() -> None:
    assert sheet(("a", {"a": 0.8, "b": 0.2}), metrics=["ece"]).notes == (
        "ECE of 1 examples: with fewer than about 300, it is well above zero even for a model whose confidence is "
        "right.",
    )
    assert sheet(("a", {"a": 0.8, "b": 0.2}), metrics=["brier"]).notes == ()


@pytest.mark.parametrize("name", NAMES)
def test_answers_without_likelihoods_are_refused(name: str) -> None:
    examples = [Example(id="1", task="t", split="test", prompt="?", target="a", references=("a",))]
    answers = [Prediction(example_id="1", text="a", prompt_tokens=1, new_tokens=1, finish="stop")]
    with pytest.raises(UserError) as caught:
        score_predictions(examples, answers, candidate="c", task="t", metrics=[name])
    assert str(caught.value) == (
        f'metric "{name}" needs the log-likelihood of every choice, and 1 of 1 predictions have none. Give the task '
        "choices, or take the metric out."
    )
