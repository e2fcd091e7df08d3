"""Names that a recipe takes from outside: models, metrics, templates of the catalog and template files."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tunesmith.data.templates import load_template
from tunesmith.errors import DataError, RecipeError
from tunesmith.findings import dotted
from tunesmith.metrics.scoring import expand_metrics
from tunesmith.models.catalog import check_name
from tunesmith.recipe import train_settings
from tunesmith.settings import Recipe, TaskSettings
from tunesmith.templatefiles import is_file, with_template_files
from tunesmith.yamlfile import Document, Key

KNOWN = " Known: "  # what begins the list of names in a message


def check_names(recipe: Recipe, document: Document, base: Path) -> Recipe:
    """Refuse models, metrics and templates that are not known, all of them at once, in the order of their lines.

    Args:
        recipe: As it was read.
        document: What it was read from; knows the lines.
        base: The folder that paths start from: the recipe's.

    Returns:
        The recipe with each template that is a file written out.

    Raises:
        RecipeError: With one line for each of them, of the tasks under ``forgetting`` too.
        DataError: Nothing but templates of the recipe's own is wrong.
        RefusedError: The model could run foreign code.
    """
    problems: list[str] = []
    faults: list[str] = []
    with _noted(document, ("model",), problems):
        check_name(recipe.model, base=base)
    try:
        recipe = with_template_files(recipe, base)
    except RecipeError as error:
        problems += [f"{_place_of(document, problem)}: {problem}" for problem in error.problems]
    tasks: list[tuple[Key, TaskSettings]] = [(("tasks", number), task) for number, task in enumerate(recipe.tasks)]
    tasks += [(("forgetting", number), task) for number, task in recipe.kept().items()]
    for key, task in tasks:
        if isinstance(task.template, str) and is_file(task.template):
            continue  # it could not be read, as is said already
        with _noted(document, (*key, "template"), problems, faults):
            load_template(task)
    asked = [((*key, "metrics"), task.metrics) for key, task in tasks]
    for way, names in [*asked, *_kept_best(recipe)]:
        with _noted(document, way, problems):
            found = expand_metrics(names, has_choices=False)
            if way[-1] == "keep_best" and found != names:
                raise RecipeError(f'"{names[0]}" stands for several metrics. Name one: {", ".join(found)}.')
    if problems or faults:
        kind = RecipeError if problems else DataError
        raise kind(_lists_once(document.in_order([*problems, *faults])))
    return recipe


@contextmanager
def _noted(document: Document, key: Key, problems: list[str], faults: list[str] | None = None) -> Iterator[None]:
    """Add what is raised to the problems, or what is wrong with a text to the faults, with file, line and key."""
    try:
        yield
    except (RecipeError, DataError) as error:
        found = problems if faults is None or isinstance(error, RecipeError) else faults
        bare = [problem.removeprefix(f"{dotted(key)}: ") for problem in error.problems]
        found += [f"{document.place(key)}: {dotted(key)}: {problem}" for problem in bare]


def _place_of(document: Document, problem: str) -> str:
    """Return file and line of the key that a problem begins with."""
    words = problem.partition(":")[0].split(".")
    return document.place(tuple(int(word) if word.isdecimal() else word for word in words))


def _lists_once(problems: Iterable[str]) -> Iterator[str]:
    """Leave out a list of the known names that an earlier problem has given."""
    given = set()
    for problem in problems:
        said, _, names = problem.partition(KNOWN)
        yield said if names and names in given else problem
        given.add(names)


def _kept_best(recipe: Recipe) -> list[tuple[Key, tuple[str, ...]]]:
    """Return the metrics by which the best weights are kept, each with its key."""
    best: set[tuple[tuple[str, ...], str]] = {(("train", "keep_best"), recipe.train.keep_best)}
    best |= {(("candidates", name, "train", "keep_best"), train_settings(recipe, name).keep_best)
             for name, candidate in recipe.candidates.items() if "keep_best" in candidate.train}  # fmt: skip
    return [(key, (name,)) for key, name in sorted(best) if name != "loss"]
