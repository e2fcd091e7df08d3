"""Scores of a file, and the health of data, as lines for a terminal or a pipe."""

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tunesmith.forgetting.asked import leaks_in_words
from tunesmith.metrics.files import FileScores
from tunesmith.probe_records import Probe
from tunesmith.progress import printable
from tunesmith.records import DataHealth, Leak, Mixture
from tunesmith.wording import fixed, many

LISTED = 50  # lines of a list, such as that of all leaks, that a terminal shows


def print_file_scores(found: FileScores, console: Console) -> None:
    """Print what was guessed, one row for each score, and the comparisons in words."""
    for note in found.notes:
        _line(console, note, style="dim")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("prediction", "metric", "value", "95 % interval", "unit", "n", "empty"):
        table.add_column(name, justify="left" if name in ("prediction", "metric", "unit") else "right")
    for sheet in found.sheets:
        for score in sheet.scores:
            table.add_row(
                printable(sheet.candidate), score.metric, fixed(score.value, 2),
                f"{fixed(score.low, 2)} to {fixed(score.high, 2)}",
                score.unit, str(score.n), str(score.n_empty),
            )  # fmt: skip
    console.print(table)
    for comparison in found.comparisons:
        _line(console, comparison.sentence)
    for signature in dict.fromkeys(score.signature for sheet in found.sheets for score in sheet.scores):
        _line(console, signature, style="dim")


def print_health(health: DataHealth, console: Console) -> None:
    """Print what became of every row, naming what was set aside and what leaked."""
    _line(console, f"{many(health.rows_read, 'row')} read from {', '.join(health.files)}")
    for split, count in health.rows_per_split.items():
        _line(console, f"  {split:<11} {count}")
    _line(console, f"{many(health.groups, 'group')}; {health.repeated_in_split} rows repeat another of their split")
    _line(console, f"{many(len(health.set_aside), 'row')} set aside")
    _list(console, [f"{row.file}:{row.line}: {row.reason}: {row.excerpt}" for row in health.set_aside])
    _line(console, f"{many(len(health.leaks), 'leak')}")
    _leaks(console, health.leaks)
    for note in health.notes:
        _line(console, note)


def print_probe(probe: Probe, console: Console) -> None:
    """Print what is asked beside the tasks, naming the items of own tasks that training has."""
    own = [skill.name for skill in probe.skills if skill.own]
    counts = Counter(item.task for item in probe.items)
    of = "".join(f", {counts[name]} of {name}" for name in own)
    shipped = len(probe.items) - sum(counts[name] for name in own)
    _line(console, f"asked before and after tuning: {shipped} shipped items{of}, {len(probe.prose)} paragraphs")
    if probe.leaks:
        _line(console, leaks_in_words(probe))
    _leaks(console, probe.leaks)


def print_mixtures(found: Sequence[Mixture], console: Console) -> None:
    """Print how tasks share the training: of each its examples in an epoch, their share, and how often each is seen."""
    for mixture in found:
        of = f" of {', '.join(mixture.candidates)}" if mixture.candidates else ""
        _line(console, f"mixture{of}: {many(mixture.examples, 'example')} in an epoch")
        width = max(len(share.task) for share in mixture.shares)
        for share in mixture.shares:
            part = 100 * share.per_epoch / max(1, mixture.examples)
            said = f"{share.per_epoch} of {many(share.rows, 'example')} in an epoch, {part:.1f} %"
            _line(console, f"  {share.task:<{width}}  {f'held out ({share.family})' if share.held_out else said}")


def _leaks(console: Console, leaks: Sequence[Leak]) -> None:
    _list(console, [f"{leak.moved_id} is like {leak.kept_id} ({leak.similarity:.2f})" for leak in leaks])


def _list(console: Console, lines: Sequence[str]) -> None:
    """Print a list, indented: as much of it as somebody reads."""
    for line in lines[:LISTED]:
        _line(console, f"  {line}")
    if len(lines) > LISTED:
        _line(console, f"  and {len(lines) - LISTED:,} more; --json has them all")


def _line(console: Console, text: str, style: str = "") -> None:
    """Print one line as it is: the terminal breaks it where it must, a pipe gets it whole."""
    console.print(Text(printable(text), style=style), soft_wrap=True)
