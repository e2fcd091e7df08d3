"""Names to code: literal tables of ``name -> "module:attribute"``, imported only when a name is used.

Tables are plain dicts, so that ``grep`` finds every entry and listing them imports nothing.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from tunesmith.errors import RecipeError, did_you_mean

METHODS: dict[str, str] = {
    "full": "tunesmith.methods.full",
    "lora": "tunesmith.methods.lora",
}
"""Ways to tune. Each module has ``Settings``, ``attach``, ``count``, and ``merge`` where the algebra allows."""


def known(kind: str, name: str, table: Mapping[str, object]) -> str:
    """Return ``name`` if the table has it; otherwise raise a RecipeError that names the nearest entry.

    >>> known("method", "lora", METHODS)
    'lora'
    """
    if name in table:
        return name
    raise RecipeError(
        f'{kind} "{name}" is not known.{did_you_mean(name, list(table))} Known: {", ".join(sorted(table))}.'
    )


def resolve(kind: str, name: str, table: Mapping[str, str]) -> Any:
    """Import what ``table`` holds for ``name``: a module, or with ``module:attribute`` the attribute."""
    module, _, attribute = table[known(kind, name, table)].partition(":")
    loaded = import_module(module)
    return getattr(loaded, attribute) if attribute else loaded
