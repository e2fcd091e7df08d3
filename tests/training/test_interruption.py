"""Real signals to real processes: whatever ends a training, the same command brings it to the same end."""

import hashlib
import json
import random
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from killing import DISK, Trainer
from workshop import FULL, LORA, read_log

from tunesmith.records import TrainResult
from tunesmith.rundir import CandidateDir, read_record
from tunesmith.training.batches import epoch_steps

STEP = ["tunesmith.training.loop:optimizer_step"]
VALIDATION = ["tunesmith.training.loop:validation_loss"]
BEST = ["tunesmith.training.loop:save_best"]
SAVED = ["tunesmith.training.loop:save"]
TRIMMED = ["tunesmith.training.loop:trim_log"]
ADAPTER = ["tunesmith.training.tune:write_adapter"]

SETTINGS: dict[str, Any] = {
    "epochs": 2.0, "tokens_per_step": 200, "validations": 3, "checkpoint_minutes": 1e-9, "train_rows": 14,
    "validation_rows": 3,
}  # fmt: skip


def candidate(method: str) -> dict[str, Any]:
    return {"lora": {**LORA, "dropout": 0.3}, "full": FULL, "last-layers": {"method": "last-layers", "layers": 1}}[
        method
    ]


@dataclass(frozen=True)
class Uninterrupted:
    """How a training ends that nothing disturbs, and how long it takes."""

    model: Path
    recipe: dict[str, Any]
    end: dict[str, Any]
    steps: int
    per_epoch: int
    seconds: float


def end_of(where: Path) -> dict[str, Any]:
    """Everything that must not depend on interruptions: all bytes, all numbers, every line but for its time."""
    folder = CandidateDir(where)
    result = read_record(folder.train_result, TrainResult).model_dump(exclude={"seconds", "peak_bytes"})
    log = [point.model_dump(exclude={"seconds"}) for point in read_log(where)]
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.adapter.iterdir()}
    return {"result": result, "log": log, "files": files}


_ends: dict[tuple[str, str], Uninterrupted] = {}


def uninterrupted(trainer: Trainer, model: Path, method: str, folder: Path) -> Uninterrupted:
    key = (model.name, method)
    if key not in _ends:
        recipe = {**SETTINGS, "candidate": candidate(method)}
        trainer.wait()
        start = time.monotonic()
        answer = trainer.tune(model, folder, recipe=recipe)
        assert answer["status"] == 0, answer["said"]
        assert not CandidateDir(folder).checkpoints.exists(), "checkpoints go when the adapter is there"
        seconds = time.monotonic() - start
        points = read_log(folder)
        _ends[key] = Uninterrupted(
            model, recipe, end_of(folder), points[-1].step, next(p.step for p in points if p.epoch == 1.0), seconds
        )
    return _ends[key]


@pytest.fixture
def lora(trainer: Trainer, tiny_causal: Path, tmp_path: Path) -> Uninterrupted:
    return uninterrupted(trainer, tiny_causal, "lora", tmp_path / "uninterrupted")


def finish(trainer: Trainer, wanted: Uninterrupted, where: Path) -> None:
    """Let it run to its end, and compare everything."""
    answer = trainer.tune(wanted.model, where, recipe=wanted.recipe)
    assert answer["status"] == 0, answer["said"]
    assert end_of(where) == wanted.end


def kill(trainer: Trainer, wanted: Uninterrupted, where: Path, **strike: Any) -> None:
    answer = trainer.tune(wanted.model, where, recipe=wanted.recipe, strike=strike)
    assert answer["status"] == -signal.SIGKILL, answer["said"]


def test_the_order_of_examples_is_the_same_in_another_process_with_another_hash_seed(trainer: Trainer) -> None:
    sizes = [7 + 13 * n % 61 for n in range(200)]
    arguments: dict[str, Any] = {"seed": 5, "epoch": 7, "tokens_per_step": 300, "tokens_per_batch": 100}
    answer = trainer.ask(action="order", arguments={"sizes": sizes, **arguments})
    assert answer == {"status": 0, "said": f"{epoch_steps(sizes, **arguments)}\n"}


def test_the_uninterrupted_run_is_worth_comparing_with(lora: Uninterrupted) -> None:
    steps = [point["step"] for point in lora.end["log"] if point["loss"] is not None]
    assert steps == list(range(1, lora.steps + 1))
    assert 8 <= lora.steps <= 20
    assert 3 <= lora.per_epoch <= 10
    assert 0 < lora.end["result"]["best_step"] <= lora.steps
    assert {"adapter_model.safetensors", "adapter_config.json", "tunesmith.json"} <= set(lora.end["files"])


@pytest.mark.parametrize("moment", ["before the first step", "after the first step", "mid-epoch", "epoch boundary"])
def test_a_kill_between_steps(trainer: Trainer, lora: Uninterrupted, tmp_path: Path, moment: str) -> None:
    calls = {"before the first step": 1, "after the first step": 2, "mid-epoch": lora.per_epoch + 3}
    kill(trainer, lora, tmp_path / "killed", at=STEP, call=calls.get(moment, lora.per_epoch + 1))
    finish(trainer, lora, tmp_path / "killed")


@pytest.mark.parametrize(
    ("at", "call", "after"),
    [
        (VALIDATION, 2, False),
        (VALIDATION, 3, True),
        (BEST, 1, True),
        (SAVED, 4, True),
        (ADAPTER, 1, False),
        (ADAPTER, 1, True),
    ],
    ids=["validating", "validated", "best written", "checkpoint written", "before the adapter", "adapter written"],
)
def test_a_kill_around_what_is_written(
    trainer: Trainer, lora: Uninterrupted, tmp_path: Path, at: list[str], call: int, after: bool
) -> None:
    kill(trainer, lora, tmp_path / "killed", at=at, call=call, after=after)
    finish(trainer, lora, tmp_path / "killed")


def test_a_kill_while_it_goes_on_from_a_kill(trainer: Trainer, lora: Uninterrupted, tmp_path: Path) -> None:
    where = tmp_path / "killed"
    kill(trainer, lora, where, at=STEP, call=4, after=True)
    kill(trainer, lora, where, at=TRIMMED, call=1, after=False)
    kill(trainer, lora, where, at=TRIMMED, call=1, after=True)
    kill(trainer, lora, where, at=STEP, call=1, after=True)
    assert [point.step for point in read_log(where) if point.loss is not None] == [1, 2, 3]
    finish(trainer, lora, where)


def test_a_kill_at_every_41st_change_to_the_disk_until_it_is_done(
    trainer: Trainer, lora: Uninterrupted, tmp_path: Path
) -> None:
    where, kills = tmp_path / "killed", 0
    while True:
        strike = {"at": DISK, "call": 41, "after": bool(kills % 2)}
        answer = trainer.tune(lora.model, where, recipe=lora.recipe, strike=strike)
        if answer["status"] == 0:
            break
        assert answer["status"] == -signal.SIGKILL, answer["said"]
        kills += 1
        assert kills < 40, "every process has to come further than the one before"
    assert kills >= 3
    assert end_of(where) == lora.end


def test_kills_at_any_time_from_outside(trainer: Trainer, lora: Uninterrupted, tmp_path: Path) -> None:
    chance = random.Random(4711)
    where, statuses = tmp_path / "killed", []
    for _ in range(8):
        after = chance.uniform(0.3, 1.0) * lora.seconds
        statuses.append(trainer.tune(lora.model, where, recipe=lora.recipe, kill_after=after)["status"])
        if statuses[-1] == 0:
            break
    assert set(statuses) <= {0, -signal.SIGKILL}
    assert statuses[0] == -signal.SIGKILL or len(statuses) == 1
    if 0 not in statuses:
        finish(trainer, lora, where)
    assert end_of(where) == lora.end


@pytest.mark.parametrize(
    ("tiny", "method"), [("causal", "full"), ("seq2seq", "lora"), ("tall", "last-layers")], indirect=["tiny"]
)
def test_other_methods_and_architectures_stand_kills(trainer: Trainer, tiny: Path, tmp_path: Path, method: str) -> None:
    wanted = uninterrupted(trainer, tiny, method, tmp_path / "uninterrupted")
    where = tmp_path / "killed"
    kill(trainer, wanted, where, at=STEP, call=3, after=True)
    kill(trainer, wanted, where, at=VALIDATION, call=1, after=True)
    finish(trainer, wanted, where)


@pytest.mark.parametrize(("tiny", "method"), [("causal", "full"), ("seq2seq", "lora")], indirect=["tiny"])
def test_settings_against_forgetting_stand_kills(trainer: Trainer, tiny: Path, tmp_path: Path, method: str) -> None:
    cures = {"replay": 0.25, "kl": 0.5, "average": "auto"}
    recipe = {**SETTINGS, "candidate": {**candidate(method), "train": cures}}
    whole = tmp_path / "uninterrupted"
    answer = trainer.tune(tiny, whole, recipe=recipe)
    assert answer["status"] == 0, answer["said"]
    end = end_of(whole)
    assert end["result"]["replayed"] == 5
    assert any(point["kl"] for point in end["log"])
    where = tmp_path / "killed"
    for strike in (
        {"at": STEP, "call": 3, "after": True},
        {"at": ["tunesmith.training.loop:held_to_base"], "call": 2, "after": True},
        {"at": ["tunesmith.training.averaging:mix"], "call": 5, "after": True},
        {"at": ADAPTER, "call": 1, "after": True},
    ):
        answer = trainer.tune(tiny, where, recipe=recipe, strike=strike)
        assert answer["status"] == -signal.SIGKILL, answer["said"]
    answer = trainer.tune(tiny, where, recipe=recipe)
    assert answer["status"] == 0, answer["said"]
    assert end_of(where) == end


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_polite_stop_saves_exits_with_75_and_goes_on(
    trainer: Trainer, lora: Uninterrupted, tmp_path: Path, number: int
) -> None:
    where = tmp_path / "stopped"
    strike = {"at": STEP, "call": 3, "number": int(number)}
    answer = trainer.tune(lora.model, where, recipe=lora.recipe | {"checkpoint_minutes": 60.0}, strike=strike)
    assert answer["status"] == 75
    assert answer["said"].endswith(
        "stopping after this step, saving first; once more stops at once\n"
        f"stopped at step 3 of {lora.steps} of tuned; a checkpoint was written. The same command goes on from there.\n"
    )
    assert sorted(path.name for path in CandidateDir(where).checkpoints.iterdir()) == ["best-00000003", "step-00000003"]
    assert [point.step for point in read_log(where)] == [1, 2, 3, 3]
    answer = trainer.tune(lora.model, where, recipe=lora.recipe | {"checkpoint_minutes": 60.0})
    assert answer["status"] == 0, answer["said"]
    assert end_of(where) == lora.end


def test_a_stop_in_the_last_step_is_not_forgotten(trainer: Trainer, lora: Uninterrupted, tmp_path: Path) -> None:
    strike = {"at": STEP, "call": lora.steps, "number": int(signal.SIGTERM)}
    answer = trainer.tune(lora.model, tmp_path / "stopped", recipe=lora.recipe, strike=strike)
    assert answer["status"] == 75
    assert f"stopped at step {lora.steps} of {lora.steps} of tuned" in answer["said"]
    assert not CandidateDir(tmp_path / "stopped").adapter.exists()
    finish(trainer, lora, tmp_path / "stopped")


def test_other_settings_do_not_go_on_from_a_checkpoint(trainer: Trainer, lora: Uninterrupted, tmp_path: Path) -> None:
    where = tmp_path / "killed"
    kill(trainer, lora, where, at=STEP, call=3)
    for change in ({"candidate": {**LORA, "dropout": 0.1}}, {"train_rows": 15}):
        answer = trainer.tune(lora.model, where, recipe=lora.recipe | change)
        assert answer["status"] == 3
        assert (
            "step-00000002: this checkpoint was made with other settings, other rows or another base" in answer["said"]
        )
    finish(trainer, lora, where)


def test_the_log_of_a_killed_run_is_readable_up_to_its_last_line(
    trainer: Trainer, lora: Uninterrupted, tmp_path: Path
) -> None:
    where = tmp_path / "killed"
    kill(trainer, lora, where, at=STEP, call=4)
    lines = CandidateDir(where).train_log.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in lines if "learning_rate" in line] == [1, 2, 3]


@pytest.mark.slow
def test_a_hundred_trainings_are_killed_at_any_moment_and_all_end_alike(
    trainer: Trainer, lora: Uninterrupted, tmp_path: Path
) -> None:
    chance, struck = random.Random(2026), 0
    for number in range(100):
        where = tmp_path / str(number)
        for _ in range(chance.choice([1, 1, 1, 2, 3])):
            after = chance.uniform(0.0, 1.1) * lora.seconds
            answer = trainer.tune(lora.model, where, recipe=lora.recipe, kill_after=after)
            assert answer["status"] in {0, -signal.SIGKILL}, answer["said"]
            struck += answer["status"] != 0
        finish(trainer, lora, where)
        shutil.rmtree(where)
    assert struck >= 50, "or the kills came too late"
