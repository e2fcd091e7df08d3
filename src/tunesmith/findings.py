"""What pydantic finds wrong with a file, as lines that say where, what, and how to mend it."""

import json
from collections.abc import Iterable, Sequence
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from tunesmith.errors import did_you_mean
from tunesmith.yamlfile import Document, Key, scalar

WORDS = {
    "Input should be ": "",
    "Value error, ": "",
    "an object": "`key: value` lines",
    "a valid dictionary": "`key: value` lines",
    "a valid array": "a list",
    "a valid tuple": "a list",
    "a valid string": "text",
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid boolean": "true or false",
}
"""pydantic's words for what a YAML file calls otherwise."""


def explain(
    error: ValidationError, document: Document, *, model: type[BaseModel], start: Key = (), also: Sequence[str] = ()
) -> list[str]:
    """Return one line for each place with a finding.

    Where a value may be of several types, pydantic reports against each of them; the deepest findings are kept, and
    those of one place are joined.

    Args:
        error: What the validation raised.
        document: Knows the lines of the file.
        model: What was validated; names the keys that are possible.
        start: The way from the top of the file to what was validated.
        also: Further keys that are allowed at the top of what was validated.
    """
    ways = [(tuple(part for part in found["loc"] if not _is_branch(part)), found) for found in error.errors()]
    lines: dict[Key, str] = {}
    wanted: dict[Key, list[str]] = {}
    for inside, found in ways:
        if any(len(other) > len(inside) and other[: len(inside)] == inside for other, _ in ways):
            continue  # what lies deeper says it better
        key: Key = (*start, *inside)
        place = f"{document.place(key)}: {dotted(key)}"
        if found["type"] == "extra_forbidden":
            top = also if len(inside) == 1 else ()
            lines[key] = unknown_key(document, key, [*top, *_fields_at(model, inside[:-1], found["loc"])])
        elif found["type"] == "missing":
            lines[key] = f"{place}: this key is missing. Add it."
        else:
            wanted.setdefault(key, []).append(_wanted(found))
            either = " or ".join(dict.fromkeys(wanted[key]))
            lines[key] = f"{place}: {_shown(found['input'])} does not fit; it should be {either}.{_hint(found)}"
    return list(lines.values())


def unknown_key(document: Document, key: Key, allowed: Iterable[str]) -> str:
    """Return the line for a key that does not exist, with the nearest one that does."""
    names = list(allowed)
    return (
        f"{document.place(key)}: {dotted(key)}: there is no such key.{did_you_mean(str(key[-1]), names)} "
        f"Known here: {', '.join(names)}."
    )


def names_to_keep(values: dict[str, Any], document: Document) -> list[str]:
    """Say how a suite is written where only its name stands; an entry that fits takes its place."""
    kept = values.get("forgetting")
    if isinstance(kept, str) and kept not in ("default", "off"):
        values["forgetting"] = "off"
        return [
            f'{document.place(("forgetting",))}: forgetting: "{kept}" is neither default nor off, nor a list of tasks '
            "and benchmark suites, such as [{suite: mmlu, data: FOLDER}]."
        ]
    if not isinstance(kept, list):
        return []
    names = {number: entry for number, entry in enumerate(kept) if isinstance(entry, str)}
    values["forgetting"] = [{"source": "any"} if number in names else entry for number, entry in enumerate(kept)]
    return [
        f'{document.place(("forgetting", number))}: forgetting.{number}: "{name}" is not `key: value` lines. '
        + (
            "The shipped probe is asked beside every list: delete the entry."
            if name == "default"
            else f"A benchmark suite is written as {{suite: {name}, data: FOLDER}}, and a task as under tasks."
        )
        for number, name in names.items()
    ]


def dotted(key: Key) -> str:
    """Return a key as ``--set`` takes it."""
    return ".".join(map(str, key)) or "the file"


def _wanted(found: Any) -> str:
    if found["type"] == "string_pattern_mismatch":
        return 'lower-case letters, digits, ".", "_" and "-", at most 64, the first a letter or digit'
    if found["type"] == "too_short":
        return f"a list of at least {found['ctx']['min_length']}"
    message = str(found["msg"])
    for theirs, ours in WORDS.items():
        message = message.replace(theirs, ours)
    return message


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _hint(found: Any) -> str:
    value = found["input"]
    if value is None:
        return " Write a value, or delete the line."
    if isinstance(value, str) and isinstance(scalar(value), int | float):
        return " Write it without quotes."
    if found["type"] == "string_type" and isinstance(value, int | float):
        return " Write it in quotes."
    return ""


def _is_branch(part: str | int) -> bool:
    """Tell pydantic's names for the branches of a union from the keys of the file."""
    return isinstance(part, str) and (
        part in ("str", "float", "int") or "[" in part or part.endswith("Settings") or part.startswith("literal")
    )


def _fields_at(model: type[BaseModel], way: Sequence[str | int], branches: Sequence[str | int]) -> list[str]:
    """Return the field names of the settings that ``way`` leads to, where there are several by those that are named."""
    for part in way:
        if isinstance(part, int) or part not in model.model_fields:
            continue
        inner = [kind for kind in _flat(model.model_fields[part].annotation) if _is_settings(kind)]
        if inner:
            model = next((kind for kind in inner if kind.__name__ in branches), inner[0])
    return list(model.model_fields)


def _flat(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Annotated:
        return _flat(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType, tuple, dict, list):
        return [leaf for part in get_args(annotation) for leaf in _flat(part)]
    return [annotation]


def _is_settings(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
