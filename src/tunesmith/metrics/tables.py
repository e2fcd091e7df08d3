"""Tables of answers from elsewhere: csv, tsv, jsonl and json, with the line of every row."""

import csv
import io
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.errors import DataError
from tunesmith.wording import many

KINDS = (".csv", ".tsv", ".jsonl", ".json")


@dataclass(frozen=True, slots=True)
class Row:
    """One row: cells of csv and tsv are text, those of json any value."""

    line: int  # 1-based, where the row begins
    cells: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Table:
    """All rows of a file."""

    columns: tuple[str, ...]  # in the order in which they first appear
    rows: tuple[Row, ...]
    notes: tuple[str, ...]  # what was guessed


def read_table(path: Path) -> Table:
    """Read a file whose kind its name tells.

    Raises:
        DataError: if the file is not there, is empty, is no UTF-8 text, or has rows that cannot be read; each of them
            is named with its line.
    """
    if path.is_dir():
        raise DataError(f"{path}: this is a folder. Name the file in it.")
    if not path.is_file():
        raise DataError(f"{path}: there is no such file. Check the name.")
    kind = path.suffix.lower()
    if kind not in KINDS:
        raise DataError(f"{path}: the name does not tell what kind of file this is. Use {', '.join(KINDS)}.")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(f"{path}:{line}: this is not UTF-8 text. Save the file as UTF-8.") from None
    if not text.strip():
        raise DataError(f"{path}: the file is empty. Write the table into it.")
    problems: list[str] = []
    notes: list[str] = []
    if kind in (".csv", ".tsv"):
        rows = list(_delimited(text, "\t" if kind == ".tsv" else _delimiter(text, notes), path, problems))
    else:
        rows = list((_json_lines if kind == ".jsonl" else _json_list)(text, path, problems))
    if problems:
        raise DataError(problems)
    if not rows:
        raise DataError(f"{path}: there are no rows. Write the table into it.")
    return Table(tuple(dict.fromkeys(column for row in rows for column in row.cells)), tuple(rows), tuple(notes))


def _delimiter(text: str, notes: list[str]) -> str:
    """Return what separates the cells: a comma, unless the first line has none but semicolons or tabs."""
    first = text.lstrip().split("\n", 1)[0]
    for mark, name in ((",", ""), (";", "semicolons"), ("\t", "tabs")):
        if mark in first:
            if name:
                notes.append(f"Cells are separated by {name}.")
            return mark
    return ","


def _delimited(text: str, delimiter: str, path: Path, problems: list[str]) -> Iterator[Row]:
    before = csv.field_size_limit(sys.maxsize)  # a long document is no mistake
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        header: list[str] = []
        begins = 1
        for cells in reader:
            line, begins = begins, reader.line_num + 1
            if not cells:
                continue  # a line with nothing on it
            if not header:
                header = cells
                twice = sorted({column for column in cells if cells.count(column) > 1})
                if twice:
                    problems.append(f"{path}:{line}: column {_quoted(twice)} is there twice. Give each its own name.")
            elif len(cells) != len(header):
                problems.append(
                    f"{path}:{line}: this row has {many(len(cells), 'cell')}, the header has {len(header)}. Put quotes "
                    "around cells that hold separators."
                )
            else:
                yield Row(line, dict(zip(header, cells, strict=True)))
    except csv.Error as error:
        problems.append(f"{path}:{begins}: this row cannot be read ({error}). Check its quotes.")
    finally:
        csv.field_size_limit(before)


def _json_lines(text: str, path: Path, problems: list[str]) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            yield from _object(json.loads(line), number, path, problems)
        except json.JSONDecodeError as error:
            problems.append(f"{path}:{number}: this line is not JSON ({error.msg}). Write one object on each line.")


def _json_list(text: str, path: Path, problems: list[str]) -> Iterator[Row]:
    """Read the objects of a list one by one, so that the line of each is known."""
    decoder = json.JSONDecoder()
    place = _skip(text, 0)
    if text[place] != "[":
        problems.append(f"{path}: this is not a list of objects. Write [{{...}}, {{...}}], or use .jsonl.")
        return
    place = _skip(text, place + 1)
    line, counted = 1, 0
    try:
        while text[place : place + 1] != "]":
            line, counted = line + text.count("\n", counted, place), place
            value, place = decoder.raw_decode(text, place)
            yield from _object(value, line, path, problems)
            place = _skip(text, place)
            if text[place : place + 1] == ",":
                place = _skip(text, place + 1)
            elif text[place : place + 1] != "]":
                raise json.JSONDecodeError("Expecting ',' or ']'", text, place)
        if text[place + 1 :].strip():
            raise json.JSONDecodeError("Extra data", text, _skip(text, place + 1))
    except json.JSONDecodeError as error:
        problems.append(f"{path}:{error.lineno}: this is not JSON ({error.msg}). Mend this line.")


def _skip(text: str, place: int) -> int:
    """Return the place of the next character that is not white space."""
    while text[place : place + 1].isspace():
        place += 1
    return place


def _object(value: Any, line: int, path: Path, problems: list[str]) -> Iterator[Row]:
    if isinstance(value, dict):
        yield Row(line, value)
    else:
        problems.append(f"{path}:{line}: this is not an object with named columns. Write {{...}}.")


def _quoted(names: list[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
