"""A whole run that takes seconds: thirty-two short chats, two tasks, a tiny model; and commands run in this process."""

import csv
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

RECIPE = """\
name: chats
model: MODEL
tasks:
  - name: summarize
    source: chats.csv
    template: dialogue-summary
    metrics: [rouge1, rouge2, bleu]
    max_new_tokens: 6
  - name: mood
    source: chats.csv
    template: text-label
    columns: {text: dialogue, label: mood}
    choices: [bad, good]
split: {train: 0.6, validation: 0.2, test: 0.2}
train: {epochs: 1, max_tokens: 256, tokens_per_step: 1024, tokens_per_batch: 512}
candidates:
  two-shot: {method: none, shots: 2}
  lora: {method: lora, rank: 2}
  full: {method: full}
forgetting: off
"""
THINGS = ("lamp", "chair", "table", "phone", "parcel", "clock", "book", "glass")
TROUBLES = ("broken", "late", "lost", "wrong")
HEADER = ("dialogue", "summary", "mood")


class Outcome(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


Command = Callable[..., Outcome]


def chats() -> list[tuple[str, str, str]]:
    """Rows of dialogue, summary and mood."""
    return [
        (
            f"Customer: my {thing} number {7 * place + turn} is {trouble}. Agent: sorry, a new {thing} comes on day "
            f"{place + turn}.",
            f"The {thing} is {trouble}.",
            ("bad", "good")[(place + turn) % 2],
        )
        for place, thing in enumerate(THINGS)
        for turn, trouble in enumerate(TROUBLES)
    ]


def write_table(path: Path, *, header: tuple[str, ...] = HEADER, rows: list[tuple[str, ...]] | None = None) -> Path:
    """Write a csv file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *(chats() if rows is None else rows)])
    return path


def write_small(folder: Path, model: Path) -> Path:
    """Write the table and the recipe into a folder, and return the recipe."""
    write_table(folder / "chats.csv")
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.replace("MODEL", str(model)), encoding="utf-8")
    return recipe


def as_process(*arguments: object, folder: Path, **surroundings: str) -> "subprocess.Popen[str]":
    """Start a command as a process of its own."""
    source = str(Path(__file__).parents[1] / "src")
    return subprocess.Popen(
        [sys.executable, "-m", "tunesmith", *map(str, arguments)], cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": source, **surroundings},
    )  # fmt: skip


@pytest.fixture
def tunesmith(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run a command in this process, as the console script does; warnings stay errors."""
    from tunesmith.cli import main

    monkeypatch.setattr(sys, "warnoptions", ["error"])

    def call(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["tunesmith", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        code = end.value.code
        return Outcome(int(code or 0), *capsys.readouterr())

    return call


@pytest.fixture
def small(tmp_path: Path, tiny_causal: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The recipe of a run that is not begun, in the current folder."""
    monkeypatch.chdir(tmp_path)
    return write_small(tmp_path, tiny_causal).relative_to(tmp_path)


@pytest.fixture(scope="session")
def finished_once(tmp_path_factory: pytest.TempPathFactory, tiny_causal: Path) -> Path:
    """The folder of a finished run, made once. Read it, do not write into it."""
    from tunesmith.environment import calm
    from tunesmith.pipeline import run

    folder = tmp_path_factory.mktemp("finished")
    with warnings.catch_warnings():
        calm()
        run(write_small(folder, tiny_causal), out=folder / "runs" / "chats")
    return folder


@pytest.fixture
def finished(finished_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The recipe of a run that is finished, in the current folder; a copy of its own for each test."""
    shutil.copytree(finished_once, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Path("recipe.yaml")
