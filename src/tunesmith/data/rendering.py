"""Rows through a template: targets first, because the choices of a task may be its targets, then prompts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.data.characters import is_empty
from tunesmith.data.rows import Row
from tunesmith.data.sandbox import Failure, Job, run_jobs
from tunesmith.data.syntax import CHOICES
from tunesmith.data.templates import Template, draw_phrasing
from tunesmith.errors import DataError, RefusedError

Named = tuple[str, Row]  # example id, row


@dataclass(frozen=True, slots=True)
class Target:
    """The rendered answer of one row."""

    phrasing: int
    text: str
    references: tuple[str, ...]  # every accepted answer, the text first


def render_targets(
    template: Template, rows: Sequence[Named], *, seed: int, references: Sequence[str] = ()
) -> list[Target | Failure]:
    """Render the answer of every row.

    A list of texts in the column that a target prints stands for several accepted answers: the first is the target.

    Args:
        template: From ``load_template``.
        rows: Example ids and rows; the id decides the phrasing.
        seed: Of the recipe.
        references: Columns with further accepted answers.

    Raises:
        DataError: A render was stopped by a limit.
        RefusedError: The template asks for what the sandbox forbids.
    """
    jobs: list[Job] = []
    owners: list[int] = []
    for number, (example_id, row) in enumerate(rows):
        phrasing = draw_phrasing(template, example_id, seed=seed)
        for variables in _variants(template, row, phrasing, references):
            jobs.append((phrasing, variables))
            owners.append(number)
    results = _run(template, "target", jobs, [rows[owner] for owner in owners])
    found: list[list[str | Failure]] = [[] for _ in rows]
    for owner, result in zip(owners, results, strict=True):
        found[owner].append(result)
    return [
        _target(template, row, answers, draw_phrasing(template, example_id, seed=seed), references)
        for (example_id, row), answers in zip(rows, found, strict=True)
    ]


def render_prompts(
    template: Template, rows: Sequence[Named], *, seed: int, choices: Sequence[str] = ()
) -> list[str | Failure]:
    """Render the prompt of every row; ``choices`` is what the template sees under that name.

    Raises:
        DataError: A render was stopped by a limit.
        RefusedError: The template asks for what the sandbox forbids.
    """
    jobs: list[Job] = []
    for example_id, row in rows:
        variables = _variables(template, row)
        if template.uses_choices:
            variables.setdefault(CHOICES, list(choices))
        jobs.append((draw_phrasing(template, example_id, seed=seed), variables))
    results = _run(template, "prompt", jobs, rows)
    empty = Failure("row", 0, "the prompt is empty")
    return [empty if isinstance(text, str) and is_empty(text) else text for text in results]


def _variables(template: Template, row: Row) -> dict[str, Any]:
    names = (*template.columns, CHOICES) if template.uses_choices else template.columns
    return {name: row.values[name] for name in names if name in row.values}


def _variants(template: Template, row: Row, phrasing: int, references: Sequence[str]) -> list[dict[str, Any]]:
    """Return the variables of the target, then those of every further answer that the same text can print."""
    variables = _variables(template, row)
    answer = template.answers[phrasing]
    if answer is None:
        return [variables]
    values = [value for column in (answer, *references) for value in _each(row.values.get(column))]
    return [{**variables, answer: value} for value in values or [row.values.get(answer)]]


def _each(value: object) -> list[object]:
    values = value if isinstance(value, list) else [value]
    return [item for item in values if not is_empty(item)]


def _target(
    template: Template, row: Row, answers: Sequence[str | Failure], phrasing: int, references: Sequence[str]
) -> Target | Failure:
    texts: list[str] = []
    for answer in answers:
        if isinstance(answer, Failure):
            return answer
        texts.append(answer)
    if is_empty(texts[0]):
        return Failure("row", 0, "the target is empty")
    if template.answers[phrasing] is None:
        texts += [str(value) for column in references for value in _each(row.values.get(column))]
    return Target(phrasing, texts[0], tuple(dict.fromkeys(texts)))


def _run(template: Template, part: str, jobs: Sequence[Job], rows: Sequence[Named]) -> list[str | Failure]:
    """Render, and raise what no other row can be better at; the rest is for the caller to set aside."""
    sources = [getattr(phrasing, part) for phrasing in template.phrasings]
    results = run_jobs(sources, jobs, trusted=template.trusted)
    for (phrasing, _), (_, row), result in zip(jobs, rows, results, strict=False):
        if isinstance(result, str) or result.kind == "row":
            continue
        place = f"{template.place(phrasing, part)}, {result.where}"
        if result.kind == "refused":
            raise RefusedError(f"{place}. Templates may use the columns of a row, filters, if and for.")
        raise DataError(f"{place} (row {row.file}:{row.line}). Write it with fewer and shorter loops.")
    return [
        Failure("row", 0, f"{part}, {result.where}") if isinstance(result, Failure) else result.strip("\r\n")
        for result in results
    ]
