"""Results of benchmark suites, on the page and at the terminal: in points of 100, with standard errors."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from tunesmith.bench_records import BenchDelta, BenchResult, BenchScore
from tunesmith.errors import UserError
from tunesmith.metrics.statistics import Interval, unanimous_interval
from tunesmith.reporting.terminal import print_rows
from tunesmith.rundir import RunDir, read_record
from tunesmith.wording import NONE, fixed, many, signed

DECIMALS = 1
NO_SPREAD = 1e-9  # standard errors below this come from items that all changed alike, or not at all
RELIED_ON = 2  # standard errors beyond which a difference is set in bold


@dataclass(frozen=True, slots=True)
class BenchCell:
    """One tuned candidate in one metric of one task."""

    value: str
    change: str  # with its standard error or its interval; empty where there is none
    flips: str  # items won and lost
    sure: bool  # more than two standard errors, or an interval that leaves out 0


@dataclass(frozen=True, slots=True)
class BenchRow:
    """One metric of one task, or of the whole suite."""

    task: str
    metric: str
    n: int
    base: str
    cells: tuple[BenchCell | None, ...]  # one for each tuned candidate


@dataclass(frozen=True, slots=True)
class BenchView:
    """One suite."""

    suite: str
    facts: str
    notes: tuple[str, ...]
    tuned: tuple[str, ...]
    whole: tuple[BenchRow, ...]  # of all tasks together; of the only one where there are no more
    tasks: tuple[BenchRow, ...]


def benchmarks_of(run: RunDir) -> tuple[tuple[BenchResult, ...], tuple[str, ...]]:
    """Return what suites found for a run, and what cannot be read; the values of single items stay in their files."""
    found: list[BenchResult] = []
    problems: list[str] = []
    for path in sorted(run.bench("x").parent.glob("*.json")):
        try:
            found.append(_without_items(read_record(path, BenchResult)))
        except UserError as error:
            problems += error.problems
    return tuple(found), tuple(problems)


def bench_view(result: BenchResult) -> BenchView:
    """Return one suite as text."""
    rows = [_row(result, score) for score in result.runs[0].scores] if result.runs else []
    whole = tuple(row for row in rows if row.task == result.suite) or tuple(rows)
    return BenchView(
        suite=result.suite,
        facts=_facts(result),
        notes=_notes(result),
        tuned=tuple(run.candidate for run in result.runs[1:]),
        whole=whole,
        tasks=() if whole == tuple(rows) else tuple(row for row in rows if row.task != result.suite),
    )


def print_bench(results: Sequence[BenchResult], console: Console) -> None:
    """Print a table for each suite."""
    for number, result in enumerate(results):
        view = bench_view(result)
        if number:
            console.print()
        console.print(Text(f"{view.suite}: {view.facts}"), soft_wrap=True)
        for note in view.notes:
            console.print(Text(note), soft_wrap=True)
        header = [
            "task",
            "metric",
            "items",
            "base",
            *(word for name in view.tuned for word in (name, "change", "single items")),
        ]
        lines = [[row.task, row.metric, str(row.n), row.base, *_cells(row)] for row in (*view.whole, *view.tasks)]
        print_rows([header, *lines], console)
    console.print(Text("in points of 100; ± one standard error, of a change that of the paired difference"))
    console.print(Text("in brackets the exact 95 % interval, where no item changed or all did"))


def _cells(row: BenchRow) -> list[str]:
    found = []
    for cell in row.cells:
        found += [cell.value, cell.change, cell.flips] if cell else [NONE, NONE, NONE]
    return found


def _row(result: BenchResult, score: BenchScore) -> BenchRow:
    metric = score.metric if score.filter == "none" else f"{score.metric} ({score.filter})"
    cells = []
    for run in result.runs[1:]:
        own = next((one for one in run.scores if _same(one, score)), None)
        delta = next((one for one in result.deltas if one.candidate == run.candidate and _same(one, score)), None)
        cells.append(_cell(own, delta, whole=score.task == result.suite and not _alike(result)) if own else None)
    return BenchRow(score.task, metric, score.n, _with_error(score.value, score.stderr), tuple(cells))


def _same(one: BenchScore | BenchDelta, other: BenchScore) -> bool:
    return (one.task, one.metric, one.filter) == (other.task, other.metric, other.filter)


def _alike(result: BenchResult) -> bool:
    """Tell whether all tasks have as many items, so that those of the whole suite count like those of one task."""
    return len({len(task.items) for task in result.tasks}) == 1


def _cell(score: BenchScore, delta: BenchDelta | None, *, whole: bool) -> BenchCell:
    value = _with_error(score.value, score.stderr)
    if delta is None:
        return BenchCell(value, "", "", sure=False)
    change = signed(100 * delta.difference, DECIMALS)
    flips = NONE if delta.better is None or delta.worse is None else f"{delta.better} won, {delta.worse} lost"
    if delta.stderr is None or delta.stderr > NO_SPREAD:
        error = "" if delta.stderr is None else f" ± {fixed(100 * delta.stderr, DECIMALS)}"
        sure = delta.stderr is not None and abs(delta.difference) > RELIED_ON * delta.stderr
        return BenchCell(value, f"{change}{error}", flips, sure=sure)
    spread = None if whole else _unanimous(delta)
    if spread is None:
        return BenchCell(value, change, flips, sure=False)
    interval = f" ({fixed(spread.low, DECIMALS)} to {fixed(spread.high, DECIMALS)})"
    return BenchCell(value, f"{change}{interval}", flips, sure=spread.low > 0 or spread.high < 0)


def _unanimous(delta: BenchDelta) -> Interval | None:
    """Return the exact 95 % interval in points where no item changed, or all were won or lost; None for other metrics.

    A standard error sees no spread there. It comes from the share of items that may still do otherwise: without a
    change in n items these may be won or lost, and after n wins they may be lost.
    """
    edge = unanimous_interval(False, delta.n).high
    if (delta.better, delta.worse) == (0, 0):
        return Interval(-edge, edge)
    if delta.n == delta.better and delta.difference == 1:
        return Interval(100 - 2 * edge, 100.0)
    if delta.n == delta.worse and delta.difference == -1:
        return Interval(-100.0, 2 * edge - 100)
    return None


def _with_error(value: float, stderr: float | None) -> str:
    return fixed(100 * value, DECIMALS) + ("" if stderr is None else f" ± {fixed(100 * stderr, DECIMALS)}")


def _facts(result: BenchResult) -> str:
    shots = sorted({task.shots for task in result.tasks})
    asked = sum(len(task.items) for task in result.tasks) or sum(
        score.n for score in result.runs[0].scores if score.task == result.suite
    )
    source = "local files" if all(task.source == "local" for task in result.tasks) else "the hub"
    drawn = f", drawn by seed {result.seed}" if result.limit is not None else ""
    parts = [
        result.model,
        f"{many(len(result.tasks), 'task')}, {asked} items{drawn}, from {source}",
        f"{' or '.join(map(str, shots))} shot{'' if shots == [1] else 's'}",
        "in the chat template" if result.chat_template else "no chat template",
        f"lm-evaluation-harness {result.versions.get('lm_eval', '')}".strip(),
    ]
    return "; ".join(parts)


def _notes(result: BenchResult) -> tuple[str, ...]:
    left = [f"{one.task} is left out: {one.why}" for one in result.left_out]
    return (*left, *(f"{task.task}: {note}" for task in result.tasks for note in task.notes))


def _without_items(result: BenchResult) -> BenchResult:
    runs = tuple(
        run.model_copy(update={"scores": tuple(score.model_copy(update={"values": ()}) for score in run.scores)})
        for run in result.runs
    )
    return result.model_copy(update={"runs": runs})
