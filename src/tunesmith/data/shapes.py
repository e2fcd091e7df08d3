"""Rows that bring their own prompt and answer: four shapes that other tools write, made into one.

Whatever the shape, the row gets the columns ``prompt`` and ``completion``, and its earlier turns as history.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tunesmith.data.characters import is_empty
from tunesmith.data.rows import Row
from tunesmith.records import Message

ROLES = {"system": "system", "user": "user", "assistant": "assistant"}
SHAREGPT_ROLES = {**ROLES, "human": "user", "gpt": "assistant", "chatgpt": "assistant", "model": "assistant"}
LOST = frozenset({"tool_calls", "function_call"})  # keys of a turn that say something which would be lost


@dataclass(frozen=True, slots=True)
class Shape:
    """A way to write a row."""

    name: str  # as notes show it
    needs: frozenset[str]  # columns
    convert: Callable[[Row], Row | str]  # a row with prompt and completion, or why it is none


def recognise(columns: Collection[str]) -> Shape | None:
    """Return the shape of a table with these columns, None if it has none."""
    return next((shape for shape in SHAPES if shape.needs <= frozenset(columns)), None)


def _column_fault(row: Row, *columns: str) -> str | None:
    for column in columns:
        value = row.values.get(column)
        if column not in row.values:
            return f'column "{column}" is not in this row'
        if is_empty(value) or value == []:
            return f'column "{column}" is empty'
        allowed = value if column in {"completion", "output"} and isinstance(value, list) else [value]
        if not all(isinstance(item, str | int | float) and not isinstance(item, bool) for item in allowed):
            return f'column "{column}" is {_kind(value)}, not text'
    return None


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "true or false"
    return "a list" if isinstance(value, list) else "an object"


def _pair(row: Row) -> Row | str:
    return _column_fault(row, "prompt", "completion") or row


def _alpaca(row: Row) -> Row | str:
    fault = _column_fault(row, "instruction", "output")
    more = row.values.get("input")
    if fault is None and not is_empty(more):
        fault = _column_fault(row, "input")
    if fault:
        return fault
    first = str(row.values["instruction"])
    prompt = first if is_empty(more) else f"{first}\n\n{more}"
    return replace(row, values={**row.values, "prompt": prompt, "completion": row.values["output"]})


def _messages(row: Row) -> Row | str:
    return _conversation(row, row.values.get("messages"), ("role", "content"), ROLES)


def _sharegpt(row: Row) -> Row | str:
    return _conversation(row, row.values.get("conversations"), ("from", "value"), SHAREGPT_ROLES)


def _conversation(row: Row, turns: Any, keys: tuple[str, str], roles: Mapping[str, str]) -> Row | str:
    """The last turn is the answer, the one before it the prompt, the others are history."""
    if not isinstance(turns, list) or not turns:
        return "there is no list of turns in it"
    messages: list[Message] = []
    for number, turn in enumerate(turns, 1):
        fault = _turn_fault(turn, keys, roles)
        if fault:
            return f"turn {number} {fault}"
        messages.append(Message.model_validate({"role": roles[turn[keys[0]]], "content": turn[keys[1]]}))
    fault = _order_fault([message.role for message in messages])
    if fault:
        return fault
    *history, prompt, answer = messages
    values = {**row.values, "prompt": prompt.content, "completion": answer.content}
    return replace(row, values=values, history=tuple(history))


def _turn_fault(turn: Any, keys: tuple[str, str], roles: Mapping[str, str]) -> str | None:
    role, content = keys
    if not isinstance(turn, dict):
        return "is not an object"
    missing = [key for key in keys if key not in turn]
    if missing:
        return f'has no "{missing[0]}"'
    if not isinstance(turn[role], str) or turn[role] not in roles:
        return f'has the unknown role "{turn[role]}"; known are {", ".join(roles)}'
    lost = sorted(LOST & set(turn))
    if lost:
        return f'has "{lost[0]}", which cannot be trained on here'
    if not isinstance(turn[content], str):
        return f'has a "{content}" that is not text'
    return f'has an empty "{content}"' if is_empty(turn[content]) else None


def _order_fault(roles: list[str]) -> str | None:
    if "assistant" not in roles:
        return "no turn is the assistant's"
    turns = roles[1:] if roles[0] == "system" else roles
    expected = ["user", "assistant"] * (len(turns) // 2 + 1)
    for number, (role, wanted) in enumerate(zip(turns, expected, strict=False), 1 + len(roles) - len(turns)):
        if role != wanted:
            return f"turn {number} is the {role}'s where the {wanted}'s is due"
    return None if turns[-1] == "assistant" else "the last turn is not the assistant's"


SHAPES = (
    Shape("prompt and completion", frozenset({"prompt", "completion"}), _pair),
    Shape("messages", frozenset({"messages"}), _messages),
    Shape("ShareGPT (conversations)", frozenset({"conversations"}), _sharegpt),
    Shape("Alpaca (instruction, input, output)", frozenset({"instruction", "output"}), _alpaca),
)
