"""Pairs of (input, target) patterns with ``{column}`` for a column, as FLAN's templates are written, to phrasings.

The pairs stand in a JSON file, or as literals in a Python file, whose text is parsed and never run. The first pair of a
list says which way round the task is: a pair whose target names other columns than the first one's is inverted.
"""

import ast
import json
import warnings
from string import Formatter
from typing import Any

from tunesmith.errors import DataError, did_you_mean
from tunesmith.settings import Phrasing

OPTIONS = ("options_", "options_str")  # FLAN's names for the closed answer set, written out
WRITTEN_OUT = 'OPTIONS:\n- {{ choices | join("\\n- ") }}'
SHAPE = 'Write a list of pairs, ["input with {column}", "target"], or names with such lists.'


def read_patterns(text: str, name: str, *, wanted: str) -> tuple[Phrasing, ...]:
    """Return the phrasings of one list of pairs.

    Args:
        text: JSON, or Python whose file name ends in .py.
        name: What errors call the file.
        wanted: Which list, in a file that has several; empty if it has one.

    Raises:
        DataError: The text is neither, holds no pairs, or several lists of which none is named; or naming every pair
            that cannot be used.
    """
    lists = _python(text, name) if name.endswith(".py") else _json(text, name)
    if not lists:
        raise DataError(f"{name}: there are no pairs in it. {SHAPE}")
    if not wanted and len(lists) > 1:
        some = ", ".join(list(lists)[:5])
        raise DataError(
            f"{name}: it holds {len(lists)} lists of pairs. Name one, as in {name}#{some.split(', ')[0]}: {some}."
        )
    if wanted and wanted not in lists:
        raise DataError(f'{name}: there is no "{wanted}" in it.{did_you_mean(wanted, list(lists))} Choose another.')
    return _phrasings(lists[wanted or next(iter(lists))], f"{name}#{wanted}" if wanted else name)


def _json(text: str, name: str) -> dict[str, list[Any]]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        line = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise DataError(f"{name}{line}: this is not JSON: {str(error).splitlines()[0]}. Mend the file.") from None
    return _named("", values)


def _python(text: str, name: str) -> dict[str, list[Any]]:
    """Read the literals that a Python file assigns at its top level; nothing of it is run."""
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = f":{error.lineno}" if isinstance(error, SyntaxError) else ""
        raise DataError(f"{name}{line}: this is not Python: {str(error).splitlines()[0]}. Mend the file.") from None
    found: dict[str, list[Any]] = {}
    for node in tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None and isinstance(target, ast.Name):
            try:
                found |= _named(target.id, ast.literal_eval(node.value))
            except (ValueError, TypeError, RecursionError, MemoryError):
                continue  # an expression and no literal
    return found


def _named(name: str, values: Any) -> dict[str, list[Any]]:
    """Return the lists of pairs by name."""
    lists = {name: values} if isinstance(values, list | tuple) else values if isinstance(values, dict) else {}
    return {str(key): list(pairs) for key, pairs in lists.items() if isinstance(pairs, list | tuple) and pairs}


def _phrasings(pairs: list[Any], place: str) -> tuple[Phrasing, ...]:
    found: list[Phrasing] = []
    problems: list[str] = []
    plain: set[str] | None = None
    for number, pair in enumerate(pairs, 1):
        try:
            texts = _pair(pair)
            (prompt, _), (target, columns) = map(_jinja, texts)
        except ValueError as error:
            problems.append(f"{place}, pair {number}: {error}")
            continue
        plain = columns if plain is None else plain
        form: Any = "zero-shot" if columns == plain else "inverted"
        found.append(Phrasing(form=form, prompt=prompt, target=target))
    if problems:
        raise DataError(problems)
    return tuple(found)


def _pair(pair: Any) -> tuple[str, str]:
    if isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(text, str) for text in pair):
        return pair[0], pair[1]
    raise ValueError("expected two texts, the input and the target. Write the pair so, or take it out.")


def _jinja(pattern: str) -> tuple[str, set[str]]:
    """Return a pattern as Jinja text, and the columns that it names.

    >>> _jinja("Is {a} in {{ b }}?")
    ('Is {{ a }} in {{ "{" }} b }?', {'a'})

    Raises:
        ValueError: A brace stands alone, or holds something else than a name.
    """
    parts: list[str] = []
    columns: set[str] = set()
    try:
        pieces = list(Formatter().parse(pattern))
    except ValueError as error:
        raise ValueError(f"{error}. Write {{{{ for a brace that is meant.") from None
    for literal, column, spec, conversion in pieces:
        parts.append(literal.replace("{", '{{ "{" }}'))
        if column is None:
            continue
        if not column.isidentifier() or spec or conversion:
            raise ValueError(f'"{{{column}}}" is no plain name of a column. Write {{name}}.')
        parts.append(WRITTEN_OUT if column in OPTIONS else f"{{{{ {column} }}}}")
        columns |= set() if column in OPTIONS else {column}
    return "".join(parts), columns
