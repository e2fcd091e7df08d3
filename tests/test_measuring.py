"""Robustness and fairness through the whole way, on a tiny model."""

import json
from pathlib import Path

import pytest
from small_run import Command

from tunesmith.data.perturb import KINDS
from tunesmith.metrics.measures import Measures
from tunesmith.records import Perturbed, Prediction, RunRecord
from tunesmith.rundir import RunDir, read_record, read_records

RUN = RunDir(Path("runs/chats"))
BOTH = ("--set", "measures.robustness=true", "--set", "measures.fairness=true")
NAMES = ("zero-shot", "two-shot", "lora", "full")


@pytest.fixture
def measured(finished: Path, tunesmith: Command) -> Path:
    """A finished run that was asked to measure both afterwards."""
    found = tunesmith("run", finished, *BOTH, "--quiet")
    assert found.code == 0, found.err
    return finished


def copies() -> list[Perturbed]:
    return list(read_records(RUN.perturbed, Perturbed))


def answers(name: str, task: str) -> list[Prediction]:
    return list(read_records(RUN.candidate(name).perturbed(task), Prediction))


def test_measures_can_be_asked_for_later_and_only_the_copies_are_answered(measured: Path) -> None:
    asked = [copy.example.id for copy in copies()]
    assert {copy.kind for copy in copies()} >= {"lower-case", "spaces", "typos"}
    for name in NAMES:
        found = [one.example_id for task in ("summarize", "mood") for one in answers(name, task)]
        assert sorted(found) == sorted(asked)
    steps = list(read_record(RUN.record, RunRecord).finished)
    assert steps[-4:] == [f"perturb {name}" for name in NAMES]
    assert len(steps) == 11


def test_every_metric_with_a_value_for_each_example_has_its_worst_case(measured: Path) -> None:
    for name in NAMES:
        found = read_record(RUN.candidate(name).measures("summarize"), Measures)
        assert [(one.family, one.metric) for one in found.worst] == [
            (family, metric) for family in KINDS for metric in ("rouge1", "rouge2")
        ]
        mood = read_record(RUN.candidate(name).measures("mood"), Measures)
        assert [(one.family, one.metric) for one in mood.worst] == [(family, "accuracy") for family in KINDS]
        assert all(one.n == 4 and one.worst <= one.original for one in (*found.worst, *mood.worst))


def test_the_originals_are_those_of_the_score_sheet(measured: Path) -> None:
    report = json.loads(RUN.report_json.read_text(encoding="utf-8"))
    for name, scores in report["tasks"][0]["scores"].items():
        worst = read_record(RUN.candidate(name).measures("summarize"), Measures).worst[0]
        assert worst.original == pytest.approx(scores[0]["value"])


def test_the_same_command_again_answers_nothing_and_fewer_rows_need_no_new_answers(
    measured: Path, tunesmith: Command
) -> None:
    paths = [RUN.perturbed, *(RUN.candidate(name).perturbed("mood") for name in NAMES)]
    before = [path.stat().st_mtime_ns for path in paths]
    assert tunesmith("run", measured, *BOTH).err == ""
    assert tunesmith("run", measured, *BOTH, "--set", "measures.rows=2").err == ""
    assert [path.stat().st_mtime_ns for path in paths] == before
    assert read_record(RUN.candidate("lora").measures("mood"), Measures).worst[0].n == 2


def test_more_rows_keep_the_answers_that_are_there(finished: Path, tunesmith: Command) -> None:
    few = (*BOTH, "--set", "measures.rows=1", "--quiet")
    assert tunesmith("predict", finished, *few).code == 0
    first = answers("lora", "summarize")
    assert tunesmith("predict", finished, *BOTH, "--quiet").code == 0
    more = answers("lora", "summarize")
    assert more[: len(first)] == first
    assert {one.example_id for one in more} == {
        copy.example.id for copy in copies() if copy.example.task == "summarize"
    }


def test_a_report_before_the_copies_are_answered_says_what_to_run(finished: Path, tunesmith: Command) -> None:
    found = tunesmith("report", finished, "--set", "measures.robustness=true")
    assert found.code == 1
    assert found.err.startswith('tunesmith: candidate "zero-shot" has not answered ')
    assert found.err.endswith(" perturbed examples of task summarize yet. Run `tunesmith predict`.\n")


def test_a_run_that_measures_nothing_asks_nothing_again(finished: Path) -> None:
    assert not RUN.perturbed.exists()
    assert not list(RUN.root.rglob("perturbed"))
    found = read_record(RUN.candidate("lora").measures("summarize"), Measures)
    assert found.worst == ()
    assert found.sheet is not None


def test_answers_have_their_cost_by_formula(finished: Path) -> None:
    found = json.loads(RUN.candidate("lora").predict_result.read_text(encoding="utf-8"))
    tokens = found["prompt_tokens"] + found["new_tokens"]
    assert found["answers"] == 8
    assert found["flops"] > 2 * 100_000 * tokens
