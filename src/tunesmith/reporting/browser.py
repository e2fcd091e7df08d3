"""The data of the page's example browser: every text once, as JSON that is safe inside a script element."""

import json
from math import isfinite
from typing import Any

from tunesmith.metrics.comparison import COUNTED
from tunesmith.reporting.contents import Answer, ExampleRow, Report, TaskReport
from tunesmith.reporting.side_by_side import Column, columns


def browser_json(report: Report) -> str:
    """Return the examples of all tasks as compact JSON.

    Texts are listed once and referred to by their place, because prompts and answers repeat. ``<`` is written as its
    escape, so that no text can end the element or begin a comment.
    """
    texts: dict[str, int] = {}
    names = [candidate.name for candidate in report.candidates]
    data = {
        "candidates": names,
        "tasks": [_task(task, names, texts) for task in report.tasks],
        "texts": list(texts),
    }
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _task(task: TaskReport, names: list[str], texts: dict[str, int]) -> dict[str, Any]:
    measured = {metric for row in task.examples for answer in row.answers.values() for metric in answer.scores}
    # corpus metrics such as BLEU have no value for a single example
    shown = [column for column in columns(task) if column.metric in measured]
    return {
        "task": task.task,
        "metrics": [{"name": one.title, "better": one.better, "decimals": _decimals(one)} for one in shown],
        "best": names.index(_best(task, shown[0].metric if shown else "", names)),
        "rows": [_row(example, names, shown=shown, texts=texts) for example in task.examples],
    }


def _row(example: ExampleRow, names: list[str], *, shown: list[Column], texts: dict[str, int]) -> list[Any]:
    answers = [_answer(example.answers[name], shown, texts) if name in example.answers else None for name in names]
    return [
        example.id,
        [[message.role, _place(message.content, texts)] for message in example.history],
        _place(example.prompt, texts),
        [_place(reference, texts) for reference in example.references],
        answers,
    ]


def _answer(answer: Answer, shown: list[Column], texts: dict[str, int]) -> list[Any]:
    scores = [_rounded(answer.scores.get(column.metric), _decimals(column) + 1) for column in shown]
    return [_place(answer.text, texts), answer.finish, answer.new_tokens, answer.words, answer.shots, scores]


def _rounded(value: float | None, decimals: int) -> float | None:
    return round(value, decimals) if value is not None and isfinite(value) else None


def _decimals(column: Column) -> int:
    """Return how many decimals the value of a single answer deserves."""
    return 0 if column.unit == COUNTED else column.decimals


def _place(text: str, texts: dict[str, int]) -> int:
    return texts.setdefault(text, len(texts))


def _best(task: TaskReport, metric: str, names: list[str]) -> str:
    """Return the best candidate after the first one; that pair is what the browser opens with."""
    values = {
        score.value if score.higher_is_better else -score.value: name
        for name in names[1:]
        for score in task.scores.get(name, ())
        if score.metric == metric
    }
    return values[max(values)] if values else names[-1]
