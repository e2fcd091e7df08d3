"""The short form of a report, for a terminal or a pipe."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tunesmith.forgetting.compared import Forgotten
from tunesmith.reporting.contents import Report, TaskReport
from tunesmith.reporting.forgotten_view import change_text, prose_text
from tunesmith.reporting.in_turn_view import measures_in_words
from tunesmith.reporting.side_by_side import COSTS, columns, rows
from tunesmith.wording import probability


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
        _print_forgotten(report.forgetting.changes, console)
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


def _print_forgotten(changes: Sequence[Forgotten], console: Console) -> None:
    """Print what each tuned candidate forgot: items of the probe, and loss on prose in nats per token."""
    lines = [["forgotten", "items", "before", "after", "change, %", "lost", "won", "test", "prose, nats per token"]]
    for one in changes:
        (change, interval), (nats, spread) = change_text(one.all), prose_text(one.prose)
        right = [f"{share:.1f} %" for share in (one.all.before, one.all.after)]
        flips = [str(one.all.lost), str(one.all.won), probability(one.all.p_value)]
        lines.append([one.candidate, str(one.all.n), *right, f"{change} ({interval})", *flips, f"{nats} ({spread})"])
    print_rows(lines, console)


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
