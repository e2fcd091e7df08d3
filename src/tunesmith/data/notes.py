"""What is worth saying of the rows of a task, beside their numbers."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from tunesmith.data.splits import Placed
from tunesmith.data.syntax import CHOICES
from tunesmith.data.templates import Template
from tunesmith.data.wording import normalised
from tunesmith.errors import did_you_mean
from tunesmith.forms import FORMS
from tunesmith.records import Example
from tunesmith.settings import TaskSettings
from tunesmith.wording import many


def canary_notes(task: str, marked: Collection[str], placed: Sequence[Placed]) -> list[str]:
    """Warn of training rows that come from files with the mark of a benchmark.

    Args:
        task: Its name.
        marked: Names of such files.
        placed: Rows of the task on their sides.
    """
    counts = Counter(item.row.file for item in placed if item.split == "train")
    return [
        f'warning: task "{task}": {name} holds the canary string of a benchmark, which is not to be trained on, and '
        f"{counts[name]} of its rows are training rows. Take the file out, or make its rows test rows: "
        "`source: {test: FILE}`."
        for name in marked
        if counts[name]
    ]


MISSING = frozenset({"nan", "none", "null", "n/a", "<na>"})  # what programs write for a value that is not there


def missing_notes(task: TaskSettings, examples: Sequence[Example]) -> list[str]:
    """Say how many answers are words that programs write where there is none.

    Args:
        task: As the recipe has it; words among the choices that it lists are meant.
        examples: Of the task.
    """
    listed = {choice.strip() for choice in task.choices} if isinstance(task.choices, tuple) else ()
    plain = [(one.target.strip(), one.id) for one in examples if one.form != "inverted"]
    found = [(word, one) for word, one in plain if word.lower() in MISSING and word not in listed]
    if not found:
        return []
    words = ", ".join(f'"{word}"' for word in sorted({word for word, _ in found}))
    return [
        f'task "{task.name}": {many(len(found), "row")} with the answer {words}, the first {found[0][1]}. It is '
        "learned as it stands; where it means that there is no answer, empty the field or delete the row."
    ]


def unused_notes(task: TaskSettings, template: Template, others: Collection[str | None]) -> list[str]:
    """Say which names that a task gives to columns nobody asks for.

    Args:
        task: Whose rows do not bring their own prompt.
        template: Its own.
        others: Columns that are asked for by something else.
    """
    asked = {*template.columns, *template.inputs, *task.references, *others, CHOICES}
    return [
        f'task "{task.name}": `columns` gives "{column}" the name "{name}", and {template.label} asks for no '
        f"{{{{ {name} }}}}.{did_you_mean(name, template.columns)}"
        for name, column in task.columns.items()
        if task.template is not None and name not in asked
    ]


def form_notes(task: TaskSettings, examples: Sequence[Example]) -> list[str]:
    """Say how many training prompts there are of each form, where a task has more than the plain one."""
    if task.forms == ("zero-shot",):
        return []
    counted = Counter(example.form for example in examples if example.split == "train")
    said = ", ".join(f"{counted[form]} {form}" for form in FORMS if counted[form])
    return [f'task "{task.name}": training prompts by form: {said}']


def repeated(examples: Sequence[Example], words: Mapping[str, str]) -> int:
    """Return how many examples say what another one of their task and side has said.

    Args:
        examples: Of all tasks.
        words: Of the input of each, by its id.
    """
    seen = {(e.task, e.split, words[e.id], normalised(e.target)) for e in examples}
    return len(examples) - len(seen)
