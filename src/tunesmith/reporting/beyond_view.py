"""What the page shows beside the average: tables of candidates, reliability diagrams, worst cases."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tunesmith.metrics.comparison import decimals, title
from tunesmith.metrics.scoring import find_metric
from tunesmith.metrics.worst import Loss, WorstCase
from tunesmith.records import Family
from tunesmith.registry import METRICS
from tunesmith.reporting.charts import Scale, figure, marker, path, slot_class, tag, x_axis, y_axis
from tunesmith.reporting.contents import Bin, Invention, Report, TaskReport
from tunesmith.reporting.side_by_side import Column, Row, columns, rows
from tunesmith.wording import MINUS, fixed, signed

SIDE = 240
ABOUT: dict[Family, str] = {
    "robustness": "asked again in lower case, with misspellings, typos, more spaces, and shorter or longer forms",
    "fairness": "asked again with first names from elsewhere, and with other pronouns",
}


@dataclass(frozen=True, slots=True)
class Amount:
    """A number with its interval, as text."""

    text: str
    interval: str = ""


@dataclass(frozen=True, slots=True)
class WorstRow:
    """One candidate under one family of perturbations, by one metric."""

    candidate: str
    slot: int
    original: Amount
    worst: Amount
    difference: Amount
    kinds: tuple[Amount, ...]  # change of the mean by each kind; in brackets how many examples it changed


@dataclass(frozen=True, slots=True)
class WorstTable:
    """All candidates under one family, by one metric."""

    title: str
    better: str
    n: int
    changed: int
    kinds: tuple[str, ...]
    rows: tuple[WorstRow, ...]


@dataclass(frozen=True, slots=True)
class FamilyView:
    """One family of perturbations: the table of the first metric, those of the others, and the largest losses."""

    name: Family
    about: str
    first: WorstTable
    others: tuple[WorstTable, ...]
    losses: tuple[tuple[str, Loss], ...]  # with the candidate


@dataclass(frozen=True, slots=True)
class BeyondView:
    """One task beside its average."""

    task: str
    closed: bool  # calibration; else repetition and invention
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    diagrams: tuple[tuple[str, Markup], ...]  # candidate, figure
    inventions: tuple[Invention, ...]
    families: tuple[FamilyView, ...]


def beyond_view(report: Report, task: TaskReport) -> BeyondView | None:
    """Return what one task shows beside its average; None where nothing was measured."""
    found = task.beyond
    if not found or not (found.scores or found.worst):
        return None
    shown = task.model_copy(update={"scores": found.scores, "comparisons": found.comparisons})
    slots = {candidate.name: slot for slot, candidate in enumerate(report.candidates)}
    return BeyondView(
        task=task.task,
        closed=bool(found.reliability),
        columns=columns(shown),
        rows=rows(report, shown),
        diagrams=tuple((name, diagram(name, bins, slots[name])) for name, bins in found.reliability.items()),
        inventions=found.inventions,
        families=tuple(view for family in ABOUT if (view := _family(family, found.worst, slots))),
    )


def diagram(name: str, bins: Sequence[Bin], slot: int) -> Markup:
    """Return a reliability diagram: accuracy against confidence, with the line on which both are equal."""
    top, bottom, left, right = 8, SIDE - 44, 40, SIDE - 8
    low = min(10 * int(min(one.confidence for one in bins) // 10), 50)
    x, y = Scale(low, 100, start=left, end=right), Scale(0, 100, start=bottom, end=top)
    parts = [
        y_axis(y, left=left, right=right, text=lambda value: fixed(value, 0)),
        path([(x(low), y(low)), (x(100), y(100))], "outline"),
    ]
    for one in bins:
        at = x(one.confidence)
        parts.append(tag("line", x1=at, x2=at, y1=y(one.low), y2=y(one.high), class_=f"interval {slot_class(slot)}"))
    parts += [marker(slot, x(one.confidence), y(one.accuracy), 4) for one in bins]
    parts.append(x_axis(x, bottom, text=lambda value: fixed(value, 0), title="confidence, %"))
    words = "; ".join(f"{fixed(one.confidence, 0)} sure, {fixed(one.accuracy, 0)} right, n {one.n}" for one in bins)
    return figure(parts, label=f"{name}: accuracy against confidence in %. {words}.", height=SIDE, width=SIDE)


def _family(family: Family, worst: dict[str, tuple[WorstCase, ...]], slots: dict[str, int]) -> FamilyView | None:
    by_metric: dict[str, dict[str, WorstCase]] = {}
    for name, cases in worst.items():
        for case in cases:
            if case.family == family:
                by_metric.setdefault(case.metric, {})[name] = case
    if not by_metric:
        return None
    first, *others = (_table(metric, cases, slots) for metric, cases in by_metric.items())
    deciding = next(iter(by_metric.values()))
    losses = tuple((name, loss) for name, case in deciding.items() for loss in case.losses)
    return FamilyView(family, ABOUT[family], first, tuple(others), losses)


def _table(metric: str, cases: dict[str, WorstCase], slots: dict[str, int]) -> WorstTable:
    some = next(iter(cases.values()))
    kinds = tuple(dict.fromkeys(one.kind for case in cases.values() for one in case.kinds))
    places = decimals(some.unit)
    rows_of = []
    for name, case in cases.items():
        by_kind = {one.kind: one for one in case.kinds}
        rows_of.append(
            WorstRow(
                candidate=name,
                slot=slots[name],
                original=_amount(case.original, case.original_low, case.original_high, places),
                worst=_amount(case.worst, case.worst_low, case.worst_high, places),
                difference=Amount(signed(case.difference, places), _between(case.low, case.high, places)),
                kinds=tuple(
                    Amount(signed(by_kind[kind].difference, places), f"{by_kind[kind].changed} changed")
                    if kind in by_kind
                    else Amount(MINUS)
                    for kind in kinds
                ),
            )
        )
    better = "higher" if some.higher_is_better else "lower"
    name = title(metric) + (f" ({some.unit})" if metric in METRICS and find_metric(metric).unit != "%" else "")
    return WorstTable(name, better, some.n, some.changed, kinds, tuple(rows_of))


def _amount(value: float, low: float, high: float, places: int) -> Amount:
    return Amount(fixed(value, places), _between(low, high, places))


def _between(low: float, high: float, places: int) -> str:
    return f"{fixed(low, places)} to {fixed(high, places)}"
