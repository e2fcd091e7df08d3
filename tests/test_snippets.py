"""Every snippet of README and docs/ runs, with a tiny model in place of the built-in one."""

import contextlib
import csv
import io
import re
import shutil
import sys
import tomllib
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pages import PAGES, ROOT, Block, blocks, name_of, shell_lines, shown
from small_run import chats

from tunesmith.cli import main
from tunesmith.data.templates import CatalogTemplate
from tunesmith.recipe import build_recipe
from tunesmith.settings import Recipe, TaskSettings
from tunesmith.yamlfile import parse_yaml

README = ROOT / "README.md"
KINDS = {"sh", "console", "python", "yaml", "text", ""}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, steady_torch: None) -> Path:
    """A home in which the built-in model is a tiny one, so that pages can call it by its name."""
    from tunesmith.models.tiny import write_tiny

    home = tmp_path_factory.mktemp("home-of-docs")
    texts = [text for row in chats() for text in row]
    write_tiny(home / "models" / "smollm2-135m-instruct", kind="causal", texts=texts)
    return home


@pytest.fixture(scope="module")
def finished_folder(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `tunesmith run chats.csv` has ended; to be copied."""
    folder = tmp_path_factory.mktemp("docs")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        furnish(folder, home, patch)
        code, printed = call(["run", "chats.csv"])
    assert code == 0, printed
    return folder


def furnish(folder: Path, home: Path, patch: pytest.MonkeyPatch) -> None:
    """Make a folder the current one, and put into it what the pages speak of."""
    patch.setenv("TUNESMITH_HOME", str(home))
    patch.setattr(sys, "warnoptions", ["error"])
    patch.chdir(folder)
    asked, wanted = [row[0] for row in chats()], [row[1] for row in chats()]
    write(folder / "chats.csv", {"dialogue": asked, "summary": wanted})
    write(folder / "answers.csv", {"summary": wanted, "model_a": ["Who knows."] * len(wanted), "model_b": wanted})


def write(path: Path, columns: dict[str, list[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([tuple(columns), *zip(*columns.values(), strict=True)])


def call(words: list[str]) -> tuple[int, str]:
    """Run a command in this process; return its exit code and all that it printed."""
    printed = io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
    ):
        patch.setattr(sys, "argv", ["tunesmith", *words])
        with pytest.raises(SystemExit) as end:
            main()
    code = end.value.code
    return int(code or 0), printed.getvalue()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_snippets_of_a_page_run(
    page: Path, home: Path, finished_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if page != README:  # which begins at the beginning
        shutil.copytree(finished_folder, tmp_path, dirs_exist_ok=True)
    furnish(tmp_path, home, monkeypatch)
    names: dict[str, object] = {}
    for block in blocks(page):
        assert block.kind in KINDS, block.place
        if block.kind == "sh":
            run_shell(block)
        elif block.kind == "console":
            run_console(block)
        elif block.kind == "python":
            code = compile(block.text, block.place, "exec")
            if not block.why_not:
                with contextlib.redirect_stdout(io.StringIO()):
                    exec(code, names)


def test_the_files_that_the_readme_names_are_there_after_a_run(finished_folder: Path) -> None:
    named = re.findall(r"`(runs/chats/[^`]+)`", README.read_text(encoding="utf-8"))
    assert len(named) > 10
    assert [name for name in named if not (finished_folder / name).exists()] == []


def run_shell(block: Block) -> None:
    for words in shell_lines(block):
        if words[0] == "tunesmith":
            if not block.why_not:
                code, printed = call(words[1:])
                assert code == 0, f"{block.place}: {' '.join(words)}: {printed}"
        else:
            checks = {"make": check_make, "pip": check_pip, "python": check_script}
            assert words[0] in checks, f"{block.place}: nobody knows whether {words[0]} works"
            checks[words[0]](words, block.place)


def check_make(words: list[str], place: str) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(words) == 2, place
    assert words[1] in targets, f"{place}: there is no make {words[1]}"


def check_script(words: list[str], place: str) -> None:
    assert (ROOT / words[1]).is_file(), f"{place}: there is no {words[1]}"
    known = "".join(path.read_text(encoding="utf-8") for path in (ROOT / words[1]).parent.rglob("*.py"))
    for option in (word for word in words[2:] if word.startswith("--")):
        assert f'"{option}"' in known, f"{place}: {words[1]} has no {option}"


def check_pip(words: list[str], place: str) -> None:
    assert words[:4] == ["pip", "install", "-c", "constraints.txt"], place
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    what = re.fullmatch(r"\.(?:\[([a-z,]+)\])?", words[-1])
    assert what is not None, place
    assert set(filter(None, (what[1] or "").split(","))) <= set(extras), place


def run_console(block: Block) -> None:
    assert shown(block), f"{block.place}: no line begins with $"
    for words, expected in shown(block):
        _, printed = call(words[1:])
        pattern = ".*".join(map(re.escape, expected.strip().split("...")))
        assert re.fullmatch(pattern, printed.strip(), re.DOTALL), f"{block.place}: {printed}"


TASK: dict[str, Any] = {"source": "chats.csv", "template": "dialogue-summary"}
PIECES = [block for page in PAGES for block in blocks(page) if block.kind == "yaml"]


@pytest.mark.parametrize("block", PIECES, ids=lambda block: block.place)
def test_a_piece_of_yaml_is_a_template_or_a_part_of_a_recipe(block: Block) -> None:
    document = parse_yaml(block.text, block.place)
    given = document.values
    if "needs" in given:
        assert CatalogTemplate.model_validate(given).phrasings
        return
    of_recipe = set(given) <= set(Recipe.model_fields)
    assert of_recipe or set(given) <= set(TaskSettings.model_fields)
    whole = {"name": "some", "tasks": [TASK], **given} if of_recipe else {"name": "some", "tasks": [TASK | given]}
    assert build_recipe(replace(document, values=whole)).tasks
