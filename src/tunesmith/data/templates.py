"""Templates: from the catalog or from the recipe, several phrasings each, and what they need of a row."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files

from tunesmith.data.sandbox import environment
from tunesmith.data.syntax import CHOICES, Syntax, read_syntax
from tunesmith.errors import DataError, did_you_mean
from tunesmith.records import Record
from tunesmith.registry import known
from tunesmith.settings import Phrasing, TaskSettings, TemplateSettings
from tunesmith.yamlfile import parse_yaml

AS_IT_IS = "prompt-completion"  # the template of rows that bring their own prompt


class CatalogTemplate(Record):
    """One file of ``data/catalog``."""

    name: str
    about: str  # one line
    needs: dict[str, str]  # variable -> what it holds
    system: str | None = None
    choices: tuple[str, ...] = ()  # closed answer set, unless the task names its own
    metrics: tuple[str, ...] = ()
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
    columns: tuple[str, ...]  # every column it names, in alphabetical order
    optional: frozenset[str]  # those that it tests, so that they may be empty
    inputs: tuple[str, ...]  # columns of the first phrasing's prompt that its target does not name
    uses_choices: bool

    def place(self, phrasing: int, part: str) -> str:
        """Return what errors call one text of it."""
        return f"{self.label}, " + (f"phrasing {phrasing + 1}, " if len(self.phrasings) > 1 else "") + part


@cache
def _catalog() -> dict[str, CatalogTemplate]:
    folder = files("tunesmith.data") / "catalog"
    found = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".yaml"))
    texts = {name: (folder / name).read_text("utf-8") for name in found}
    entries = [CatalogTemplate.model_validate(parse_yaml(text, name).values) for name, text in texts.items()]
    return {entry.name: entry for entry in entries}


def list_templates() -> tuple[CatalogTemplate, ...]:
    """Return the catalog, by name."""
    return tuple(_catalog().values())


def load_template(task: TaskSettings) -> Template:
    """Return the template of a task: from the catalog, from the recipe, or the one that takes rows as they are.

    Raises:
        RecipeError: Not in the catalog.
        DataError: A template that does not parse, names no column, or lacks prompt or target; all problems at once,
            with phrasing and line.
    """
    if not isinstance(task.template, TemplateSettings):
        entry = _catalog()[known("template", task.template or AS_IT_IS, _catalog())]
        return _ready(f'template "{entry.name}"', entry, trusted=True)
    label = f'template of task "{task.name}"'
    phrasings = _inline_phrasings(label, task.template)
    written = CatalogTemplate(name=task.name, about="", needs={}, system=task.template.system, phrasings=phrasings)
    return _ready(label, written, trusted=False)


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


def _ready(label: str, entry: CatalogTemplate, *, trusted: bool) -> Template:
    pairs = [(read_syntax(phrasing.prompt), read_syntax(phrasing.target)) for phrasing in entry.phrasings]
    both = [syntax for pair in pairs for syntax in pair]
    columns = frozenset[str]().union(*(syntax.columns for syntax in both))
    first_prompt, first_target = pairs[0]
    made = Template(
        label=label,
        phrasings=entry.phrasings,
        answers=tuple(target.printed for _, target in pairs),
        system=entry.system,
        choices=entry.choices,
        metrics=entry.metrics,
        trusted=trusted,
        columns=tuple(sorted(columns)),
        optional=frozenset[str]().union(*(syntax.tested for syntax in both)),
        inputs=tuple(sorted(first_prompt.columns - first_target.columns or first_prompt.columns)),
        uses_choices=any(syntax.uses_choices for syntax in both),
    )
    problems = [
        f"{made.place(number, part)}, {problem}"
        for number, pair in enumerate(pairs)
        for part, syntax in zip(("prompt", "target"), pair, strict=True)
        for problem in syntax.problems or _names_nothing(syntax)
    ]
    if problems:
        raise DataError(problems)
    return made


def _names_nothing(syntax: Syntax) -> tuple[str, ...]:
    return () if syntax.columns else ("it names no column; write a column as {{ name }}.",)


def instruction(template: Template) -> str:
    """Return the words of the first phrasing's prompt, with everything that a row fills in left out."""
    parts = environment().lex(template.phrasings[0].prompt)
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


def draw_phrasing(template: Template, example_id: str, *, seed: int) -> int:
    """Return the index of the phrasing of an example: a hash of seed and id, so that it never depends on order."""
    digest = sha256(f"{seed}\n{example_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % len(template.phrasings)
