"""The data of the page's example browser: every text once, as JSON that is safe inside a script element."""

import json
from math import isfinite
from typing import Any

from tunesmith.reporting.contents import Answer, ExampleRow, Report, TaskReport
from tunesmith.reporting.side_by_side import columns

PER_EXAMPLE_DECIMALS = 4


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
    known = {column.metric: column for column in columns(task)}
    per_example = dict.fromkeys(
        metric for example in task.examples for answer in example.answers.values() for metric in answer.scores
    )
    # the order of the table first, then values that only single examples have
    metrics = [metric for metric in known if metric in per_example] + [m for m in per_example if m not in known]
    return {
        "task": task.task,
        "metrics": [
            {
                "name": known[metric].title if metric in known else metric,
                "better": known[metric].better if metric in known else "higher",
                "decimals": known[metric].decimals if metric in known else 2,
            }
            for metric in metrics
        ],
        "best": names.index(_best(task, metrics[0] if metrics else "", names)),
        "rows": [_row(example, names, metrics=metrics, texts=texts) for example in task.examples],
    }


def _row(example: ExampleRow, names: list[str], *, metrics: list[str], texts: dict[str, int]) -> list[Any]:
    answers = [_answer(example.answers[name], metrics, texts) if name in example.answers else None for name in names]
    return [
        example.id,
        [[message.role, _place(message.content, texts)] for message in example.history],
        _place(example.prompt, texts),
        [_place(reference, texts) for reference in example.references],
        answers,
    ]


def _answer(answer: Answer, metrics: list[str], texts: dict[str, int]) -> list[Any]:
    scores = [answer.scores.get(metric) for metric in metrics]
    rounded = [round(s, PER_EXAMPLE_DECIMALS) if s is not None and isfinite(s) else None for s in scores]
    return [_place(answer.text, texts), answer.finish, answer.new_tokens, answer.words, answer.shots, rounded]


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
