"""Templates: from the catalog or from the recipe, several phrasings each, and what they need of a row."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

from pydantic import Field

from tunesmith.data.characters import is_empty
from tunesmith.data.sandbox import environment
from tunesmith.data.syntax import CHOICES, Syntax, read_syntax
from tunesmith.errors import DataError, RecipeError, did_you_mean
from tunesmith.forms import FORMS, Form, asked_form
from tunesmith.records import Record
from tunesmith.registry import known
from tunesmith.settings import Phrasing, TaskSettings, TemplateSettings
from tunesmith.yamlfile import parse_yaml

AS_IT_IS = "prompt-completion"  # the template of rows that bring their own prompt
PARTS = ("prompt", "target", "intro")  # the texts of a phrasing


class CatalogTemplate(Record):
    """One file of ``data/catalog``, or one like it that a recipe names."""

    name: str
    about: str = ""  # one line
    needs: dict[str, str] = Field(default_factory=dict)  # variable -> what it holds
    system: str | None = None
    inputs: tuple[str, ...] = ()  # as in a recipe
    choices: tuple[str, ...] = ()  # closed answer set, unless the task names its own
    metrics: tuple[str, ...] = ()
    sample: dict[str, Any] = Field(default_factory=dict)  # a row to show it with, and the choices if it has none
    phrasings: tuple[Phrasing, ...]


@dataclass(frozen=True, slots=True)
class Template:
    """A template ready to render."""

    label: str  # what errors call it
    phrasings: tuple[Phrasing, ...]
    answers: tuple[str | None, ...]  # for each phrasing the column of its target, if the target only prints one
    system: str | None
    choices: tuple[str, ...]
    metrics: tuple[str, ...]
    trusted: bool  # shipped with tunesmith
    forms: tuple[Form, ...]  # those that training rows are drawn from
    asked: Form  # that of validation and test rows
    needs: Mapping[Form, frozenset[str]]  # columns that must hold something for a form
    columns: tuple[str, ...]  # every column that the forms in use name, in alphabetical order
    optional: frozenset[str]  # those that they test, or that only some forms need, so that they may be empty
    inputs: tuple[str, ...]  # by default those of the first plain phrasing's prompt that its target does not name
    answer: str | None  # the column that the target of the first plain phrasing prints, if it prints just one
    printed: frozenset[str]  # every column that a target in use only prints
    uses_choices: bool

    def place(self, phrasing: int, part: str) -> str:
        """Return what errors call one text of it."""
        return f"{self.label}, " + (f"phrasing {phrasing + 1}, " if len(self.phrasings) > 1 else "") + part

    def of_form(self, form: Form) -> list[int]:
        """Return the numbers of the phrasings of one form."""
        return [number for number, phrasing in enumerate(self.phrasings) if phrasing.form == form]


@cache
def catalog() -> dict[str, CatalogTemplate]:
    """Return the templates that are shipped, by name."""
    folder = files("tunesmith.data") / "catalog"
    found = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".yaml"))
    texts = {name: (folder / name).read_text("utf-8") for name in found}
    entries = [CatalogTemplate.model_validate(parse_yaml(text, name).values) for name, text in texts.items()]
    return {entry.name: entry for entry in entries}


def list_templates() -> tuple[CatalogTemplate, ...]:
    """Return the catalog, by name."""
    return tuple(catalog().values())


def count_forms(phrasings: Sequence[Phrasing]) -> dict[Form, int]:
    """Return how many phrasings there are of each form that there is."""
    counts: dict[Form, int] = {form: sum(phrasing.form == form for phrasing in phrasings) for form in FORMS}
    return {form: count for form, count in counts.items() if count}


def load_template(task: TaskSettings) -> Template:
    """Return the template of a task: from the catalog, from the recipe, or the one that takes rows as they are.

    Raises:
        RecipeError: Not in the catalog, or without a phrasing of a form that the task names.
        DataError: A template that does not parse, names no column, or lacks prompt or target; all problems at once,
            with phrasing and line.
    """
    if not isinstance(task.template, TemplateSettings):
        entry = catalog()[known("template", task.template or AS_IT_IS, catalog())]
        return ready(f'template "{entry.name}"', entry, forms=task.forms, trusted=True)
    label = f'template of task "{task.name}"'
    phrasings = _inline_phrasings(label, task.template)
    inline = {"system": task.template.system, "inputs": task.template.inputs}
    written = CatalogTemplate(name=task.name, phrasings=phrasings, **inline)
    return ready(label, written, forms=task.forms, trusted=False)


def _inline_phrasings(label: str, inline: TemplateSettings) -> tuple[Phrasing, ...]:
    single = inline.prompt is not None or inline.target is not None
    if single and inline.phrasings:
        raise DataError(f"{label}: it has prompt or target beside phrasings. Keep one of the two.")
    if inline.phrasings:
        return inline.phrasings
    missing = [name for name in ("prompt", "target") if getattr(inline, name) is None]
    if missing:
        raise DataError(f"{label}: {' and '.join(missing)} missing. Write prompt and target, or a list of phrasings.")
    return (Phrasing(prompt=inline.prompt or "", target=inline.target or ""),)


def ready(label: str, entry: CatalogTemplate, *, forms: Sequence[Form], trusted: bool) -> Template:
    """Return a template that can be rendered.

    The split of the rows and the search for leaks go by ``inputs``, which no choice of forms changes.

    Args:
        label: What errors call it.
        entry: Its texts.
        forms: Those that the task names.
        trusted: It is shipped with tunesmith.

    Raises:
        RecipeError: There is no phrasing of a form.
        DataError: A text does not parse or names no column; all at once.
    """
    read = [{part: read_syntax(getattr(phrasing, part)) for part in PARTS} for phrasing in entry.phrasings]
    asked = asked_form(forms)
    _check_forms(label, entry.phrasings, wanted=(*forms, asked))
    in_use = [texts for phrasing, texts in zip(entry.phrasings, read, strict=True) if phrasing.form in (*forms, asked)]
    needs = {
        form: _together("columns", [t for p, t in zip(entry.phrasings, read, strict=True) if p.form == form])
        - _together("tested", in_use)
        for form in (*forms, asked)
    }
    first = _first_plain(entry.phrasings)
    prompt, target = read[first]["prompt"], read[first]["target"]
    columns = _together("columns", in_use)
    made = Template(
        label=label,
        phrasings=entry.phrasings,
        answers=tuple(texts["target"].printed for texts in read),
        system=entry.system,
        choices=entry.choices,
        metrics=entry.metrics,
        trusted=trusted,
        forms=tuple(dict.fromkeys(forms)),
        asked=asked,
        needs=needs,
        columns=tuple(sorted(columns)),
        optional=columns - needs[asked],
        inputs=entry.inputs or tuple(sorted(prompt.columns - target.columns or prompt.columns)),
        answer=target.printed,
        printed=frozenset(name for texts in in_use if (name := texts["target"].printed)),
        uses_choices=any(syntax.uses_choices for texts in in_use for syntax in texts.values()),
    )
    problems = [
        f"{made.place(number, part)}, {problem}"
        for number, phrasing in enumerate(entry.phrasings)
        for part, problem in faults(phrasing)
    ]
    problems = problems or [
        f'{label}, inputs: no text of it names "{name}".{did_you_mean(name, made.columns)}'
        for name in entry.inputs
        if name not in columns
    ]
    if problems:
        raise DataError(problems)
    return made


def _together(what: str, phrasings: Sequence[Mapping[str, Syntax]]) -> frozenset[str]:
    return frozenset[str]().union(*(getattr(syntax, what) for texts in phrasings for syntax in texts.values()))


def _first_plain(phrasings: Sequence[Phrasing]) -> int:
    """Return the first phrasing in the plain direction: with the question alone, if there is one."""
    order: tuple[Form, ...] = ("zero-shot", "few-shot", "chain-of-thought", "inverted")
    return min(range(len(phrasings)), key=lambda number: order.index(phrasings[number].form))


def _check_forms(label: str, phrasings: Sequence[Phrasing], *, wanted: Sequence[Form]) -> None:
    there = count_forms(phrasings)
    missing = [form for form in dict.fromkeys(wanted) if form not in there]
    if missing:
        raise RecipeError(
            f"{label} has no phrasing of the form {' or '.join(missing)}; it has {', '.join(there) or 'none at all'}. "
            "Name its forms in `forms`, or write such a phrasing. Validation and test rows are asked in the form "
            f"{wanted[-1]}."
        )


def faults(phrasing: Phrasing) -> list[tuple[str, str]]:
    """Return what is wrong with the texts of one phrasing: which of them, and "line 3: there is no filter ..."."""
    found: list[tuple[str, str]] = []
    for part in PARTS:
        syntax = read_syntax(getattr(phrasing, part))
        free = part == "intro" or (part == "prompt" and phrasing.form == "inverted")  # "Ask me a question." is a prompt
        nothing = () if syntax.columns or free else ("line 1: it names no column; write a column as {{ name }}.",)
        found += [(part, problem) for problem in syntax.problems or nothing]
    return found


def instruction(template: Template) -> str:
    """Return the words of the first plain phrasing's prompt, with everything that a row fills in left out."""
    parts = environment().lex(template.phrasings[_first_plain(template.phrasings)].prompt)
    words = " ".join(text for _, kind, text in parts if kind == "data")
    return " ".join(words.split())


def missing_columns(template: Template, columns: Collection[str], *, file: str, has_choices: bool) -> list[str]:
    """Return a problem for each column that a template names and a table lacks."""
    known_ones = sorted(columns)
    needs_choices = template.uses_choices and not has_choices and CHOICES not in columns
    return [
        f"{file}: {template.label} names {{{{ choices }}}}, and the task has none. Write `choices: [...]` or "
        "`choices: targets` in the recipe."
        for _ in range(needs_choices)
    ] + [
        f'{file}: {template.label} names {{{{ {name} }}}}, and there is no column "{name}"; it has '
        f"{', '.join(known_ones)}.{did_you_mean(name, known_ones)} Write `columns: {{{name}: COLUMN}}` in the recipe, "
        "or change the template."
        for name in template.columns
        if name not in columns
    ]


def draw_form(
    template: Template,
    example_id: str,
    row: Mapping[str, Any],
    *,
    seed: int,
    shares: Mapping[Form, float] | None = None,
) -> Form:
    """Return the form of a training row: one of those that the task names, in the given shares or all with the same.

    It is drawn by a hash of seed and id among the forms whose columns hold something in this row, so that a form which
    a row cannot have leaves its share to the others; a row that can have none is asked like a test row.
    """
    fit = fitting_forms(template, row, shares)
    at = _hash(f"{seed}\nform\n{example_id}") / 2**64 * sum(fit.values())
    for form, part in fit.items():
        at -= part
        if at < 0:
            return form
    return next(reversed(fit), template.asked)


def fitting_forms(
    template: Template, row: Mapping[str, Any], shares: Mapping[Form, float] | None = None
) -> dict[Form, float]:
    """Return the forms that a training row may draw, those whose columns hold something in it, with their shares."""
    parts = {form: shares.get(form, 0.0) if shares else 1.0 for form in template.forms}
    return {
        form: part
        for form, part in parts.items()
        if part and not any(is_empty(row.get(name)) for name in template.needs[form])
    }


def draw_phrasings(template: Template, example_id: str, *, form: Form, seed: int) -> tuple[int, ...]:
    """Return the numbers of all phrasings of a form, in the order in which an example takes the first that renders.

    It is a hash of seed and id, so that it never depends on the order of examples.
    """
    of_form = template.of_form(form)
    drawn = of_form[_hash(f"{seed}\n{example_id}") % len(of_form)]
    others = [number for number in of_form if number != drawn]
    return (drawn, *sorted(others, key=lambda number: _hash(f"{seed}\n{example_id}\n{number}")))


def _hash(text: str) -> int:
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big")
