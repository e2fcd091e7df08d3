"""Every recipe that comes with tunesmith is one that runs."""

import shutil
from pathlib import Path

import pytest
from small_run import Command

from tunesmith.data.rendering import Target, render_targets
from tunesmith.data.rows import Row
from tunesmith.data.templates import load_template
from tunesmith.mixtures import tuned_tasks
from tunesmith.opening import open_run
from tunesmith.recipe import load_recipe
from tunesmith.settings import Recipe

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


class TestTheMixtureOfManyTasks:
    @pytest.fixture
    def recipe(self) -> Recipe:
        return load_recipe(ROOT / "examples" / "flan-mixture.yaml")[0]

    def test_it_tunes_on_eight_tasks_or_more_and_on_nothing_that_is_held_out(self, recipe: Recipe) -> None:
        tuned = tuned_tasks(recipe, "all-tasks")
        assert len(tuned) >= 8
        assert not {"yes-no", "rte", "cb"} & set(tuned)
        told = {2: "two", 3: "three", 8: "eight", 9: "nine", 10: "ten"}
        page = " ".join((ROOT / "docs" / "mixtures.md").read_text(encoding="utf-8").split())
        assert f"tunes one model on {told[len(tuned)]} public sets" in page
        assert f"scores it on {told[len(recipe.mixture.held_out if recipe.mixture else ())]} families" in page

    @pytest.mark.parametrize("name", ["words", "pronouns", "yes-no"])
    def test_labels_may_be_booleans_or_texts(self, recipe: Recipe, name: str) -> None:
        wanted = {True: "yes", "true": "yes", "True": "yes", False: "no", "false": "no"}
        for label, target in wanted.items():
            assert set(targets(recipe, name, {"label": label})) == {target}

    def test_causes_have_a_letter_whether_their_number_is_a_number_or_a_text(self, recipe: Recipe) -> None:
        assert {*targets(recipe, "causes", {"label": 1}), *targets(recipe, "causes", {"label": "1"})} == {"B"}

    def test_chains_of_thought_are_free_of_marks_for_a_calculator(self, recipe: Recipe) -> None:
        answer = "Half of 48 is 48/2 = <<48/2=24>>24.\nSo 48+24 = <<48+24=72>>72 >> 70.\n#### 72"
        assert set(targets(recipe, "arithmetic", {"answer": answer})) == {
            "Half of 48 is 48/2 = 24.\nSo 48+24 = 72 >> 70.\nThe answer is 72."
        }


def targets(recipe: Recipe, name: str, values: dict[str, object]) -> list[str]:
    """The target of a row in every phrasing of a task."""
    task = next(task for task in recipe.tasks if task.name == name)
    template = load_template(task)
    rows = [(number, Row(values, "rows", 1)) for number in range(len(template.phrasings))]
    found = render_targets(template, rows)
    assert all(isinstance(one, Target) for one in found), found
    return [one.text for one in found if isinstance(one, Target)]


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
