import io
from typing import Any

import pytest
from rich.console import Console

from tunesmith.bench_records import BenchDelta, BenchResult, BenchRun, BenchScore, BenchTask, LeftOut
from tunesmith.reporting.benched import bench_view, print_bench
from tunesmith.reporting.gather import gather
from tunesmith.reporting.html import render
from tunesmith.rundir import RunDir, write_record, write_text


def score(task: str, value: float, stderr: float | None, n: int, **more: Any) -> BenchScore:
    return BenchScore(
        task=task, metric=more.pop("metric", "acc"), filter="none", value=value, stderr=stderr, n=n,
        higher_is_better=True, **more,
    )  # fmt: skip


def task(name: str, n: int, **more: Any) -> BenchTask:
    return BenchTask(
        task=name, harness=name.rpartition("/")[2], version="2.0", split="validation", source="local", files={},
        shots=0, items=tuple(range(n)), of=100, **more,
    )  # fmt: skip


def delta(task: str, difference: float, stderr: float | None, n: int, *, flips: tuple[int, int] | None) -> BenchDelta:
    better, worse = flips or (None, None)
    return BenchDelta(
        candidate="lora", task=task, metric="acc", filter="none", difference=difference, stderr=stderr, n=n,
        better=better, worse=worse,
    )  # fmt: skip


@pytest.fixture
def result() -> BenchResult:
    base = (score("superglue", 0.5, 0.05, 4), score("superglue/boolq", 0.5, 0.07, 2, values=(1.0, 0.0)),
            score("superglue/cb", 0.5, None, 2, values=(0.0, 1.0)))  # fmt: skip
    tuned = (score("superglue", 0.25, 0.05, 4), score("superglue/boolq", 0.0, 0.07, 2, values=(0.0, 0.0)),
             score("superglue/cb", 0.5, None, 2, values=(0.0, 1.0)))  # fmt: skip
    return BenchResult(
        schema=1, suite="superglue", model="HuggingFaceTB/SmolLM2-135M-Instruct", chat_template=False, shots=None,
        limit=2, seed=7, fewshot_seed=1234, precision="float32", versions={"lm_eval": "0.4.13"}, device="a processor",
        started="2026-11-25T12:00:00+00:00",
        tasks=(task("superglue/boolq", 2), task("superglue/cb", 2, notes=("odd",))),
        left_out=(LeftOut(task="superglue/record", why="there is no superglue/ReCoRD/val.jsonl in data"),),
        runs=(
            BenchRun(candidate="base", method="none", seconds=1.0, scores=base),
            BenchRun(candidate="lora", method="lora", seconds=1.0, scores=tuned),
        ),
        deltas=(
            delta("superglue", -0.25, 0.1, 4, flips=(0, 1)),
            delta("superglue/boolq", -0.5, 0.3, 2, flips=(0, 1)),
            delta("superglue/cb", 0.0, None, 2, flips=None),
        ),
    )  # fmt: skip


def test_a_change_is_in_points_with_its_own_error(result: BenchResult) -> None:
    view = bench_view(result)
    (whole,) = view.whole
    assert (whole.task, whole.metric, whole.n, whole.base) == ("superglue", "acc", 4, "50.0 ± 5.0")
    assert whole.cells[0] is not None
    assert whole.cells[0].value == "25.0 ± 5.0"
    assert whole.cells[0].change == "−25.0 ± 10.0"  # noqa: RUF001
    assert whole.cells[0].flips == "0 won, 1 lost"
    assert whole.cells[0].sure
    first, second = view.tasks
    assert first.cells[0] is not None
    assert not first.cells[0].sure
    assert second.cells[0] is not None
    assert (second.base, second.cells[0].change, second.cells[0].flips) == ("50.0", "0.0", "–")  # noqa: RUF001


UNANIMOUS = {
    "no item changed": ((0, 0), 50, 0.0, "0.0 (−7.1 to 7.1)", False),  # noqa: RUF001
    "five won": ((5, 0), 5, 1.0, "+100.0 (−4.4 to 100.0)", False),  # noqa: RUF001
    "six won": ((6, 0), 6, 1.0, "+100.0 (8.1 to 100.0)", True),
    "six lost": ((0, 6), 6, -1.0, "−100.0 (−100.0 to −8.1)", True),  # noqa: RUF001
    "all a little better": ((6, 0), 6, 0.5, "+50.0", False),
    "no single items": (None, 6, 0.0, "0.0", False),
}


@pytest.mark.parametrize("case", UNANIMOUS.values(), ids=UNANIMOUS.keys())
def test_where_all_items_changed_alike_the_interval_is_exact(
    result: BenchResult, case: tuple[tuple[int, int] | None, int, float, str, bool]
) -> None:
    flips, n, difference, change, sure = case
    changed = delta("superglue/boolq", difference, 0.0, n, flips=flips)
    cell = bench_view(result.model_copy(update={"deltas": (changed,)})).tasks[0].cells[0]
    assert cell is not None
    assert (cell.change, cell.sure) == (change, sure)


def test_a_whole_suite_without_a_change_has_an_interval_where_its_tasks_have_as_many_items(result: BenchResult) -> None:
    same = result.model_copy(update={"deltas": (delta("superglue", 0.0, 0.0, 4, flips=(0, 0)),)})
    cell = bench_view(same).whole[0].cells[0]
    assert cell is not None
    assert cell.change == "0.0 (−60.2 to 60.2)"  # noqa: RUF001
    uneven = same.model_copy(update={"tasks": (same.tasks[0], task("superglue/cb", 3))})
    cell = bench_view(uneven).whole[0].cells[0]
    assert cell is not None
    assert (cell.change, cell.sure) == ("0.0", False)


def test_how_the_suite_was_asked_stands_with_it(result: BenchResult) -> None:
    assert bench_view(result).facts == (
        "HuggingFaceTB/SmolLM2-135M-Instruct; 2 tasks, 4 items, drawn by seed 7, from local files; 0 shots; no chat "
        "template; lm-evaluation-harness 0.4.13"
    )
    assert bench_view(result).notes == (
        "superglue/record is left out: there is no superglue/ReCoRD/val.jsonl in data", "superglue/cb: odd"
    )  # fmt: skip


def test_the_base_alone_has_no_changes(result: BenchResult) -> None:
    view = bench_view(result.model_copy(update={"runs": result.runs[:1], "deltas": ()}))
    assert view.tuned == ()
    assert {row.cells for row in (*view.whole, *view.tasks)} == {()}


def test_the_terminal_has_one_line_for_each_score(result: BenchResult) -> None:
    text = io.StringIO()
    print_bench([result], Console(file=text, width=200))
    lines = text.getvalue().splitlines()
    assert lines[3].split()[:5] == ["task", "metric", "items", "base", "lora"]
    assert [line.split()[0] for line in lines[4:7]] == ["superglue", "superglue/boolq", "superglue/cb"]
    assert "−25.0 ± 10.0" in lines[4]  # noqa: RUF001
    assert lines[-2].startswith("in points of 100; ± one standard error")


def test_the_report_has_what_the_suites_found_without_single_items(run: RunDir, result: BenchResult) -> None:
    write_record(run.bench("superglue"), result)
    report = gather(run)
    assert [found.suite for found in report.benchmarks] == ["superglue"]
    assert {one.values for done in report.benchmarks[0].runs for one in done.scores} == {()}
    page = render(report)
    assert 'href="#benchmarks"' in page
    assert "<strong>−25.0 ± 10.0</strong>" in page  # noqa: RUF001
    assert "superglue/ReCoRD/val.jsonl" in page


def test_a_report_without_suites_has_no_such_part(run: RunDir) -> None:
    assert "benchmarks-title" not in render(gather(run))


def test_a_file_that_cannot_be_read_is_named_in_the_report(run: RunDir) -> None:
    write_text(run.bench("mmlu"), "{}")
    report = gather(run)
    assert report.benchmarks == ()
    assert any(str(run.bench("mmlu")) in note for note in report.notes)
