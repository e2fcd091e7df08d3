"""What every task is measured by beside its own metrics, as far as its answers allow."""

from collections.abc import Sequence

from tunesmith.metrics.scoring import score_predictions
from tunesmith.metrics.worst import WorstCase
from tunesmith.records import Example, Prediction, Record, ScoreSheet

CALIBRATION = ("ece", "ece-1", "selective-accuracy", "coverage-auc", "brier")
TEXT = ("repetition", "longest-repeat", "invented-numbers", "invented-entities")


class Measures(Record):
    """What is looked at beside the average of one candidate on one task."""

    candidate: str
    task: str
    sheet: ScoreSheet | None  # calibration with choices, repetition and invention without
    worst: tuple[WorstCase, ...] = ()


def measure_sheet(
    examples: Sequence[Example], predictions: Sequence[Prediction], *, candidate: str, task: str, seed: int = 0
) -> ScoreSheet | None:
    """Score answers by their calibration if they were ranked, and by repetition and invention if they were written.

    Args:
        examples: all examples of the task.
        predictions: one for each of them, in any order.
        candidate: whose answers they are.
        task: name of the task.
        seed: of the resampling.

    Returns:
        None where a choice was made and its likelihoods were not kept.

    Raises:
        UserError: if predictions and examples do not fit.
    """
    closed = any(example.choices for example in examples)
    if closed and not all(prediction.choice_logprobs for prediction in predictions):
        return None
    metrics = CALIBRATION if closed else TEXT
    return score_predictions(examples, predictions, candidate=candidate, task=task, metrics=metrics, seed=seed)
