"""From what a recipe names to tables: paths, the hub, the shipped chats; endings, encodings, hashes."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import file_digest, sha256
from pathlib import Path

from tunesmith.data.canary import file_has_canary, has_canary, table_has_canary
from tunesmith.data.characters import SAVE_UTF8, seems_utf16
from tunesmith.data.delimited import read_delimited
from tunesmith.data.fetched import read_hub, read_parquet
from tunesmith.data.jsonfiles import read_json, read_json_lines
from tunesmith.data.largefiles import fits_parts, tables_of
from tunesmith.data.rows import Table
from tunesmith.data.support import SUPPORT
from tunesmith.errors import DataError, did_you_mean
from tunesmith.records import Split
from tunesmith.settings import DataSettings, SourceSettings, TaskSettings

READERS: dict[str, Callable[..., Table]] = {
    ".csv": read_delimited,
    ".tsv": read_delimited,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".json": read_json,
    ".parquet": read_parquet,
}
"""Ending of a file, in lower case, to what reads it."""

SHIPPED = "support"
HUB = "hub:"
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)  # a path of the command line has one slash left of two

Source = tuple[str, Split | None]  # as the recipe writes it, and the side it was given for


@dataclass(frozen=True, slots=True)
class Loaded:
    """One file as it was read, or a large one that is read whenever its rows are asked for."""

    name: str  # what ids and errors call it
    split: Split | None
    table: Table | None  # None = large
    digest: str  # sha256 of its bytes
    read: Callable[[], Iterator[Table]] | None = None  # of a large one
    canary: bool = False  # it holds the mark of a benchmark

    def tables(self) -> Iterator[Table]:
        """Yield its rows: all at once, or of a large file a few thousand at a time."""
        if self.table is not None:
            yield self.table
        elif self.read is not None:
            yield from self.read()


def load_tables(task: TaskSettings, data: DataSettings, *, base: Path) -> list[Loaded]:
    """Read every file that a task names.

    Raises:
        DataError: Files that are missing, empty, broken, named twice or of an unknown kind; all of them at once.
        UserError: A package that the format needs is not installed.
    """
    sources = _sources(task)
    names = _names([text for text, _ in sources])
    loaded: list[Loaded] = []
    problems = [
        f'task "{task.name}": source "{text}" is named {count} times. Name it once.'
        for (text, _), count in Counter(sources).items()
        if count > 1
    ]
    for (text, split), name in zip(sources, names, strict=True):
        try:
            found = _load((text, split), name, data, base)
        except DataError as error:
            problems += [problem for problem in error.problems if problem not in problems]
            continue
        loaded += found
        problems += [
            f"{part.name}: the file has no rows."
            for part in found
            if part.table is not None and not part.table.rows and not part.table.set_aside
        ]
    if problems:
        raise DataError(problems)
    return loaded


def _sources(task: TaskSettings) -> list[Source]:
    def listed(texts: str | tuple[str, ...] | None, split: Split | None) -> list[Source]:
        return [(text, split) for text in ((texts,) if isinstance(texts, str) else texts or ())]

    if isinstance(task.source, SourceSettings):
        given = task.source
        return listed(given.train, "train") + listed(given.validation, "validation") + listed(given.test, "test")
    return listed(task.source, None)


def _names(texts: Sequence[str]) -> list[str]:
    """Return what each source is called: as written, but an absolute path by its last part where that is clear."""
    last = {text: Path(text).name if Path(text).expanduser().is_absolute() else text for text in texts}
    taken = Counter(last.values())
    return [last[text] if taken[last[text]] == 1 else text for text in texts]


def _load(source: Source, name: str, data: DataSettings, base: Path) -> list[Loaded]:
    text, split = source
    return _load_hub(text, split, data) if text.startswith(HUB) else [_load_file(source, name, data, base)]


def _load_hub(text: str, split: Split | None, data: DataSettings) -> list[Loaded]:
    tables, digest = read_hub(text, max_row_bytes=data.max_row_bytes)
    if split is None:
        return [_packed(text, part, table, digest) for part, table in tables.items()]
    if split not in tables:
        had = ", ".join(part or "rows without a split" for part in tables)
        raise DataError(f"{text}: it has no {split} part; it has {had}. Name the source without splitting it.")
    return [_packed(text, split, tables[split], digest)]


def _packed(name: str, split: Split | None, table: Table, digest: str) -> Loaded:
    return Loaded(name, split, table, digest, canary=table_has_canary(table))


def _load_file(source: Source, name: str, data: DataSettings, base: Path) -> Loaded:
    text, split = source
    if ADDRESS.match(text):
        raise DataError(
            f"{text}: this is an address, and a source is a file: nothing is fetched from there. Download it first and "
            f"name the file. A data set of the Hugging Face hub is written {HUB}org/name."
        )
    if text == SHIPPED:
        content, reader = SUPPORT.read_bytes(), READERS[".jsonl"]
    else:
        path = base / Path(text).expanduser()
        reader = _reader(name, path)
        if path.is_file() and fits_parts(path):
            return _large(source, name, path, data)
        content = _content(text, path)
    digest = sha256(content).hexdigest()
    if reader is read_parquet:
        return _packed(name, split, reader(name, content, max_row_bytes=data.max_row_bytes), digest)
    decoded, notes = _decode(name, content)
    table = reader(name, decoded, max_row_bytes=data.max_row_bytes)
    return Loaded(name, split, replace(table, notes=notes + table.notes), digest, canary=has_canary(decoded))


def _large(source: Source, name: str, path: Path, data: DataSettings) -> Loaded:
    try:
        with path.open("rb") as file:
            digest = file_digest(file, "sha256").hexdigest()
        canary = file_has_canary(path)
    except OSError as error:
        raise DataError(f"{source[0]}: cannot be read ({error.strerror}).") from None
    return Loaded(
        name, source[1], None, digest, lambda: tables_of(name, path, max_row_bytes=data.max_row_bytes), canary
    )  # fmt: skip


def _reader(name: str, path: Path) -> Callable[..., Table]:
    ending = path.suffix.lower()
    if ending in READERS or path.is_dir():
        return READERS.get(ending, read_json_lines)
    what = f'the ending "{ending}" is not read' if ending else "it has no ending that tells what it is"
    raise DataError(f"{name}: {what}; {', '.join(READERS)} are. Save it as one of these.")


def _content(text: str, path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise DataError(f"{text}: there is no folder {path.parent}.") from None
        near = did_you_mean(path.name, sorted(entry.name for entry in path.parent.iterdir()))
        raise DataError(f"{text}: there is no such file in {path.parent.resolve()}.{near}") from None
    except IsADirectoryError:
        raise DataError(f"{text}: this is a folder. Name the files in it.") from None
    except OSError as error:
        raise DataError(f"{text}: cannot be read ({error.strerror}).") from None
    if not content.strip():
        raise DataError(f"{text}: the file is empty.")
    return content


def _decode(name: str, data: bytes) -> tuple[bytes, tuple[str, ...]]:
    """Return the bytes as UTF-8 without byte order mark, lines ended by line feeds, and a note if it was not UTF-8."""
    notes: tuple[str, ...] = ()
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            data = data.decode("utf-16").encode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{name}: begins as UTF-16, but byte {error.start} is not. Save it as UTF-8.") from None
        notes = (f"{name}: read as UTF-16",)
    elif seems_utf16(data):
        raise DataError(f"{name}: this is UTF-16 without the mark that says so at its beginning. {SAVE_UTF8}")
    data = data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")
    return (data if b"\n" in data else data.replace(b"\r", b"\n")), notes
