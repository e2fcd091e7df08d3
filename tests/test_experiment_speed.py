"""The benchmark of a whole experiment: what it counts, and what its page says."""

import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
TALKS = "import time; print('zero-shot answers: 1', flush=True); time.sleep(2); print('training lora: 2')"


@pytest.fixture
def experiment(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import experiment_speed

    return experiment_speed


def test_what_a_program_was_stopped_for_does_not_count(experiment: ModuleType) -> None:
    began = time.monotonic()
    program = experiment.Program([sys.executable, "-c", TALKS], {})
    try:
        while not program.lines:
            program.turn(0.1)
        assert not program.ended
        counted = program.seconds
        time.sleep(1.5)
        assert program.seconds == counted
        program.turn(60)
    finally:
        program.end()
    assert program.ended
    assert program.seconds < time.monotonic() - began - 1.4
    assert [line for _, line in program.lines] == ["zero-shot answers: 1\n", "training lora: 2\n"]
    parts = program.parts()
    assert list(parts) == ["zero-shot answers", "training lora", "the rest"]
    assert sum(parts.values()) == pytest.approx(program.seconds, abs=0.2)


def test_a_program_that_fails_ends_the_benchmark_with_what_it_said(experiment: ModuleType) -> None:
    program = experiment.Program([sys.executable, "-c", "raise SystemExit('no such model')"], {})
    with pytest.raises(SystemExit, match="no such model"):
        program.turn(60)
    program.end()


def test_the_page_tells_both_and_whether_the_goal_was_met(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import speeds

    def ran(seconds: float, parts: dict[str, float], loss: float) -> dict[str, object]:
        score = {"value": 38.04, "low": 36.0, "high": 40.0}
        return {"seconds": seconds, "in parts": parts, "candidates": {
            "zero-shot": {"rouge1": score}, "lora": {"rouge1": score, "steps": 7, "validation_loss": loss},
        }}  # fmt: skip

    result = {
        "goal": 3.0, "rows": 600, "answers": 500, "commit before": "abc", "times faster": 2.96,
        "now": ran(1000.0, {"plan: calibrated": 40.0, "training lora": 960.0}, 1.4321),
        "before": ran(2960.0, {"training lora": 2960.0}, 1.4389),
    }  # fmt: skip
    told = speeds.experiment(result, lambda header, rows: "\n".join(map(" | ".join, rows)))
    assert "1,000 s from the command to the report; commit abc took 2,960 s, 2.96 times as long. " in told
    assert "Goal: 3 times: missed." in told
    assert told.splitlines()[2:] == [
        "plan: calibrated | 40 s | none",
        "training lora | 960 s | 2,960 s",
        "",
        "zero-shot | rouge1 38.0 (36.0 to 40.0) | rouge1 38.0 (36.0 to 40.0)",
        "lora | rouge1 38.0 (36.0 to 40.0), validation loss 1.432 | rouge1 38.0 (36.0 to 40.0), validation loss 1.439",
    ]
