"""The mixture of each candidate of a recipe: its own words over those of the recipe, and what is wrong with them."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tunesmith.data.mixture import Draw, family_of, held_out, mix, tunable, tuned_on
from tunesmith.data.replay import TASK as GENERAL
from tunesmith.data.replay import general_examples, per_epoch, replayed
from tunesmith.errors import DataError, did_you_mean
from tunesmith.progress import say
from tunesmith.records import Example, Mixture
from tunesmith.settings import MixtureSettings, Recipe
from tunesmith.yamlfile import Document, Key

ROWS = ("limit", "limits", "forms", "scored")
"""What shapes the rows and the scores of all candidates alike, so that none can have its own."""


def mixture_settings(recipe: Recipe, name: str) -> MixtureSettings | None:
    """Return the recipe's ``mixture`` with the overrides of one candidate; None if neither says anything."""
    own = recipe.candidates[name].mixture
    if not own:
        return recipe.mixture
    given = recipe.mixture or MixtureSettings()
    return MixtureSettings.model_validate_json(json.dumps({**given.model_dump(), **own}))


def tuned_tasks(recipe: Recipe, name: str) -> tuple[str, ...]:
    """Return the names of the tasks that a candidate is tuned on."""
    return tuned_on(recipe.tasks, mixture_settings(recipe, name))


def of_tuned_tasks(recipe: Recipe, name: str, examples: Sequence[Example]) -> list[Example]:
    """Return the examples of the tasks that a candidate is tuned on."""
    tuned = tuned_tasks(recipe, name)
    return [example for example in examples if example.task in tuned]


def quotas_of(recipe: Recipe, name: str, counts: Mapping[str, int]) -> dict[str, int] | None:
    """Return how many examples of each task an epoch of a candidate has; None where each has them all.

    Args:
        recipe: With its tasks.
        name: Of the candidate.
        counts: Training examples of each task.
    """
    settings = mixture_settings(recipe, name)
    if settings is None:
        return None
    return {share.task: share.per_epoch for share in mix(recipe.tasks, settings, counts) if share.per_epoch}


def replay_of(recipe: Recipe, name: str, training: Sequence[Example], *, share: float) -> int:
    """Return how many general instructions an epoch of a candidate has.

    Args:
        recipe: With its mixture, if it has one: it may take the examples of an epoch fewer times, or more often.
        name: Of the candidate.
        training: Examples of the tasks that it is tuned on.
        share: ``train.replay`` of the candidate.
    """
    quotas = quotas_of(recipe, name, Counter(example.task for example in training))
    wanted = per_epoch(epoch_size(len(training), quotas), share)
    known = len(general_examples()) if wanted else 0
    if wanted > known:
        say(f"{name}: train.replay wants {wanted} general instructions, and {known} are there; they repeat.")
    return wanted


def epoch_size(examples: int, quotas: Mapping[str, int] | None) -> int:
    """Return how many examples of its tasks an epoch has: all of them, or what the quotas of a mixture come to."""
    return examples if quotas is None else sum(quotas.values())


def general_of(wanted: int, *, epochs: float, seed: int) -> list[Example]:
    """Return the general instructions of a training that wants so many of them in an epoch."""
    known = general_examples() if wanted else []
    return [known[number] for number in replayed(wanted, known=len(known), epochs=epochs, seed=seed)]


def epoch_draw(
    recipe: Recipe, name: str, training: Sequence[Example], used: Sequence[str], *, general: int = 0
) -> Draw | None:
    """Return which of the examples that are used stand in which epoch of a candidate; None where each has them all.

    Args:
        recipe: With its tasks.
        name: Of the candidate.
        training: All examples of the tasks that it is tuned on, by whose number the shares are found.
        used: Ids of the examples that it is trained on, in their order; general instructions are among them.
        general: General instructions in an epoch.

    Raises:
        DataError: A task has a share, and none of its examples is used; or there is nothing to train on.
    """
    counts = Counter(example.task for example in training)
    quotas = quotas_of(recipe, name, counts)
    draw = draw_of([one.partition("/")[0] for one in used], quotas, general=general, seed=recipe.seed)
    if draw is None or quotas is None:
        return draw
    problems = [
        f'{name}: mixture: task "{task}" is to give {quota} examples to an epoch, and none of its {counts[task]} fits '
        "into train.max_tokens. Raise it, or hold the task out."
        for task, quota in quotas.items()
        if task not in draw.quotas
    ]
    if problems or not quotas:
        raise DataError(problems or f"{name}: mixture: no task that it is tuned on has training rows.")
    return draw


def draw_of(tasks: Sequence[str], quotas: Mapping[str, int] | None, *, general: int, seed: int) -> Draw | None:
    """Return which examples stand in which epoch; None where each has them all.

    Args:
        tasks: Of each example.
        quotas: Of ``quotas_of``.
        general: General instructions in an epoch.
        seed: The recipe's.
    """
    if quotas is None and not general:
        return None
    own = Counter(task for task in tasks if task != GENERAL) if quotas is None else quotas
    return Draw.among(tasks, {**own, GENERAL: general} if general else own, seed=seed)


def mixtures(recipe: Recipe, counts: Mapping[str, int]) -> tuple[Mixture, ...]:
    """Return how the tasks share the training of each tuned candidate; those that train alike together.

    Args:
        recipe: With its tasks.
        counts: Training examples of each task.

    Returns:
        Nothing where no mixture is asked for.
    """
    found: dict[tuple[Any, ...], list[str]] = {}
    for name, candidate in recipe.candidates.items():
        settings = mixture_settings(recipe, name)
        if candidate.method != "none" and settings is not None:
            found.setdefault(mix(recipe.tasks, settings, counts), []).append(name)
    if not found and recipe.mixture is not None:
        found[mix(recipe.tasks, recipe.mixture, counts)] = []
    return tuple(Mixture(candidates=tuple(names), shares=shares) for shares, names in found.items())


def mixture_problems(recipe: Recipe, document: Document) -> list[str]:
    """Return one line for each thing that a mixture asks for and that cannot be."""
    if recipe.mixture and (problems := _problems(recipe, recipe.mixture, ("mixture",), document)):
        return problems  # those of the candidates would be the same
    problems = []
    for name, candidate in recipe.candidates.items():
        key: Key = ("candidates", name, "mixture")
        settings = mixture_settings(recipe, name)
        if candidate.mixture and settings:
            problems += _problems(recipe, settings, key, document)
            problems += _seen_after_all(recipe, name, settings, document)
        out = [task for task in recipe.sequence if task not in tuned_on(recipe.tasks, settings)]
        if candidate.method != "none" and out:
            problems.append(
                f"{document.place(('sequence',))}: sequence: the mixture of candidates.{name} leaves {', '.join(out)} "
                "out. Take it out of the sequence too, or change held_out, weights or tasks of the mixture."
            )
        own = getattr(candidate.settings, "per_task", False)
        untuned = [task.name for task in recipe.tasks if task.name not in tuned_on(recipe.tasks, settings)]
        if own and untuned:
            problems.append(
                f"{document.place(key)}: candidates.{name}.per_task: no prompt of its own would be learned for "
                f"{', '.join(untuned)}, which it is not tuned on. Take one prompt for all tasks."
            )
    return problems


def _seen_after_all(recipe: Recipe, name: str, mixture: MixtureSettings, document: Document) -> list[str]:
    """Return which tasks a candidate would be tuned on although the recipe holds them out, and has few rows for it."""
    seen = set(held_out(recipe.tasks, recipe.mixture)) & set(tuned_on(recipe.tasks, mixture))
    return [
        f"{document.place(('candidates', name, 'mixture', 'held_out'))}: candidates.{name}.mixture.held_out: task "
        f'"{task.name}" is held out by the recipe, and its rows are there to be asked. Hold it out here too, or only '
        "in the candidates that are not to see it."
        for task in recipe.tasks
        if task.name in seen
    ]


def _problems(recipe: Recipe, mixture: MixtureSettings, key: Key, document: Document) -> list[str]:
    place = f"{document.place(key)}: {'.'.join(map(str, key))}"
    out = held_out(recipe.tasks, mixture)
    problems = _unknown_names(recipe, mixture, key, document)
    problems += [
        f'{place}: task "{one}" has a weight and is held out. Keep one of the two.'
        for one in mixture.weights
        if one in out
    ]
    if problems:
        return problems
    left = tunable(recipe.tasks, mixture)
    if not left:
        problems.append(f"{place}: no task is left to tune on. Hold out fewer.")
    elif mixture.tasks and mixture.tasks > len(left):
        problems.append(
            f"{document.place((*key, 'tasks'))}: {'.'.join(map(str, key))}.tasks: {mixture.tasks} tasks are to be "
            f"tuned on, and {len(left)} can be: {', '.join(left)}. Ask for no more, or leave it out to tune on all "
            "of them."
        )
    if mixture.scored == "held-out" and not out:
        problems.append(f"{place}.scored: only held-out tasks are to be scored, and none is. Name them in held_out.")
    return problems


def _unknown_names(recipe: Recipe, mixture: MixtureSettings, key: Key, document: Document) -> list[str]:
    names = [task.name for task in recipe.tasks]
    families = sorted({family_of(task) for task in recipe.tasks} - {*names})
    said = (
        ("weights", "task", tuple(mixture.weights), names),
        ("limits", "task", tuple(mixture.limits), names),
        ("held_out", "task or family", mixture.held_out, [*names, *families]),
    )
    return [
        f'{document.place((*key, field))}: {".".join(map(str, key))}.{field}: there is no {kind} "{one}".'
        f"{did_you_mean(one, known)} Known here: {', '.join(known)}."
        for field, kind, ones, known in said
        for one in ones
        if one not in known
    ]
