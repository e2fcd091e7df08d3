"""Scores of a file, and the health of data, as lines for a terminal or a pipe."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tunesmith.metrics.files import FileScores
from tunesmith.records import DataHealth


def print_file_scores(found: FileScores, console: Console) -> None:
    """Print what was guessed, one row for each score, and the comparisons in words."""
    for note in found.notes:
        console.print(Text(note, style="dim"))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("prediction", "metric", "value", "95 % interval", "unit", "n", "empty"):
        table.add_column(name, justify="left" if name in ("prediction", "metric", "unit") else "right")
    for sheet in found.sheets:
        for score in sheet.scores:
            table.add_row(
                sheet.candidate, score.metric, f"{score.value:.2f}", f"{score.low:.2f} to {score.high:.2f}",
                score.unit, str(score.n), str(score.n_empty),
            )  # fmt: skip
    console.print(table)
    for comparison in found.comparisons:
        console.print(Text(comparison.sentence))
    for signature in dict.fromkeys(score.signature for sheet in found.sheets for score in sheet.scores):
        console.print(Text(signature, style="dim"), soft_wrap=True)


def print_health(health: DataHealth, console: Console) -> None:
    """Print what became of every row, naming what was set aside and what leaked."""
    console.print(f"{health.rows_read} rows read from {', '.join(health.files)}", soft_wrap=True)
    for split, count in health.rows_per_split.items():
        console.print(f"  {split:<11} {count}")
    console.print(f"{health.groups} groups; {health.repeated_in_split} rows repeat another of their split")
    console.print(f"{len(health.set_aside)} rows set aside")
    for row in health.set_aside:
        console.print(Text(f"  {row.file}:{row.line}: {row.reason}: {row.excerpt}"), soft_wrap=True)
    console.print(f"{len(health.leaks)} leaks")
    for leak in health.leaks:
        console.print(Text(f"  {leak.moved_id} is like {leak.kept_id} ({leak.similarity:.2f})"), soft_wrap=True)
    for note in health.notes:
        console.print(Text(note), soft_wrap=True)
