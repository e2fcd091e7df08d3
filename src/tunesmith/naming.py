"""Names that a recipe takes from the tables: metrics, and templates of the catalog."""

from tunesmith.data.templates import load_template
from tunesmith.errors import DataError, RecipeError
from tunesmith.metrics.scoring import expand_metrics
from tunesmith.recipe import train_settings
from tunesmith.settings import Recipe


def check_names(recipe: Recipe) -> None:
    """Refuse metrics and catalog templates that are not known, all of them at once.

    Raises:
        RecipeError: With one line for each of them, of the tasks under ``forgetting`` too.
    """
    tasks = [(f"tasks.{number}", task) for number, task in enumerate(recipe.tasks)]
    tasks += [(f"forgetting.{number}", task) for number, task in enumerate(recipe.kept())]
    problems = []
    for place, task in tasks:
        try:
            load_template(task)
        except RecipeError as error:
            problems += [f"{place}.template: {problem}" for problem in error.problems]
        except DataError:
            continue  # a template of the recipe's own is explained when it meets the rows
    for place, names in [*((f"{place}.metrics", task.metrics) for place, task in tasks), *_kept_best(recipe)]:
        try:
            found = expand_metrics(names, has_choices=False)
        except RecipeError as error:
            problems += [f"{place}: {problem}" for problem in error.problems]
            continue
        if place.endswith("keep_best") and found != names:
            problems.append(f'{place}: "{names[0]}" stands for several metrics. Name one: {", ".join(found)}.')
    if problems:
        raise RecipeError(problems)


def _kept_best(recipe: Recipe) -> list[tuple[str, tuple[str, ...]]]:
    """Return the metrics by which the best weights are kept, each with its place."""
    best = {("train.keep_best", recipe.train.keep_best)}
    best |= {(f"candidates.{name}.train.keep_best", train_settings(recipe, name).keep_best)
             for name, candidate in recipe.candidates.items() if "keep_best" in candidate.train}  # fmt: skip
    return [(place, (name,)) for place, name in sorted(best) if name != "loss"]
