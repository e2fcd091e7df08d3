"""The table of candidates: what each scored and what it cost, as cells for the page and for the terminal."""

from dataclasses import dataclass
from typing import Literal

from tunesmith.metrics.comparison import COUNTED, decimals, is_sure, title
from tunesmith.metrics.scoring import find_metric
from tunesmith.records import Comparison, Score
from tunesmith.registry import METRICS
from tunesmith.reporting.contents import CandidateReport, Report, TaskReport
from tunesmith.wording import NONE, count, duration, fixed, share, signed, size

Better = Literal["higher", "lower", "neither"]
Mark = Literal["best", "tied", ""]
COSTS = ("Trainable", "Size on disk", "Training", "Answering", "Per answer", "Peak memory")


@dataclass(frozen=True, slots=True)
class Column:
    """One metric: how it is named, which way is better, how many decimals it deserves, where its axis runs."""

    metric: str
    title: str  # as papers print it
    unit: str
    better: Better
    signature: str
    decimals: int
    low: float  # lowest end of all intervals, in unit
    high: float

    @property
    def unit_of_difference(self) -> str:
        """Return what a difference between two values counts."""
        return "percentage points" if self.unit == "%" else self.unit


@dataclass(frozen=True, slots=True)
class Cell:
    """One score as text; ``mark`` says whether it is the best, or not clearly different from the best."""

    score: Score
    value: str
    interval: str
    mark: Mark


@dataclass(frozen=True, slots=True)
class Cost:
    """One cost as text, with a smaller second line."""

    text: str
    more: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One candidate."""

    candidate: CandidateReport
    cells: tuple[Cell | None, ...]  # one per column; None where there is no score
    costs: tuple[Cost, ...]  # one per entry of COSTS


def columns(task: TaskReport) -> tuple[Column, ...]:
    """Return the metrics of a task in the order in which they were scored."""
    by_metric: dict[str, list[Score]] = {}
    for scores in task.scores.values():
        for score in scores:
            by_metric.setdefault(score.metric, []).append(score)
    return tuple(
        Column(
            metric=metric,
            title=title(metric),
            unit=scores[0].unit,
            better=_better(scores[0]),
            signature=scores[0].signature,
            decimals=_decimals(scores),
            low=min(min(score.low, score.value) for score in scores),
            high=max(max(score.high, score.value) for score in scores),
        )
        for metric, scores in by_metric.items()
    )


def rows(report: Report, task: TaskReport) -> tuple[Row, ...]:
    """Return one row per candidate of the run, also for those without scores."""
    shown = columns(task)
    return tuple(
        Row(
            candidate=candidate,
            cells=tuple(_cell(task, candidate.name, column) for column in shown),
            costs=_costs(candidate, report.run.parameters),
        )
        for candidate in report.candidates
    )


def compared(task: TaskReport, metric: str, *, candidate: str, baseline: str) -> Comparison | None:
    """Return the comparison of ``candidate`` with ``baseline`` so that positive means ``candidate`` is better."""
    for one in task.comparisons:
        if one.metric == metric and (one.better, one.than) == (candidate, baseline):
            return one
        if one.metric == metric and (one.better, one.than) == (baseline, candidate):
            turned = {"better": candidate, "than": baseline, "difference": -one.difference}
            return one.model_copy(update={**turned, "low": -one.high, "high": -one.low})
    return None


def difference_text(found: Comparison, places: int, *, sign: int = 1) -> tuple[str, str]:
    """Return a difference and its interval as text, finer where rounding would hide that it is sure.

    Args:
        found: the comparison.
        places: usual decimals of the metric.
        sign: -1 turns the comparison around.
    """
    while is_sure(found) and round(found.low, places) == 0:
        places += 1
    low, high = sorted((sign * found.low, sign * found.high))
    return signed(sign * found.difference, places), f"{fixed(low, places)} to {fixed(high, places)}"


def _decimals(scores: list[Score]) -> int:
    """Return how many decimals a column has: none where all that it counts is whole."""
    ends = [end for score in scores for end in (score.value, score.low, score.high)]
    whole = scores[0].unit == COUNTED and all(end == round(end) for end in ends)
    return 0 if whole else decimals(scores[0].unit)


def _better(score: Score) -> Better:
    if score.metric in METRICS:
        return find_metric(score.metric).better
    return "higher" if score.higher_is_better else "lower"


def _cell(task: TaskReport, candidate: str, column: Column) -> Cell | None:
    score = _score(task, candidate, column.metric)
    if score is None:
        return None
    low, high = fixed(score.low, column.decimals), fixed(score.high, column.decimals)
    return Cell(score, fixed(score.value, column.decimals), f"{low} to {high}", _mark(task, candidate, column))


def _score(task: TaskReport, candidate: str, metric: str) -> Score | None:
    return next((score for score in task.scores.get(candidate, ()) if score.metric == metric), None)


def _mark(task: TaskReport, candidate: str, column: Column) -> Mark:
    scored = {name: score.value for name in task.scores if (score := _score(task, name, column.metric))}
    if len(scored) == 1 or column.better == "neither":
        return ""
    pick = max if column.better == "higher" else min
    best = pick(scored, key=lambda name: scored[name])
    if scored[candidate] == scored[best]:
        return "best"
    difference = compared(task, column.metric, candidate=best, baseline=candidate)
    return "tied" if difference and not is_sure(difference) else ""


def _costs(candidate: CandidateReport, parameters: int) -> tuple[Cost, ...]:
    train, predict = candidate.train, candidate.predict
    answering = Cost(NONE)
    if predict:
        answering = Cost(duration(predict.seconds), f"{count(predict.prompts)} prompts")
    each = Cost(NONE)
    if candidate.seconds_per_answer is not None:
        flops = candidate.flops_per_answer
        each = Cost(duration(candidate.seconds_per_answer), f"{count(flops)}FLOP" if flops else "")
    if train is None:
        untouched = Cost("0") if candidate.method == "none" else Cost(NONE)
        memory = Cost(size(predict.peak_bytes), "answering") if predict else Cost(NONE)
        return (untouched, Cost(NONE), Cost(NONE), answering, each, memory)
    return (
        Cost(count(train.trainable), share(train.trainable, train.total or parameters)),
        Cost(size(train.adapter_bytes)),
        Cost(duration(train.seconds), f"{count(train.steps)} steps"),
        answering,
        each,
        Cost(size(train.peak_bytes), f"answering {size(predict.peak_bytes)}" if predict else "training"),
    )
