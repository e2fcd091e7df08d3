"""Tables that need a further package: parquet files, and data sets of the Hugging Face hub."""

import json
from datetime import date, time
from decimal import Decimal
from hashlib import sha256
from importlib import import_module
from io import BytesIO
from math import isfinite
from typing import Any

from tunesmith.data.jsonfiles import table
from tunesmith.data.rows import SPLITS, Table, excerpt
from tunesmith.errors import DataError, UserError
from tunesmith.records import SetAside, Split


def read_parquet(name: str, data: bytes, *, max_row_bytes: int) -> Table:
    """Read a parquet file; the line of a row is its number, from 1.

    Raises:
        UserError: pyarrow is not installed.
        DataError: Not a parquet file.
    """
    parquet = _optional("pyarrow.parquet", f"{name}: reading parquet")
    try:
        values = parquet.read_table(BytesIO(data)).to_pylist()
    except (ValueError, OSError) as error:
        raise DataError(f"{name}: not a parquet file that can be read ({str(error).splitlines()[0]}).") from None
    return _table(name, values, max_row_bytes)


def read_hub(name: str, *, max_row_bytes: int) -> tuple[dict[Split | None, Table], str]:
    """Read ``hub:org/name`` with the datasets library; no code from the hub is run.

    Returns:
        The tables by split, and the sha256 of all rows as JSON.

    Raises:
        UserError: The datasets library is not installed.
        DataError: There is no such data set, or it cannot be fetched.
    """
    library = _optional("datasets", f"{name}: reading from the hub")
    try:
        found = library.load_dataset(name.removeprefix("hub:"))
    except (ValueError, OSError, RuntimeError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{name}: cannot be fetched ({first}). Check the name and the network.") from None
    parts = {str(key): list(part) for key, part in found.items()} if isinstance(found, dict) else {"": list(found)}
    digest = sha256(json.dumps(parts, default=str, sort_keys=True).encode()).hexdigest()
    sides: dict[Split | None, str] = {}
    for key in parts:
        if key.lower() in SPLITS:
            sides.setdefault(SPLITS[key.lower()], key)
    if not sides:
        return {None: _table(name, [row for part in parts.values() for row in part], max_row_bytes)}, digest
    unread = [key for key in parts if key not in sides.values()]
    notes = (f"{name}: its parts {', '.join(unread)} are not read",) if unread else ()
    noted = next(iter(sides))
    tables = {
        side: _table(name, parts[key], max_row_bytes, notes if side == noted else ()) for side, key in sides.items()
    }
    return tables, digest


def _optional(module: str, what: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        needs = module.partition(".")[0]
        raise UserError(f"{what} needs {needs}. Run: pip install {needs}") from None


def _table(name: str, values: list[Any], max_row_bytes: int, notes: tuple[str, ...] = ()) -> Table:
    parsed: list[tuple[int, Any, str]] = []
    bad: list[SetAside] = []
    for number, value in enumerate(values, 1):
        try:
            plain = _plain(value)
        except ValueError as error:
            bad.append(SetAside(file=name, line=number, reason=str(error), excerpt=excerpt(str(value)[:1000])))
        else:
            parsed.append((number, plain, json.dumps(plain)))
    made = table(name, parsed, max_row_bytes=max_row_bytes, notes=notes)
    return Table(made.rows, (*bad, *made.set_aside), made.notes)


def _plain(value: Any) -> Any:
    """Return a value as JSON could hold it, so that every format gives the same rows."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, date | time):
        return value.isoformat()
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, Decimal):
        return str(value)
    raise ValueError(f"a value of type {type(value).__name__}, which is neither text, number nor list")
