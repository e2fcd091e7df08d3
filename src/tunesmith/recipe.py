"""A recipe file to a Recipe, or to a list of everything that is wrong with it."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from tunesmith.errors import RecipeError, did_you_mean
from tunesmith.registry import METHODS, resolve
from tunesmith.settings import Candidate, Recipe, TrainSettings
from tunesmith.yamlfile import Document, Key, parse_yaml, read_yaml, scalar

ZERO_SHOT = "zero-shot"


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> tuple[Recipe, str]:
    """Read a recipe file.

    Args:
        path: The YAML file.
        overrides: ``key.sub=value`` texts, as given to ``--set``.

    Returns:
        The recipe, and the text to keep in the run folder: the file as read, with the overrides appended as comments.

    Raises:
        RecipeError: With one line for each problem: file, line, key, cause, mend.
    """
    document = read_yaml(path)
    return build_recipe(document, overrides), kept_text(document.text, overrides)


def recipe_from_text(text: str, overrides: Sequence[str] = (), *, name: str = "recipe") -> Recipe:
    """Build a recipe from YAML text."""
    return build_recipe(parse_yaml(text, name), overrides)


def kept_text(text: str, overrides: Sequence[str]) -> str:
    """Return recipe text with the overrides noted at its end."""
    return text.rstrip("\n") + "\n" + "".join(f"# --set {item}\n" for item in overrides)


def build_recipe(document: Document, overrides: Sequence[str] = ()) -> Recipe:
    """Check a parsed document against the settings and the methods' own settings."""
    values = json.loads(json.dumps(document.values))
    for item in overrides:
        _override(values, item)
    problems: list[str] = []
    candidates = _candidates(values, document, problems)
    recipe = None
    try:
        recipe = Recipe.model_validate_json(json.dumps(values))
    except ValidationError as error:
        problems += _explain(error, document, Recipe)
    if problems or recipe is None:
        raise RecipeError(problems)
    for name, candidate in candidates.items():
        problems += _train_problems(recipe, name, candidate, document)
    if problems:
        raise RecipeError(problems)
    return recipe.model_copy(update={"candidates": {ZERO_SHOT: Candidate(), **candidates}})


def train_settings(recipe: Recipe, name: str) -> TrainSettings:
    """Return the recipe's ``train`` with the overrides of one candidate applied."""
    merged = {**recipe.train.model_dump(), **recipe.candidates[name].train}
    return TrainSettings.model_validate_json(json.dumps(merged))


def resolved(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe with every default written out, as plain JSON values."""
    plain: dict[str, Any] = json.loads(recipe.model_dump_json(serialize_as_any=True))
    return plain


def recipe_hash(recipe: Recipe) -> str:
    """Return the sha256 of the resolved recipe."""
    return hashlib.sha256(json.dumps(resolved(recipe), sort_keys=True).encode()).hexdigest()


def changes(old: Mapping[str, Any], new: Mapping[str, Any], way: str = "") -> list[str]:
    """Name what differs between two resolved recipes.

    >>> changes({"train": {"epochs": 3}}, {"train": {"epochs": 2}})
    ['train.epochs was 3, is now 2']
    """
    found = []
    for key in sorted({*old, *new}):
        a, b = old.get(key), new.get(key)
        name = f"{way}{key}"
        if isinstance(a, dict) and isinstance(b, dict):
            found += changes(a, b, f"{name}.")
        elif a != b:
            found.append(f"{name} was {json.dumps(a)}, is now {json.dumps(b)}")
    return found


def _override(values: dict[str, Any], item: str) -> None:
    way, equals, text = item.partition("=")
    if not equals or not way:
        raise RecipeError(f'--set {item}: write it as key=value, for example "train.epochs=1".')
    at: Any = values
    *parents, last = way.split(".")
    for part in parents:
        if isinstance(at, list) and part.isdigit() and int(part) < len(at):
            at = at[int(part)]
        elif isinstance(at, dict):
            at = at.setdefault(part, {})
        else:
            at = None
        if not isinstance(at, dict | list):
            raise RecipeError(f'--set {item}: "{part}" holds no further keys.')
    value = parse_yaml(f"value: {text}", f"--set {item}").values["value"] if text[:1] in "[{" else scalar(text)
    if isinstance(at, list):
        if not last.isdigit() or int(last) >= len(at):
            raise RecipeError(f'--set {item}: there is no entry "{last}"; entries count from 0 to {len(at) - 1}.')
        at[int(last)] = value
    else:
        at[last] = value


def _candidates(values: dict[str, Any], document: Document, problems: list[str]) -> dict[str, Candidate]:
    """Take the candidates out of ``values`` and check each against its method."""
    found: dict[str, Candidate] = {}
    given = values.pop("candidates", None) or {}
    if not isinstance(given, dict):
        problems.append(f"{document.place(('candidates',))}: candidates: expected `name: {{method: ...}}` lines.")
        return found
    for name, body in given.items():
        key: Key = ("candidates", name)
        if name == ZERO_SHOT:
            problems.append(f'{document.place(key)}: candidates: "{ZERO_SHOT}" is always there; choose another name.')
        elif not isinstance(body, dict):
            problems.append(f"{document.place(key)}: candidates.{name}: expected {{method: ...}}.")
        else:
            _candidate(name, body, found, document, problems)
    return found


def _candidate(
    name: str, body: dict[str, Any], found: dict[str, Candidate], document: Document, problems: list[str]
) -> None:
    key: Key = ("candidates", name)
    common = {word: body[word] for word in ("method", "shots", "train") if word in body}
    own = {word: value for word, value in body.items() if word not in common}
    try:
        candidate = Candidate.model_validate_json(json.dumps(common))
        if candidate.method == "none":
            module_settings = None
        else:
            module_settings = resolve("method", candidate.method, METHODS).Settings
    except ValidationError as error:
        problems += _explain(error, document, Candidate, key)
        return
    except RecipeError as error:
        problems.append(f"{document.place((*key, 'method'))}: candidates.{name}: {error}")
        return
    if module_settings is None:
        problems += [_unknown(document, (*key, word), ("method", "shots", "train")) for word in own]
        settings = None
    else:
        try:
            settings = module_settings.model_validate_json(json.dumps(own))
        except ValidationError as error:
            problems += _explain(error, document, module_settings, key, ("method", "shots", "train"))
            return
    found[name] = candidate.model_copy(update={"settings": settings})


def _train_problems(recipe: Recipe, name: str, candidate: Candidate, document: Document) -> list[str]:
    merged = {**recipe.train.model_dump(), **candidate.train}
    try:
        TrainSettings.model_validate_json(json.dumps(merged))
    except ValidationError as error:
        return _explain(error, document, TrainSettings, ("candidates", name, "train"))
    return []


def _unknown(document: Document, key: Key, allowed: Iterable[str]) -> str:
    names = list(allowed)
    dotted = ".".join(map(str, key))
    return (
        f"{document.place(key)}: {dotted}: there is no such key.{did_you_mean(str(key[-1]), names)} "
        f"Known here: {', '.join(names)}."
    )


def _explain(
    error: ValidationError, document: Document, model: type[BaseModel], start: Key = (), also: Sequence[str] = ()
) -> list[str]:
    """Turn pydantic's findings into lines of ours, the vague ones of a union of types reduced to one."""
    lines: dict[Key, str] = {}
    for found in error.errors():
        inside = tuple(part for part in found["loc"] if not _is_branch(part))
        key: Key = (*start, *inside)
        dotted = ".".join(map(str, key)) or "the recipe"
        if found["type"] == "too_short" and any(other["loc"][: len(found["loc"])] == found["loc"] and other is not found
                                                for other in error.errors()):
            continue  # pydantic counts an entry that it refused as absent
        if found["type"] == "extra_forbidden":
            names = [*also, *_fields_at(model, inside[:-1])]
            lines[key] = _unknown(document, key, names)
        elif found["type"] == "missing":
            lines.setdefault(key, f"{document.place(key)}: {dotted}: this key is missing. Add it.")
        else:
            shown = json.dumps(found.get("input"), default=str)
            shown = shown if len(shown) <= 60 else shown[:57] + "..."
            hint = " Write it without quotes." if _quoted_number(found) else ""
            lines.setdefault(key, f"{document.place(key)}: {dotted}: {shown} does not fit: {found['msg']}.{hint}")
    return list(lines.values())


def _quoted_number(found: Any) -> bool:
    value = found.get("input")
    return isinstance(value, str) and isinstance(scalar(value), int | float)


def _is_branch(part: str | int) -> bool:
    """Tell pydantic's names for the branches of a union from the keys of the file."""
    return isinstance(part, str) and (
        part in ("str", "float", "int") or "[" in part or part.endswith("Settings") or part.startswith("literal")
    )


def _fields_at(model: type[BaseModel], way: Sequence[str | int]) -> list[str]:
    """Return the field names of the settings that ``way`` leads to."""
    for part in way:
        if isinstance(part, int) or part not in model.model_fields:
            continue
        inner = [kind for kind in _flat(model.model_fields[part].annotation) if _is_settings(kind)]
        if inner:
            model = inner[0]
    return list(model.model_fields)


def _flat(annotation: Any) -> list[Any]:
    if get_origin(annotation) in (Union, UnionType, tuple, dict, list):
        return [leaf for part in get_args(annotation) for leaf in _flat(part)]
    return [annotation]


def _is_settings(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
