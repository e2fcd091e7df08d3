"""What is asked before and after tuning to see what was forgotten: the shipped probe, and tasks of the user's own."""

import json
from collections.abc import Collection, Sequence
from pathlib import Path

from tunesmith.data.prepare import prepare
from tunesmith.data.probing import Item, shipped_items, shipped_prose
from tunesmith.errors import DataError, RecipeError
from tunesmith.metrics.scoring import expand_metrics
from tunesmith.probe_records import Probe, Skill
from tunesmith.records import Example
from tunesmith.settings import DataSettings, Forgetting, SplitSettings, TaskSettings

WRITTEN_TOKENS = 24  # longest answer to a shipped item without choices


def make_probe(forgetting: Forgetting, *, split: SplitSettings, data: DataSettings, seed: int, base: Path) -> Probe:
    """Return what the base and every tuned candidate are asked.

    Tasks of the user's own come after the shipped skills. Of their rows the test examples are asked.

    Args:
        forgetting: Of the recipe, and not ``off``.
        split: Of the recipe; the same for these tasks.
        data: Of the recipe.
        seed: Decides sides, limits and phrasings.
        base: The folder that paths start from: the recipe's.

    Raises:
        RecipeError: A task has the name of a shipped skill or of another task, or a template or metric is not known.
        DataError: Rows, columns, templates or splits of an own task cannot be used, or it has no test examples.
    """
    own = () if isinstance(forgetting, str) else forgetting
    items = shipped_items()
    skills = {item.skill: _skill(item) for item in items}
    _check_names([task.name for task in own], skills)
    found = prepare(own, split=split, data=data, seed=seed, base=base) if own else None
    tasks, examples = (found.tasks, found.examples["test"]) if found else ((), ())
    _check_asked(tasks, examples)
    return Probe(
        wanted=wanted(forgetting),
        skills=(*skills.values(), *map(_own_skill, tasks)),
        items=(*map(_example, items), *examples),
        prose=shipped_prose(),
    )


def wanted(forgetting: Forgetting) -> str:
    """Return what a recipe says under ``forgetting`` as one text, to tell whether a probe was made for it."""
    if isinstance(forgetting, str):
        return forgetting
    return json.dumps([task.model_dump(mode="json") for task in forgetting], sort_keys=True)


def _check_names(names: Sequence[str], skills: Collection[str]) -> None:
    problems = [
        f'forgetting.{number}.name: "{name}" is also the name of '
        + ("a skill of the shipped probe" if name in skills else f"task {names.index(name)} there (counting from 0)")
        + ". Give it another."
        for number, name in enumerate(names)
        if name in skills or names.index(name) < number
    ]
    if problems:
        raise RecipeError(problems)


def _check_asked(tasks: Sequence[TaskSettings], examples: Sequence[Example]) -> None:
    asked = {example.task for example in examples}
    problems = [
        f'forgetting: task "{task.name}" has no test examples, so there is nothing to ask. Give split.test a share, or '
        "name a test file."
        for task in tasks
        if task.name not in asked
    ]
    if problems:
        raise DataError(problems)


def _skill(item: Item) -> Skill:
    metric = "accuracy" if item.choices else "quasi-exact-match"
    return Skill(name=item.skill, metric=metric, max_new_tokens=WRITTEN_TOKENS)


def _own_skill(task: TaskSettings) -> Skill:
    metric = expand_metrics(task.metrics, has_choices=bool(task.choices))[0]
    return Skill(name=task.name, metric=metric, max_new_tokens=task.max_new_tokens, own=True)


def _example(item: Item) -> Example:
    return Example(
        id=item.id,
        task=item.skill,
        split="test",
        prompt=item.prompt,
        target=item.target,
        references=(item.target, *item.accepted),
        choices=item.choices,
    )
