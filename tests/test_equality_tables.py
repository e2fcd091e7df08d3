"""What benchmarks/harness.py compares, and what the page says of it."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from pages import ROOT

from tunesmith.bench_records import BenchResult, BenchRun, BenchScore, BenchTask

MADE: dict[str, Any] = {"harness": "x", "items": (3, 7), "of": 9, "shots": 0}


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("docs", "benchmarks"):
        monkeypatch.syspath_prepend(str(ROOT / folder))


def result() -> BenchResult:
    return BenchResult.model_construct(
        suite="s",
        limit=2,
        tasks=(BenchTask.model_construct(task="s/a", **MADE), BenchTask.model_construct(task="s/b", **MADE)),
        runs=(
            BenchRun.model_construct(
                candidate="base",
                scores=(
                    BenchScore.model_construct(task="s/a", metric="acc", filter="none", value=0.5, values=(1.0, 0.0)),
                    BenchScore.model_construct(
                        task="s/a", metric="f1", filter="none", value=0.5, values=((1, 0), (1, 1))
                    ),
                    BenchScore.model_construct(task="s/b", metric="acc", filter="none", value=1.0, values=(1.0, 1.0)),
                    BenchScore.model_construct(task="s", metric="acc", filter="none", value=0.75, values=()),
                ),
            ),
        ),
    )


def directly(task: str, folder: Path, samples: list[dict[str, Any]], **results: float) -> None:
    import harness

    path = harness.file_of(task, folder)
    path.parent.mkdir(exist_ok=True)
    kept = [{"filter": "none", "said": None, **sample} for sample in samples]
    items = MADE["items"][: len(samples)]
    path.write_text(
        json.dumps({"items": items, "results": {f"{n},none": v for n, v in results.items()}, "samples": kept})
    )


def test_values_are_compared_item_by_item_and_scores_where_all_items_are_there(tmp_path: Path) -> None:
    import equality
    import harness

    both = [{"acc": 1.0, "f1": (1, 0), "said": ["Q", "yes"]}, {"acc": 1.0, "f1": (1, 1), "said": ["R", "no"]}]
    directly("s/a", tmp_path, both, acc=1.0, f1=0.5)
    directly("s/b", tmp_path, [{"acc": 1.0}], acc=1.0)
    found = harness.compared(result(), {"Q": "yes", "R": "yes"}, tmp_path)
    assert found == {
        "limit": 2, "tasks": 2, "of tasks": 2, "items": 3, "of items": 4, "values": 5, "equal values": 4, "texts": 2,
        "equal texts": 1, "scores": 2, "equal scores": 1, "other": ["s/a 7 acc"],
    }  # fmt: skip
    assert equality.parts(found) == ("2 of 2", "3 of 4", "4 of 5", "1 of 2", "1 of 2")


def test_a_task_that_the_harness_was_not_asked_is_not_counted(tmp_path: Path) -> None:
    import equality
    import harness

    directly("s/b", tmp_path, [{"acc": 1.0}, {"acc": 1.0}], acc=1.0)
    found = harness.compared(result(), {}, tmp_path)
    assert (found["tasks"], found["items"], found["equal values"], found["scores"]) == (1, 2, 2, 1)
    assert equality.parts(found)[3] == "", "choices were ranked, and nothing written"
    assert equality.in_a_line({"suites": {"s": found}}) == "s: 2 of 2 values equal"


def test_without_data_it_says_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import harness

    monkeypatch.setattr(sys, "argv", ["harness.py"])
    harness.main()
    assert capsys.readouterr().out.startswith("harness: skipped, it needs --data FOLDER")
