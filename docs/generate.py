"""Fill the parts of the pages that the code knows better: fields, defaults, rates, models, commands, exit codes.

A part stands between ``<!-- generated: NAME -->`` and ``<!-- end of NAME -->``; all else is written by hand.

    python docs/generate.py
"""

import json
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tunesmith import errors, settings
from tunesmith.cli import app
from tunesmith.data.templates import count_forms, list_templates
from tunesmith.environment import NO_READER, STOPPED
from tunesmith.models.catalog import CATALOG, Wheel
from tunesmith.planning.memory import PARTS as MEMORY
from tunesmith.registry import METHODS, resolve

sys.path.insert(0, str(Path(__file__).parent))
import equality
import forgotten
import headlines
import held_out
import speeds
import sweeps

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "tunesmith"
PART = re.compile(r"(<!-- generated: ([a-z0-9-]+) -->\n).*?(<!-- end of \2 -->)", re.DOTALL)

SECTIONS = {
    "TaskSettings": "task", "TemplateSettings": "template", "Phrasing": "phrasing", "SourceSettings": "source",
    "SplitSettings": "split", "DataSettings": "data", "TrainSettings": "train", "GenerateSettings": "generate",
    "MeasureSettings": "measures", "MixtureSettings": "mixture", "Candidate": "candidate",
    "SuiteSettings": "suite",
}  # fmt: skip
"""Class of settings -> its section in recipe.md."""

BOUNDS = (("ge", "from"), ("gt", "above"), ("le", "to"), ("lt", "below"))
KINDS = {str: "text", int: "whole number", float: "number", bool: "true or false"}


def main() -> None:
    """Write every page anew whose generated parts are not as the code has them."""
    for page in pages():
        before = page.read_text(encoding="utf-8")
        after = filled(before)
        if after != before:
            page.write_text(after, encoding="utf-8")
            print(page.relative_to(ROOT))


def pages() -> list[Path]:
    """Return README.md and every page of docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def filled(text: str) -> str:
    """Return the text of a page with all its generated parts as the code has them."""
    return PART.sub(lambda found: f"{found[1]}\n{PARTS[found[2]]()}\n\n{found[3]}", text)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def fields(model: type[BaseModel]) -> str:
    """Return the table of one class of settings."""
    rows = (
        (f"`{name}`", kind(field.annotation) + bounds(field), default(field), meaning(field))
        for name, field in model.model_fields.items()
        if field.annotation is not Any
    )
    return table(("key", "is", "default", "meaning"), rows)


def kind(annotation: Any) -> str:
    """Return in words what a value may be."""
    origin, inner = get_origin(annotation), [one for one in get_args(annotation) if one not in (type(None), ...)]
    if origin is Annotated:
        return kind(inner[0])
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(map(kind, inner)))
    if origin is Literal:
        return " or ".join(f"`{one}`" for one in inner)
    if origin is tuple:
        return f"list of {kind(inner[0])}"
    if origin is dict:
        return "`key: value` lines"
    section = SECTIONS.get(annotation.__name__, "")
    return KINDS.get(annotation) or f"[{section}](#{section})"


def bounds(field: FieldInfo) -> str:
    """Return between what a number must lie."""
    said = [(word, getattr(part, bound, None)) for bound, word in BOUNDS for part in field.metadata]
    return "".join(f" {word} {limit:,}" for word, limit in said if limit is not None)


def default(field: FieldInfo) -> str:
    """Return the default as YAML has it."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or isinstance(value, BaseModel):
        return ""
    if value in ((), {}, ""):
        return "none"
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    if isinstance(value, str) and not value.isprintable():
        return f"`{json.dumps(value)}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def meaning(field: FieldInfo) -> str:
    """Return what a field means: in its own words, where it has some."""
    said = field.description or ""
    return said.replace("; None:", "; not set:").replace("None:", "Not set:")


def own_settings() -> str:
    """Return the settings of each method, as a table where it has some."""
    found = [(name, resolve("method", name, METHODS)) for name in METHODS]
    return "\n\n".join(
        f"`method: {name}`: {method.ABOUT}" + (f"\n\n{fields(method.Settings)}" if method.Settings.model_fields else "")
        for name, method in found
    )


def rates() -> str:
    """Return what ``learning_rate: auto`` stands for."""
    rows: list[Sequence[str]] = []
    for name in METHODS:
        for architecture, steps in resolve("method", name, METHODS).RATES.items():
            for limit, rate in steps:
                size = "more" if limit == float("inf") else f"up to {limit / 1e6:,.0f} million"
                rows.append((f"`{name}`", architecture, size, f"{rate:g}"))
    return table(("method", "architecture", "parameters of the base", "rate"), iter(rows))


def templates() -> str:
    """Return the catalog of templates."""
    rows = (
        (f"`{one.name}`", ", ".join(f"`{name}`" for name in one.needs),
         ", ".join(f"{count} {form}" for form, count in count_forms(one.phrasings).items()))
        for one in list_templates()
    )  # fmt: skip
    return table(("template", "columns", "phrasings"), rows)


def methods() -> str:
    """Return the methods with what they leave on the disk."""
    left = {
        "model": "a whole model folder",
        "adapter": "an adapter in peft's format",
        "own": "an adapter in our format",
    }
    found = ((name, resolve("method", name, METHODS)) for name in METHODS)
    return table(("method", "what learns", "leaves"), ((f"`{n}`", m.ABOUT, left[kept(m)]) for n, m in found))


def kept(method: Any) -> str:
    """Return what kind of thing a method leaves on the disk."""
    return method.ON_DISK if getattr(method, "IN_PEFT", True) else "own"


def models() -> str:
    """Return the catalog of models."""
    rows = []
    for name, known in CATALOG.items():
        place = f"hub: `{known.source}`"
        if isinstance(known.source, Wheel):
            place = f"package index: `{known.source.requirement}`, {known.source.size / 1e6:.0f} MB"
        rows.append((f"`{name}`", f"{known.parameters / 1e6:.0f} million", place, known.licence))
    return table(("model", "parameters", "comes from", "licence"), iter(rows))


def commands() -> str:
    """Return the commands with their options."""
    found: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    rows = []
    for name, command in found.items():
        arguments = [one.metavar for one in command.params if one.param_type_name == "argument"]
        options = [f"`{one.opts[0]}`" for one in command.params if one.param_type_name == "option"]
        rows.append((f"`tunesmith {' '.join([name, *arguments])}`", command.help, " ".join(options)))
    return table(("command", "does", "options"), iter(rows))


def exit_codes() -> str:
    """Return the exit codes that commands can end with, and what they mean."""
    sources = "".join(path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py") if path.name != "errors.py")
    kinds = [one for one in errors.UserError.__subclasses__() if f"{one.__name__}(" in sources]
    said = {one.exit_code: (one.__doc__ or "").splitlines()[0] for one in kinds}
    said |= {0: "Done.", errors.UserError.exit_code: "The run failed."}
    said |= {STOPPED: "Stopped with Ctrl-C where there was nothing to save; the same command goes on."}
    said |= {NO_READER: "The program that read the output has ended."}
    return table(("code", "means"), ((str(code), said[code]) for code in sorted(said)))


def layers() -> str:
    """Return the layers that the import linter holds, the highest first."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contract = next(one for one in project["tool"]["importlinter"]["contracts"] if one["id"] == "layers")
    there = {path.stem for path in SOURCE.glob("*.py")} | {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    lines = ([word for word in re.findall(r"\w+", line) if word in there] for line in contract["layers"])
    return "```text\n" + "\n".join(" | ".join(line) for line in lines if line) + "\n```"


PARTS: dict[str, Callable[[], str]] = {
    "recipe": lambda: fields(settings.Recipe),
    **{section: lambda name=name: fields(getattr(settings, name)) for name, section in SECTIONS.items()},  # type: ignore[misc]
    "own-settings": own_settings,
    "rates": rates,
    "methods": methods,
    "models": models,
    "templates": templates,
    "commands": commands,
    "exit-codes": exit_codes,
    "layers": layers,
    "measured": lambda: headlines.measured(table),
    **sweeps.parts(table),
    "measured-equality": lambda: equality.of_suites(table),
    "measured-tasks": lambda: held_out.by_tasks(table),
    **{
        name.replace("_", "-"): lambda name=name, make=make: speeds.part(name, make, table)  # type: ignore[misc]
        for name, make in speeds.MAKERS.items()
    },
    **forgotten.parts(table),
    "memory-parts": lambda: table(("part", "how it is found"), ((f"`{n}`", text) for n, text in MEMORY.items())),
}
"""Name of a generated part -> what makes it."""


if __name__ == "__main__":
    main()
