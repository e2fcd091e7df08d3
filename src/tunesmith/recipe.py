"""A recipe file to a Recipe, or to a list of everything that is wrong with it."""

import json
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tunesmith.errors import RecipeError, did_you_mean
from tunesmith.findings import dotted, explain, names_to_keep
from tunesmith.mixtures import ROWS, mixture_problems
from tunesmith.registry import METHODS, resolve
from tunesmith.settings import Candidate, MixtureSettings, Recipe, TrainSettings
from tunesmith.yamlfile import Document, Key, parse_yaml, read_yaml, scalar

ZERO_SHOT = "zero-shot"
NAME = r"[a-z0-9][a-z0-9._-]{0,63}"
COMMON = ("method", "shots", "train", "mixture")
"""What every candidate may say; the rest belongs to its method."""


def load_recipe(path: Path | str, overrides: Sequence[str] = ()) -> tuple[Recipe, str]:
    """Read a recipe file.

    Args:
        path: The YAML file.
        overrides: ``key.sub=value`` texts, as given to ``--set``.

    Returns:
        The recipe, and the text to keep in the run folder: the file as read, with the overrides appended as comments.

    Raises:
        RecipeError: With one line for each problem: file, line, key, cause, mend.
    """
    recipe, document = read_recipe(path, overrides)
    return recipe, kept_text(document.text, overrides)


def read_recipe(path: Path | str, overrides: Sequence[str] = ()) -> tuple[Recipe, Document]:
    """Read a recipe file as ``load_recipe`` does; return the recipe, and the document that knows its lines."""
    document, problems = _overridden(read_yaml(Path(path)), overrides)
    return _build(document, problems), document


def recipe_from_text(text: str, overrides: Sequence[str] = (), *, name: str = "recipe") -> Recipe:
    """Build a recipe from YAML text."""
    return build_recipe(parse_yaml(text, name), overrides)


def kept_text(text: str, overrides: Sequence[str]) -> str:
    """Return recipe text with the overrides noted at its end."""
    return text.rstrip("\n") + "\n" + "".join(f"# --set {item}\n" for item in overrides)


def build_recipe(document: Document, overrides: Sequence[str] = ()) -> Recipe:
    """Check a parsed document against the settings and the methods' own settings."""
    return _build(*_overridden(document, overrides))


def _build(document: Document, problems: list[str]) -> Recipe:
    values = deepcopy(document.values)
    candidates = _with_own_defaults(_candidates(values, document, problems), values.get("train"))
    problems += names_to_keep(values, document)
    try:
        recipe = Recipe.model_validate_json(json.dumps(values))
    except ValidationError as error:
        raise RecipeError(document.in_order([*problems, *explain(error, document, model=Recipe)])) from None
    problems += [*_repeated_names(recipe, document), *_sequence_problems(recipe, document)]
    if problems:
        raise RecipeError(document.in_order(problems))
    candidates = {name: _with_tasks(candidate, recipe) for name, candidate in candidates.items()}
    recipe = recipe.model_copy(update={"candidates": {ZERO_SHOT: Candidate(), **candidates}})
    if problems := mixture_problems(recipe, document):
        raise RecipeError(document.in_order(problems))
    return recipe


def train_settings(recipe: Recipe, name: str) -> TrainSettings:
    """Return the recipe's ``train`` with the overrides of one candidate applied."""
    merged = {**recipe.train.model_dump(), **recipe.candidates[name].train}
    return TrainSettings.model_validate_json(json.dumps(merged))


def resolved(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe with every default written out, as plain JSON values."""
    plain: dict[str, Any] = json.loads(recipe.model_dump_json(serialize_as_any=True))
    return plain


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


def _overridden(document: Document, overrides: Sequence[str]) -> tuple[Document, list[str]]:
    """Return the document with the values that ``--set`` gives, and what is wrong with what it says."""
    values = deepcopy(document.values)
    problems: list[str] = []
    changed = set()
    for item in overrides:
        try:
            changed.add(_override(values, item))
        except RecipeError as error:
            problems += error.problems
    return replace(document, values=values, overridden=frozenset(changed)), problems


def _override(values: dict[str, Any], item: str) -> Key:
    """Change ``values`` as one ``--set`` says, and return the key that was set."""
    way, equals, text = item.partition("=")
    if not equals or not way:
        raise RecipeError(f'--set {item}: write it as key=value, for example "train.epochs=1".')
    at: Any = values
    *parents, last = way.split(".")
    key: Key = ()
    for part in parents:
        at, step = _inside(at, part, item)
        key = (*key, step)
        if not isinstance(at, dict | list):
            raise RecipeError(f'--set {item}: "{part}" holds no further keys.')
    value = parse_yaml(f"value: {text}", f"--set {item}").values["value"] if _is_flow(text) else scalar(text)
    step = _entry(at, last, item) if isinstance(at, list) else last
    at[step] = value
    return (*key, step)


def _is_flow(text: str) -> bool:
    """Tell a list or mapping of YAML from text; ``{{`` and ``{%`` begin a template."""
    return text[:1] in ("[", "{") and text[:2] not in ("{{", "{%")


def _inside(at: Any, part: str, item: str) -> tuple[Any, str | int]:
    """Go one step down; a key that is not there yet, or has no value, begins as an empty mapping."""
    if isinstance(at, list):
        number = _entry(at, part, item)
        return at[number], number
    if at.get(part) is None:
        at[part] = {}
    return at[part], part


def _entry(at: list[Any], part: str, item: str) -> int:
    if not part.isdecimal() or int(part) >= len(at):
        raise RecipeError(f'--set {item}: there is no entry "{part}"; there are {len(at)}, counted from 0.')
    return int(part)


def _candidates(values: dict[str, Any], document: Document, problems: list[str]) -> dict[str, Candidate]:
    """Take the candidates out of ``values`` and check each against its method."""
    found: dict[str, Candidate] = {}
    given = values.pop("candidates", None)
    if given is None:
        return found
    if not isinstance(given, dict):
        problems.append(f"{document.place(('candidates',))}: candidates: expected `name: {{method: ...}}` lines.")
        return found
    for name, body in given.items():
        key: Key = ("candidates", name)
        place = document.place(key)
        if name == ZERO_SHOT:
            problems.append(f'{place}: candidates: "{ZERO_SHOT}" is always there; choose another name.')
        elif not re.fullmatch(NAME, name):
            problems.append(
                f'{place}: candidates: "{name}" cannot be the name of a folder; use lower-case letters, digits, ".", '
                '"_" and "-", at most 64, the first a letter or digit.'
            )
        elif not isinstance(body, dict):
            problems.append(f"{place}: candidates.{name}: expected {{method: ...}}.")
        else:
            candidate, wrong = _candidate(key, body, document)
            problems += wrong
            if candidate:
                found[name] = candidate
    return found


def _with_own_defaults(candidates: Mapping[str, Candidate], said: Any) -> dict[str, Candidate]:
    """Let each method's own defaults of ``train`` stand where neither the recipe nor the candidate says otherwise."""
    spoken = said if isinstance(said, dict) else {}
    found = {}
    for name, candidate in candidates.items():
        module = resolve("method", candidate.method, METHODS) if candidate.method != "none" else None
        own = {key: value for key, value in getattr(module, "TRAIN", {}).items() if key not in spoken}
        found[name] = candidate.model_copy(update={"train": {**own, **candidate.train}})
    return found


def _with_tasks(candidate: Candidate, recipe: Recipe) -> Candidate:
    """Tell a method that may learn something for each task which tasks there are."""
    if not hasattr(candidate.settings, "for_tasks"):
        return candidate
    told = candidate.settings.for_tasks(tuple(task.name for task in recipe.tasks))
    return candidate.model_copy(update={"settings": told})


def _candidate(key: Key, body: dict[str, Any], document: Document) -> tuple[Candidate | None, list[str]]:
    """Return one candidate, or what is wrong with it: its common keys, its method's own, its ``train``."""
    common = {word: body[word] for word in COMMON if word in body}
    own = {word: value for word, value in body.items() if word not in common}
    try:
        candidate = Candidate.model_validate_json(json.dumps(common))
        method = resolve("method", candidate.method, METHODS) if candidate.method != "none" else None
    except ValidationError as error:
        return None, explain(error, document, model=Candidate, start=key)
    except RecipeError as error:
        return None, [f"{document.place((*key, 'method'))}: {dotted(key)}: {error}"]
    problems = []
    settings = None
    if method:
        try:
            settings = method.Settings.model_validate_json(json.dumps(own))
        except ValidationError as error:
            problems += explain(error, document, model=method.Settings, start=key, also=COMMON)
    for word in () if method else (*own, *(word for word in ("train", "mixture") if common.get(word))):
        way = (*key, word)
        problems.append(
            f"{document.place(way)}: {dotted(way)}: the base is not tuned (method: none) and takes no {word}. "
            f"Name a method or delete it."
        )
    for word, kind in (("train", TrainSettings), ("mixture", MixtureSettings)):
        try:
            kind.model_validate_json(json.dumps(getattr(candidate, word)))
        except ValidationError as error:
            problems += explain(error, document, model=kind, start=(*key, word))
    problems += [
        f"{document.place((*key, 'mixture', word))}: {dotted(key)}.mixture.{word}: this shapes the rows of all "
        "candidates alike. Write it into the mixture of the recipe."
        for word in ROWS
        if word in candidate.mixture
    ]
    return candidate.model_copy(update={"settings": settings}), problems


def _repeated_names(recipe: Recipe, document: Document) -> list[str]:
    """Tasks write their files under their names, so no two may share one."""
    first: dict[str, int] = {}
    problems = []
    for number, task in enumerate(recipe.tasks):
        if first.setdefault(task.name, number) != number:
            problems.append(
                f'{document.place(("tasks", number))}: tasks.{number}.name: "{task.name}" is also the name of task '
                f"{first[task.name]} (counting from 0). Give each its own."
            )
    return problems


def _sequence_problems(recipe: Recipe, document: Document) -> list[str]:
    """Tasks in turn are tasks of the recipe, each once, and at least two."""
    place, names = document.place(("sequence",)), [task.name for task in recipe.tasks]
    problems = [
        f'{place}: sequence: there is no task "{name}".{did_you_mean(name, names)} There are {", ".join(names)}.'
        for name in dict.fromkeys(recipe.sequence)
        if name not in names
    ]
    twice = sorted({name for name in recipe.sequence if recipe.sequence.count(name) > 1})
    if twice:
        problems.append(f"{place}: sequence: {', '.join(twice)} stands there more than once. Name each task once.")
    if len(recipe.sequence) == 1:
        problems.append(f"{place}: sequence: one task is no sequence. Name at least two, or delete it.")
    return problems
