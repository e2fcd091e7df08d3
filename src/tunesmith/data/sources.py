"""Files to rows: read them, give columns their names, set aside what cannot be used and say why."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from tunesmith.data.characters import NOT_UTF8_REASON, SAVE_UTF8, fault_in_text, is_empty, not_text
from tunesmith.data.files import Loaded, load_tables
from tunesmith.data.guess import guess_columns, task_name
from tunesmith.data.rows import Row, Rows, Streamed, check_share, set_aside
from tunesmith.data.shapes import recognise
from tunesmith.data.templates import Template, load_template, missing_columns
from tunesmith.errors import DataError, did_you_mean
from tunesmith.records import SetAside
from tunesmith.settings import DataSettings, TaskSettings


@dataclass(frozen=True, slots=True)
class _Part:
    """The rows of one file, with the names that the task gives their columns."""

    name: str
    rows: Sequence[Row] | Streamed  # can be gone through again and again
    columns: tuple[str, ...]
    faults: tuple[SetAside, ...]
    notes: tuple[str, ...] = ()


def read_rows(task: TaskSettings, data: DataSettings, *, base: Path, spare: Collection[str] = ()) -> Rows:
    """Read everything that a task names.

    The rows of large files are not held: what is returned reads them again, with the same result.

    Args:
        task: Source, columns, template and references decide what a row must have.
        data: How many bad rows may be set aside, and how large a row may be.
        base: The folder that paths start from: the recipe's.
        spare: Columns that may be missing: only forms need them that are taken where rows have them.

    Raises:
        DataError: Files are missing, empty or broken, columns are not there, too many rows are bad; all problems of
            one kind at once.
        UserError: A package that the format needs is not installed.
    """
    loaded = load_tables(task, data, base=base / Path(data.folder).expanduser())
    parts = [_renamed(part, task) for part in loaded]
    _check_encodings(parts)
    notes = [note for part in parts for note in part.notes]
    large = any(part.table is None for part in loaded)
    if task.template is None:
        task, parts, more = _without_template(task, loaded, parts)
        notes += more
        large = False  # they were held for the guess
    template = load_template(task)
    _check_columns(task, template, parts, spare=spare)
    bad = [fault for part in parts for fault in part.faults]
    kept: list[Row] = []
    count = 0
    for row in (row for part in parts for row in part.rows):
        reason = _fault(row, task, template)
        if reason:
            bad.append(set_aside(row, reason))
            continue
        count += 1
        if not large:
            kept.append(_complete(row, template))
    check_share(task.name, bad, read=count + len(bad), allowed=data.allow_bad)
    if not count:
        raise DataError(f'task "{task.name}": none of its {len(bad)} rows can be used; the first: {bad[0].reason}.')
    rows = Streamed(lambda: _good(parts, task, template), count) if large else tuple(kept)
    marked = tuple(dict.fromkeys(part.name for part in loaded if part.canary))
    return Rows(task, rows, tuple(bad), tuple(notes), {part.name: part.digest for part in loaded}, marked)


def _good(parts: Sequence[_Part], task: TaskSettings, template: Template) -> Iterator[Row]:
    """Yield the rows that can be rendered."""
    for part in parts:
        yield from (_complete(row, template) for row in part.rows if not _fault(row, task, template))


def guess_task(path: Path) -> TaskSettings:
    """Write the task for a table of which only the path is known: its name, template, columns and choices.

    Rows that bring their own prompt need no template, and get none.

    Raises:
        DataError: The table cannot be read, or the names of its columns do not tell.
    """
    task = TaskSettings(name=task_name(path), source=str(path))
    return read_rows(task, DataSettings(allow_bad=1), base=Path()).task


def _renamed(loaded: Loaded, task: TaskSettings) -> _Part:
    """Give columns the names of the recipe; a column that has a second name keeps its own beside it."""

    def rows() -> Iterator[Row]:
        return (
            replace(_row(loaded, line, values, task), entry=entry)
            for table in loaded.tables()
            for (line, values), entry in zip_longest(table.rows, table.entries)
        )

    columns: dict[str, None] = {}
    faults: list[SetAside] = []
    notes: list[str] = []
    count = 0
    for table in loaded.tables():
        faults += table.set_aside
        notes += table.notes
        count += len(table.rows)
        for _, values in table.rows:
            columns.update(dict.fromkeys(values))
    columns.update({name: None for name, column in task.columns.items() if column in columns})
    held = tuple(rows()) if loaded.table is not None else Streamed(rows, count)
    return _Part(loaded.name, held, tuple(columns), tuple(faults), tuple(notes))


def _check_encodings(parts: Sequence[_Part]) -> None:
    """Refuse files of another encoding, which would otherwise lose a row for each letter with an accent."""
    problems: list[str] = []
    for part in parts:
        other = [fault for fault in part.faults if fault.reason == NOT_UTF8_REASON]
        if 2 * len(other) > len(part.rows) + len(part.faults):
            problems.append(
                f"{part.name}:{other[0].line}: this file is not UTF-8; {len(other)} of its rows have other bytes. "
                f"{SAVE_UTF8}"
            )
    if problems:
        raise DataError(problems)


def _row(loaded: Loaded, line: int, values: dict[str, Any], task: TaskSettings) -> Row:
    second = {name: values[column] for name, column in task.columns.items() if column in values}
    return Row({**values, **second}, loaded.name, line, loaded.split)


def _without_template(
    task: TaskSettings, loaded: Sequence[Loaded], parts: Sequence[_Part]
) -> tuple[TaskSettings, list[_Part], list[str]]:
    """Take prompt and answer from the shape of the rows, or guess the columns; say which."""
    shapes = [recognise(part.columns) for part in parts]
    if not any(shapes):
        guessed, note = guess_columns(task, [row for part in parts for row in part.rows])
        return guessed, [_renamed(part, guessed) for part in loaded], [note]
    converted: list[_Part] = []
    notes: list[str] = []
    problems: list[str] = []
    for part, shape in zip(parts, shapes, strict=True):
        if shape is None:
            problems.append(
                f"{part.name}: its columns are {', '.join(part.columns)}, and it has none of the shapes that need no "
                "template. Give the task a template, or write all files alike."
            )
            continue
        made = [(row, shape.convert(row)) for row in part.rows]
        faults = tuple(set_aside(row, result) for row, result in made if isinstance(result, str))
        rows = tuple(result for _, result in made if isinstance(result, Row))
        columns = tuple(dict.fromkeys(name for row in rows for name in row.values))
        converted.append(_Part(part.name, rows, columns, part.faults + faults))
        notes.append(f"{part.name}: rows are read as {shape.name}")
    if problems:
        raise DataError(problems)
    return task, converted, notes


def _check_columns(
    task: TaskSettings, template: Template, parts: Sequence[_Part], *, spare: Collection[str] = ()
) -> None:
    """Raise what each file lacks: columns that the recipe renames, references, columns of the template."""
    problems: list[str] = []
    has_choices = bool(task.choices or template.choices)
    for part in parts:
        columns = part.columns
        if not columns:
            continue  # every row of it is set aside, which is said elsewhere
        for where, wanted in (("columns", task.columns.values()), ("references", task.references)):
            problems += [
                f'{part.name}: `{where}` of task "{task.name}" names "{name}", and there is no such column; it has '
                f"{', '.join(sorted(columns))}.{did_you_mean(name, columns)}"
                for name in wanted
                if name not in columns
            ]
        renamed_away = {name for name, column in task.columns.items() if column not in columns}
        known = {*columns, *renamed_away, *spare}
        lacking = missing_columns(template, known, file=part.name, has_choices=has_choices)
        problems += (lacking and _one_column(part, task, template)) or lacking
    if problems:
        raise DataError(problems)


def _one_column(part: _Part, task: TaskSettings, template: Template) -> list[str]:
    """Say so where a table that should have several columns has one, most likely for its separator is another."""
    own = [column for column in part.columns if column not in task.columns]
    if len(own) > 1 or len(template.columns) < 2 or not part.name.lower().endswith((".csv", ".tsv")):
        return []
    return [
        f'{part.name}: it has one column, "{own[0]}", and {template.label} needs {len(template.columns)}. Columns '
        "are separated by commas, semicolons, tabs or bars: look at its first line."
    ]


def _fault(row: Row, task: TaskSettings, template: Template) -> str | None:
    """Say why a row cannot be rendered; None if it can."""
    for name in template.columns:
        column = task.columns.get(name, name)
        if name not in row.values and name not in template.optional:
            return f'column "{column}" is not in this row'
        fault = fault_in_text(row.values.get(name))
        if fault:
            return f'column "{column}" has a {fault}'
        if name not in template.optional and is_empty(row.values[name]):
            return f'column "{column}" is empty'
    for name in template.printed:
        kind = not_text(row.values.get(name))
        if kind:
            return f'column "{task.columns.get(name, name)}" is the answer, and is {kind}, not text'
    fault = fault_in_text([row.values.get(name) for name in task.references])
    if fault:
        return f"a column of references has a {fault}"
    fault = fault_in_text([message.content for message in row.history])
    return f"an earlier turn has a {fault}" if fault else None


def _complete(row: Row, template: Template) -> Row:
    absent = {name: None for name in template.optional if name not in row.values}
    return replace(row, values={**row.values, **absent}) if absent else row
