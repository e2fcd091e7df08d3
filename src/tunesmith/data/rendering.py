"""Rows through a template: targets first, because the choices of a task may be its targets, then prompts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.data.characters import is_empty
from tunesmith.data.rows import Row
from tunesmith.data.sandbox import Failure, Job, run_jobs
from tunesmith.data.syntax import CHOICES
from tunesmith.data.templates import Template
from tunesmith.errors import DataError, RefusedError

Drawn = tuple[int, Row]  # number of the phrasing, row
NO_PROMPT = Failure("row", 0, "the prompt is empty")
NO_TARGET = Failure("row", 0, "the target is empty")


@dataclass(frozen=True, slots=True)
class Target:
    """The rendered answer of one row."""

    phrasing: int
    text: str
    references: tuple[str, ...]  # every accepted answer, the text first


@dataclass(frozen=True, slots=True)
class Put:
    """A row in one of its phrasings."""

    phrasing: int
    prompt: str | Failure
    target: Target | Failure | None  # None = not asked for

    @property
    def empty(self) -> bool:
        """Whether the phrasing renders to nothing, as one does that is for other rows."""
        return self.prompt == NO_PROMPT or self.target == NO_TARGET


def put_rows(
    template: Template, rows: Sequence[Row], ways: Sequence[Sequence[int]], *, choices: Sequence[str] = (),
    references: Sequence[str] = (), answered: bool = True,
) -> list[Put]:  # fmt: skip
    """Render every row in the first of its phrasings that is not empty for it; where all are, in the first.

    Args:
        template: From ``load_template``.
        rows: With their values.
        ways: For each row the numbers of its phrasings, the one that it has drawn first.
        choices: The closed answer set of the task.
        references: Columns with further accepted answers.
        answered: The rows have answers, which are rendered too.

    Raises:
        DataError: A render was stopped by a limit, or all rows fail alike.
        RefusedError: The template asks for what the sandbox forbids.
    """
    found: dict[int, Put] = {}
    left, turn = list(range(len(rows))), 0
    while left:
        drawn = [(ways[number][turn], rows[number]) for number in left]
        targets: Sequence[Target | Failure | None] = [None] * len(drawn)
        if answered:
            targets = render_targets(template, drawn, references=references)
        prompts = render_prompts(template, drawn, choices=choices)
        for number, (phrasing, _), prompt, target in zip(left, drawn, prompts, targets, strict=True):
            put = Put(phrasing, prompt, target)
            if turn == 0 or not put.empty:
                found[number] = put
        turn += 1
        left = [number for number in left if found[number].empty and turn < len(ways[number])]
    done = [found[number] for number in range(len(rows))]
    _check_template(template, done)
    return done


def _check_template(template: Template, found: Sequence[Put]) -> None:
    """Raise when all rows fail alike at a line of the template: then it is the text that is wrong, and not the rows."""
    failures = [next((part for part in (put.target, put.prompt) if isinstance(part, Failure)), None) for put in found]
    first = failures[0] if len(failures) > 1 else None
    if first and ", line " in first.message and all(failure == first for failure in failures):
        raise DataError(f"{template.label}, {first.message}; so it is for all {len(found)} rows. Mend the template.")


def render_targets(
    template: Template, rows: Sequence[Drawn], *, references: Sequence[str] = ()
) -> list[Target | Failure]:
    """Render the answer of every row.

    A list of texts in the column that a target prints stands for several accepted answers: the first is the target.

    Args:
        template: From ``load_template``.
        rows: Each with the phrasing that it has drawn.
        references: Columns with further accepted answers; they answer the plain question, not an inverted one.

    Raises:
        DataError: A render was stopped by a limit.
        RefusedError: The template asks for what the sandbox forbids.
    """
    jobs: list[Job] = []
    owners: list[int] = []
    more = [() if template.phrasings[phrasing].form == "inverted" else references for phrasing, _ in rows]
    for number, (phrasing, row) in enumerate(rows):
        for variables in _variants(template, row, phrasing, more[number]):
            jobs.append((phrasing, variables))
            owners.append(number)
    results = _run(template, "target", jobs, [rows[owner] for owner in owners])
    found: list[list[str | Failure]] = [[] for _ in rows]
    for owner, result in zip(owners, results, strict=True):
        found[owner].append(result)
    return [
        _target(template, row, answers, phrasing, columns)
        for (phrasing, row), answers, columns in zip(rows, found, more, strict=True)
    ]


def render_prompts(
    template: Template, rows: Sequence[Drawn], *, choices: Sequence[str] = (), part: str = "prompt"
) -> list[str | Failure]:
    """Render the prompt of every row; ``choices`` is what the template sees under that name.

    Args:
        template: From ``load_template``.
        rows: Each with the phrasing that it has drawn.
        choices: The closed answer set of the task.
        part: ``prompt``, which must not be empty, or ``intro``.

    Raises:
        DataError: A render was stopped by a limit.
        RefusedError: The template asks for what the sandbox forbids.
    """
    jobs: list[Job] = []
    for phrasing, row in rows:
        variables = _variables(template, row, phrasing)
        if template.uses_choices:
            variables.setdefault(CHOICES, list(choices))
        jobs.append((phrasing, variables))
    results = _run(template, part, jobs, rows)
    return [NO_PROMPT if part == "prompt" and isinstance(text, str) and is_empty(text) else text for text in results]


def _variables(template: Template, row: Row, phrasing: int) -> dict[str, Any]:
    """Return what a phrasing sees of a row; of several accepted answers, one that does not print them sees the first.

    So an inverted prompt, or the end of a chain of thought, names one answer and not a list.
    """
    names = (*template.columns, CHOICES) if template.uses_choices else template.columns
    found = {name: row.values[name] for name in names if name in row.values}
    turned = template.phrasings[phrasing].form in ("inverted", "chain-of-thought")
    if turned and template.answer in found and template.answers[phrasing] != template.answer:
        found[template.answer] = next(iter(_each(found[template.answer])), "")
    return found


def _variants(template: Template, row: Row, phrasing: int, references: Sequence[str]) -> list[dict[str, Any]]:
    """Return the variables of the target, then those of every further answer that the same text can print."""
    variables = _variables(template, row, phrasing)
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
        return NO_TARGET
    if template.answers[phrasing] is None:
        texts += [str(value) for column in references for value in _each(row.values.get(column))]
    return Target(phrasing, texts[0], tuple(dict.fromkeys(texts)))


def _run(template: Template, part: str, jobs: Sequence[Job], rows: Sequence[Drawn]) -> list[str | Failure]:
    """Render, and raise what no other row can be better at; the rest is for the caller to set aside."""
    sources = [getattr(phrasing, part) for phrasing in template.phrasings]
    results = run_jobs(sources, jobs, trusted=template.trusted)
    for (phrasing, row), result in zip(rows, results, strict=False):
        if isinstance(result, str) or result.kind == "row":
            continue
        place = f"{template.place(phrasing, part)}, {result.where}"
        if result.kind == "refused":
            raise RefusedError(f"{place}. Templates may use the columns of a row, filters, if and for.")
        raise DataError(f"{place} (row {row.place}). Write it with fewer and shorter loops.")
    return [
        Failure("row", 0, f"{part}, {result.where}") if isinstance(result, Failure) else result.strip("\r\n")
        for result in results
    ]
