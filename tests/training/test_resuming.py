"""A training that is cut and goes on, again and again, inside this process; tests with real kills are elsewhere."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from workshop import FULL, LORA, ingredients, make_job, read_log, recipe

from tunesmith.errors import Interrupted, RecipeError, UserError
from tunesmith.records import TrainPoint
from tunesmith.training import loop, resuming
from tunesmith.training.computing import attention
from tunesmith.training.job import Job, Progress, trainable
from tunesmith.training.loop import train
from tunesmith.training.optimizer import make_optimizer
from tunesmith.training.resuming import resume, save, trim_log
from tunesmith.training.tune import Ingredients

DROPOUT: dict[str, Any] = {**LORA, "dropout": 0.3}
SPARSE: dict[str, Any] = {"method": "sparse", "share": 0.01, "examples": 4}


def digest(job: Job) -> str:
    found = hashlib.sha256()
    for name, weight in sorted(trainable(job.model).items()):
        found.update(name.encode() + weight.detach().numpy().tobytes())
    return found.hexdigest()


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Ask every training that begins from now on to stop after so many steps of its own."""

    @contextmanager
    def requests() -> Iterator[Callable[[], bool]]:
        left = iter(range(steps - 1, -1, -1))
        yield lambda: next(left) == 0

    monkeypatch.setattr(loop, "stop_requests", requests)


def train_in_pieces(
    given: Ingredients, where: Path, monkeypatch: pytest.MonkeyPatch, steps: int = 1
) -> tuple[Job, Progress, int]:
    """Train with a new model and optimizer after every so many steps; return also how often it was cut."""
    stop_after(monkeypatch, steps)
    cuts = 0
    while True:
        job, _ = make_job(given, where)
        try:
            progress = train(job)
        except Interrupted:
            cuts += 1
            torch.manual_seed(cuts)  # what another process would find
            continue
        return job, progress, cuts


def timeless(log: list[TrainPoint]) -> list[TrainPoint]:
    return [point.model_copy(update={"seconds": 0.0}) for point in log]


@pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU")  # bitsandbytes pages nothing there
@pytest.mark.parametrize(
    ("method", "optimizer"),
    [(DROPOUT, "adamw"), (FULL, "adamw"), (SPARSE, "adamw"), (FULL, "adamw-8bit"), (FULL, "paged-adamw-8bit")],
    ids=["lora", "full", "sparse", "full in 8 bits", "full in pages"],
)
def test_a_training_cut_after_every_step_ends_as_if_it_had_not_been(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: dict[str, Any], optimizer: str
) -> None:
    how = recipe(method, epochs=2.0, tokens_per_step=150, validations=3, optimizer=optimizer)
    given = ingredients(how, tiny, train=8, validation=2)
    whole, _ = make_job(given, tmp_path / "whole")
    progress = train(whole)
    job, found, cuts = train_in_pieces(given, tmp_path / "pieces", monkeypatch)
    assert cuts == progress.step >= 5, "the last cut is after the last step"
    assert digest(job) == digest(whole)
    assert timeless(read_log(tmp_path / "pieces")) == timeless(read_log(tmp_path / "whole"))
    assert (found.best, found.best_step, found.losses) == (progress.best, progress.best_step, progress.losses)
    assert (found.tokens, found.target_tokens, found.epoch) == (progress.tokens, progress.target_tokens, 2.0)


@pytest.mark.parametrize("steps", [2, 3])
def test_the_best_weights_live_through_cuts_that_come_after_them(
    tiny_causal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    prescribed = {2: 3.0, 4: 1.0, 6: 2.0, 8: 2.5, 10: 4.0, 12: 0.5}
    steps_seen: list[int] = []

    def losses(patience: int | None) -> Ingredients:
        given = recipe(DROPOUT, max_steps=12, epochs=9.0, validations=6, patience=patience)
        return ingredients(given, tiny_causal, validation=2)

    real = loop.validate_and_keep

    def spied(job: Job, progress: Progress, out: Any) -> None:
        steps_seen.append(progress.step)
        real(job, progress, out)

    monkeypatch.setattr(loop, "validation_loss", lambda job: prescribed[steps_seen[-1]])
    monkeypatch.setattr(loop, "validate_and_keep", spied)
    whole, _ = make_job(losses(patience=3), tmp_path / "whole")
    assert train(whole).best_step == 4
    job, progress, cuts = train_in_pieces(losses(patience=3), tmp_path / "pieces", monkeypatch, steps)
    assert (progress.best_step, progress.step, progress.stopped) == (4, 10, "early")
    assert cuts > 2
    assert digest(job) == digest(whole)


def test_the_time_of_all_parts_is_added_up(tiny_causal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ingredients(recipe(LORA, max_steps=6), tiny_causal)
    clock = iter(range(10**6))
    monkeypatch.setattr(loop.time, "monotonic", lambda: next(clock))
    _, progress, cuts = train_in_pieces(given, tmp_path, monkeypatch, steps=2)
    assert cuts == 3
    seconds = [point.seconds for point in read_log(tmp_path)]
    assert seconds == sorted(set(seconds))
    assert seconds[-1] == round(progress.seconds, 3)
    steps = [after - before for before, after in zip([0.0, *seconds], seconds, strict=False)]
    assert max(steps) <= 2 * min(steps), "a cut neither loses nor adds time"


def test_the_log_is_on_the_disk_before_a_checkpoint_is_written(
    tiny_causal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, write = os.fsync, resuming.write_checkpoint

    def flushed(handle: int) -> None:
        done.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        fsync(handle)

    def written(folder: Path, name: str, *rest: Any) -> Path:
        done.append(f"{name} with {len(read_log(tmp_path))} lines")
        return write(folder, name, *rest)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(resuming, "write_checkpoint", written)
    stop_after(monkeypatch, 2)
    job, _ = make_job(ingredients(recipe(LORA), tiny_causal), tmp_path)
    with pytest.raises(Interrupted):
        train(job)
    assert done[:2] == ["train.jsonl", "step-00000002 with 2 lines"]


def test_a_stop_says_where_and_leaves_a_checkpoint(
    tiny_causal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(monkeypatch, 3)
    job, _ = make_job(ingredients(recipe(LORA, max_steps=5), tiny_causal), tmp_path)
    with pytest.raises(Interrupted) as caught:
        train(job)
    assert str(caught.value) == (
        "stopped at step 3 of 5 of tuned; a checkpoint was written. The same command goes on from there."
    )
    assert [path.name for path in job.checkpoints.iterdir()] == ["step-00000003"]


def test_the_optimizer_and_the_random_state_come_back_by_name(tiny: Path, tmp_path: Path) -> None:
    given = ingredients(recipe(FULL, max_steps=2), tiny)
    job, _ = make_job(given, tmp_path)
    optimizer = make_optimizer(job.model, job.settings)
    batch = loop.plan_steps(job)[0][1]
    progress = Progress()
    with attention(job):
        loop.optimizer_step(job, batch, optimizer, 0.01, progress)
    save(job, optimizer, progress)
    drawn = torch.rand(5)
    other, _ = make_job(given, tmp_path)
    fresh = make_optimizer(other.model, other.settings)
    resume(other, fresh)
    assert torch.equal(torch.rand(5), drawn)
    assert digest(other) == digest(job)
    before, after = optimizer.state_dict(), fresh.state_dict()
    assert before["state"].keys() == after["state"].keys()
    for number, values in before["state"].items():
        assert values.keys() == after["state"][number].keys() == {"step", "exp_avg", "exp_avg_sq"}
        assert all(torch.equal(value, after["state"][number][key]) for key, value in values.items())
    if job.kind == "causal":
        assert job.model.lm_head.weight is job.model.model.embed_tokens.weight
        names = [name.split("/", 1)[1] for name in resuming.newest(job.checkpoints).tensors["optimizer"]]
        assert names.count("model.embed_tokens.weight") == 3
        assert "lm_head.weight" not in names


def test_a_checkpoint_of_another_training_is_refused(
    tiny_causal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dataclasses

    given = ingredients(recipe(LORA, max_steps=5), tiny_causal)
    stop_after(monkeypatch, 2)
    job, _ = make_job(given, tmp_path)
    with pytest.raises(Interrupted):
        train(job)
    other = dataclasses.replace(make_job(given, tmp_path)[0], identity="another")
    with pytest.raises(RecipeError) as caught:
        train(other)
    assert str(caught.value) == (
        f"{tmp_path}/checkpoints/step-00000002: this checkpoint was made with other settings, other rows or another "
        f"base model. Undo the change, or delete {tmp_path}/checkpoints to start afresh."
    )


@pytest.fixture
def cut_after_the_best(tiny_causal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Ingredients, Path]:
    """A training of eight steps that was cut at steps 3 and 5, with the best weights of steps 2 and 4."""
    given = ingredients(recipe(DROPOUT, max_steps=8, epochs=9.0, validations=4), tiny_causal, validation=3)
    for steps in (3, 2):
        stop_after(monkeypatch, steps)
        with pytest.raises(Interrupted):
            train(make_job(given, tmp_path / "cut")[0])
    folder = tmp_path / "cut" / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == [
        "best-00000002", "best-00000004", "step-00000003", "step-00000005"
    ]  # fmt: skip
    monkeypatch.undo()
    return given, tmp_path / "cut"


def harm(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damaged",
    [
        ["step-00000005/optimizer.safetensors"],
        ["best-00000004/weights.safetensors"],
        ["best-00000004/state.json", "step-00000003/state.json"],
        ["step-00000005/weights.safetensors", "best-00000002/MANIFEST.json"],
        ["best-00000004/weights.safetensors", "best-00000002/weights.safetensors"],
    ],
)
def test_damage_between_two_parts_changes_nothing_in_the_end(
    cut_after_the_best: tuple[Ingredients, Path], tmp_path: Path, damaged: list[str]
) -> None:
    given, where = cut_after_the_best
    for name in damaged:
        harm(where / "checkpoints" / name)
    whole, _ = make_job(given, tmp_path / "whole")
    train(whole)
    torch.manual_seed(12345)
    job, _ = make_job(given, where)
    train(job)
    assert digest(job) == digest(whole)
    assert timeless(read_log(where)) == timeless(read_log(tmp_path / "whole"))


def test_best_weights_that_are_damaged_at_the_end_are_refused_and_made_again(
    tiny_causal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ingredients(recipe(DROPOUT, max_steps=4, validations=2), tiny_causal, validation=3)
    whole, _ = make_job(given, tmp_path / "whole")
    train(whole)
    where = tmp_path / "harmed"
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(Interrupted):
            train(make_job(given, where)[0])
    real = loop.load_best

    def harmed(job: Job, progress: Progress) -> None:
        harm(job.checkpoints / f"best-{progress.best_step:08d}" / "weights.safetensors")
        real(job, progress)

    with monkeypatch.context() as patch, pytest.raises(UserError) as caught:
        patch.setattr(loop, "load_best", harmed)
        train(make_job(given, where)[0])
    assert str(caught.value) == (
        f"{where}/checkpoints/best-00000004/weights.safetensors is not as it was written. Run the same command again: "
        "it goes on from before these weights."
    )
    job, _ = make_job(given, where)
    train(job)
    assert digest(job) == digest(whole)


def line(step: int, **more: Any) -> bytes:
    body = {"step": step, "epoch": 1.0, "seconds": 0.5, "tokens": 5, "target_tokens": 2, **more}
    return json.dumps(body).encode() + b"\n"


WHOLE = line(1) + line(2) + line(2, validation_loss=3.0) + line(3) + line(3, validation_loss=2.0)


@pytest.mark.parametrize(
    ("content", "step", "kept"),
    [
        (WHOLE, 3, WHOLE),
        (WHOLE, 2, line(1) + line(2) + line(2, validation_loss=3.0)),
        (WHOLE, 0, b""),
        (WHOLE + line(4)[:-9], 9, WHOLE),
        (WHOLE + line(4)[:-1], 9, WHOLE),
        (WHOLE + b"\n", 9, WHOLE),
        (line(1) + bytes(40) + b"\n" + line(3), 9, line(1)),
        (line(1, note="a\u2028b\x0cc"), 9, line(1, note="a\u2028b\x0cc")),
        (b"", 9, b""),
    ],
)
def test_the_log_is_cut_where_steps_are_taken_again(tmp_path: Path, content: bytes, step: int, kept: bytes) -> None:
    log = tmp_path / "train.jsonl"
    log.write_bytes(content)
    trim_log(log, step)
    assert log.read_bytes() == kept


def test_a_damaged_line_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "train.jsonl"
    log.write_bytes(line(1) + b"nonsense\n" + line(3))
    trim_log(log, 9)
    assert capsys.readouterr().err == f"{log}:2: this line is damaged; it and all that follow are dropped.\n"


def test_the_log_is_never_rewritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: Any, **__: Any) -> None:
        raise AssertionError("a kill in the middle of this would lose lines")

    log = tmp_path / "train.jsonl"
    log.write_bytes(WHOLE)
    inode = log.stat().st_ino
    monkeypatch.setattr(Path, "write_text", forbidden)
    monkeypatch.setattr(Path, "write_bytes", forbidden)
    trim_log(log, 1)
    assert (log.stat().st_ino, log.read_bytes()) == (inode, line(1))


def test_without_a_log_there_is_nothing_to_cut(tmp_path: Path) -> None:
    trim_log(tmp_path / "new" / "train.jsonl", 3)
    assert list((tmp_path / "new").iterdir()) == []
