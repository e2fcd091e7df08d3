import os
import re
from pathlib import Path

import pytest
from run_folder import RECIPE, SKILL, write_recipe

from tunesmith.errors import RecipeError, UserError
from tunesmith.records import Example, TrainPoint
from tunesmith.reporting.contents import Report
from tunesmith.reporting.gather import gather
from tunesmith.reporting.html import render
from tunesmith.rundir import RunDir, read_records, write_records, write_text


def exactly(text: str) -> str:
    return f"^{re.escape(text)}$"


def test_candidates_come_in_the_order_of_the_recipe_after_zero_shot(report: Report) -> None:
    assert [(one.name, one.method, one.shots) for one in report.candidates] == [
        ("zero-shot", "none", 0),
        ("two-shot", "none", 2),
        ("lora", "lora", 0),
        ("full", "full", 0),
    ]


def test_a_recipe_without_candidates_has_zero_shot_alone(run: RunDir) -> None:
    write_recipe(run, RECIPE.partition("candidates:")[0])
    found = gather(run)
    assert [one.name for one in found.candidates] == ["zero-shot"]
    assert found.tasks[0].comparisons == ()


def test_a_finished_run_misses_nothing(report: Report) -> None:
    assert [one.missing for one in report.candidates] == [()] * len(SKILL)
    assert report.notes == ()
    assert report.headline


def test_the_report_depends_on_the_files_alone(run: RunDir, report: Report) -> None:
    for path in run.root.rglob("*.json*"):
        os.utime(path, (0, 0))
    assert gather(run) == report


def test_answers_and_scores_are_matched_by_id_not_by_place(run: RunDir, report: Report) -> None:
    path = run.candidate("lora").predictions("summarize")
    lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    path.write_text("\n".join(reversed(lines)) + "\n", encoding="utf-8")
    assert gather(run).tasks[0].examples == report.tasks[0].examples


def test_every_metric_has_its_value_for_every_example(run: RunDir, report: Report) -> None:
    row = report.tasks[0].examples[12]
    assert list(row.answers) == list(SKILL)
    assert all(list(answer.scores) == ["rouge1", "rouge2"] for answer in row.answers.values())
    assert row.answers["two-shot"].shots == 2
    assert row.answers["lora"].finish == "length"


def test_a_candidate_that_was_not_begun_says_all_that_is_missing(run: RunDir) -> None:
    write_recipe(run, RECIPE.replace("  full:", "  lora-8: {method: lora, rank: 8}\n  full:"))
    begun = gather(run).candidates[3]
    assert begun.name == "lora-8"
    assert begun.missing == (
        "training is not finished",
        "there is no training log",
        "answering is not finished",
        'there are no answers for task "summarize"',
        'there are no scores for task "summarize"',
        "the probe of what was forgotten is not taken",
    )


def test_a_candidate_without_scores_keeps_its_answers(run: RunDir) -> None:
    run.candidate("full").scores("summarize").unlink()
    found = gather(run)
    assert found.candidates[3].missing == ('there are no scores for task "summarize"',)
    assert "full" not in found.tasks[0].scores
    assert found.tasks[0].examples[0].answers["full"].scores == {}
    assert all("full" not in (one.better, one.than) for one in found.tasks[0].comparisons)


def test_a_damaged_file_is_named_and_the_rest_is_reported(run: RunDir) -> None:
    path = run.candidate("lora").scores("summarize")
    path.write_text('{"candidate": "lora"', encoding="utf-8")
    found = gather(run)
    assert len(found.candidates[2].missing) == 1
    assert found.candidates[2].missing[0].startswith(f"{path}: not a ScoreSheet as this version writes it (")
    assert list(found.tasks[0].scores) == ["zero-shot", "two-shot", "full"]


def test_half_a_last_line_of_the_log_loses_only_that_line(run: RunDir) -> None:
    path = run.candidate("full").train_log
    path.write_text(path.read_text(encoding="utf-8") + '{"step": 481, "epo', encoding="utf-8")
    full = gather(run).candidates[3]
    assert len(full.missing) == 1
    assert full.missing[0].startswith(f"{path}:481: not a TrainPoint")
    assert full.steps[-1].step == 480


def test_notes_of_the_training_log_stand_with_their_step(report: Report) -> None:
    assert report.candidates[3].events == ("step 10: batch halved, out of memory",)


def test_long_logs_are_averaged_to_two_hundred_points(run: RunDir) -> None:
    points = [TrainPoint(step=n, epoch=0, seconds=n, tokens=n, target_tokens=n, loss=float(n)) for n in range(1, 401)]
    path = run.candidate("full").train_log
    write_records(path, points)
    path.write_text(path.read_text(encoding="utf-8").replace('"loss":3.0', '"loss":NaN'), encoding="utf-8")
    steps = gather(run).candidates[3].steps
    assert len(steps) == 200
    assert [point.loss for point in steps[:3]] == [1.5, 4.0, 5.5]  # NaN is left out of its mean
    assert (steps[-1].step, steps[-1].loss) == (400, 399.5)


def test_a_short_log_is_kept_as_it_is_and_validations_are_all_kept(report: Report) -> None:
    lora = report.candidates[2]
    assert len(lora.steps) == 160
    assert [point.step for point in lora.validations] == [96, 192, 288, 384, 480]


def test_a_folder_that_the_recipe_does_not_name_is_noted(run: RunDir) -> None:
    (run.root / "candidates" / "old").mkdir()
    assert gather(run).notes == ("The folder candidates/old is not in the recipe and is left out.",)


def test_a_benchmark_suite_that_is_not_asked_yet_is_noted(run: RunDir) -> None:
    write_recipe(run, run.recipe.read_text(encoding="utf-8") + "forgetting: [{suite: mmlu}, {suite: glue/rte}]\n")
    assert gather(run).notes == (
        "The benchmark suite mmlu is not asked yet.",
        "The benchmark suite glue is not asked yet.",
    )


def test_a_run_that_has_only_begun_is_reported(run: RunDir) -> None:
    run.examples("test").unlink()
    run.health.unlink()
    found = gather(run)
    assert found.tasks == ()
    assert found.health is None
    assert found.notes == (
        "There are no test examples yet, so nothing is compared.",
        "There is no record of the data's health yet.",
    )


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    expected = f"{tmp_path}: not a run folder, recipe.yaml, recipe.json, run.json missing. Name the folder of a run."
    with pytest.raises(UserError, match=exactly(expected)):
        gather(RunDir(tmp_path))


@pytest.mark.parametrize("name", ["../other", "a/b", "/etc"])
def test_a_candidate_name_that_leaves_the_folder_is_refused(run: RunDir, name: str) -> None:
    write_text(run.resolved, run.resolved.read_text(encoding="utf-8").replace('"lora": {', f'"{name}": {{', 1))
    expected = f'{run.resolved}: candidate "{name}" cannot be the name of a folder. Rename it.'
    with pytest.raises(RecipeError, match=exactly(expected)):
        gather(run)


def test_splits_are_counted_from_the_examples(report: Report) -> None:
    assert [(one.split, one.examples, one.groups) for one in report.splits] == [
        ("train", 80, 40),
        ("validation", 10, 5),
        ("test", 40, 20),
    ]


def test_virtual_tokens_are_those_of_the_adapter(run: RunDir) -> None:
    found = {one.name: one.virtual for one in gather(run).candidates}
    assert {name: len(tokens) for name, tokens in found.items() if tokens} == {"lora": 1}
    run.candidate("lora").nearest.write_text("{}", encoding="utf-8")
    lora = next(one for one in gather(run).candidates if one.name == "lora")
    assert lora.virtual == ()
    assert "nearest.json: not a NearestTokens" in lora.missing[0]


def test_a_task_that_is_tuned_on_and_not_scored_has_its_splits_too(run: RunDir) -> None:
    more = "  - {name: moods, source: chats.csv}\nmixture: {held_out: [summarize], scored: held-out}\n"
    write_recipe(run, RECIPE.replace("candidates:", f"{more}candidates:"))
    rows = list(read_records(run.examples("train"), Example))
    moods = [row.model_copy(update={"id": f"moods/train/{n}", "task": "moods"}) for n, row in enumerate(rows[:20])]
    write_records(run.examples("train"), [*rows[:22], *moods])
    report = gather(run)
    assert [(one.task, one.split, one.examples, one.used) for one in report.splits if one.split != "validation"] == [
        ("summarize", "train", 22, "worked examples"), ("summarize", "test", 40, "scores"),
        ("moods", "train", 20, "tuning, worked examples"), ("moods", "test", 0, "not scored"),
    ]  # fmt: skip
    assert "<td>moods</td><td>tuning, worked examples</td>" in render(report)
