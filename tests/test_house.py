"""Rules of the house that no linter knows."""

import ast
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tunesmith.registry import METHODS, METRICS, resolve

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

LONG_FILES: dict[str, str] = {}
"""File -> why it may have more than 300 lines."""

FORBIDDEN = {
    "trust_remote_code=True": "runs code that a model brings along",
    "weights_only=False": "unpickles",
    "pickle.load": "unpickles",
    "yaml.load(": "builds any Python object",
    "shell=True": "lets a file name be a command",
}


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def calls(tree: ast.AST) -> list[str]:
    """The names of everything that a module calls by a plain name."""
    return [node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]


def test_the_sources_are_found() -> None:
    assert len(SOURCES) > 30
    assert len(TESTS) > 10


@pytest.mark.parametrize("folder", ["src", "tests", "benchmarks"])
def test_no_file_is_a_drawer(folder: str) -> None:
    names = {path.stem.removeprefix("test_").strip("_") for path in (ROOT / folder).rglob("*.py")}
    assert names & {"utils", "util", "helpers", "helper", "common", "misc", "base", "tools", "stuff"} == set()


def test_no_source_file_is_longer_than_300_lines() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in [*SOURCES, *(ROOT / "src").rglob("*.cpp"), *(ROOT / "benchmarks").glob("*.py")]
    }
    long = {name: lines for name, lines in lengths.items() if lines > 300}
    assert {name: lines for name, lines in long.items() if name not in LONG_FILES} == {}
    assert set(LONG_FILES) <= set(long), "a file that is short again needs no exception"


def test_no_function_is_longer_than_fifty_lines() -> None:
    long = {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                lines = (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
                if lines > 50:
                    long[f"{path.name}:{node.name}"] = lines
    assert long == {}


@pytest.mark.parametrize(("text", "why"), FORBIDDEN.items())
def test_what_must_never_be_called_is_nowhere_in_the_sources(text: str, why: str) -> None:
    without_spaces = {path: re.sub(r"\s", "", path.read_text(encoding="utf-8")) for path in SOURCES}
    assert [str(path) for path, source in without_spaces.items() if text in source] == [], why


@pytest.mark.parametrize("name", ["eval", "exec", "compile", "__import__"])
def test_no_text_is_run_as_code(name: str) -> None:
    found = [str(path) for path in SOURCES if name in calls(ast.parse(path.read_text(encoding="utf-8")))]
    assert found == []


def test_there_are_at_most_twelve_direct_dependencies() -> None:
    dependencies = project()["project"]["dependencies"]
    assert len(dependencies) <= 12
    assert [name for name in dependencies if re.search(r"<|==|~=", name)] == [], "an upper bound ties the user's hands"


def test_every_direct_dependency_has_a_lower_bound_and_is_pinned_for_the_tests() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.split("==")[0] for line in lines if "==" in line}
    names = {re.split(r">=", line)[0].lower() for line in project()["project"]["dependencies"]}
    assert all(">=" in line for line in project()["project"]["dependencies"])
    assert names <= pinned


def test_every_dependency_is_used() -> None:
    modules = {"pyyaml": "yaml"}
    imported = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.split(".")[0])
    names = {re.split(r">=", line)[0].lower() for line in project()["project"]["dependencies"]}
    assert {name for name in names if modules.get(name, name) not in imported} == set()


def test_the_version_stands_twice_and_is_the_same() -> None:
    from tunesmith import __version__

    assert project()["project"]["version"] == __version__


def test_every_public_name_is_there_and_no_other_is() -> None:
    import tunesmith

    assert all(getattr(tunesmith, name) is not None for name in tunesmith.__all__)
    with pytest.raises(AttributeError, match="module 'tunesmith' has no attribute 'nothing'"):
        _ = tunesmith.nothing


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_of_the_table_is_there(name: str) -> None:
    assert resolve("metric", name, METRICS) is not None


@pytest.mark.parametrize("name", METHODS)
def test_every_method_of_the_table_has_what_a_method_needs(name: str) -> None:
    method = resolve("method", name, METHODS)
    assert method.ABOUT
    assert method.ON_DISK in ("adapter", "model")
    for kind in ("causal", "seq2seq"):
        limits = [limit for limit, _ in method.RATES[kind]]
        assert limits == sorted(limits)
        assert limits[-1] == float("inf")
    for field in method.Settings.model_fields.values():
        assert field.description
    assert all(callable(getattr(method, function)) for function in ("count", "attach", "save"))


def test_the_project_speaks_of_itself_alone() -> None:
    places = re.compile(r"/(work|tmp|root|home)/")
    files = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile", "pyproject.toml")]
    files += [*SOURCES, *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*"), *(ROOT / "benchmarks").glob("*")]
    found = [str(path) for path in files if path.is_file() and places.search(path.read_text(encoding="utf-8"))]
    assert found == []
