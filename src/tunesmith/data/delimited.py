"""csv and tsv: delimiter found from the text, quoted fields over several lines, every row with its line."""

import csv
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from tunesmith.data.characters import NOT_UTF8, NOT_UTF8_REASON, SAVE_UTF8
from tunesmith.data.rows import Table, excerpt
from tunesmith.errors import DataError
from tunesmith.records import SetAside

DELIMITERS = (",", ";", "\t", "|")
SPOKEN = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
SAMPLE_RECORDS = 50
SAMPLE_LINES = 500
MIN_COLUMNS = 2

BARE_RETURN = "a carriage return stands outside quotes; let every line end in a line feed"
OPEN_QUOTE = "a quote opens in this row and never closes"


@dataclass(frozen=True, slots=True)
class _Piece:
    first: int  # 0-based line
    lines: tuple[str, ...]
    fields: list[str] | None
    reason: str = ""

    @property
    def after(self) -> int:
        """The 0-based line after its last."""
        return self.first + len(self.lines)

    def larger(self, limit: int) -> int:
        """Return its bytes if they are more than a limit, otherwise 0."""
        if 4 * sum(map(len, self.lines)) <= limit:
            return 0  # no character takes more than four
        size = sum(len(line.encode("utf-8", "surrogateescape")) for line in self.lines)
        return size if size > limit else 0


def read_delimited(name: str, data: bytes, *, max_row_bytes: int) -> Table:
    """Read UTF-8 text with a header line.

    Args:
        name: What errors call the file; ``.tsv`` means tabs where its header has some.
        data: The file, lines ended by line feeds, without byte order mark.
        max_row_bytes: A larger row is set aside.

    Raises:
        DataError: No header, columns without name or with the same name.
    """
    lines = [line.decode("utf-8", "surrogateescape") + "\n" for line in data.split(b"\n")]
    if lines[-1] == "\n":
        lines.pop()
    return next(delimited_tables(name, lines, max_row_bytes=max_row_bytes))


def delimited_tables(
    name: str, lines: Iterable[str], *, max_row_bytes: int, rows_at_once: int = sys.maxsize
) -> Iterator[Table]:
    """Yield the rows of a text with a header line, so many at once.

    Args:
        name: What errors call the file.
        lines: Each with its line feed; they are gone through more than once.
        max_row_bytes: A larger row is set aside.
        rows_at_once: Rows of a table.

    Raises:
        DataError: No header, columns without name or with the same name.
    """
    limit = csv.field_size_limit(sys.maxsize)  # the module's own limit would stop at 131,072 characters
    try:
        usual = "\t" if name.lower().endswith(".tsv") else ","
        delimiter = _delimiter(lines, usual)
        pieces = (piece for piece in _pieces(lines, delimiter) if piece.fields != [])
        columns = _header(name, next(pieces, None))
        notes = () if delimiter == usual else (f"{name}: columns are separated by {SPOKEN[delimiter]}",)
        rows: list[tuple[int, dict[str, Any]]] = []
        bad: list[SetAside] = []
        for piece in pieces:
            size = piece.larger(max_row_bytes)
            reason = f"row of {size:,} bytes" if size else _fault(piece, len(columns))
            if reason:
                bad.append(SetAside(file=name, line=piece.first + 1, reason=reason, excerpt=excerpt(piece.lines[0])))
            else:
                rows.append((piece.first + 1, dict(zip(columns, piece.fields or [], strict=True))))
            if len(rows) + len(bad) >= rows_at_once:
                yield Table(tuple(rows), tuple(bad), notes)
                rows, bad, notes = [], [], ()
        yield Table(tuple(rows), tuple(bad), notes)
    finally:
        csv.field_size_limit(limit)


def _pieces(lines: Iterable[str], delimiter: str, start: int = 0) -> Iterator[_Piece]:
    """Yield one piece a record.

    A quote without an end costs its own line only: reading begins anew in the next. That happens once at most, since
    lines that fit into a quoted field to the end of the file have no quote left open when they are read by themselves.
    """
    taken: list[str] = []

    def noted() -> Iterator[str]:
        for line in islice(lines, start, None):
            taken.append(line)
            yield line

    reader = csv.reader(noted(), delimiter=delimiter, strict=True)
    while True:
        first = start + reader.line_num
        taken.clear()
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "unexpected end of data" in str(error):
                yield _Piece(first, tuple(taken[:1]), None, OPEN_QUOTE)
                yield from _pieces(lines, delimiter, first + 1)
                return
            yield _Piece(first, tuple(taken), None, _spoken(str(error)))
        else:
            yield _Piece(first, tuple(taken), fields)


def _spoken(error: str) -> str:
    if "expected after" in error:
        return "text follows a closing quote; a quote inside a quoted field is written twice"
    return BARE_RETURN if "new-line" in error else error


def _fault(piece: _Piece, columns: int) -> str | None:
    over = f" (lines {piece.first + 1} to {piece.after})" if piece.after > piece.first + 1 else ""
    if piece.fields is None:
        return piece.reason + over
    if len(piece.fields) != columns:
        return f"{_fields(len(piece.fields))}, the header has {columns}{over}"
    return NOT_UTF8_REASON if any(NOT_UTF8.search(field) for field in piece.fields) else None


def _fields(count: int) -> str:
    return "1 field" if count == 1 else f"{count} fields"


def _delimiter(lines: Iterable[str], usual: str) -> str:
    """Return the delimiter that cuts most records into as many fields as the header, and most fields.

    Where that is none, and where a file whose ending promises tabs has some in its header, it is the usual one.
    """
    sample = list(islice(lines, SAMPLE_LINES))

    def fit(delimiter: str) -> tuple[float, int]:
        pieces = islice(_pieces(sample, delimiter), SAMPLE_RECORDS)
        found = [piece.fields for piece in pieces if piece.fields]
        width = len(found[0]) if found else 0
        same = sum(len(fields) == width for fields in found)
        return (same / len(found), width) if width >= MIN_COLUMNS else (0.0, width)

    if usual == "\t" and fit(usual)[1] >= MIN_COLUMNS:
        return usual
    return max((usual, *DELIMITERS), key=fit)  # the first of equals


def _header(name: str, head: _Piece | None) -> list[str]:
    if head is None:
        raise DataError(f"{name}: the file is empty. It needs a header line and rows.")
    if head.fields is None:
        raise DataError(f"{name}:{head.first + 1}: the header line cannot be read: {head.reason}.")
    columns = [column.strip() for column in head.fields]
    problems = [
        f"{name}:{head.first + 1}: column {number} has no name. Name it, or delete the column."
        for number, column in enumerate(columns, 1)
        if not column
    ] + [
        f'{name}:{head.first + 1}: {times} columns are named "{column}". Give each its own name.'
        for column, times in Counter(columns).items()
        if times > 1 and column
    ]
    if any(NOT_UTF8.search(column) for column in columns):
        problems.append(f"{name}:{head.first + 1}: the header has bytes that are not UTF-8. {SAVE_UTF8}")
    if problems:
        raise DataError(problems)
    return columns
