"""YAML as recipes use it: the core of YAML 1.2, every value with its line, and no surprises.

``1e-4`` is a number, ``no`` is text, a key may stand once, and tags, anchors and files of more than a megabyte
are refused. PyYAML parses; the rules are ours.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tunesmith.errors import RecipeError

MAX_BYTES = 1_000_000
MAX_DEPTH = 32

Key = tuple[str | int, ...]  # the way to a value: ("train", "epochs"), ("tasks", 0, "name")

INTEGER = re.compile(r"[-+]?[0-9][0-9_]*$")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$")
WORDS: dict[str, Any] = {"true": True, "false": False, "null": None, "~": None, "": None}


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed file."""

    values: dict[str, Any]
    lines: dict[Key, int]  # 1-based line of every key
    name: str
    text: str

    def place(self, key: Key) -> str:
        """Return ``file:line`` of a key, or of the nearest thing above it that the file has."""
        while key and key not in self.lines:
            key = key[:-1]
        return f"{self.name}:{self.lines.get(key, 1)}"


def scalar(text: str) -> Any:
    """Return what a plain word means.

    >>> scalar("1e-4"), scalar("no"), scalar("true"), scalar("12"), scalar("-.5")
    (0.0001, 'no', True, 12, -0.5)
    """
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    if INTEGER.match(text):
        return int(text.replace("_", ""))
    return float(text) if FLOAT.match(text) else text


def read_yaml(path: Path) -> Document:
    """Parse one file whose top level is a mapping.

    Raises:
        RecipeError: Missing, empty or too large; broken YAML; a key twice; tags or anchors. All duplicates at once.
    """
    if not path.is_file():
        raise RecipeError(f"{path}: there is no such file. `tunesmith init TABLE` writes one from a table.")
    if path.stat().st_size > MAX_BYTES:
        raise RecipeError(f"{path}: larger than {MAX_BYTES:,} bytes; a recipe is a page of text.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: byte {error.start} is not UTF-8. Save the file as UTF-8.") from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, name: str) -> Document:
    """Parse text; ``name`` is what errors call it."""
    lines: dict[Key, int] = {}
    problems: list[str] = []
    try:
        _refuse_anchors(text, name)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{name}:{mark.line + 1}" if mark else name
        raise RecipeError(f"{where}: this is not YAML: {error.problem}. Look at indentation and quotes there.") from None
    except yaml.YAMLError as error:
        raise RecipeError(f"{name}: this is not YAML: {str(error).splitlines()[0]}") from None
    if node is None:
        raise RecipeError(f"{name}: the file is empty. `tunesmith init TABLE` writes a recipe from a table.")
    if not isinstance(node, yaml.MappingNode):
        raise RecipeError(f"{name}:{node.start_mark.line + 1}: expected `key: value` lines at the top level.")
    values = _value(node, (), lines, problems, name)
    if problems:
        raise RecipeError(problems)
    return Document(values, lines, name, text)


def _refuse_anchors(text: str, name: str) -> None:
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise RecipeError(f"{name}:{line}: anchors (&) and aliases (*) are not used here. Write the value out.")
        tag = getattr(event, "tag", None)
        if tag and tag != "!":
            raise RecipeError(f"{name}:{line}: the tag {tag} is not used here. Write a plain value.")


def _value(node: Any, key: Key, lines: dict[Key, int], problems: list[str], name: str) -> Any:
    lines.setdefault(key, node.start_mark.line + 1)
    if len(key) > MAX_DEPTH:
        raise RecipeError(f"{name}:{node.start_mark.line + 1}: nested more than {MAX_DEPTH} deep.")
    if isinstance(node, yaml.ScalarNode):
        return scalar(node.value) if node.style is None else node.value
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, (*key, n), lines, problems, name) for n, item in enumerate(node.value)]
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        word, line = str(key_node.value), key_node.start_mark.line + 1
        if word in found:
            first = lines[(*key, word)]
            problems.append(f'{name}:{line}: "{word}" stands here twice (first in line {first}). Keep one of them.')
            continue
        lines[(*key, word)] = line
        found[word] = _value(value_node, (*key, word), lines, problems, name)
    return found
