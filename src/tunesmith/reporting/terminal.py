"""The short form of a report, for a terminal or a pipe."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tunesmith.forgetting.compared import SkillChange
from tunesmith.metrics.comparison import title
from tunesmith.reporting.contents import ForgettingReport, Report, TaskReport
from tunesmith.reporting.forgotten import not_had
from tunesmith.reporting.forgotten_view import change_text, prose_text
from tunesmith.reporting.in_turn_view import measures_in_words
from tunesmith.reporting.pairs import in_words
from tunesmith.reporting.side_by_side import COSTS, columns, rows
from tunesmith.wording import fixed, probability

FEW_PAIRS = 3  # of tuned candidates, which the terminal has room for


def print_summary(report: Report, console: Console) -> None:
    """Print the headline and one table for each task.

    On a terminal the table has colour and is fitted to the width; elsewhere it is plain lines with aligned columns.
    """
    for place, sentence in enumerate(report.headline):
        bold = "bold" if console.is_terminal and not place else ""
        console.print(Text(_printable(sentence), style=bold), soft_wrap=not console.is_terminal)
    for candidate in report.candidates:
        if candidate.missing:
            line = f"{candidate.name} is not finished: {'; '.join(candidate.missing)}"
            console.print(Text(_printable(line)), soft_wrap=not console.is_terminal)
    for task in report.tasks:
        console.print()
        if len(report.tasks) > 1:
            console.print(Text(_printable(task.task)))
        _print_table(report, task, console)
    if report.forgetting and report.forgetting.changes:
        console.print()
        _print_forgotten(report.forgetting, console)
    for turn in report.in_turn:
        said = "; ".join(f"{name} {value}" for name, value in measures_in_words(turn)) or "not finished"
        line = f"{turn.candidate}, tuned on {', then '.join(turn.tasks)}: {said}"
        console.print(Text(_printable(line)), soft_wrap=not console.is_terminal)


def _print_table(report: Report, task: TaskReport, console: Console) -> None:
    shown = columns(task)
    header = ["candidate", *(column.title for column in shown), *(cost.lower() for cost in COSTS)]
    lines = []
    for row in rows(report, task):
        cells = [
            f"{cell.value}{'*' if cell.mark == 'best' else ' '} ({cell.interval})" if cell else "-"
            for cell in row.cells
        ]
        lines.append([row.candidate.name, *cells, *(cost.text for cost in row.costs)])
    print_rows([header, *lines], console)
    if len(task.scores) > 1:
        console.print(Text("* best; in brackets the 95 % interval"))


def _print_forgotten(report: ForgettingReport, console: Console) -> None:
    """Print what each tuned candidate forgot: items of the probe and prose, then tasks of the user's own."""
    lines = [["forgotten", "of", "items", "before", "after", "change", "lost", "won", "test", "prose, nats per token"]]
    for one in report.changes:
        lines.append(
            [one.candidate, *_cells("probe, %", one.all, one.all.p_value), "{} ({})".format(*prose_text(one.prose))]
        )
        for task in one.own:
            unit = "%" if task.unit == "%" else title(task.metric)
            lines.append([one.candidate, *_cells(f"{task.skill}, {unit}", task, task.p_holm), ""])
    print_rows(lines, console)
    if untold := not_had(report.changes[0].skills):
        told = f"The base does no better than a blind guess in {', '.join(untold)}: no loss can show there."
        console.print(Text(_printable(told)), soft_wrap=not console.is_terminal)
    for pair in report.pairs if len(report.pairs) <= FEW_PAIRS else ():
        console.print(Text(_printable(in_words(pair))), soft_wrap=not console.is_terminal)


def _cells(name: str, change: SkillChange, tested: float) -> list[str]:
    said, interval = change_text(change)
    flips = ["-" if number is None else str(number) for number in (change.lost, change.won)]
    sides = [fixed(value, 1) for value in (change.before, change.after)]
    return [name, str(change.n), *sides, f"{said} ({interval})", *flips, probability(tested)]


def print_rows(lines: Sequence[Sequence[str]], console: Console) -> None:
    """Print a table, its first line the header: fitted to a terminal, in aligned columns elsewhere."""
    written = [[_printable(cell) for cell in line] for line in lines]
    if console.is_terminal:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for place, name in enumerate(written[0]):
            table.add_column(Text(name), justify="right" if place else "left")
        for line in written[1:]:
            table.add_row(*(Text(cell) for cell in line))
        console.print(table)
    else:
        for text in _aligned(written):
            console.print(Text(text), soft_wrap=True)


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def _printable(text: str) -> str:
    """Replace control characters: a name must not move the cursor or colour the terminal."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
