from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from tunesmith.plan_records import CandidatePlan, Fit, Plan, StagePlan
from tunesmith.reporting.gather import gather
from tunesmith.reporting.html import render
from tunesmith.reporting.planned import outlook, plan_rows, print_plan
from tunesmith.rundir import RunDir, write_record

PARTS = {"program": 300_000_000, "weights": 500_000_000, "activations": 900_000_000}


def stage(seconds: float, **changes: Any) -> StagePlan:
    given = {
        "seconds": seconds,
        "parts": PARTS,
        "peak": sum(PARTS.values()),
        "moment": "the largest batch",
        "steps": 480,
    }
    return StagePlan.model_validate({**given, **changes})


def candidate(name: str, **changes: Any) -> CandidatePlan:
    given = {
        "name": name, "method": "lora", "total": 134_515_008, "trainable": 4_884_480, "train": stage(400.0),
        "validating": 20.0, "answer": stage(30.0, parts={"program": 300_000_000, "cache": 1_000_000}, peak=301_000_000),
        "disk": 19_500_000, "working_disk": 250_000_000,
    }  # fmt: skip
    return CandidatePlan.model_validate({**given, **changes})


BASE = candidate("zero-shot", method="none", trainable=0, train=None, validating=0.0, disk=0, working_disk=0)


def plan(*candidates: CandidatePlan, **changes: Any) -> Plan:
    given = {"free": 2_000_000_000, "program": 300_000_000, "calibrated": "2026-11-25T10:00:00Z"}
    return Plan.model_validate({**given, "candidates": candidates, **changes})


def printed(given: Plan) -> list[str]:
    out = StringIO()
    print_plan(given, Console(file=out, width=1000, color_system=None))
    return out.getvalue().splitlines()


def test_the_line_before_a_run_adds_time_and_takes_the_highest_memory() -> None:
    found = outlook(plan(BASE, candidate("lora")))
    assert found == "plan: about 8 min 00 s and at most 1.7 GB of memory; `tunesmith plan` says more"


def test_each_candidate_has_a_line_and_its_memory_by_part() -> None:
    lines = printed(plan(BASE, candidate("lora")))
    assert lines[2].split("  ")[0] == "lora"
    for cost in ("4.88 M (3.6 %)", "6 min 40 s, 480 steps", "20 s", "30 s", "1.7 GB", "301 MB", "250 MB meanwhile"):
        assert cost in lines[2]
    header = next(line for line in lines if line.startswith("memory by part"))
    assert header.split()[3:] == ["program", "cache", "weights", "activations", "peak", "at"]
    assert [line.split("  ")[0] for line in lines[5:8]] == ["zero-shot answering", "lora training", "lora answering"]
    assert "All together 8 min 00 s; 2 GB are free beside the program. Measured on this machine on 2026-11-25." in lines


def test_what_does_not_fit_is_said_with_what_would() -> None:
    advice = "It fits with candidates.full.train.tokens_per_batch=256, which changes the speed alone."
    given = plan(BASE, candidate("full", advice=advice), free=500_000)
    lines = printed(given)
    assert f"full does not fit: training needs 1.4 GB. {advice}" in lines
    assert (
        "full does not fit: answering needs 1 MB. Lower generate.tokens_per_batch, or take a smaller model."
    ) in lines


def test_the_table_of_what_fits_marks_what_does_not() -> None:
    fits = [
        Fit(method="full", length=length, examples=count, peak=count * length * 1_000_000, fits=count * length < 600)
        for length in (256, 512)
        for count in (1, 2)
    ]
    lines = printed(plan(BASE, fits=tuple(fits), notes=("qlora is not in the table: no bitsandbytes.",)))
    assert lines[-4:] == [
        "method  tokens  1 at once  2 at once",
        "full       256    256 MB     512 MB",
        "full       512    512 MB    1.02 GB!",
        "qlora is not in the table: no bitsandbytes.",
    ]


@pytest.fixture
def planned_run(run: RunDir) -> RunDir:
    write_record(run.plan, plan(BASE, candidate("lora"), candidate("full", method="full")))
    return run


def test_a_plan_stands_beside_what_was_measured(planned_run: RunDir) -> None:
    report = gather(planned_run)
    rows = {(row.candidate, row.stage): row for row in plan_rows(report)}
    assert set(rows) == {
        (name, what) for name in ("lora", "full") for what in ("training", "answering")
    } | {("zero-shot", "answering")}  # fmt: skip
    assert rows["lora", "training"].seconds == (400.0, 412.0)
    assert rows["lora", "training"].peak == (1_700_000_000, 1_900_000_000)
    page = render(report)
    assert page.count("<h3>Plan and reality</h3>") == 1
    assert '<td class="number">6 min 40 s</td><td class="number">6 min 52 s</td><td class="number">1.03</td>' in page
    assert '<td class="number">1.7 GB</td><td class="number">1.9 GB</td><td class="number">1.12</td>' in page


def test_a_run_without_a_plan_has_a_report(run: RunDir) -> None:
    report = gather(run)
    assert plan_rows(report) == ()
    assert "Plan and reality" not in render(report)


def test_a_damaged_plan_is_named_and_the_rest_is_reported(planned_run: RunDir) -> None:
    planned_run.plan.write_text('{"free": 1', encoding="utf-8")
    report = gather(planned_run)
    assert [note for note in report.notes if note.startswith(f"{planned_run.plan}: not a Plan as this version")]
    assert plan_rows(report) == ()
