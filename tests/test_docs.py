"""What README and docs/ say is so: links lead somewhere, names are in the code, numbers in the measurements."""

import ast
import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
from pages import PAGES, ROOT, SPAN, anchors, commands, figures, links, name_of, prose

import tunesmith
from tunesmith.cli import app
from tunesmith.records import AdapterCard, Prediction, TrainPoint
from tunesmith.registry import METHODS

DOCS = ROOT / "docs"
SOURCE = ROOT / "src" / "tunesmith"
PICTURE = DOCS / "images" / "report.png"
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
OPTIONS = {name: {option for one in command.params for option in one.opts} for name, command in COMMANDS.items()}
WITHOUT_COMMAND = {"--help", "--version"}


def text(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def section(page: str, heading: str) -> str:
    return re.split(r"^## ", page.split(f"## {heading}\n")[1], flags=re.MULTILINE)[0]


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    sys.path.insert(0, str(DOCS))  # it imports its neighbour
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_generated_parts_are_as_the_code_has_them(page: Path, generate: ModuleType) -> None:
    written = page.read_text(encoding="utf-8")
    assert written == generate.filled(written), "python docs/generate.py writes them anew"


def test_every_part_that_can_be_generated_stands_on_a_page(generate: ModuleType) -> None:
    asked = {name for page in PAGES for name in re.findall("<!-- generated: ([a-z0-9-]+) -->", page.read_text("utf-8"))}
    assert asked == set(generate.PARTS)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_to_a_file_and_to_a_heading_of_it(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists() or target == PICTURE, link
        assert not anchor or anchor in anchors(target), link


def test_the_picture_of_the_report_is_there() -> None:
    if not PICTURE.exists():
        pytest.skip(f"{name_of(PICTURE)} is not taken yet")
    assert PICTURE.read_bytes().startswith(b"\x89PNG")


def test_from_the_readme_every_page_is_one_step_away() -> None:
    linked = {(ROOT / link).resolve() for link in links(ROOT / "README.md")}
    assert {name_of(page) for page in DOCS.glob("*.md") if page not in linked} == set()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_and_option_that_a_page_names_is_there(page: Path) -> None:
    for words in commands(page):
        name = next((word for word in words[1:] if not word.startswith("-")), None)
        assert name is None or name in COMMANDS, words
        known = WITHOUT_COMMAND | (OPTIONS[name] if name else set())
        assert [word for word in words if word.startswith("-") and word not in known] == [], words
    everywhere = WITHOUT_COMMAND.union(*OPTIONS.values())
    named = [span.split()[0] for span in SPAN.findall(prose(page)) if span.startswith("--")]
    assert [option for option in named if option not in everywhere] == []


def test_the_readme_names_every_exit_code(generate: ModuleType) -> None:
    said = re.split(r"Exit codes: |; ", (ROOT / "README.md").read_text(encoding="utf-8").replace("\n", " "))
    codes = set(re.findall(r"\b\d+\b", next(part for part in said if part.startswith("0 done"))))
    shell = {"130", "141"}
    assert codes == set(re.findall(r"^\| (\d+) \|", generate.exit_codes(), re.MULTILINE)) - shell


# Numbers


def numbers(value: Any) -> list[float]:
    """Every number of a JSON file."""
    if isinstance(value, dict | list):
        return [one for part in (value.values() if isinstance(value, dict) else value) for one in numbers(part)]
    return [float(value)] if isinstance(value, int | float) else []


def is_measured(word: str, found: list[float], written: str) -> bool:
    """Tell whether a number of a page is one of a file: as it is, in percent, minutes, millions, or 1e9."""
    plain = word.replace(",", "")
    decimals = len(plain.partition(".")[2])
    scaled = {one * factor for one in found for factor in (1, 100, 1 / 60, 1e-6, 1e-9)}
    as_it_is = re.search(rf"(?<![\d.]){re.escape(word)}(?![\d.])", written)
    return bool(as_it_is) or any(f"{one:.{decimals}f}" == plain for one in scaled)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_figures_are_those_of_the_file_that_they_name(page: Path) -> None:
    for file, passage in figures(page):
        words = re.findall(r"(?<![\w.-])\d[\d,]*(?:\.\d+)?(?![\w-])", passage.replace("95 %", ""))
        path = ROOT / file
        assert path.is_file() or not words, f"{file} is not there, and {words} are quoted from it"
        if words:
            written = path.read_text(encoding="utf-8")
            found = numbers(json.loads(written))
            assert [word for word in words if not is_measured(word, found, written)] == []


def test_a_number_is_measured_if_the_file_has_it_rounded_or_in_another_unit() -> None:
    assert is_measured("41.3", [0.41278], "")
    assert is_measured("12,345", [12345.2], "")
    assert is_measured("2.5", [150.0], "")
    assert is_measured("2026", [], "2026-11-24")
    assert not is_measured("41.4", [0.41278], "")
    assert not is_measured("99", [351444992.0], "351444992")


# Names


def test_the_way_of_the_data_is_that_of_the_code() -> None:
    steps = re.findall(r"^  \| +(\w+) +(\S+\.py)", text("architecture.md"), re.MULTILINE)
    assert len(steps) > 15
    for name, file in steps:
        tree = ast.parse((SOURCE / file).read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{file}: {name}"


def test_every_part_of_the_source_is_in_the_picture_and_no_other() -> None:
    rows = re.findall(r"^\| (`[^|]+`) \|", section(text("architecture.md"), "Layers"), re.MULTILINE)
    named = {span for row in rows for span in SPAN.findall(row)}
    modules = {path.name for path in SOURCE.glob("*.py") if not path.name.startswith("__")}
    packages = {f"{path.parent.name}/" for path in SOURCE.glob("*/__init__.py")}
    assert named == modules | packages


def test_every_record_of_the_picture_is_where_it_says() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(\S+)` \|", section(text("architecture.md"), "Records"), re.MULTILINE)
    assert len(rows) > 5
    for name, file in rows:
        tree = ast.parse((SOURCE / file).read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.ClassDef)}, f"{file}: {name}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    places = (ROOT, SOURCE, DOCS, SOURCE / "training", SOURCE / "methods")
    named = [span for span in SPAN.findall(prose(page)) if re.fullmatch(r"[\w./-]+\.(py|md|toml)|[\w./-]+/", span)]
    own = [span for span in named if not span.startswith(("candidates/", "data/", "runs/", "models/", "~"))]
    assert [span for span in own if not any((place / span).exists() for place in places)] == []


@pytest.mark.parametrize(
    ("page", "record"), [("adapters.md", AdapterCard), ("predicting.md", Prediction), ("training.md", TrainPoint)]
)
def test_a_page_names_every_field_of_the_file_that_it_describes(page: str, record: Any) -> None:
    unnamed = {"schema_version", "note"}
    assert [name for name in record.model_fields if f"`{name}`" not in text(page) and name not in unnamed] == []


def test_the_page_about_python_names_every_public_name() -> None:
    named = {re.split(r"\W", span)[0] for span in re.findall(r"^\| `([^`]+)` \|", text("python.md"), re.MULTILINE)}
    assert named == set(tunesmith.__all__)


def test_the_page_about_methods_names_every_method() -> None:
    assert [name for name in METHODS if f"{{method: {name}" not in text("methods.md")] == []


NOT_THERE = {
    "(`serve`)": "serve",
    "(`chat`)": "chat",
}
"""Words of the list of what is not there -> the command or module that would make them wrong."""


@pytest.mark.parametrize(("words", "thing"), NOT_THERE.items())
def test_what_is_said_not_to_be_there_is_not(words: str, thing: str) -> None:
    assert words in section(text("limits.md"), "Not there yet")
    assert thing not in COMMANDS
    assert [*SOURCE.rglob(f"{thing}.py"), *SOURCE.rglob(f"{thing}/__init__.py")] == []
