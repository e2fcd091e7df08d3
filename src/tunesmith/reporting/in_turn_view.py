"""What the page's part on tasks in turn is given: R as text, and its measures."""

from dataclasses import dataclass

from tunesmith.forgetting.in_turn import InTurn
from tunesmith.metrics.comparison import title
from tunesmith.reporting.contents import Report
from tunesmith.wording import fixed, signed

POINTS = 1  # decimals
BASE = "base, before any"


@dataclass(frozen=True, slots=True)
class TurnCell:
    """One score."""

    value: str
    interval: str
    learned: bool  # it is the task that was just tuned on


@dataclass(frozen=True, slots=True)
class TurnColumn:
    """One task."""

    task: str
    metric: str
    unit: str


@dataclass(frozen=True, slots=True)
class TurnRow:
    """All scores after one task."""

    after: str
    cells: tuple[TurnCell, ...]


@dataclass(frozen=True, slots=True)
class TurnView:
    """One candidate."""

    candidate: str
    slot: int
    columns: tuple[TurnColumn, ...]
    rows: tuple[TurnRow, ...]
    measures: tuple[tuple[str, str], ...]  # name and value; empty until it is finished


def in_turn_view(report: Report) -> tuple[TurnView, ...]:
    """Return one table for each candidate that was tuned on tasks in turn."""
    slots = {candidate.name: slot for slot, candidate in enumerate(report.candidates)}
    return tuple(_view(turn, slots[turn.candidate]) for turn in report.in_turn)


def _view(turn: InTurn, slot: int) -> TurnView:
    columns = tuple(
        TurnColumn(task, title(score.metric), score.unit) for task, score in zip(turn.tasks, turn.rows[0], strict=True)
    )
    rows = tuple(
        TurnRow(
            BASE if not number else f"{number}. {turn.tasks[number - 1]}",
            tuple(
                TurnCell(
                    fixed(score.value, POINTS),
                    f"{fixed(score.low, POINTS)} to {fixed(score.high, POINTS)}",
                    learned=place == number - 1,
                )
                for place, score in enumerate(row)
            ),
        )
        for number, row in enumerate(turn.rows)
    )
    return TurnView(turn.candidate, slot, columns, rows, tuple(measures_in_words(turn)))


def measures_in_words(turn: InTurn) -> list[tuple[str, str]]:
    """Return the measures of R that are known, each with its name."""
    known = (
        ("mean after all tasks", turn.average, fixed),
        ("backward transfer", turn.backward, signed),
        ("forgetting (Chaudhry)", turn.forgetting, signed),
        ("forward transfer", turn.forward, signed),
    )
    return [(name, written(value, POINTS)) for name, value, written in known if value is not None]
