"""What the page's template is given: figures and tables of a task, figures of the training."""

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite

from markupsafe import Markup

from tunesmith.records import Comparison, TrainPoint
from tunesmith.reporting.contents import ZERO_SHOT, Report, TaskReport
from tunesmith.reporting.figures import Axis, Curve, Gain, curves, forest, length_histograms
from tunesmith.reporting.side_by_side import Column, Row, columns, compared, difference_text, rows
from tunesmith.reporting.tradeoff import gain_against_cost
from tunesmith.wording import count

MINUTE, HOUR = 60, 3600
FEW_PAIRS = 10


@dataclass(frozen=True, slots=True)
class PairRow:
    """What one metric says about two candidates."""

    comparison: Comparison
    difference: str
    interval: str


@dataclass(frozen=True, slots=True)
class Pair:
    """All comparisons of two candidates, one for each metric."""

    better: str
    than: str
    rows: tuple[PairRow, ...]


@dataclass(frozen=True, slots=True)
class MetricFigures:
    """The two figures of one metric."""

    column: Column
    forest: Markup
    gain: Markup


@dataclass(frozen=True, slots=True)
class TaskView:
    """One task as the page shows it."""

    report: TaskReport
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    pairs: tuple[Pair, ...]  # with zero-shot, and if there are only a few also among each other
    more_pairs: tuple[Pair, ...]
    figures: tuple[MetricFigures, ...]
    lengths: Markup


@dataclass(frozen=True, slots=True)
class Quantity:
    """Something that the training log records, and how it is drawn."""

    title: str
    axis: Axis
    of_steps: Callable[[TrainPoint], float | None] | None = None
    of_validations: Callable[[TrainPoint], float | None] | None = None
    folded: bool = False  # shown only when asked for


@dataclass(frozen=True, slots=True)
class TrainingFigure:
    """One quantity against target tokens and against time."""

    quantity: Quantity
    by_tokens: Markup
    by_time: Markup


def power(value: float) -> str:
    """Return a small number with an exponent.

    >>> power(2e-5)
    '2e-5'
    """
    return f"{value:.0e}".replace("e-0", "e-")


QUANTITIES = (
    Quantity("Loss", Axis("nats per target token"), lambda point: point.loss, lambda point: point.validation_loss),
    Quantity("Validation score", Axis("decides the kept checkpoint"), None, lambda point: point.validation_score),
    Quantity("Gradient norm", Axis("logarithmic", log=True), lambda point: point.gradient_norm, folded=True),
    Quantity("Learning rate", Axis("logarithmic", power, log=True), lambda point: point.learning_rate, folded=True),
)


def task_view(report: Report, task: TaskReport) -> TaskView:
    """Return tables and figures of one task."""
    slots = {candidate.name: slot for slot, candidate in enumerate(report.candidates)}
    shown, pairs = columns(task), _pairs(task)
    few = len(pairs) <= FEW_PAIRS
    return TaskView(
        report=task,
        columns=shown,
        rows=rows(report, task),
        pairs=pairs if few else tuple(pair for pair in pairs if ZERO_SHOT in (pair.better, pair.than)),
        more_pairs=() if few else tuple(pair for pair in pairs if ZERO_SHOT not in (pair.better, pair.than)),
        figures=tuple(
            MetricFigures(column, forest(gains, column), _cost_figure(gains, column))
            for column in shown
            if (gains := _gains(report, task, column.metric))
        ),
        lengths=length_histograms(task, slots) if task.lengths else Markup(""),
    )


def training_figures(report: Report) -> tuple[TrainingFigure, ...]:
    """Return loss, validation score, gradient norm and learning rate of all tuned candidates; what was recorded."""
    longest = max((point.seconds for one in report.candidates for point in one.steps), default=0)
    divisor, unit = (1, "seconds") if longest < 3 * MINUTE else (MINUTE, "minutes")
    divisor, unit = (HOUR, "hours") if longest >= 3 * HOUR else (divisor, unit)
    by_tokens, by_time = Axis("target tokens trained on", count), Axis(f"{unit} of training")
    found = []
    for quantity in QUANTITIES:
        tokens = _lines(report, quantity, lambda point: point.target_tokens)
        times = _lines(report, quantity, lambda point: point.seconds / divisor)
        if not tokens:
            continue
        label = f"{quantity.title} of {', '.join(dict.fromkeys(line.name for line in tokens))} against"
        found.append(
            TrainingFigure(
                quantity,
                curves(tokens, x=by_tokens, y=quantity.axis, label=f"{label} {by_tokens.title}."),
                curves(times, x=by_time, y=quantity.axis, label=f"{label} {by_time.title}."),
            )
        )
    return tuple(found)


def _lines(report: Report, quantity: Quantity, x: Callable[[TrainPoint], float]) -> list[Curve]:
    lines = []
    for slot, one in enumerate(report.candidates):
        steps = _points(one.steps, x, quantity.of_steps) if quantity.of_steps else ()
        if quantity.axis.log:
            steps = tuple(point for point in steps if point[1] > 0)
        if steps:
            lines.append(Curve(one.name, slot, steps, bold=False))
        if quantity.of_validations and (checked := _points(one.validations, x, quantity.of_validations)):
            kept = tuple(point for point in one.validations if one.train and point.step == one.train.best_step)
            best = next(iter(_points(kept, x, quantity.of_validations)), None)
            lines.append(Curve(one.name, slot, checked, bold=True, best=best))
    return lines


def _points(
    points: tuple[TrainPoint, ...], x: Callable[[TrainPoint], float], y: Callable[[TrainPoint], float | None]
) -> tuple[tuple[float, float], ...]:
    return tuple((x(point), at) for point in points if (at := y(point)) is not None and isfinite(at))


def _gains(report: Report, task: TaskReport, metric: str) -> list[Gain]:
    gains = []
    for slot, one in enumerate(report.candidates):
        found = compared(task, metric, candidate=one.name, baseline=ZERO_SHOT)
        if found:
            untouched = 0 if one.method == "none" else None
            gains.append(Gain(one.name, slot, one.train.trainable if one.train else untouched, found))
    return gains


def _cost_figure(gains: list[Gain], column: Column) -> Markup:
    known = [gain for gain in gains if gain.trainable is not None]
    return gain_against_cost(known, column) if known else Markup("")


def _pairs(task: TaskReport) -> tuple[Pair, ...]:
    decimals = {column.metric: column.decimals for column in columns(task)}
    grouped: dict[frozenset[str], list[Comparison]] = {}
    for one in task.comparisons:
        grouped.setdefault(frozenset((one.better, one.than)), []).append(one)
    pairs = []
    for first, *others in grouped.values():
        rows_of_pair = []
        for one in (first, *others):
            sign = 1 if one.better == first.better else -1
            rows_of_pair.append(PairRow(one, *difference_text(one, decimals[one.metric], sign=sign)))
        pairs.append(Pair(first.better, first.than, tuple(rows_of_pair)))
    return tuple(pairs)
