"""Tables that are too large to hold: the same rows as the readers of whole files give, a few thousand at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tunesmith.data.characters import seems_utf16
from tunesmith.data.delimited import delimited_tables
from tunesmith.data.jsonfiles import read_json_lines
from tunesmith.data.rows import Table

LARGE = 32 * 2**20  # bytes from which a file is read in parts
ROWS_AT_ONCE = 5_000
MARK = b"\xef\xbb\xbf"  # byte order mark of UTF-8
BEGINNING = 2**20  # bytes looked at to see what a file is


def fits_parts(path: Path) -> bool:
    """Tell whether a file is large, and of a kind that can be read in parts: UTF-8, lines ended by line feeds."""
    if path.suffix.lower() not in (".csv", ".tsv", ".jsonl", ".ndjson") or path.stat().st_size < LARGE:
        return False
    try:
        with path.open("rb") as file:
            begin = file.read(BEGINNING)
    except OSError:
        return False  # the reader of whole files says it
    return b"\n" in begin and not begin.startswith((b"\xff\xfe", b"\xfe\xff")) and not seems_utf16(begin)


def tables_of(name: str, path: Path, *, max_row_bytes: int) -> Iterator[Table]:
    """Yield the rows of a file in parts.

    Args:
        name: What errors call the file.
        path: A file for which ``fits_parts`` holds.
        max_row_bytes: A larger row is set aside.

    Raises:
        DataError: As the readers of whole files.
    """
    if path.suffix.lower() in (".csv", ".tsv"):
        yield from delimited_tables(name, _Lines(path), max_row_bytes=max_row_bytes, rows_at_once=ROWS_AT_ONCE)
        return
    lines, first = _raw(path), 1
    while part := list(islice(lines, ROWS_AT_ONCE)):
        yield read_json_lines(name, b"".join(part).removesuffix(b"\n"), max_row_bytes=max_row_bytes, first=first)
        first += len(part)


@dataclass(frozen=True, slots=True)
class _Lines:
    """The lines of a file as text, read anew each time that somebody goes through them."""

    path: Path

    def __iter__(self) -> Iterator[str]:
        for line in _raw(self.path):
            yield line.decode("utf-8", "surrogateescape").removesuffix("\n") + "\n"


def _raw(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file, ended by a line feed alone, without byte order mark."""
    with path.open("rb") as file:
        for number, line in enumerate(file):
            plain = line.removeprefix(MARK) if not number else line
            yield plain.removesuffix(b"\r\n") + b"\n" if plain.endswith(b"\r\n") else plain
