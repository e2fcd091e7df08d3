import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tunesmith.bench_records import BenchResult
from tunesmith.cli import app
from tunesmith.suites import bench as module
from tunesmith.suites import catalog


def call(*words: str) -> Any:
    return CliRunner().invoke(app, ["bench", *words])


def test_without_the_harness_the_command_ends_with_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def gone(_: str) -> str:
        raise catalog.PackageNotFoundError

    monkeypatch.setattr(catalog, "version", gone)
    done = call("mmlu", "--model", "smollm2-135m-instruct", "--out", str(tmp_path))
    assert done.exit_code == 5
    assert catalog.INSTALL in done.stderr
    assert not list(tmp_path.iterdir())


def test_options_that_cannot_be_are_refused_before_anything_else(tmp_path: Path) -> None:
    done = call("mmlu", "--limit", "0", "--shots", "-1", "--data", str(tmp_path / "none"))
    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 4


def test_every_option_reaches_the_suites(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Any] = []

    def note(request: module.Request, *, out: Path) -> tuple[BenchResult, ...]:
        asked.append((request, out))
        return ()

    monkeypatch.setattr(module, "bench", note)
    done = call(
        "mmlu", "superglue/boolq", "--model", "m", "--adapter", "a", "--adapter", "b", "--data", str(tmp_path),
        "--limit", "3", "--shots", "2", "--chat-template", "--seed", "9", "--out", "runs/chats", "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {"schema": 1, "suites": []}
    assert asked == [
        (
            module.Request(
                suites=("mmlu", "superglue/boolq"), model="m", adapters=(Path("a"), Path("b")), data=tmp_path, limit=3,
                shots=2, chat_template=True, seed=9,
            ),
            Path("runs/chats"),
        )
    ]  # fmt: skip
