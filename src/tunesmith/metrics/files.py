"""Score a file of answers from elsewhere: the core of ``tunesmith score FILE``."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from tunesmith.errors import DataError, did_you_mean
from tunesmith.metrics.comparison import compare_sheets
from tunesmith.metrics.scoring import collect_answers, expand_metrics, find_metric, score_predictions, scoring_notes
from tunesmith.metrics.tables import Row, Table, read_table
from tunesmith.records import Comparison, Example, Prediction, Record, ScoreSheet
from tunesmith.wording import many

# Earlier patterns win, and all columns that one of them finds are taken: columns of one kind have like names.
_REFERENCES = (
    *(r"references?.*", r"refs?", r"targets?(_?\d+)?", r"summar(y|ies)(_?\d+)?", r"human.*", r"gold.*"),
    *(r"labels?(_?\d+)?", r"answers?(_?\d+)?", r"ground_?truth.*", r"expected.*", r"highlights?"),
)
_PREDICTIONS = (
    *(r"predictions?.*|predicted.*|predict|preds?|.*_(pred|predictions?)", r".*_model_summaries", r"generated.*"),
    *(r"responses?.*", r"completions?.*", r"candidates?.*", r"hypothes[ie]s"),
)
_EITHER = (r"outputs?.*",)  # what a model wrote, or what it should have written
_INPUTS = ("group", "dialogue", "document", "article", "prompt", "question", "input", "source", "text")

_MOST_LABELS = 20
_ROWS_PER_LABEL = 5
_ROWS_PER_GROUP = 20
_SHOWN = 20  # rows named in one error


class FileScores(Record):
    """What scoring a file found."""

    notes: tuple[str, ...]  # what was guessed, and what the reader should know
    sheets: tuple[ScoreSheet, ...]  # one for each column of predictions, which is the candidate
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True, slots=True)
class _Columns:
    references: tuple[str, ...]
    predictions: tuple[str, ...]
    group: str | None
    source: str | None  # column of what was asked
    notes: tuple[str, ...]


def score_file(
    path: Path | str,
    *,
    references: Sequence[str] = (),
    predictions: Sequence[str] = (),
    metrics: Sequence[str] = (),
    seed: int = 0,
) -> FileScores:
    """Score columns of predictions against columns of references, and compare them with each other.

    Args:
        path: a csv, tsv, jsonl or json file.
        references: columns with accepted answers, each row needs one of them; empty means by their usual names.
        predictions: columns to score, each is one candidate; empty means by their usual names.
        metrics: names of metrics; empty means rouge, or accuracy and macro-f1 if the references are a few labels.
        seed: of the resampling.

    Raises:
        DataError: if the file cannot be read, a column is not there or cannot be guessed, or a row has no reference.
        RecipeError: if a metric is not known.
    """
    path = Path(path)
    table = read_table(path)
    columns = _find_columns(table, references, predictions, path)
    examples, labels = _examples(table, columns, path)
    chosen = expand_metrics(metrics, has_choices=bool(labels))
    _refuse(_without_source(chosen, columns, table, path))
    notes = [*table.notes, *columns.notes]
    if labels and not metrics:
        notes.append(
            f"The references are {many(len(labels), 'different text')}, so they are scored as labels. Name a metric to "
            "change that."
        )
    sheets = []
    for column in columns.predictions:
        answers = _predictions(table, column, examples, path)
        given = collect_answers(examples, answers, candidate=column, task=path.name)
        notes += scoring_notes(given, candidate=column, metrics=chosen)
        sheets.append(score_predictions(examples, answers, candidate=column, task=path.name, metrics=chosen, seed=seed))
    return FileScores(
        notes=tuple(dict.fromkeys(notes)), sheets=tuple(sheets), comparisons=compare_sheets(sheets, seed=seed)
    )


def _find_columns(table: Table, references: Sequence[str], predictions: Sequence[str], path: Path) -> _Columns:
    has = f"it has {', '.join(table.columns)}."
    problems = [
        f'{path}: column "{name}" is not in this file; {has}{did_you_mean(name, table.columns)}'
        for name in (*references, *predictions)
        if name not in table.columns
    ]
    problems += [
        f'{path}: column "{name}" cannot be reference and prediction at once. Name two columns.'
        for name in dict.fromkeys(references)
        if name in predictions
    ]
    if problems:
        raise DataError(problems)
    notes = []
    judged = tuple(dict.fromkeys(predictions)) or _guess(table, _PREDICTIONS, taken=references)
    against = tuple(dict.fromkeys(references)) or _guess(table, _REFERENCES, taken=judged)
    judged = judged or _guess(table, _EITHER, taken=against)
    against = against or _guess(table, _EITHER, taken=judged)
    for found, named, option in ((against, references, "reference"), (judged, predictions, "prediction")):
        if not found:
            problems.append(f"{path}: no column looks like a {option}; {has} Name one with --{option}.")
        elif not named:
            notes.append(f"Guessed from the names: {option} = {', '.join(found)}.")
    if problems:
        raise DataError(problems)
    group, source = _group(table, (*against, *judged)), _source(table, (*against, *judged))
    if group:
        units = len({_text(row.cells.get(group)) for row in table.rows})
        notes.append(f'Rows with the same "{group}" belong together: {units} groups in {len(table.rows)} rows.')
    return _Columns(against, judged, group, source, tuple(notes))


def _guess(table: Table, patterns: Sequence[str], *, taken: Sequence[str]) -> tuple[str, ...]:
    free = [column for column in table.columns if column not in taken]
    for pattern in patterns:
        found = [column for column in free if re.fullmatch(pattern, column.lower())]
        if found:
            return tuple(found)
    return ()


def _without_source(metrics: Sequence[str], columns: _Columns, table: Table, path: Path) -> list[str]:
    """Say which metrics need a column of what was asked, if there is none."""
    names = [name for name in metrics if find_metric(name).needs_source]
    if columns.source or not names:
        return []
    return [
        f"{path}: {' and '.join(names)} compare answers with what was asked, and no column holds that; it has "
        f"{', '.join(table.columns)}. Call one {_INPUTS[1]} or {_INPUTS[2]}, or take the metric out."
    ]


def _source(table: Table, taken: Sequence[str]) -> str | None:
    """Return the column of what was asked, by its usual names."""
    free = {column.lower(): column for column in table.columns if column not in taken}
    return next((free[name] for name in _INPUTS if name in free and name != "group"), None)


def _group(table: Table, taken: Sequence[str]) -> str | None:
    """Return the column of inputs, if some rows share one; not one that hardly changes, such as an instruction."""
    free = {column.lower(): column for column in table.columns if column not in taken}
    for name in _INPUTS:
        if name in free:
            groups = len({_text(row.cells.get(free[name])) for row in table.rows})
            if len(table.rows) / _ROWS_PER_GROUP <= groups < len(table.rows):
                return free[name]
    return None


def _examples(table: Table, columns: _Columns, path: Path) -> tuple[list[Example], tuple[str, ...]]:
    accepted = [_accepted(row, columns.references) for row in table.rows]
    empty = " and ".join(f'"{column}"' for column in columns.references)
    _refuse(
        [
            f"{path}:{row.line}: this row has no reference, {empty} is empty. Fill it in, or take the row out."
            for row, texts in zip(table.rows, accepted, strict=True)
            if not texts
        ]
    )
    labels = _labels(accepted)
    lines = Counter(row.line for row in table.rows)
    inputs = [_text(row.cells.get(columns.group)) if columns.group else "" for row in table.rows]
    number = {text: place for place, text in enumerate(dict.fromkeys(inputs), 1)}
    examples = [
        Example(
            id=f"{path.name}:{row.line}" + (f"#{place}" if lines[row.line] > 1 else ""),
            task=path.name,
            split="test",
            prompt=_text(row.cells.get(columns.source)) if columns.source else "",
            target=texts[0],
            references=texts,
            choices=labels,
            group=f"{columns.group} {number[text]}" if text else "",
        )
        for place, (row, texts, text) in enumerate(zip(table.rows, accepted, inputs, strict=True), 1)
    ]
    return examples, labels


def _accepted(row: Row, columns: Sequence[str]) -> tuple[str, ...]:
    values = (row.cells.get(column) for column in columns)
    texts = chain.from_iterable(map(_text, value) if isinstance(value, list) else [_text(value)] for value in values)
    return tuple(text for text in texts if text.strip())


def _labels(accepted: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Return the different references if they are few enough to be labels."""
    if any(len(texts) > 1 for texts in accepted):
        return ()
    different = sorted({texts[0].strip() for texts in accepted})
    few = len(different) <= _MOST_LABELS and len(different) * _ROWS_PER_LABEL <= len(accepted)
    return tuple(different) if few else ()


def _predictions(table: Table, column: str, examples: Sequence[Example], path: Path) -> list[Prediction]:
    _refuse(
        [
            f'{path}:{row.line}: this row has no "{column}". Add it; leave it empty where there was no answer.'
            for row in table.rows
            if column not in row.cells
        ]
    )
    return [
        Prediction(example_id=example.id, text=_text(row.cells[column]), prompt_tokens=0, new_tokens=0, finish="stop")
        for example, row in zip(examples, table.rows, strict=True)
    ]


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        more = len(problems) - _SHOWN
        raise DataError([*problems[:_SHOWN], *([f"... and {more} more rows like these."] if more > 0 else [])])


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
