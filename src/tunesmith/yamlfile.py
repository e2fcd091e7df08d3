"""YAML as recipes use it: the core of YAML 1.2, every value with its line, and no surprises.

``1e-4`` is a number, ``no`` is text, a key may stand once, and tags, anchors, deep nesting and large files are
refused before anything is built from them. PyYAML parses; the rules are ours. Where a foreign format has tags, they are
read as if they were not there.
"""

import math
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tunesmith.errors import RecipeError

MAX_BYTES = 200_000
MAX_DEPTH = 32
TABLES = (".csv", ".tsv", ".jsonl", ".parquet")  # json may be a recipe, as YAML has it
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C one is ten times as fast, where it was built

Key = tuple[str | int, ...]  # the way to a value: ("train", "epochs"), ("tasks", 0, "name")

INTEGER = re.compile(r"[-+]?[0-9][0-9_]{0,30}$")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$")
WORDS: dict[str, Any] = {"true": True, "false": False, "null": None, "~": None, "": None}


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed file."""

    values: dict[str, Any]
    lines: dict[Key, int]  # 1-based line of every key
    name: str
    text: str
    overridden: frozenset[Key] = frozenset()  # keys whose values are no longer those of the file

    def place(self, key: Key) -> str:
        """Return ``file:line`` of a key, or of the nearest thing above it that the file has; or that --set set it."""
        if any(key[:depth] in self.overridden for depth in range(1, len(key) + 1)):
            return "--set"
        if key not in self.lines and any(way[: len(key)] == key for way in self.overridden):
            return "--set"  # which made it on its way to what it set
        while key and key not in self.lines:
            key = key[:-1]
        return f"{self.name}:{self.lines.get(key, 1)}"

    def placed(self, problem: str) -> str:
        """Return a problem with file and line before it, if it begins with a key that the file has or ``--set`` gave.

        What begins with a key of the top and goes on is taken for one only if that is there: ``data.csv`` is a file.
        """
        said = problem.partition(":")[0]
        keys = {".".join(map(str, key)): key for key in (*self.lines, *self.overridden) if key}
        fit = [name for name in keys if said == name or (len(keys[name]) > 1 and said.startswith(f"{name}."))]
        return f"{self.place(keys[max(fit, key=len)])}: {problem}" if fit else problem

    def in_order(self, problems: Iterable[str]) -> list[str]:
        """Return problems in the order of the lines that they begin with; those that name no line come first."""
        at = re.compile(re.escape(self.name) + r":([0-9]+):")
        return sorted(problems, key=lambda problem: int(found[1]) if (found := at.match(problem)) else 0)


def scalar(text: str) -> Any:
    """Return what a plain word means.

    >>> scalar("1e-4"), scalar("no"), scalar("true"), scalar("12"), scalar("-.5")
    (0.0001, 'no', True, 12, -0.5)
    """
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    if INTEGER.match(text):
        return int(text.replace("_", ""))
    if FLOAT.match(text) and math.isfinite(number := float(text)):
        return number
    return text


def read_yaml(path: Path) -> Document:
    """Parse one file whose top level is a mapping.

    Raises:
        RecipeError: Missing, empty or too large; broken YAML; a key twice; tags, anchors or deep nesting. All
            duplicates at once.
    """
    if path.is_dir():
        raise RecipeError(f"{path}: this is a folder. Name the recipe in it.")
    if not path.is_file():
        raise RecipeError(f"{path}: there is no such file. `tunesmith init TABLE` writes one from a table.")
    if path.suffix.lower() in TABLES:
        raise RecipeError(
            f"{path}: this is a table, not a recipe. `tunesmith init {path}` writes a recipe from it, `tunesmith run "
            f"{path}` does that and runs it."
        )
    if path.stat().st_size > MAX_BYTES:
        raise RecipeError(f"{path}: larger than {MAX_BYTES:,} bytes; a recipe is a page of text.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: byte {error.start} is not UTF-8. Save the file as UTF-8.") from None
    except OSError as error:
        raise RecipeError(f"{path}: the file cannot be read: {error.strerror}.") from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, name: str, *, tags: Collection[str] = ()) -> Document:
    """Parse text.

    Args:
        text: Its top level is a mapping.
        name: What errors call it.
        tags: Those that are passed over; their values are taken as plain ones, and nothing is built from a tag.

    Raises:
        RecipeError: Empty, broken or against the rules.
    """
    lines: dict[Key, int] = {}
    problems: list[str] = []
    try:
        _refuse(text, name, tags)
        node = yaml.compose(text, Loader=LOADER)
    except yaml.MarkedYAMLError as error:
        where = f"{name}:{error.problem_mark.line + 1}" if error.problem_mark else name
        cause = f"this is not YAML: {error.problem}"
        raise RecipeError(f"{where}: {cause}. Look at indentation and quotes there.") from None
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


def _refuse(text: str, name: str, tags: Collection[str]) -> None:
    """Refuse what recipes do not use while it is still a stream of events, before memory is spent on it."""
    depth = documents = 0
    for event in yaml.parse(text, Loader=LOADER):
        place = f"{name}:{event.start_mark.line + 1}" if event.start_mark else name
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        documents += isinstance(event, yaml.DocumentStartEvent)
        if depth > MAX_DEPTH:
            raise RecipeError(f"{place}: nested more than {MAX_DEPTH} deep. Write it flatter.")
        if documents > 1:
            raise RecipeError(f"{place}: a second document begins here (---). Keep one document in a file.")
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise RecipeError(f"{place}: anchors (&) and aliases (*) are not used here. Write the value out.")
        tag = getattr(event, "tag", None)
        if tag and tag != "!" and tag not in tags:
            raise RecipeError(f"{place}: the tag {tag} is not used here. Write a plain value.")


def _value(node: Any, key: Key, lines: dict[Key, int], problems: list[str], name: str) -> Any:
    lines.setdefault(key, node.start_mark.line + 1)
    if isinstance(node, yaml.ScalarNode):
        return node.value if node.style else scalar(node.value)
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, (*key, n), lines, problems, name) for n, item in enumerate(node.value)]
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        word = key_node.value if isinstance(key_node, yaml.ScalarNode) else ""
        if not word:
            problems.append(f"{name}:{line}: a key must be a plain word. Write `key: value`.")
        elif word in found:
            first = lines[(*key, word)]
            problems.append(f'{name}:{line}: "{word}" stands here twice (first in line {first}). Keep one of them.')
        else:
            lines[(*key, word)] = line
            found[word] = _value(value_node, (*key, word), lines, problems, name)
    return found
