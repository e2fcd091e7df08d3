"""Rows as they come out of a file, and the rows that cannot be used.

A bad row is never dropped in silence: it becomes a ``SetAside`` with file, line, reason and a short excerpt.
"""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.errors import DataError
from tunesmith.records import Message, SetAside, Split
from tunesmith.settings import TaskSettings

EXCERPT_LENGTH = 80  # characters
NAMED = 10  # bad rows that an error lists


SPLITS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
"""How the sides of a split may be spelt, in any case."""


@dataclass(frozen=True, slots=True)
class Table:
    """What one file holds."""

    rows: tuple[tuple[int, dict[str, Any]], ...]  # 1-based line, values
    set_aside: tuple[SetAside, ...]
    notes: tuple[str, ...] = ()
    entries: tuple[int, ...] = ()  # of an array with several rows on a line: the 1-based number of each row in it


@dataclass(frozen=True, slots=True)
class Row:
    """One row, with the names that a template can use."""

    values: dict[str, Any]
    file: str
    line: int  # 1-based line of the file where the row begins
    split: Split | None = None  # the side that its file was given for
    history: tuple[Message, ...] = ()  # earlier turns, for rows that are conversations
    entry: int | None = None  # 1-based number in an array where the line alone does not tell which row it is

    @property
    def name(self) -> str:
        """What is before the line in its place: the file, and the entry where it needs one."""
        return self.file if self.entry is None else entry_name(self.file, self.entry)

    @property
    def place(self) -> str:
        """Where it begins, ``chats.csv:214`` or ``chats.json[17]:1``; no two rows of a task share one."""
        return f"{self.name}:{self.line}"


@dataclass(frozen=True, slots=True)
class Streamed:
    """Rows that are read anew each time that somebody goes through them, so that they need no memory."""

    read: Callable[[], Iterator[Row]]
    count: int

    def __iter__(self) -> Iterator[Row]:
        return self.read()

    def __len__(self) -> int:
        return self.count


@dataclass(frozen=True, slots=True)
class Rows:
    """Everything that was read for one task."""

    task: TaskSettings  # with what was guessed written down
    rows: tuple[Row, ...] | Streamed
    set_aside: tuple[SetAside, ...]
    notes: tuple[str, ...]
    files: dict[str, str]  # file -> sha256 of its bytes
    marked: tuple[str, ...] = ()  # files with the canary of a benchmark


def excerpt(value: object) -> str:
    r"""Return at most 80 printable characters of a row.

    >>> excerpt("one\ttwo\x00")
    'one two\\x00'
    """
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    head = text[: 8 * EXCERPT_LENGTH]
    words = " ".join(head.split())
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in words)
    whole = len(shown) <= EXCERPT_LENGTH and len(text) == len(head)
    return shown if whole else shown[: EXCERPT_LENGTH - 1] + "…"


def entry_name(file: str, entry: int) -> str:
    """Return what an entry of an array is called."""
    return f"{file}[{entry}]"


def set_aside(row: Row, reason: str) -> SetAside:
    """Return the record of a row that is not used."""
    return SetAside(file=row.name, line=row.line, reason=reason, excerpt=excerpt(row.values))


def check_share(task: str, bad: Sequence[SetAside], *, read: int, allowed: float) -> None:
    """Stop when more rows were set aside than ``data.allow_bad`` lets through.

    Raises:
        DataError: Naming the first ten rows and how to let them be set aside.
    """
    if not bad or len(bad) <= allowed * read:
        return
    share = len(bad) / read
    more = [f"... and {len(bad) - NAMED} more."] if len(bad) > NAMED else []
    enough = math.ceil(share * 100) / 100
    aside = f", or set them aside with `data.allow_bad: {enough:g}` in the recipe" if enough < 1 else ""
    raise DataError(
        [
            f'task "{task}": {len(bad)} of {read} rows ({share:.1%}) cannot be used; {allowed:.1%} may be set aside.',
            *(f"{row.file}:{row.line}: {row.reason}: {row.excerpt}" for row in bad[:NAMED]),
            *more,
            f"Mend these rows{aside}.",
        ]
    )
