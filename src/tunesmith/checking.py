"""What would go wrong later, said before anything heavy has begun."""

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from pathlib import Path

from tunesmith.data.mixture import held_out, scored
from tunesmith.errors import DataError, RecipeError
from tunesmith.forgetting.in_turn import row_metric
from tunesmith.forms import asked_form
from tunesmith.methods.virtual import room_for
from tunesmith.metrics.scoring import expand_metrics, find_metric
from tunesmith.mixtures import tuned_tasks
from tunesmith.models.load import already_here
from tunesmith.models.skeleton import skeleton
from tunesmith.progress import say
from tunesmith.recipe import train_settings
from tunesmith.records import Example, Split
from tunesmith.registry import METHODS, resolve
from tunesmith.settings import Candidate, Recipe, TaskSettings, TrainSettings
from tunesmith.training.averaging import averaging_problems, no_rows
from tunesmith.training.optimizer import optimizer_problems


def check_settings(recipe: Recipe) -> None:
    """Refuse settings that a method cannot have, or that cannot hold together; neither rows nor a model are needed.

    Raises:
        RecipeError: With the problems of all tasks and candidates.
    """
    problems = _repeated_choices(recipe) + [
        f"candidates.{name}: {problem}"
        for name, candidate in recipe.candidates.items()
        if candidate.method != "none"
        for settings in [train_settings(recipe, name)]
        for problem in (
            *_cure_problems(candidate, settings, sequence=bool(recipe.sequence)),
            *_never_validated(settings),
        )
    ]
    if problems:
        raise RecipeError(problems)
    if recipe.generate.top_p < 1 and recipe.generate.temperature == 0:
        say(
            "generate.top_p: it changes nothing at temperature 0, where the likeliest token is taken. To sample, raise "
            "generate.temperature."
        )


def _repeated_choices(recipe: Recipe) -> list[str]:
    """Return which choices stand twice: the answer would be looked for at both places."""
    tasks = [(f"tasks.{number}", task) for number, task in enumerate(recipe.tasks)]
    tasks += [(f"forgetting.{number}", task) for number, task in recipe.kept().items()]
    counted = [
        (key, Counter(choice.strip() for choice in task.choices))
        for key, task in tasks
        if isinstance(task.choices, tuple)
    ]
    return [
        f'{key}.choices: "{choice}" stands there {times} times. Write it once.'
        for key, choices in counted
        for choice, times in choices.items()
        if times > 1
    ]


def _never_validated(settings: TrainSettings) -> list[str]:
    """Return which settings go by validations that are never taken."""
    if settings.validations:
        return []
    asked = {"patience": settings.patience, "keep_best": settings.keep_best != "loss" and settings.keep_best}
    return [
        f"train.{name}: {value} goes by validations, and train.validations is 0. Raise that, or delete {name}."
        for name, value in asked.items()
        if value
    ]


def check_rows(recipe: Recipe, examples: Mapping[Split, Sequence[Example]]) -> None:
    """Refuse what the prepared rows cannot serve.

    Args:
        recipe: Its tasks filled in by ``prepare``.
        examples: Of every split.

    Raises:
        DataError: No training rows for what is tuned, or no test rows; more shots than training rows; a generated
            metric to keep the best by and no validation rows; a metric of choices for a task without choices. All at
            once.
    """
    counts = {split: Counter(example.task for example in found) for split, found in examples.items()}
    plain = {task.name: asked_form(task.forms) for task in recipe.tasks}
    worked = Counter(example.task for example in examples["train"] if example.form == plain[example.task])
    problems = [*_side_problems(recipe, counts), *_metric_problems(recipe), *_sequence_problems(recipe)]
    out = held_out(recipe.tasks, recipe.mixture)
    mend = ("Lower it or add rows.", "It is held out: lower it, or give it rows, `source: {train: FILE, test: FILE}`.")
    for name, candidate in recipe.candidates.items():
        problems += [
            f"candidates.{name}.shots: {candidate.shots} worked examples are asked for, and task "
            f'"{task.name}" has {worked[task.name]} training rows{_of_form(task)}. {mend[task.name in out]}'
            for task in recipe.tasks
            if candidate.shots > worked[task.name]
        ]
        settings = train_settings(recipe, name)
        best = settings.keep_best
        if candidate.method != "none" and best != "loss" and not counts["validation"]:
            problems.append(
                f"candidates.{name}: train.keep_best: {best} is taken on validation rows, and there are "
                "none. Give split.validation a share, or keep the best by loss."
            )
        problems += _averaging(recipe, name, {example.task for example in examples["validation"]})
    if problems:
        raise DataError(problems)


def _side_problems(recipe: Recipe, counts: Mapping[Split, Mapping[str, int]]) -> list[str]:
    """Return which sides have no rows that something needs."""
    problems = []
    if not counts["train"] and any(candidate.method != "none" for candidate in recipe.candidates.values()):
        key, why = ("limit.train", "is 0") if recipe.split.limit.get("train") == 0 else ("train", "gives them no share")
        problems.append(
            f"split.{key}: there are no training examples, as it {why}. Raise it, or delete the candidates that are "
            "tuned."
        )
    unasked = [task for task in scored(recipe.tasks, recipe.mixture) if not counts["test"].get(task)]
    if unasked:
        key, mend = (
            ("limit.test", "Raise it.") if recipe.split.limit.get("test") == 0 else ("test", "Give it a share of rows.")
        )
        problems.append(f"split.{key}: there are no test examples for {', '.join(unasked)}. {mend}")
    return problems


def _averaging(recipe: Recipe, name: str, validated: Set[str]) -> list[str]:
    """Return why no share can be searched: in a sequence, every task needs validation rows of its own."""
    if recipe.candidates[name].method == "none" or train_settings(recipe, name).average != "auto":
        return []
    missing = [task for task in recipe.sequence if task not in validated] if recipe.sequence else not validated
    return [no_rows(name)] if missing else []


def _sequence_problems(recipe: Recipe) -> list[str]:
    """Return which tasks of a sequence have no metric that a row of R can hold, or no place in the mixture."""
    problems = []
    for number, task in enumerate(recipe.tasks):
        names = expand_metrics(task.metrics, has_choices=bool(task.choices))
        if task.name in recipe.sequence and not row_metric(names):
            problems.append(
                f"tasks.{number}.metrics: sequence compares tasks by points of 100 or %, and none of "
                f"{', '.join(names)} is one. Add rouge1 or accuracy."
            )
    asked = scored(recipe.tasks, recipe.mixture)
    problems += [
        f"sequence: task {name} is not scored, as mixture.scored has it, and R needs its scores. Score all tasks."
        for name in recipe.sequence
        if name not in asked
    ]
    problems += [
        f"sequence: {candidate} is not tuned on task {name}, as its mixture has it. Take the task out of the sequence, "
        "or tune on it."
        for candidate, settings in recipe.candidates.items()
        for name in recipe.sequence
        if settings.method != "none" and name not in tuned_tasks(recipe, candidate)
    ]
    return problems


def _cure_problems(candidate: Candidate, settings: TrainSettings, *, sequence: bool) -> list[str]:
    """Return which settings against forgetting a candidate's method cannot have."""
    method = resolve("method", candidate.method, METHODS)
    problems = averaging_problems(method, candidate, settings)
    asked = [f"train.{name}" for name in ("replay", "kl") if getattr(settings, name)]
    if asked and getattr(candidate.settings, "per_task", False):
        problems.append(
            f"{' and '.join(asked)}: general instructions belong to no task, and per_task has a prompt for tasks only. "
            "Delete one of the two."
        )
    if sequence and hasattr(method, "prepare"):
        problems.append(
            f"sequence: {candidate.method} chooses its weights by the examples of a task, and would choose others for "
            "each. Take another method, or delete sequence."
        )
    return problems


def _of_form(task: TaskSettings) -> str:
    asked = asked_form(task.forms)
    return "" if task.forms == (asked,) else f" of the form {asked}"


def _metric_problems(recipe: Recipe) -> list[str]:
    best = {train_settings(recipe, name).keep_best for name, one in recipe.candidates.items() if one.method != "none"}
    problems = []
    for number, task in enumerate(recipe.tasks):
        if task.choices and asked_form(task.forms) == "zero-shot":
            continue
        asked = [(f"tasks.{number}.metrics", name) for name in expand_metrics(task.metrics, has_choices=False)]
        asked += [("train.keep_best", name) for name in sorted(best - {"loss"})]
        problems += [
            f'{place}: {name} is read from the likelihood of choices, and task "{task.name}" {_without(task)}'
            "or take another metric."
            for place, name in asked
            if find_metric(name).needs_choices
        ]
    return problems


def _without(task: TaskSettings) -> str:
    if task.choices:
        return "writes its answers after their reasons. Begin `forms` with zero-shot, "
    return "has none. Give the task choices, "


def check_methods(recipe: Recipe, model: Path) -> None:
    """Ask every method whether it can be attached to this base, on a model without weights.

    Raises:
        RecipeError: With the problems of all candidates, such as a rank above a layer, a target that is not there, or
            an optimizer that this machine does not have.
    """
    tuned = {name: candidate for name, candidate in recipe.candidates.items() if candidate.method != "none"}
    bones = skeleton(model) if tuned else None
    longest = max(task.max_new_tokens for task in recipe.tasks)
    problems: list[str] = []
    for name, candidate in tuned.items():
        problems += [f"candidates.{name}: {problem}" for problem in optimizer_problems(train_settings(recipe, name))]
        try:
            resolve("method", candidate.method, METHODS).count(candidate.settings, bones)
        except RecipeError as error:
            problems += [f"candidates.{name}: {problem}" for problem in error.problems]
            continue
        if virtual := getattr(candidate.settings, "tokens", 0):
            found = room_for(candidate.method, virtual, bones, answer=longest)
            problems += [f"candidates.{name}: {problem}" for problem in found]
    if problems:
        raise RecipeError(problems)


def check_methods_here(recipe: Recipe, *, base: Path) -> None:
    """Do the same if the base is on this machine already, else say when it is done: a check fetches nothing.

    Args:
        recipe: Any.
        base: Folder that relative paths start from, the recipe's.
    """
    if model := already_here(recipe.model, base=base):
        check_methods(recipe, model)
    elif any(candidate.method != "none" for candidate in recipe.candidates.values()):
        say(f"check: {recipe.model} is not here yet. Whether it takes the methods is said by `plan` and `run`.")
