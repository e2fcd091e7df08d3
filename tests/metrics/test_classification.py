import numpy as np
import pytest

from tunesmith.metrics.classification import (
    accuracy,
    f1_by_label,
    is_exact,
    is_quasi_exact,
    label_columns,
    label_counts,
    macro_f1,
    macro_f1_of_sums,
    mcc,
    mcc_of_sums,
)

GOLD = ["a", "a", "b", "b", "c"]
GIVEN = ["a", "b", "b", "b", "a"]


def test_scores_of_a_hand_worked_example() -> None:
    assert accuracy(GOLD, GIVEN) == 0.6
    assert f1_by_label(GOLD, GIVEN) == {"a": 0.5, "b": 0.8, "c": 0.0}
    assert macro_f1(GOLD, GIVEN) == pytest.approx(1.3 / 3)
    # 3 right of 5; given 2, 3, 0 and wanted 2, 2, 1 of each label
    assert mcc(GOLD, GIVEN) == pytest.approx((3 * 5 - 10) / np.sqrt((25 - 13) * (25 - 9)))


def test_correlation_runs_from_opposite_to_equal() -> None:
    assert mcc([0, 1, 0, 1], [1, 0, 1, 0]) == -1
    assert mcc([0, 1, 2], [0, 1, 2]) == 1
    assert mcc([0, 1, 0, 1], [0, 0, 0, 0]) == 0


def test_exact_means_equal_but_for_outer_white_space() -> None:
    assert is_exact(" yes\n", ["no", "yes"])
    assert not is_exact("Yes", ["yes"])


@pytest.mark.parametrize(("text", "same"), [("The answer.", True), ("ANSWER", True), ("answers", False), ("", False)])
def test_quasi_exact_looks_past_case_punctuation_and_articles(text: str, same: bool) -> None:
    assert is_quasi_exact(text, ["an answer!"]) is same


def test_an_answer_that_is_no_label_is_a_miss_and_makes_no_label_of_its_own() -> None:
    counts = label_counts(["a", "b"], ["a", "junk"], labels=["a", "b"])
    assert counts.tolist() == [[0, 0], [1, -1]]
    sums = label_columns(counts).sum(axis=0, keepdims=True)
    assert macro_f1_of_sums(sums) == pytest.approx([50.0])
    assert mcc_of_sums(sums) == pytest.approx([(1 * 2 - 1) / np.sqrt((4 - 2) * (4 - 2))])


def test_a_label_absent_from_a_resample_does_not_count_as_missed() -> None:
    columns = label_columns(label_counts(["a", "b"], ["a", "b"], labels=["a", "b"]))
    assert macro_f1_of_sums(columns) == pytest.approx([100.0, 100.0])


def test_shapes_and_labels_are_checked() -> None:
    with pytest.raises(ValueError, match="2 right and 1 given labels; there must be as many, and some"):
        accuracy(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="0 right and 0 given labels; there must be as many, and some"):
        macro_f1([], [])
    with pytest.raises(ValueError, match="not among the labels: 'b'"):
        label_counts(["b"], ["a"], labels=["a"])
