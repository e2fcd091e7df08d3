"""Templates from files: tunesmith's own form, promptsource's prompts, FLAN's pairs; written into the recipe at once.

A run therefore has everything in its recipe, and so has an adapter: the file may go. What comes from a file is text
like that of a recipe and no more trusted: it is rendered in the sandbox, and reading it runs nothing.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tunesmith.data.patterns import read_patterns
from tunesmith.data.promptsource import TAGS, Prompt, read_prompts
from tunesmith.data.templates import CatalogTemplate, faults
from tunesmith.errors import RecipeError, UserError, did_you_mean
from tunesmith.findings import explain
from tunesmith.settings import Recipe, TaskSettings, TemplateSettings
from tunesmith.yamlfile import Document, parse_yaml

ENDINGS = (".yaml", ".yml", ".json", ".py")
MAX_BYTES = 2_000_000


def with_template_files(recipe: Recipe, base: Path) -> Recipe:
    """Return the recipe with each template that is a file written out in its task.

    Args:
        recipe: As it was read.
        base: The folder that paths start from: the recipe's.

    Raises:
        RecipeError: Files that are not there or cannot be used, with file, line or entry, cause and mend; those of all
            tasks at once, those under ``forgetting`` too.
    """
    problems: list[str] = []
    written: dict[str, Any] = {
        "tasks": tuple(_with_files("tasks", dict(enumerate(recipe.tasks)), base, problems).values())
    }
    if not isinstance(recipe.forgetting, str):
        kept = {**dict(enumerate(recipe.forgetting)), **_with_files("forgetting", recipe.kept(), base, problems)}
        written["forgetting"] = tuple(kept.values())
    if problems:
        raise RecipeError(problems)
    return recipe.model_copy(update=written)


def _with_files(
    key: str, tasks: Mapping[int, TaskSettings], base: Path, problems: list[str]
) -> dict[int, TaskSettings]:
    """Return the tasks that stand under one key of the recipe with their files written out, and add what is wrong."""
    found = dict(tasks)
    for number, task in tasks.items():
        if not isinstance(task.template, str) or not is_file(task.template):
            continue
        try:
            read = read_template_file(task.template, base)
        except UserError as error:
            problems += [f"{key}.{number}.template: {problem}" for problem in error.problems]
            continue
        inline = TemplateSettings(phrasings=read.phrasings, system=read.system, inputs=read.inputs)
        said = {"choices": task.choices or read.choices, "metrics": task.metrics or read.metrics}
        found[number] = task.model_copy(update={"template": inline, **said})
    return found


def is_file(template: str) -> bool:
    """Tell a file from a name of the catalog: by its ending, before ``#entry``."""
    return template.partition("#")[0].lower().endswith(ENDINGS)


def read_template_file(template: str, base: Path) -> CatalogTemplate:
    """Read one template.

    Args:
        template: ``FILE`` or ``FILE#ENTRY``, where a file holds several.
        base: The folder that paths start from.

    Raises:
        RecipeError: The file is not there, too large, or broken.
        DataError: What it holds cannot be used; all of it at once.
    """
    name, _, entry = template.partition("#")
    text = _text(name, base)
    if name.lower().endswith((".json", ".py")):
        phrasings = read_patterns(text, name, wanted=entry)
        read = CatalogTemplate(name=name, phrasings=phrasings)
        places = [f"{name}{'#' if entry else ''}{entry}, pair {n}" for n in range(1, len(phrasings) + 1)]
    else:
        document = parse_yaml(text, name, tags=TAGS)
        prompts = read_prompts(document, wanted=entry) if "templates" in document.values else None
        read = _own(document, entry) if prompts is None else _together(prompts, name, named=bool(entry))
        places = [f"{name}, phrasing {n}" for n in range(1, len(read.phrasings) + 1)]
        if prompts is not None:
            places = [f'{name}, prompt "{one.name}"' for one in prompts]
    pairs = zip(places, read.phrasings, strict=True)
    problems = [f"{place}, {part}, {problem}" for place, one in pairs for part, problem in faults(one)]
    if problems:
        raise RecipeError(problems)
    return read


def _text(name: str, base: Path) -> str:
    path = base / Path(name).expanduser()
    if not path.is_file():
        near = did_you_mean(path.name, [one.name for one in path.parent.glob("*") if one.name.endswith(ENDINGS)])
        raise RecipeError(f"{name}: there is no such file in {path.parent}.{near} Paths start at the recipe's folder.")
    if path.stat().st_size > MAX_BYTES:
        raise RecipeError(f"{name}: larger than {MAX_BYTES:,} bytes. Keep the templates that you need.")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise RecipeError(f"{name}: byte {error.start} is not UTF-8. Save the file as UTF-8.") from None
    except OSError as error:
        raise RecipeError(f"{name}: the file cannot be read: {error.strerror}.") from None


def _own(document: Document, entry: str) -> CatalogTemplate:
    if entry:
        raise RecipeError(f"{document.name}: it holds one template; leave out #{entry}.")
    try:
        return CatalogTemplate.model_validate_json(json.dumps(document.values))
    except ValidationError as error:
        raise RecipeError(explain(error, document, model=CatalogTemplate)) from None


def _together(prompts: list[Prompt], name: str, *, named: bool) -> CatalogTemplate:
    """Return prompts of promptsource as phrasings of one template."""
    if named:  # asked for by name, it is the task, whatever the file says of it
        plain: dict[str, Any] = {"form": "zero-shot"}
        return CatalogTemplate(
            name=name,
            choices=prompts[0].choices,
            phrasings=tuple(one.phrasing.model_copy(update=plain) for one in prompts),
        )
    sets = {one.choices for one in prompts if one.phrasing.form == "zero-shot"}
    return CatalogTemplate(
        name=name, choices=sets.pop() if len(sets) == 1 else (), phrasings=tuple(one.phrasing for one in prompts)
    )
