"""Every recipe that comes with tunesmith is one that runs."""

import shutil
from pathlib import Path

import pytest
from small_run import Command

from tunesmith.data.templates import load_template
from tunesmith.opening import open_run

ROOT = Path(__file__).parents[1]
RECIPES = sorted([*(ROOT / "examples").glob("*.yaml"), *(ROOT / "benchmarks").glob("*.yaml")])
SHIPPED = [path for path in RECIPES if "source: support" in path.read_text(encoding="utf-8")]
QUICK = (
    "split.limit={train: 6, validation: 2, test: 2}", "tasks.0.max_new_tokens=4", "train.epochs=1",
    "train.max_tokens=384",
)  # fmt: skip


def named(path: Path) -> str:
    return path.stem


def test_there_are_examples_of_the_shipped_chats_and_of_tables_that_users_bring() -> None:
    assert {"demo", "classify-intent", "stars", "entities"} <= set(map(named, SHIPPED))
    assert {"your-table", "flan-t5-dialogsum"} <= set(map(named, RECIPES))


@pytest.mark.parametrize("path", RECIPES, ids=named)
def test_its_fields_model_metrics_and_templates_are_known(path: Path, tmp_path: Path) -> None:
    with open_run(path, out=tmp_path) as job:
        assert all(load_template(task).phrasings for task in job.recipe.tasks)


@pytest.mark.parametrize("path", RECIPES, ids=named)
def test_it_is_called_like_its_file_so_that_no_two_share_a_run_folder(path: Path, tmp_path: Path) -> None:
    with open_run(path, out=tmp_path) as job:
        assert job.recipe.name == path.stem


@pytest.mark.parametrize("path", SHIPPED, ids=named)
def test_with_a_tiny_model_it_runs_from_the_chats_to_the_report(
    path: Path, tmp_path: Path, tiny_causal: Path, tunesmith: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = Path(shutil.copy(path, tmp_path))
    sets = [word for item in (*QUICK, f"model={tiny_causal}") for word in ("--set", item)]
    ended = tunesmith("run", recipe.name, *sets, "--quiet")
    assert (ended.code, ended.err) == (0, "")
    assert "zero-shot" in ended.out
    assert (tmp_path / "runs" / path.stem / "report.html").is_file()
