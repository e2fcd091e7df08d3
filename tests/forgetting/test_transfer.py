from typing import Any

import pytest

from tunesmith.forgetting.transfer import average_score, backward_transfer, forward_transfer, sequence_forgetting

WORSE = [[0.9, 0.3, 0.2], [0.8, 0.85, 0.25], [0.6, 0.7, 0.88]]
BETTER = [[0.9, 0.3, 0.2], [0.8, 0.85, 0.25], [0.95, 0.9, 0.88]]
BEFORE = [0.25, 0.28, 0.22]


class TestTasksOneAfterTheOther:
    def test_the_average_score_is_the_mean_of_the_last_row(self) -> None:
        assert average_score(WORSE) == pytest.approx((0.6 + 0.7 + 0.88) / 3)
        assert average_score([[0.5]]) == 0.5

    def test_backward_transfer_divides_by_the_tasks_that_can_be_forgotten(self) -> None:
        assert backward_transfer(WORSE) == pytest.approx(((0.6 - 0.9) + (0.7 - 0.85)) / 2)  # -0.225, not -0.150
        assert backward_transfer(BETTER) == pytest.approx(0.05)

    def test_forward_transfer_is_taken_just_before_a_task_is_trained(self) -> None:
        assert forward_transfer(WORSE, BEFORE) == pytest.approx(((0.3 - 0.28) + (0.25 - 0.22)) / 2)

    def test_forgetting_is_the_fall_from_the_best_earlier_score_and_may_be_negative(self) -> None:
        assert sequence_forgetting(WORSE) == pytest.approx(((0.9 - 0.6) + (0.85 - 0.7)) / 2)
        assert sequence_forgetting(BETTER) == pytest.approx(-0.05)  # with the last row in the maximum it would be 0

    @pytest.mark.parametrize("measure", [backward_transfer, sequence_forgetting])
    @pytest.mark.parametrize("scores", [[[0.5]], [[0.5, 0.4]], [[0.5, 0.4], [0.5]]])
    def test_a_single_task_or_a_ragged_matrix_is_refused(self, measure: Any, scores: list[list[float]]) -> None:
        with pytest.raises(ValueError, match="R has a row and a column for each of at least 2 tasks"):
            measure(scores)

    def test_each_task_needs_a_score_from_before(self) -> None:
        with pytest.raises(ValueError, match="3 tasks, but 2 scores from before"):
            forward_transfer(WORSE, [0.1, 0.2])
