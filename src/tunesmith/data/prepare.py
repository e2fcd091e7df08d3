"""From tasks to examples: read, split, look for leaks, render. The whole way of the data on one page."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tunesmith.data.leakage import find_leaks
from tunesmith.data.rendering import Target, render_prompts, render_targets
from tunesmith.data.rows import Rows, check_share, excerpt, set_aside
from tunesmith.data.sandbox import Failure
from tunesmith.data.shots import Question, put_before
from tunesmith.data.sources import read_rows
from tunesmith.data.splits import Placed, assign_split, check_sides
from tunesmith.data.templates import Template, draw_form, draw_phrasing, load_template
from tunesmith.data.wording import normalised
from tunesmith.errors import DataError
from tunesmith.forms import FORMS, Form, final_answer
from tunesmith.records import DataHealth, Example, Message, SetAside, Split
from tunesmith.settings import DataSettings, SplitSettings, TaskSettings

SIDES: tuple[Split, ...] = ("train", "validation", "test")
SHOWN_CHOICES = 10

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Prepared:
    """What training and scoring work with."""

    examples: dict[Split, tuple[Example, ...]]  # of all tasks, in the order of tasks and rows
    health: DataHealth
    tasks: tuple[TaskSettings, ...]  # with guessed columns, and the choices and metrics of their templates, filled in


@dataclass(frozen=True, slots=True)
class _Rendered:
    """One task, rendered."""

    task: TaskSettings
    examples: tuple[Example, ...]
    set_aside: tuple[SetAside, ...]
    notes: tuple[str, ...]


def prepare(
    tasks: Sequence[TaskSettings], *, split: SplitSettings, data: DataSettings, seed: int, base: Path
) -> Prepared:
    """Read, split, check and render the rows of all tasks.

    Args:
        tasks: Of one recipe.
        split: Shares, groups, limits.
        data: What is let through.
        seed: Decides sides, limits and phrasings.
        base: The folder that paths start from: the recipe's.

    Raises:
        DataError: Rows, columns, templates or splits cannot be used; the problems of all tasks at once, step by step.
        RecipeError: A template that is not in the catalog.
        RefusedError: A template asks for what the sandbox forbids.
        UserError: A package that a format needs is not installed.
    """
    read = _each(tasks, lambda task: read_rows(task, data, base=base))
    templates = [load_template(rows.task) for rows in read]
    pairs = list(zip(read, templates, strict=True))
    sides = _each(pairs, lambda pair: assign_split(pair[0], split, inputs=pair[1].inputs, seed=seed))
    placed = [item for part, _ in sides for item in part]
    leaks = find_leaks(placed, similarity=data.leak_similarity)
    moved = {leak.moved_id for leak in leaks} if data.leaks == "move" else set()
    kept = [tuple(item for item in part if item.id not in moved) for part, _ in sides]
    jobs = list(zip(pairs, kept, strict=True))
    rendered = _each(jobs, lambda job: _rendered(*job[0], job[1], seed=seed))
    _check(read, rendered, placed=placed, split=split, data=data)
    examples = [example for part in rendered for example in part.examples]
    health = DataHealth(
        rows_read=sum(len(rows.rows) + len(rows.set_aside) for rows in read),
        rows_per_split={side: sum(example.split == side for example in examples) for side in SIDES},
        groups=len({example.group for example in examples}),
        set_aside=tuple(fault for rows in read for fault in rows.set_aside)
        + tuple(fault for part in rendered for fault in part.set_aside),
        leaks=leaks,
        repeated_in_split=_repeated(examples, {item.id: item.words for item in placed}),
        files=_files(read),
        notes=tuple(note for rows in read for note in rows.notes)
        + tuple(note for _, part in sides for note in part)
        + tuple(note for part in rendered for note in part.notes),
    )
    by_side = {side: tuple(example for example in examples if example.split == side) for side in SIDES}
    return Prepared(by_side, health, tuple(part.task for part in rendered))


def _each(items: Sequence[T], step: Callable[[T], R]) -> list[R]:
    """Do one step for all tasks, and raise what is wrong with all of them at once."""
    done: list[R] = []
    problems: list[str] = []
    for item in items:
        try:
            done.append(step(item))
        except DataError as error:
            problems += [problem for problem in error.problems if problem not in problems]
    if problems:
        raise DataError(problems)
    return done


def _rendered(rows: Rows, template: Template, kept: Sequence[Placed], *, seed: int) -> _Rendered:
    task = rows.task
    drawn = [(_phrasing(template, item, seed), item.row) for item in kept]
    targets = render_targets(template, drawn, references=task.references)
    forms = [template.phrasings[number].form for number, _ in drawn]
    choices = _choices(task, template, zip(kept, targets, forms, strict=True))
    bad: list[SetAside] = []
    good: list[tuple[Placed, Target]] = []
    for item, target, form in zip(kept, targets, forms, strict=True):
        reason = _unfit(target, choices, form)
        if isinstance(target, Failure) or reason:
            bad.append(set_aside(item.row, reason))
        else:
            good.append((item, target))
    prompts = render_prompts(template, [(target.phrasing, item.row) for item, target in good], choices=choices)
    asked: list[tuple[Placed, Target, str]] = []
    for (item, target), prompt in zip(good, prompts, strict=True):
        if isinstance(prompt, Failure):
            bad.append(set_aside(item.row, prompt.where))
        else:
            asked.append((item, target, prompt))
    training = [(item, target, prompt) for item, target, prompt in asked if item.split == "train"]
    pool = [Question(item.id, target.phrasing, item.row, item.words, prompt) for item, target, prompt in training]
    longer = put_before(template, pool, shots=task.shots, seed=seed, choices=choices)
    with_shots = {one.id: prompt for one, prompt in zip(pool, longer, strict=True)}
    examples = tuple(
        _example(item, target, with_shots.get(item.id, prompt), template=template, choices=choices)
        for item, target, prompt in asked
    )
    filled = task.model_copy(update={"choices": choices, "metrics": task.metrics or template.metrics})
    return _Rendered(filled, examples, tuple(bad), _form_notes(task, examples))


def _phrasing(template: Template, item: Placed, seed: int) -> int:
    """Draw the phrasing of a row: for training among all forms that the task names, otherwise in the plain one."""
    form = draw_form(template, item.id, item.row.values, seed=seed) if item.split == "train" else template.asked
    return draw_phrasing(template, item.id, form=form, seed=seed)


def _form_notes(task: TaskSettings, examples: Sequence[Example]) -> tuple[str, ...]:
    if task.forms == ("zero-shot",):
        return ()
    counted = Counter(example.form for example in examples if example.split == "train")
    said = ", ".join(f"{counted[form]} {form}" for form in FORMS if counted[form])
    return (f'task "{task.name}": training prompts by form: {said}',)


def _choices(
    task: TaskSettings, template: Template, rendered: Iterable[tuple[Placed, Target | Failure, Form]]
) -> tuple[str, ...]:
    if task.choices != "targets":
        return tuple(choice.strip() for choice in task.choices or template.choices)
    seen = {
        _answer(target.text, form)
        for item, target, form in rendered
        if item.split == "train" and isinstance(target, Target) and form != "inverted"
    }
    if not seen:
        raise DataError(
            f'task "{task.name}": `choices: targets` takes the answers of the training rows, and none of them is asked '
            "in the plain direction. List the choices, or add a form to `forms`."
        )
    return tuple(sorted(seen))


def _answer(text: str, form: Form) -> str:
    return final_answer(text) if form == "chain-of-thought" else text.strip()


def _unfit(target: Target | Failure, choices: Sequence[str], form: Form) -> str:
    if isinstance(target, Failure):
        return target.where
    if not choices or form == "inverted" or _answer(target.text, form) in choices:
        return ""
    shown = ", ".join(choices[:SHOWN_CHOICES]) + (", ..." if len(choices) > SHOWN_CHOICES else "")
    return f'target "{excerpt(target.text)}" is not among the choices: {shown}'


def _example(item: Placed, target: Target, prompt: str, *, template: Template, choices: tuple[str, ...]) -> Example:
    history = item.row.history
    if template.system and not (history and history[0].role == "system"):
        history = (Message(role="system", content=template.system), *history)
    form = template.phrasings[target.phrasing].form
    ranked = choices if form in ("zero-shot", "few-shot") else ()  # the others write their answers out
    answers = tuple(dict.fromkeys(a.strip() for a in target.references)) if ranked else target.references
    return Example(
        id=item.id,
        task=item.task,
        split=item.split,
        prompt=prompt,
        target=answers[0],
        references=answers,
        choices=ranked,
        history=history,
        group=item.group,
        phrasing=target.phrasing,
        form=form,
    )


def _check(
    read: Sequence[Rows],
    rendered: Sequence[_Rendered],
    *,
    placed: Sequence[Placed],
    split: SplitSettings,
    data: DataSettings,
) -> None:
    """Raise when rendering set too many rows aside, or when a side is empty now."""
    problems: list[str] = []
    for rows, part in zip(read, rendered, strict=True):
        kept = {example.id for example in part.examples}
        left = [item for item in placed if item.id in kept]
        bad = [*rows.set_aside, *part.set_aside]
        count = len(rows.rows) + len(rows.set_aside)
        try:
            check_share(rows.task.name, bad, read=count, allowed=data.allow_bad)
            check_sides(rows.task.name, left, settings=split, after=" without leaks and rows set aside")
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError(problems)


def _files(read: Sequence[Rows]) -> dict[str, str]:
    """Return file -> sha256; where tasks have different files of one name, it stands behind the name of the task."""
    digests: dict[str, set[str]] = {}
    for rows in read:
        for name, digest in rows.files.items():
            digests.setdefault(name, set()).add(digest)
    return {
        name if len(digests[name]) == 1 else f"{rows.task.name}: {name}": digest
        for rows in read
        for name, digest in rows.files.items()
    }


def _repeated(examples: Sequence[Example], words: Mapping[str, str]) -> int:
    seen = Counter((e.task, e.split, words[e.id], normalised(e.target)) for e in examples)
    return len(examples) - len(seen)
