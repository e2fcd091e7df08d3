"""What is asked before and after tuning to see what was forgotten: the shipped probe, and tasks of the user's own."""

import json
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

from tunesmith.data.leakage import find_leaks
from tunesmith.data.prepare import place, prepare
from tunesmith.data.probing import Item, shipped_items, shipped_prose
from tunesmith.data.splits import Placed
from tunesmith.errors import DataError, RecipeError
from tunesmith.forms import asked_form
from tunesmith.metrics.scoring import expand_metrics, find_metric
from tunesmith.probe_records import Probe, Skill
from tunesmith.records import Example, Leak
from tunesmith.registry import METRICS
from tunesmith.settings import DataSettings, Forgetting, SplitSettings, TaskSettings
from tunesmith.wording import many

WRITTEN_TOKENS = 24  # longest answer to a shipped item without choices


@dataclass(frozen=True, slots=True)
class Rows:
    """Where the rows of own tasks come from, and how they are used."""

    split: SplitSettings  # the same as for the tasks that are trained on
    data: DataSettings
    seed: int  # decides sides, limits and phrasings
    base: Path  # the folder that paths start from: the recipe's


def make_probe(forgetting: Forgetting, rows: Rows, *, practised: Sequence[Placed] = ()) -> Probe:
    """Return what the base and every tuned candidate are asked.

    Tasks of the user's own come after the shipped skills. Of their rows the test examples are asked, but for those
    that candidates practise: with ``data.leaks: move`` they are left out, since training must not depend on what is
    asked beside it.

    Args:
        forgetting: Of the recipe, and not ``off``.
        rows: Of own tasks.
        practised: Rows that candidates are trained and chosen by.

    Raises:
        RecipeError: A task has the name of a shipped skill or of another task, or a template is not known, or the first
            metric gives no value to a single answer.
        DataError: Rows, columns, templates or splits of an own task cannot be used, or it has no test examples.
    """
    kept = _kept(forgetting)
    own = tuple(kept.values())
    items = shipped_items()
    skills = {item.skill: _skill(item) for item in items}
    _check_names(kept, skills)
    if not own:
        every = tuple(map(_example, items))
        return Probe(wanted=wanted(forgetting), skills=tuple(skills.values()), items=every, prose=shipped_prose())
    found = prepare(own, split=rows.split, data=rows.data, seed=rows.seed, base=rows.base)
    _check_metrics(dict(zip(kept, found.tasks, strict=True)))
    examples = found.examples["test"]
    leaks = _leaks(own, rows, {example.id for example in examples}, practised)
    left_out = {leak.moved_id for leak in leaks} if rows.data.leaks == "move" else set()
    examples = tuple(example for example in examples if example.id not in left_out)
    _check_asked(found.tasks, examples, left_out)
    return Probe(
        wanted=wanted(forgetting),
        skills=(*skills.values(), *map(_own_skill, found.tasks)),
        items=(*map(_example, items), *examples),
        prose=shipped_prose(),
        files=found.health.files,
        leaks=leaks,
    )


def wanted(forgetting: Forgetting) -> str:
    """Return what a recipe says under ``forgetting`` as one text, to tell whether a probe was made for it."""
    if forgetting == "off":
        return forgetting
    kept = [task.model_dump(mode="json") for task in _kept(forgetting).values()]
    return json.dumps(kept, sort_keys=True) if kept else "default"  # a list of suites alone asks the same probe


def _kept(forgetting: Forgetting) -> dict[int, TaskSettings]:
    """Return the tasks of the user's own by their place in the recipe's list, which has benchmark suites too."""
    entries = () if isinstance(forgetting, str) else forgetting
    return {place: one for place, one in enumerate(entries) if isinstance(one, TaskSettings)}


def leaks_in_words(probe: Probe) -> str:
    """Return how many items of own tasks training has, and what became of them."""
    count, asked = len(probe.leaks), {item.id for item in probe.items}
    found = f"{many(count, 'item')} of own tasks {'is' if count == 1 else 'are'}"
    kept = any(leak.moved_id in asked for leak in probe.leaks)
    fate = "asked all the same" if kept else "left out"
    return f"{found} like rows that candidates are trained or chosen by, and {fate}. data/probe.json names them."


def _check_names(tasks: Mapping[int, TaskSettings], skills: Collection[str]) -> None:
    first: dict[str, int] = {}
    for number, task in tasks.items():
        first.setdefault(task.name, number)
    problems = [
        f'forgetting.{number}.name: "{task.name}" is also the name of '
        + (
            "a skill of the shipped probe"
            if task.name in skills
            else f"task {first[task.name]} there (counting from 0)"
        )
        + ". Give it another."
        for number, task in tasks.items()
        if task.name in skills or first[task.name] < number
    ]
    if problems:
        raise RecipeError(problems)


def _check_metrics(tasks: Mapping[int, TaskSettings]) -> None:
    """Refuse metrics that give no value to a single item, since items are compared one by one."""
    problems = []
    for number, task in tasks.items():
        ranked = bool(task.choices) and asked_form(task.forms) == "zero-shot"
        able = [name for name in METRICS if _for_each(name, ranked=ranked)]
        metric = _first_metric(task)
        if metric not in able:
            problems.append(
                f"forgetting.{number}.metrics: {metric} gives no value to a single answer here, and answers are "
                f"compared one by one. Name one of these first: {', '.join(able)}."
            )
    if problems:
        raise RecipeError(problems)


def _for_each(name: str, *, ranked: bool) -> bool:
    """Tell whether a metric gives each answer its value, also where no choices are ranked."""
    metric = find_metric(name)
    return metric.for_each and (ranked or not metric.needs_choices)


def _leaks(own: Sequence[TaskSettings], rows: Rows, asked: Set[str], practised: Sequence[Placed]) -> tuple[Leak, ...]:
    """Find the items that training has, as copy or nearly: they are looked up as an earlier side is in a later one."""
    placed = place(own, split=rows.split, data=rows.data, seed=rows.seed, base=rows.base)
    items = [replace(item, split="train") for item in placed if item.id in asked]
    return find_leaks(
        [*items, *(replace(item, split="test") for item in practised)], similarity=rows.data.leak_similarity
    )


def _check_asked(tasks: Sequence[TaskSettings], examples: Sequence[Example], left_out: Set[str]) -> None:
    """Refuse tasks of which nothing is asked."""
    asked = {example.task for example in examples}
    practised = {name.partition("/")[0] for name in left_out}
    problems = [
        f'forgetting: task "{task.name}" has no test examples'
        + (
            " but those that training has in rows of its own, so there is nothing to ask. Name another file, or say "
            "`data: {leaks: keep}`."
            if task.name in practised
            else ", so there is nothing to ask. Give split.test a share, or name a test file."
        )
        for task in tasks
        if task.name not in asked
    ]
    if problems:
        raise DataError(problems)


def _skill(item: Item) -> Skill:
    metric = "accuracy" if item.choices else "quasi-exact-match"
    return Skill(name=item.skill, metric=metric, max_new_tokens=WRITTEN_TOKENS)


def _own_skill(task: TaskSettings) -> Skill:
    return Skill(name=task.name, metric=_first_metric(task), max_new_tokens=task.max_new_tokens, own=True)


def _first_metric(task: TaskSettings) -> str:
    return expand_metrics(task.metrics, has_choices=bool(task.choices))[0]


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
