"""From tasks to examples: read, split, look for leaks, render. The whole way of the data on one page."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tunesmith.data.leakage import find_leaks
from tunesmith.data.mixture import check_forms, family_of, held_out, in_forms, own_split
from tunesmith.data.notes import canary_notes, form_notes, missing_notes, repeated, unused_notes
from tunesmith.data.rendering import Put, Target, put_rows
from tunesmith.data.rows import check_share, excerpt, set_aside
from tunesmith.data.sandbox import Failure
from tunesmith.data.shots import Question, put_before
from tunesmith.data.sources import read_rows
from tunesmith.data.splits import Placed, assign_split, check_sides
from tunesmith.data.templates import Template, draw_form, draw_phrasings, fitting_forms, load_template
from tunesmith.errors import DataError
from tunesmith.forms import Form, final_answer
from tunesmith.records import DataHealth, Example, Message, SetAside, Split
from tunesmith.settings import DataSettings, MixtureSettings, SplitSettings, TaskSettings
from tunesmith.wording import many

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
class _Order:
    """What is wanted of one task."""

    task: TaskSettings  # in the forms that it is to be put in
    split: SplitSettings
    held_out: bool
    spare: frozenset[str]  # columns that only forms need which are taken where rows have them

    @property
    def needed(self) -> tuple[Split, ...]:
        """Sides that must have rows."""
        return ("test",) if self.held_out else SIDES


@dataclass(frozen=True, slots=True)
class _Read:
    """What is used of the rows of one task, on their sides."""

    order: _Order
    task: TaskSettings  # with guessed columns
    template: Template
    placed: tuple[Placed, ...]
    rows: int  # that were read, those that are set aside among them
    set_aside: tuple[SetAside, ...]
    notes: tuple[str, ...]
    files: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Rendered:
    """One task, rendered."""

    task: TaskSettings
    examples: tuple[Example, ...]
    set_aside: tuple[SetAside, ...]
    notes: tuple[str, ...]


def prepare(
    tasks: Sequence[TaskSettings], *, split: SplitSettings, data: DataSettings, seed: int, base: Path,
    mixture: MixtureSettings | None = None,
) -> Prepared:  # fmt: skip
    """Read, split, check and render the rows of all tasks.

    Of a task at a time, all rows are gone through and no more are kept than the limits allow, so that memory grows
    with the limits and not with the rows.

    Args:
        tasks: Of one recipe.
        split: Shares, groups, limits.
        data: What is let through.
        seed: Decides sides, limits, forms and phrasings.
        base: The folder that paths start from: the recipe's.
        mixture: Of the recipe: limits of each task, shares of the forms, which tasks are scored.

    Raises:
        DataError: Rows, columns, templates or splits cannot be used; the problems of all tasks at once, step by step.
        RecipeError: A template that is not in the catalog.
        RefusedError: A template asks for what the sandbox forbids.
        UserError: A package that a format needs is not installed.
    """
    forms = mixture.forms if mixture else {}
    read = _each(tasks, lambda task: _read(_order(task, tasks, split, mixture), data, seed=seed, base=base))
    check_forms([part.order.task for part in read], forms)
    placed = [item for part in read for item in part.placed]
    leaks = find_leaks(placed, similarity=data.leak_similarity)
    moved = {leak.moved_id for leak in leaks} if data.leaks == "move" else set()
    rendered = _each(read, lambda part: _rendered(part, moved, seed=seed, forms=forms))
    _check(read, rendered, data=data)
    examples = [example for part in rendered for example in part.examples]
    parts: list[_Read | _Rendered] = [*read, *rendered]
    health = DataHealth(
        rows_read=sum(part.rows for part in read),
        rows_per_split={side: sum(example.split == side for example in examples) for side in SIDES},
        groups=len({example.group for example in examples}),
        set_aside=tuple(fault for part in parts for fault in part.set_aside),
        leaks=leaks,
        repeated_in_split=repeated(examples, {item.id: item.words for item in placed}),
        files=_files(read),
        notes=tuple(note for part in parts for note in part.notes),
    )
    by_side = {side: tuple(example for example in examples if example.split == side) for side in SIDES}
    return Prepared(by_side, health, tuple(part.task for part in rendered))


def place(
    tasks: Sequence[TaskSettings], *, split: SplitSettings, data: DataSettings, seed: int, base: Path,
    mixture: MixtureSettings | None = None,
) -> tuple[Placed, ...]:  # fmt: skip
    """Return the rows of all tasks on their sides, as ``prepare`` places them before it looks for leaks."""
    orders = [_order(task, tasks, split, mixture) for task in tasks]
    return tuple(item for order in orders for item in _read(order, data, seed=seed, base=base).placed)


def _order(
    task: TaskSettings, tasks: Sequence[TaskSettings], split: SplitSettings, mixture: MixtureSettings | None
) -> _Order:
    template, out = load_template(task), task.name in held_out(tasks, mixture)
    forms = mixture.forms if mixture else {}
    formed = task.model_copy(update={"forms": (template.asked,)}) if out else in_forms(task, forms)
    spare = frozenset(load_template(formed).columns) - frozenset(template.columns)
    return _Order(formed, own_split(task, tasks, split, mixture), out, spare)


def _read(order: _Order, data: DataSettings, *, seed: int, base: Path) -> _Read:
    rows = read_rows(order.task, data, base=base, spare=order.spare)
    template = load_template(rows.task)
    placed, notes = assign_split(rows, order.split, inputs=template.inputs, seed=seed, needed=order.needed)
    count = len(rows.rows) + len(rows.set_aside)
    guessed = rows.task.model_copy(update={"family": family_of(order.task)})
    warnings = () if order.held_out else canary_notes(rows.task.name, rows.marked, placed)
    unused = unused_notes(rows.task, template, (*order.spare, order.split.group, order.split.column))
    said = (*warnings, *unused, *rows.notes, *notes)
    return _Read(order, guessed, template, placed, count, rows.set_aside, said, rows.files)


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


def _rendered(read: _Read, moved: Collection[str], *, seed: int, forms: Mapping[Form, float]) -> _Rendered:
    task, template = read.task, read.template
    kept = [item for item in read.placed if item.id not in moved]
    ways = [_ways(template, item, seed, forms) for item in kept]
    choices, found = _put(read, kept, ways)
    bad: list[SetAside] = []
    asked: list[tuple[Placed, Target, str]] = []
    for item, put in zip(kept, found, strict=True):
        reason = _unfit(put, choices, template.phrasings[put.phrasing].form)
        if isinstance(put.target, Target) and isinstance(put.prompt, str) and not reason:
            asked.append((item, put.target, put.prompt))
        else:
            bad.append(set_aside(item.row, reason))
    training = [(item, target, prompt) for item, target, prompt in asked if item.split == "train"]
    pool = [Question(item.id, target.phrasing, item.row, item.words, prompt) for item, target, prompt in training]
    longer = put_before(template, pool, shots=task.shots, seed=seed, choices=choices)
    with_shots = {one.id: prompt for one, prompt in zip(pool, longer, strict=True)}
    examples = tuple(
        _example(item, target, with_shots.get(item.id, prompt), template=template, choices=choices)
        for item, target, prompt in asked
    )
    filled = task.model_copy(update={"choices": choices, "metrics": task.metrics or template.metrics})
    notes = missing_notes(read.order.task, examples) + ([] if read.order.held_out else form_notes(task, examples))
    if others := sum(put.phrasing != way[0] for put, way in zip(found, ways, strict=True)):
        notes.append(
            f'task "{task.name}": the phrasing that was drawn is empty for {many(others, "row")}; another is taken'
        )
    return _Rendered(filled, examples, tuple(bad), tuple(notes))


def _put(read: _Read, kept: Sequence[Placed], ways: Sequence[Sequence[int]]) -> tuple[tuple[str, ...], list[Put]]:
    """Render the rows, and return the choices of the task with them."""
    task, template, rows = read.task, read.template, [item.row for item in kept]
    listed = task.choices if isinstance(task.choices, tuple) else ()
    choices = tuple(choice.strip() for choice in listed or template.choices)
    if task.choices != "targets":
        return choices, put_rows(template, rows, ways, choices=choices, references=task.references)
    found = put_rows(template, rows, ways, references=task.references)
    sides: tuple[Split, ...] = SIDES if read.order.held_out else ("train",)
    choices = _answers(task, template, [put for item, put in zip(kept, found, strict=True) if item.split in sides])
    if template.uses_choices:  # which are known only now
        found = put_rows(template, rows, ways, choices=choices, references=task.references)
    return choices, found


def _ways(template: Template, item: Placed, seed: int, shares: Mapping[Form, float]) -> tuple[int, ...]:
    """Return the phrasings of a row, the drawn one first: for training of all forms that the task names."""
    forms: tuple[Form, ...] = (template.asked,)
    if item.split == "train":
        form = draw_form(template, item.id, item.row.values, seed=seed, shares=shares)
        forms = tuple(dict.fromkeys((form, *fitting_forms(template, item.row.values, shares))))
    return tuple(way for form in forms for way in draw_phrasings(template, item.id, form=form, seed=seed))


def _answers(task: TaskSettings, template: Template, found: Iterable[Put]) -> tuple[str, ...]:
    """Return the answers of rows, in alphabetical order."""
    forms = [(put, template.phrasings[put.phrasing].form) for put in found]
    seen = {
        _answer(put.target.text, form) for put, form in forms if isinstance(put.target, Target) and form != "inverted"
    }
    if not seen:
        raise DataError(
            f'task "{task.name}": `choices: targets` takes the answers of the training rows, and none of them is asked '
            "in the plain direction. List the choices, or add a form to `forms`."
        )
    return tuple(sorted(seen))


def _answer(text: str, form: Form) -> str:
    return final_answer(text) if form == "chain-of-thought" else text.strip()


def _unfit(put: Put, choices: Sequence[str], form: Form) -> str:
    target = put.target
    if isinstance(target, Target) and choices and form != "inverted" and _answer(target.text, form) not in choices:
        shown = ", ".join(choices[:SHOWN_CHOICES]) + (", ..." if len(choices) > SHOWN_CHOICES else "")
        return f'target "{excerpt(target.text)}" is not among the choices: {shown}'
    return next((part.where for part in (target, put.prompt) if isinstance(part, Failure)), "")


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


def _check(read: Sequence[_Read], rendered: Sequence[_Rendered], *, data: DataSettings) -> None:
    """Raise when rendering set too many rows aside, or when a side is empty now."""
    problems: list[str] = []
    for part, done in zip(read, rendered, strict=True):
        kept = {example.id for example in done.examples}
        left = [item for item in part.placed if item.id in kept]
        bad = [*part.set_aside, *done.set_aside]
        try:
            check_share(part.task.name, bad, read=part.rows, allowed=data.allow_bad)
            after = " without leaks and rows set aside"
            check_sides(part.task.name, left, settings=part.order.split, after=after, needed=part.order.needed)
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError(problems)


def _files(read: Sequence[_Read]) -> dict[str, str]:
    """Return file -> sha256; where tasks have different files of one name, it stands behind the name of the task."""
    digests: dict[str, set[str]] = {}
    for part in read:
        for name, digest in part.files.items():
            digests.setdefault(name, set()).add(digest)
    return {
        name if len(digests[name]) == 1 else f"{part.task.name}: {name}": digest
        for part in read
        for name, digest in part.files.items()
    }
