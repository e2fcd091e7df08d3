"""JSON lines and JSON arrays, every row with its line; a key that stands twice and NaN are faults, not guesses."""

import json
from collections.abc import Sequence
from typing import Any

from tunesmith.data.characters import NOT_UTF8, NOT_UTF8_REASON
from tunesmith.data.rows import Table, entry_name, excerpt
from tunesmith.errors import DataError
from tunesmith.records import SetAside

MEND = "Mend it there; in a file with one object a line (.jsonl) only that row would be lost."
SPACE = " \t\n\r"
Parsed = tuple[int, Any, str]  # 1-based line, value, source text


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [key for key, _ in pairs]
        twice = next(key for key in made if names.count(key) > 1)
        raise ValueError(f'key "{twice}" stands in it twice')
    return made


def _constant(word: str) -> Any:
    raise ValueError(f"the word {word} is not JSON; write null")


DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)


def fault(error: ValueError | RecursionError) -> str:
    """Say in plain words what stopped the parser."""
    if isinstance(error, json.JSONDecodeError):
        said = error.msg.removesuffix(" at")  # "Unterminated string starting at"
        return f"broken JSON: {said[:1].lower()}{said[1:]} at column {error.colno}"
    return "nested too deep" if isinstance(error, RecursionError) else f"broken JSON: {error}"


def unfit(value: object, source: str, *, max_row_bytes: int) -> str | None:
    """Say why a parsed value is no row; None if it is one."""
    size = len(source.encode("utf-8", "surrogateescape"))
    if size > max_row_bytes:
        return f"row of {size:,} bytes"
    if NOT_UTF8.search(source):
        return NOT_UTF8_REASON
    return None if isinstance(value, dict) else f"{_kind(value)} instead of an object"


def _kind(value: object) -> str:
    kinds = {list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number"}
    return kinds.get(type(value), "null")


def read_json_lines(name: str, data: bytes, *, max_row_bytes: int, first: int = 1) -> Table:
    """Read one JSON object a line; blank lines are no rows.

    Args:
        name: What a row's ``SetAside`` calls the file.
        data: UTF-8 without byte order mark, lines ended by line feeds.
        max_row_bytes: A larger row is set aside without being parsed.
        first: The line of the file where the data begin.
    """
    rows: list[tuple[int, dict[str, Any]]] = []
    bad: list[SetAside] = []
    for number, raw in enumerate(data.split(b"\n"), first):
        if not raw.strip():
            continue
        text = raw.decode("utf-8", "surrogateescape")
        value, reason = ({}, None) if len(raw) > max_row_bytes else _parse(text)
        reason = reason or unfit(value, text, max_row_bytes=max_row_bytes)
        if reason:
            bad.append(SetAside(file=name, line=number, reason=reason, excerpt=excerpt(text)))
        else:
            rows.append((number, value))
    return Table(tuple(rows), tuple(bad))


def _parse(text: str) -> tuple[Any, str | None]:
    if NOT_UTF8.search(text):
        return None, NOT_UTF8_REASON
    try:
        return DECODER.decode(text), None
    except (ValueError, RecursionError) as error:
        return None, fault(error)


def read_json(name: str, data: bytes, *, max_row_bytes: int) -> Table:
    """Read an array of objects, or an object whose ``data`` is one.

    A file of JSON lines that is called ``.json`` is read as JSON lines, with a note.

    Raises:
        DataError: Broken JSON, with its line; neither an array nor ``{"data": [...]}``.
    """
    text = data.decode("utf-8", "surrogateescape")
    notes: tuple[str, ...] = ()
    try:
        at = _skip(text, 0)
        if text[at : at + 1] == "{":
            whole, end = DECODER.raw_decode(text, at)
            if _skip(text, end) < len(text):
                lines = read_json_lines(name, data, max_row_bytes=max_row_bytes)
                return Table(lines.rows, lines.set_aside, (f"{name}: an object a line, read as JSON lines",))
            if not isinstance(whole.get("data"), list):
                raise DataError(f"{name}:{1 + text.count(chr(10), 0, at)}: {_no_rows(whole)}")
            at, others = _find_data(text, at)
            notes = (f"{name}: beside data it has {', '.join(others)}; not read",) if others else ()
            parsed, _ = _elements(text, at)
        else:
            parsed, end = _elements(text, at)
            if end < len(text):
                raise json.JSONDecodeError("text after the array", text, end)
    except json.JSONDecodeError as error:
        raise DataError(f"{name}:{error.lineno}: {fault(error)}. {MEND}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name}: {fault(error)}. {MEND}") from None
    return table(name, parsed, max_row_bytes=max_row_bytes, notes=notes)


def _no_rows(whole: dict[str, Any]) -> str:
    """Say what an object is that holds no list of rows: often a table written column by column."""
    parts, names = list(whole.values()), ", ".join(whole)
    kinds = {type(part) for part in parts}
    if len(parts) > 1 and kinds in ({list}, {dict}) and len({len(part) for part in parts}) == 1:
        return (
            f"this is a table column by column ({names}), and rows are wanted: [{{...}}, {{...}}]. Of pandas, "
            '`to_json(FILE, orient="records")` writes them.'
        )
    return f'this is one object ({names}), and rows are wanted: an array of objects, [...], or {{"data": [...]}}.'


def table(name: str, parsed: Sequence[Parsed], *, max_row_bytes: int, notes: tuple[str, ...] = ()) -> Table:
    """Sort parsed values into rows and what is set aside; where values share a line, they go by their number."""
    rows: list[tuple[int, dict[str, Any]]] = []
    entries: list[int] = []
    bad: list[SetAside] = []
    numbered = len({line for line, _, _ in parsed}) < len(parsed)
    for entry, (line, value, source) in enumerate(parsed, 1):
        reason = unfit(value, source, max_row_bytes=max_row_bytes)
        if reason:
            called = entry_name(name, entry) if numbered else name
            bad.append(SetAside(file=called, line=line, reason=reason, excerpt=excerpt(source)))
        else:
            rows.append((line, value))
            entries.append(entry)
    return Table(tuple(rows), tuple(bad), notes, tuple(entries) if numbered else ())


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in SPACE:
        at += 1
    return at


def _expect(text: str, at: int, mark: str) -> int:
    at = _skip(text, at)
    if text[at : at + 1] != mark:
        raise json.JSONDecodeError(f"expecting '{mark}'", text, at)
    return _skip(text, at + 1)


def _find_data(text: str, at: int) -> tuple[int, list[str]]:
    """Return where the value of ``data`` begins, which is there, and the other keys."""
    others: list[str] = []
    found, at = at, _expect(text, at, "{")
    while text[at] != "}":
        key, at = DECODER.raw_decode(text, at)
        at = _expect(text, at, ":")
        if key == "data":
            found = at
        else:
            others.append(key)
        _, at = DECODER.raw_decode(text, at)
        at = _skip(text, at)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return found, others


def _elements(text: str, at: int) -> tuple[list[Parsed], int]:
    """Return the elements of the array that begins at ``at``, and where the text after it begins."""
    if text[at : at + 1] != "[":
        raise json.JSONDecodeError('this is neither an array of objects, [...], nor {"data": [...]}', text, at)
    found: list[Parsed] = []
    line, counted = 1, 0
    at = _skip(text, at + 1)
    while text[at : at + 1] != "]":
        line, counted = line + text.count("\n", counted, at), at
        try:
            value, end = DECODER.raw_decode(text, at)
        except RecursionError:
            raise json.JSONDecodeError("nested too deep", text, at) from None
        except json.JSONDecodeError:
            raise
        except ValueError as error:
            raise json.JSONDecodeError(str(error), text, at) from None
        found.append((line, value, text[at:end]))
        at = _skip(text, end)
        if text[at : at + 1] != "]":
            at = _expect(text, at, ",")
            if text[at : at + 1] == "]":
                raise json.JSONDecodeError("a comma before ']'", text, at)
    return found, _skip(text, at + 1)
