"""Tasks one after the other: R, with the measures of what later tasks did to earlier ones."""

from collections.abc import Mapping, Sequence

from tunesmith.forgetting.transfer import average_score, backward_transfer, forward_transfer, sequence_forgetting
from tunesmith.metrics.scoring import find_metric
from tunesmith.records import Record, Score, ScoreSheet

SCALES = ("points of 100", "%")  # units in which tasks of different kinds may stand in one mean


class InTurn(Record):
    """What a candidate that was tuned on tasks in turn scored after each of them."""

    candidate: str
    tasks: tuple[str, ...]
    rows: tuple[tuple[Score, ...], ...]  # row 0 is the base, row i after task i; as far as it has come
    average: float | None = None  # ACC; None: not finished
    backward: float | None = None  # BWT
    forward: float | None = None  # FWT
    forgetting: float | None = None  # Chaudhry's; negative = improved


def row_metric(names: Sequence[str]) -> str | None:
    """Return the metric that stands in R for a task: its first that counts to 100, more being better."""
    for name in names:
        metric = find_metric(name)
        if metric.better == "higher" and metric.unit in SCALES:
            return name
    return None


def in_turn(candidate: str, tasks: Sequence[str], sheets: Sequence[Mapping[str, ScoreSheet]]) -> InTurn | None:
    """Return R and its measures; None where not even the base was scored on all tasks.

    Args:
        candidate: Its name.
        tasks: In the order in which they were tuned on.
        sheets: Task -> scores, of the base and then after each task.
    """
    rows = []
    for found in sheets:
        row = tuple(score for task in tasks if task in found and (score := _score(found[task])))
        if len(row) < len(tasks):
            break
        rows.append(row)
    if not rows:
        return None
    turn = InTurn(candidate=candidate, tasks=tuple(tasks), rows=tuple(rows))
    if len(rows) <= len(tasks):
        return turn
    initial, *scores = [[score.value for score in row] for row in rows]
    measures = {
        "average": average_score(scores),
        "backward": backward_transfer(scores),
        "forward": forward_transfer(scores, initial),
        "forgetting": sequence_forgetting(scores),
    }
    return turn.model_copy(update=measures)


def _score(sheet: ScoreSheet) -> Score | None:
    name = row_metric([score.metric for score in sheet.scores])
    return next((score for score in sheet.scores if score.metric == name), None)
