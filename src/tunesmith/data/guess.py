"""Which columns are the question and the answer, when nobody said."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from tunesmith.data.characters import is_empty
from tunesmith.data.rows import Row
from tunesmith.errors import DataError
from tunesmith.settings import TaskSettings

DIALOGUES = ("dialogue", "dialog", "conversation", "chat", "transcript")
QUESTIONS = ("question", "query")
INPUTS = (
    *DIALOGUES,
    *("text", "article", "document", "review", "comment", "utterance", "sentence", "message", "body", "content"),
    *QUESTIONS,
    *("prompt", "input", "instruction", "source", "tweet", "post", "email", "headline", "title", "description"),
)
SUMMARIES = ("summary", "abstract", "highlights", "tldr")
ANSWERS = ("answer", "response", "reply")
TARGETS = (
    *SUMMARIES,
    *ANSWERS,
    *("completion", "target", "output", "translation", "label", "category", "class", "intent", "sentiment", "topic"),
    *("stars", "rating", "tag"),
)
CLASSES = 20  # distinct values a closed answer set may have
CLASS_LENGTH = 40  # characters of its longest value
ROWS_PER_CLASS = 2  # each value must come back, or it is no class


def guess_columns(task: TaskSettings, rows: Sequence[Row]) -> tuple[TaskSettings, str]:
    """Return the task with template, columns and choices filled in from names and values, and a note that says so.

    Raises:
        DataError: The names of the columns do not tell.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row.values))
    if len(columns) == 1:
        raise DataError(
            f'task "{task.name}": there is one column, {columns[0]}, and a prompt and an answer are needed. '
            "Columns are separated by commas, semicolons, tabs or bars: look at its first line."
        )
    question, answer = _first(INPUTS, columns), _first(TARGETS, columns)
    if question is None or answer is None:
        raise DataError(
            f'task "{task.name}": the columns are {", ".join(columns)}, and their names do not tell which is the '
            "prompt and which the answer. Say it in the recipe, for instance "
            '`template: {prompt: "{{ a }}", target: "{{ b }}"}` with your columns for a and b.'
        )
    choices = task.choices or _classes(row.values.get(answer) for row in rows)
    name, variables = _template(question.lower(), answer.lower(), bool(choices))
    wanted = dict(zip(variables, (question, answer), strict=True))
    mapping = {variable: column for variable, column in wanted.items() if variable != column}
    note = f'task "{task.name}": guessed template {name} with {question} as prompt and {answer} as answer'
    if choices and not task.choices:
        note += f", one of {', '.join(choices)}"
    return task.model_copy(update={"template": name, "columns": {**task.columns, **mapping}, "choices": choices}), note


def _first(names: Sequence[str], columns: Sequence[str]) -> str | None:
    by_name = {column.lower(): column for column in reversed(columns)}
    return next((by_name[name] for name in names if name in by_name), None)


def _classes(values: Iterable[object]) -> tuple[str, ...]:
    """Return the values of a column if they look like a closed set, in order; otherwise nothing."""
    kept = [value for value in values if not is_empty(value)]
    if not all(isinstance(value, str | int) for value in kept):
        return ()
    counted = Counter(str(value).strip() for value in kept)
    few = 1 < len(counted) <= CLASSES and len(kept) >= ROWS_PER_CLASS * len(counted)
    short = all(len(value) <= CLASS_LENGTH and "\n" not in value for value in counted)
    return tuple(sorted(counted)) if few and short else ()


def _template(question: str, answer: str, has_choices: bool) -> tuple[str, tuple[str, str]]:
    if has_choices:
        return "text-label", ("text", "label")
    if answer in SUMMARIES and question in DIALOGUES:
        return "dialogue-summary", ("dialogue", "summary")
    if answer in SUMMARIES:
        return "text-summary", ("text", "summary")
    if question in QUESTIONS and answer in ANSWERS:
        return "question-answer", ("question", "answer")
    return "prompt-completion", ("prompt", "completion")


def task_name(path: Path) -> str:
    """Return the name of a file as a task may be called.

    >>> task_name(Path("My chats (2).csv"))
    'my-chats-2'
    """
    name = re.sub(r"[^a-z0-9._-]+", "-", path.stem.lower()).strip("-._")
    return name[:64] or "task"
