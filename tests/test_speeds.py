"""What is told of speeds: the gate before them, and the page that is written from the results."""

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[1]


@pytest.fixture
def speeds(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import speeds

    return speeds


@pytest.fixture
def equality(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from speed import equality

    return equality


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from speed import rounds

    return rounds


PLAIN = {"losses": [2.0, 1.0], "tokens": 100, "validation": 1.5}


def test_a_program_that_learned_the_same_passes(equality: ModuleType) -> None:
    found = {"losses": [2.001, 1.0], "tokens": 100, "validation": 1.5005}
    gate = equality.training_gate(found, PLAIN, half=False)
    assert gate == {
        "steps compared": 2, "largest difference of a step's loss": 0.0005,
        "difference of the validation loss": 0.000333, "same tokens": True, "passed": True,
    }  # fmt: skip


@pytest.mark.parametrize("change", [{"losses": [2.0, 1.1]}, {"tokens": 99}, {"validation": 1.6}])
def test_one_that_did_not_fails(change: dict[str, Any], equality: ModuleType) -> None:
    assert not equality.training_gate({**PLAIN, **change}, PLAIN, half=True)["passed"]


def test_a_program_whose_time_ran_out_is_compared_as_far_as_it_came(equality: ModuleType) -> None:
    gate = equality.training_gate({"losses": [2.0], "tokens": 50, "validation": 9.0}, PLAIN, half=False)
    assert gate == {"steps compared": 1, "largest difference of a step's loss": 0.0, "passed": True}


def test_answers_are_compared_place_by_place(equality: ModuleType) -> None:
    assert equality.same_answers([[1, 2], [3]], [(1, 2), (3, 4)]) == [1]


class Telling:
    """A model of twelve tokens whose logits are the same after every text."""

    device = "cpu"

    def __init__(self, *likeliest: float) -> None:
        self.logits = torch.tensor([*likeliest, *[0.0] * (12 - len(likeliest))])

    def __call__(self, input_ids: torch.Tensor, use_cache: bool, logits_to_keep: int) -> SimpleNamespace:
        return SimpleNamespace(logits=self.logits.expand(1, min(logits_to_keep, input_ids.shape[1]), -1))


@pytest.mark.parametrize(
    ("exact", "rounded", "one", "other", "tie"),
    [
        ((8, 7.9), (8, 8.1), [0], [1], True),  # rounding moved one logit by 0.2, so 0.1 is within its reach
        ((8, 7.5), (8, 7.7), [0], [1], False),  # and half is not
        ((8, 7.5), (8, 7.7), [5, 0], [5, 1], False),  # after what both begin with
        ((8, 7.9, 7.8), (8, 8.1), [0], [2], True),
        ((8, 7.9, 3), (8, 8.1, 3), [1], [2], False),  # a word that nobody would choose
        ((8, 7.9), (8, 8.1), [0], [], True),  # token 1 ends an answer
        ((8, 7), (8, 7.2), [0], [], False),
        ((8, 7.9995), None, [0], [1], True),  # both computed in float32
        ((8, 7.9), None, [0], [1], False),
    ],
)
def test_rounding_decides_between_words_no_further_apart_than_it_moves_them(
    exact: tuple[float, ...], rounded: tuple[float, ...] | None, one: list[int], other: list[int], tie: bool,
    equality: ModuleType,
) -> None:  # fmt: skip
    coarse = None if rounded is None else Telling(*rounded)
    referee = equality.Referee(Telling(*exact), coarse, [1, 11], equality.reach(20_000))
    assert referee.tied([3, 4], one, other) == referee.tied([3, 4], other, one) == tie


def program(tmp_path: Path, text: str, turns: ModuleType) -> Any:
    """A contender that runs a few lines, which find the file of their order in ``order``."""
    script = tmp_path / "program.py"
    script.write_text(f"import json, sys\norder = json.load(open(sys.argv[1]))\n{text}", encoding="utf-8")
    return turns.Contender("one", str(script), Path(sys.executable), {"word": "hello"})


def test_a_turn_is_a_process_that_gets_an_order_and_writes_what_it_found(tmp_path: Path, turns: ModuleType) -> None:
    text = "json.dump({'seconds': [9, 2], 'wanted': 2, 'said': order['word']}, open(order['out'], 'w'))"
    one, before = program(tmp_path, text, turns), []
    turns.play([one], tmp_path / "turns", rounds=2, between=lambda: before.append(len(one.turns)))
    assert [turn["said"] for turn in one.turns] == ["hello", "hello"]
    assert before == [0, 1]
    assert not one.failed
    assert not one.slow


def test_one_that_failed_or_was_too_slow_or_has_had_its_turns_sits_out(tmp_path: Path, turns: ModuleType) -> None:
    failing = program(tmp_path, "sys.exit('no memory')", turns)
    turns.play([failing], tmp_path / "turns", rounds=3, between=lambda: None)
    assert failing.failed == "no memory"
    assert failing.turns == []
    once = program(tmp_path, "json.dump({'seconds': [9, 2]}, open(order['out'], 'w'))", turns)
    once.most = 1
    turns.play([once], tmp_path / "turns", rounds=3, between=lambda: None)
    assert len(once.turns) == 1
    endless = program(tmp_path, "import time\ntime.sleep(60)", turns)
    endless.patience = 0.5
    turns.play([endless], tmp_path / "turns", rounds=3, between=lambda: None)
    assert endless.failed == "it took longer than 0.5 s"
    slow = program(tmp_path, "json.dump({'seconds': [9, 2], 'wanted': 3}, open(order['out'], 'w'))", turns)
    turns.play([slow], tmp_path / "turns", rounds=3, between=lambda: None)
    assert len(slow.turns) == 1


def test_the_first_steps_of_a_turn_are_not_counted(turns: ModuleType) -> None:
    assert turns.counted({"seconds": [9.0, 2.0, 1.0]}) == [2.0, 1.0]
    assert turns.counted({"seconds": [9.0, 5.0, 3.0, 1.0], "uncounted": 3}) == [1.0]


@pytest.mark.parametrize(
    ("place", "fastest", "name"),
    [
        ("cpu", "bfloat16", "train_speed"),
        ("cpu", "float32", "train_speed_float32"),
        ("cuda", "bfloat16", "train_speed_card"),
    ],
)
def test_a_result_of_each_kind_of_machine_has_a_name_of_its_own(
    place: str, fastest: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import keeping
    import torch

    monkeypatch.setattr(keeping, "compute_device", lambda: torch.device(place))
    monkeypatch.setattr(keeping, "fastest_dtype", lambda: getattr(torch, fastest))
    assert keeping.named("train_speed") == name


@pytest.mark.parametrize(
    ("asked", "there", "found"), [("auto", True, "cuda"), ("", False, "cpu"), ("cpu", True, "cpu")]
)
def test_everybody_computes_where_tunesmith_does(
    asked: str, there: bool, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import torch
    from speed import turn

    monkeypatch.setenv("TUNESMITH_DEVICE", asked)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert turn.device().type == found
    assert set(turn.UNCOUNTED) == {"cpu", "cuda"}


def test_without_a_result_the_page_says_so(speeds: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speeds, "RESULTS", tmp_path)
    told = speeds.part("train_speed", speeds.training, lambda header, rows: "")
    assert told == "Not run yet: `python benchmarks/train_speed.py`."


def cell(**more: Any) -> dict[str, Any]:
    gate = {"steps compared": 3, "largest difference of a step's loss": 1.2e-5, "passed": True}
    return {"equality": gate, "tokens a second": 200.0, "lowest and highest": [190.0, 210.0],
            "share of the ceiling": 0.41, "peak bytes": 2.5e9, **more}  # fmt: skip


def result() -> dict[str, Any]:
    void = {"equality": {"largest difference of a step's loss": 0.5, "passed": False}}
    cells = {"tunesmith": cell(), "fast": cell(), "alike": cell(), "other": void, "broken": {"failed": "no memory"},
             "late": {"failed": "it took longer than 9 s", "at most tokens a second": 41.2}}  # fmt: skip
    task = {
        "model": "a model", "rows": 12, "tokens": 3456, "counted tokens": 456, "cells": cells,
        "matrix products in 1e12 a second": {"float32": 0.1, "bfloat16": 0.02},
        "times faster than": {"fast": 0.5, "alike": 1.03, "other": None, "broken": None},
        "goal, times faster than": {"fast": 3.0, "alike": 1.0, "other": 2.0},
    }  # fmt: skip
    return {
        "data": "chats", "threads": 2, "rounds": 3, "allocator": "malloc", "tasks": {"causal LoRA": task},
        "device": "a machine", "date": "2026-11-25", "versions": {"torch": "2.13.0"},
    }  # fmt: skip


def test_what_nobody_measured_on_a_card_is_told(
    speeds: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speeds, "RESULTS", tmp_path)
    told = speeds.part("train_speed_card", speeds.MAKERS["train_speed_card"], lambda header, rows: "")
    assert told == (
        "Nobody has measured this yet: `python benchmarks/train_speed.py` does it on a machine whose card PyTorch sees."
    )


def test_a_result_of_a_card_is_told_without_goals_and_with_the_steps_that_do_not_count(
    speeds: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {**result(), "rounds": 1, "steps": 13, "uncounted steps": 3, "allocator": "that of PyTorch"}
    found["tasks"]["causal LoRA"] |= {"goal, times faster than": {}, "matrix products in 1e12 a second": {"x": 798.4}}
    monkeypatch.setattr(speeds, "RESULTS", tmp_path)
    (tmp_path / "train_speed_card.json").write_text(json.dumps(found), encoding="utf-8")
    told = speeds.part("train_speed_card", speeds.training, lambda header, rows: "")
    assert "2 threads, one round; the first 3 of 13 steps of a turn are not counted. Allocator" in told
    assert "is 798 TFLOP/s here, in x.\n" in told
    assert "Goals" not in told


def test_losses_ties_and_failures_are_told(speeds: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speeds, "RESULTS", tmp_path)
    (tmp_path / "train_speed.json").write_text(json.dumps(result()), encoding="utf-8")
    told = speeds.part("train_speed", speeds.training, lambda header, rows: "\n".join(map(" | ".join, rows)))
    lines = [line for line in told.splitlines() if " | " in line]
    assert lines == [
        "tunesmith | 200 | 190 to 210 |  | 41% | 2.5 GB | 1.2e-05",
        "fast | 200 | 190 to 210 | 0.5 times as fast: a loss | 41% | 2.5 GB | 1.2e-05",
        "alike | 200 | 190 to 210 | 1.03 times as fast: a tie | 41% | 2.5 GB | 1.2e-05",
        "other | void: it did not learn the same |  |  |  |  | 5.0e-01",
        "broken | failed: no memory |  |  |  |  | ",
        "late | failed: it took longer than 9 s, so at most 41 |  |  |  |  | ",
    ]
    goals = "3 times fast: missed, and out of reach here: at the ceiling it would be 2.4 times; 1 times alike: met; "
    assert f"Goals: {goals}2 times other: nothing to compare with." in told
    assert told.endswith("a machine, 2026-11-25, torch 2.13.0. All of it: "
                         "[train_speed.json](../benchmarks/results/train_speed.json).")  # fmt: skip


def test_the_headline_names_every_peer_that_can_be_compared(speeds: ModuleType) -> None:
    assert speeds.headline(result()) == "causal LoRA: 0.5 times fast, 1.0 times alike"


@pytest.mark.parametrize(("changed", "marked"), [("benchmarks/results/a.json", ""), ("src/a.py", "-dirty")])
def test_a_result_says_whether_files_differ_from_the_commit(
    changed: str, marked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import keeping

    def git(*words: str) -> str:
        named = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        return subprocess.run(["git", *named, *words], cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    for name in ("benchmarks/results/a.json", "src/a.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1", encoding="utf-8")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "all")
    results = tmp_path / "benchmarks" / "results"
    assert keeping.commit(results) == git("describe", "--always").strip()
    (tmp_path / changed).write_text("2", encoding="utf-8")
    assert keeping.commit(results) == git("describe", "--always").strip() + marked


def test_files_that_no_repository_knows_have_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import keeping

    (tmp_path / "results").mkdir()
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert keeping.commit(tmp_path / "results") == "unknown"
