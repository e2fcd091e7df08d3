"""Tasks one after the other: R as the run folder and the report hold it, and going on with it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from small_run import Command

from tunesmith import tuning
from tunesmith.forgetting.transfer import average_score, backward_transfer, forward_transfer, sequence_forgetting
from tunesmith.recipe import recipe_from_text
from tunesmith.rundir import RunDir

RUN = Path("runs/chats")
TURN = ("--set", "sequence=[mood, summarize]", "--set", "train.learning_rate=0.01")


def report_of(folder: Path = RUN) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return found


def weights(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*.safetensors"))
        if "adapter" in path.parts
    }


def test_every_candidate_is_tuned_on_each_task_and_asked_about_all(small: Path, tunesmith: Command) -> None:
    ended = tunesmith("run", small, *TURN, "--json")
    assert ended.code == 0
    report = json.loads(ended.out)
    assert [one["candidate"] for one in report["in_turn"]] == ["lora", "full"]
    for turn in report["in_turn"]:
        name = turn["candidate"]
        assert turn["tasks"] == ["mood", "summarize"]
        values = [[score["value"] for score in row] for row in turn["rows"]]
        assert [[score["metric"] for score in row] for row in turn["rows"]] == [["accuracy", "rouge1"]] * 3
        base, after, last = values

        def scored(candidate: str, task: int) -> float:
            return float(report["tasks"][task]["scores"][candidate][0]["value"])

        assert base == [scored("zero-shot", 1), scored("zero-shot", 0)]
        assert last == [scored(name, 1), scored(name, 0)]
        assert turn["average"] == average_score([after, last])
        assert turn["backward"] == backward_transfer([after, last])
        assert turn["forward"] == forward_transfer([after, last], base)
        assert turn["forgetting"] == sequence_forgetting([after, last])
        where = RunDir(RUN).candidate(name)
        stage = where.stage(1, "mood")
        for folder in (stage, where):
            for task in ("mood", "summarize"):
                assert len(folder.predictions(task).read_text(encoding="utf-8").splitlines()) == 4
        assert not stage.learned.exists(), "the next task has it"
        steps = [json.loads(folder.train_result.read_text(encoding="utf-8"))["steps"] for folder in (stage, where)]
        (train,) = [one["train"] for one in report["candidates"] if one["name"] == name]
        assert train["steps"] == sum(steps)
        (predict,) = [one["predict"] for one in report["candidates"] if one["name"] == name]
        assert predict["answers"] == 2 * 8
    page = (RUN / "report.html").read_text(encoding="utf-8")
    assert '<section id="in-turn"' in page
    assert "backward transfer" in page

    before = {path: path.stat().st_mtime_ns for path in RUN.rglob("*.safetensors")}
    again = tunesmith("run", small, *TURN)
    assert again.code == 0
    assert {path: path.stat().st_mtime_ns for path in RUN.rglob("*.safetensors")} == before, "nothing is done again"
    assert "lora, tuned on mood, then summarize: mean after all tasks" in again.out


def test_the_second_task_goes_on_from_the_first(small: Path, tunesmith: Command) -> None:
    assert tunesmith("train", small, *TURN).code == 0
    alone = ("--set", "tasks.1.source=chats.csv", "--set", "train.learning_rate=0.01")
    assert tunesmith("train", small, *alone, "--out", "runs/together").code == 0
    for name in ("lora", "full"):
        found, stage = (weights(RUN / "candidates" / name / part) for part in ("adapter", "sequence/1-mood/adapter"))
        assert found != stage
        assert found != weights(Path("runs/together/candidates") / name / "adapter")


def test_a_run_that_was_stopped_between_two_tasks_ends_like_one_that_was_not(
    small: Path, tunesmith: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tuning, "_answer_stage", stopped)
        assert tunesmith("run", small, *TURN).code == 130
    stage = RunDir(RUN).candidate("lora").stage(1, "mood")
    trained = stage.train_result.stat().st_mtime_ns
    assert stage.learned.is_dir()
    assert tunesmith("report", small, *TURN).out.endswith("full, tuned on mood, then summarize: not finished\n")
    assert [len(turn["rows"]) for turn in report_of()["in_turn"]] == [1, 1], "the base is answered, nothing else yet"
    assert tunesmith("run", small, *TURN).code == 0
    assert stage.train_result.stat().st_mtime_ns == trained
    assert tunesmith("run", small, *TURN, "--out", "runs/whole").code == 0
    assert weights(RUN) == weights(Path("runs/whole"))
    assert report_of()["in_turn"] == report_of(Path("runs/whole"))["in_turn"]


def test_a_sequence_that_is_not_finished_shows_the_rows_that_there_are(small: Path, tunesmith: Command) -> None:
    assert tunesmith("run", small, *TURN).code == 0
    where = RunDir(RUN).candidate("lora")
    shutil.rmtree(where.stage(1, "mood").root / "scores")
    shutil.rmtree(where.root / "scores")
    from tunesmith.reporting.report import write_report

    lora, full = write_report(RunDir(RUN)).in_turn
    assert (len(lora.rows), lora.backward) == (1, None)
    assert len(full.rows) == 3
    assert "Not finished" in (RUN / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("sequence", "problem"),
    [
        ("[mood]", "--set: sequence: one task is no sequence. Name at least two, or delete it."),
        ("[mood, mood]", "--set: sequence: mood stands there more than once. Name each task once."),
        (
            "[mood, sumarize]",
            '--set: sequence: there is no task "sumarize". Did you mean "summarize"? There are summarize, mood.',
        ),
    ],
)
def test_what_is_no_sequence_is_refused(small: Path, tunesmith: Command, sequence: str, problem: str) -> None:
    ended = tunesmith("check", small, "--set", f"sequence={sequence}")
    assert (ended.code, ended.err) == (3, f"tunesmith: {problem}\n")


def test_a_task_without_a_metric_that_counts_to_100_is_refused(small: Path, tunesmith: Command) -> None:
    ended = tunesmith("check", small, *TURN, "--set", "tasks.0.metrics=[length-ratio]")
    assert ended.code == 4
    assert ended.err.splitlines()[-1] == (
        "tunesmith: --set: tasks.0.metrics: sequence compares tasks by points of 100 or %, and none of length-ratio is "
        "one. Add rouge1 or accuracy."
    )


def test_a_method_that_chooses_weights_by_examples_is_refused(small: Path, tunesmith: Command) -> None:
    ended = tunesmith("run", small, *TURN, "--set", "candidates.lora={method: sparse}")
    assert ended.code == 3
    assert "candidates.lora: sequence: sparse chooses its weights by the examples of a task" in ended.err


def test_an_empty_sequence_is_all_tasks_together() -> None:
    assert recipe_from_text("name: a\ntasks: [{source: a.csv}]\n").sequence == ()
