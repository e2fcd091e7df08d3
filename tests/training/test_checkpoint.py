import errno
import os
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from killing import DISK
from safetensors import SafetensorError

from tunesmith.errors import ResourceError
from tunesmith.training import checkpoint
from tunesmith.training.checkpoint import MANIFEST, damage, newest, remove_old, write_checkpoint

FILES = ("weights.safetensors", "optimizer.safetensors", "state.json", MANIFEST)


def content(step: int) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, Any]]:
    weights = {"a": torch.full((3, 5), float(step)), "b": torch.arange(4, dtype=torch.bfloat16)}
    moments = {"exp_avg/a": torch.rand(3, 5), "step/a": torch.tensor(float(step))}
    return {"weights": weights, "optimizer": moments}, {"progress": {"step": step}, "random": list(range(40))}


def write(folder: Path, step: int, **state: Any) -> Path:
    tensors, plain = content(step)
    return write_checkpoint(folder, f"step-{step:08d}", tensors, {**plain, **state})


def step_of(folder: Path) -> int | None:
    """The step of the checkpoint that a training would go on from."""
    found = newest(folder)
    if found is None:
        return None
    step: int = found.state["progress"]["step"]
    assert torch.equal(found.tensors["weights"]["a"], torch.full((3, 5), float(step)))
    return step


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    tensors, state = content(7)
    folder = write_checkpoint(tmp_path / "new", "step-00000007", tensors, state)
    assert names(folder) == sorted(FILES)
    assert names(tmp_path / "new") == ["step-00000007"]
    found = newest(tmp_path / "new")
    assert found is not None
    assert (found.folder, found.state) == (folder, state)
    for part, expected in tensors.items():
        assert found.tensors[part].keys() == expected.keys()
        for name, value in expected.items():
            assert torch.equal(found.tensors[part][name], value)
            assert found.tensors[part][name].dtype == value.dtype


def test_the_newest_is_the_one_with_the_highest_step(tmp_path: Path) -> None:
    assert newest(tmp_path) is None
    for step in (9, 10, 2):
        write(tmp_path, step)
    assert step_of(tmp_path) == 10


def flip(path: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def truncate(path: Path, chance: random.Random) -> None:
    path.write_bytes(path.read_bytes()[: chance.randrange(path.stat().st_size)])


def zero(path: Path, chance: random.Random) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def delete(path: Path, chance: random.Random) -> None:
    path.unlink()


def swap(path: Path, chance: random.Random) -> None:
    """Put the file of the older checkpoint in this one's place."""
    shutil.copy(path.parent.with_name("step-00000001") / path.name, path)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(("harm", "times"), [(flip, 50), (truncate, 20), (zero, 1), (delete, 1), (swap, 1)])
def test_every_damage_to_every_file_is_noticed(
    tmp_path: Path, harm: Callable[[Path, random.Random], None], times: int, name: str
) -> None:
    chance = random.Random(f"{harm.__name__} {name}")
    write(tmp_path, 1)
    good = write(tmp_path, 2)
    for _ in range(times):
        broken = tmp_path / "step-00000003"
        shutil.copytree(good, broken)
        harm(broken / name, chance)
        problem = damage(broken)
        assert problem.startswith(name) or (problem and name == MANIFEST), "the file is named"
        shutil.rmtree(broken)
    assert damage(good) == ""


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_checkpoint_is_set_aside_and_an_older_one_is_taken(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for step in (1, 2, 3):
        write(tmp_path, step)
    for step in (2, 3):
        flip(tmp_path / f"step-{step:08d}" / name, random.Random(step))
    assert step_of(tmp_path) == 1
    assert names(tmp_path) == ["step-00000001", "step-00000002.corrupt", "step-00000003.corrupt"]
    why = "is missing or cannot be read" if name == MANIFEST else "is not as it was written"
    said = capsys.readouterr().err.splitlines()
    if name != MANIFEST:
        assert said == [
            f"{tmp_path}/step-{step:08d}: {name} {why}; set aside as step-{step:08d}.corrupt. An older checkpoint is "
            "taken, or the start."
            for step in (3, 2)
        ]
    assert len(said) == 2
    assert names(tmp_path / "step-00000003.corrupt") == sorted(FILES), "it can still be looked at"
    assert step_of(tmp_path) == 1


def test_with_nothing_but_damage_there_is_no_checkpoint(tmp_path: Path) -> None:
    for step in (1, 2):
        (write(tmp_path, step) / "state.json").unlink()
    assert newest(tmp_path) is None
    assert names(tmp_path) == ["step-00000001.corrupt", "step-00000002.corrupt"]


@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"files": []}', '{"files": {"state.json": 3}}', '{"files": {}}', "\udcff"]
)
def test_a_manifest_that_says_something_else_is_damage(tmp_path: Path, text: str) -> None:
    folder = write(tmp_path, 1)
    (folder / MANIFEST).write_bytes(text.encode("utf-8", "surrogateescape"))
    assert damage(folder).startswith(MANIFEST)


def test_a_checkpoint_is_only_as_good_as_the_best_weights_it_needs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best = write_checkpoint(tmp_path, "best-00000002", {"weights": content(2)[0]["weights"]}, {"step": 2})
    write(tmp_path, 1)
    write(tmp_path, 3, needs=["best-00000002"])
    assert step_of(tmp_path) == 3
    flip(best / "weights.safetensors", random.Random(0))
    assert step_of(tmp_path) == 1
    assert capsys.readouterr().err == (
        f"{tmp_path}/step-00000003: it needs best-00000002/weights.safetensors is not as it was written; set aside as "
        "step-00000003.corrupt. An older checkpoint is taken, or the start.\n"
    )


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_rotation_keeps_the_newest_and_what_they_need(tmp_path: Path, keep: int) -> None:
    for step in range(1, 6):
        write_checkpoint(tmp_path, f"best-{step:08d}", {"weights": {}}, {})
        write(tmp_path, step, needs=[f"best-{step:08d}"])
        remove_old(tmp_path, keep, [f"best-{step:08d}"])
    (tmp_path / ".tmp-step-00000009-1").mkdir()
    write_checkpoint(tmp_path, "best-00000007", {"weights": {}}, {})
    remove_old(tmp_path, keep, ["best-00000007"])
    steps = range(6 - keep, 6)
    assert names(tmp_path) == [
        *(f"best-{step:08d}" for step in steps), "best-00000007", *(f"step-{step:08d}" for step in steps)
    ]  # fmt: skip
    assert step_of(tmp_path) == 5


def test_rotation_goes_on_where_a_checkpoint_cannot_be_read(tmp_path: Path) -> None:
    for step in (1, 2):
        write(tmp_path, step)
    (tmp_path / "step-00000002" / "state.json").write_text("{")
    remove_old(tmp_path, 1, [])
    assert names(tmp_path) == ["step-00000002"]


class PowerCut(BaseException):
    """Nothing in the code under test can catch this, just as it could not go on after a kill."""


def disturb(
    monkeypatch: pytest.MonkeyPatch, call: int, failure: Callable[[], BaseException], *, after: bool
) -> list[str]:
    """Let the ``call``-th of all changes to the disk fail; returns the running list of them."""
    made: list[str] = []

    def disturbed(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            made.append(name)
            now = len(made) == call
            if now and not after:
                raise failure()
            try:
                return real(*arguments, **options)
            finally:
                if now:
                    raise failure()

        return wrapped

    for name in DISK:
        module, _, way = name.partition(":")
        owner = {"os": os, "pathlib": Path, "tunesmith.training.checkpoint": checkpoint}[module]
        last = way.split(".")[-1]
        monkeypatch.setattr(owner, last, disturbed(name, getattr(owner, last)))
    return made


def save(folder: Path, step: int) -> None:
    """What the loop does at a validation and at a checkpoint."""
    best = f"best-{step:08d}"
    write_checkpoint(folder, best, {"weights": content(step)[0]["weights"]}, {"step": step})
    remove_old(folder, 1, [best])
    write(folder, step, needs=[best])
    remove_old(folder, 1, [best])


@pytest.mark.parametrize("after", [False, True])
def test_a_kill_at_any_change_to_the_disk_leaves_a_whole_checkpoint(tmp_path: Path, after: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        made = disturb(patch, 0, PowerCut, after=False)
        save(tmp_path / "whole", 1)
        save(tmp_path / "whole", 2)
    assert {"os:fsync", "os:rename", "os:mkdir", "os:unlink", "os:rmdir", *DISK[-2:]} <= set(made)
    for call in range(1, len(made) + 1):
        folder = tmp_path / str(call)
        with pytest.MonkeyPatch.context() as patch:
            disturb(patch, call, PowerCut, after=after)
            begun = 0
            with pytest.raises(PowerCut):
                for begun in (1, 2):
                    save(folder, begun)
        found = step_of(folder) if folder.exists() else None
        assert found in ({None, 1} if begun == 1 else {1, 2})
        assert [name for name in (names(folder) if folder.exists() else []) if name.endswith(".corrupt")] == []
        save(folder, 3)
        assert names(folder) == ["best-00000003", "step-00000003"], "what was left half written is gone"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_at_any_write_says_so_and_leaves_the_last_checkpoint(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda folder: SimpleNamespace(free=12_345_678))
    write(tmp_path / "count", 1)
    with pytest.MonkeyPatch.context() as patch:
        made = disturb(patch, 0, PowerCut, after=False)
        write(tmp_path / "count", 2)
    for call in range(1, len(made) + 1):
        folder = tmp_path / str(call)
        write(folder, 1)
        with pytest.MonkeyPatch.context() as patch:
            disturb(patch, call, lambda: OSError(number, os.strerror(number)), after=False)
            with pytest.raises(ResourceError) as caught:
                write(folder, 2)
        assert str(caught.value) == (
            f"{folder}: the disk is full (12.3 MB free), checkpoint step-00000002 was not written. What was written "
            "before is untouched: free some space and run the same command again."
        )
        published = call == len(made)  # only the flush of the folder failed: the name was given already
        assert names(folder) == ["step-00000001"] + ["step-00000002"] * published
        assert step_of(folder) == (2 if published else 1)


def test_the_words_of_safetensors_for_a_full_disk_are_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    write(tmp_path, 1)
    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(ResourceError, match="the disk is full"):
        write(tmp_path, 2)
    assert names(tmp_path) == ["step-00000001"]


def test_a_folder_that_cannot_be_made_for_want_of_space_is_explained_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(ResourceError, match=r"the disk is full \([\d.]+ .?B free\), checkpoint step-00000001 was not"):
        write(tmp_path / "checkpoints", 1)


@pytest.mark.parametrize(
    "failure", [OSError(errno.EIO, "Input/output error"), SafetensorError("Error while serializing: something else")]
)
def test_another_failure_keeps_its_own_words_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    def broken(*_: Any) -> None:
        raise failure

    write(tmp_path, 1)
    monkeypatch.setattr(checkpoint, "save_file", broken)
    with pytest.raises(type(failure), match=r"Input/output error|something else"):
        write(tmp_path, 2)
    assert names(tmp_path) == ["step-00000001"]


def test_everything_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, rename = os.fsync, os.rename

    def flushed(handle: int) -> None:
        done.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        fsync(handle)

    def renamed(source: Path, target: Path) -> None:
        done.append(f"{Path(source).name} -> {Path(target).name}")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "rename", renamed)
    write(tmp_path, 1)
    staged = f".tmp-step-00000001-{os.getpid()}"
    assert done == [*sorted(FILES), staged, f"{staged} -> step-00000001", tmp_path.name]


def test_nothing_is_pickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: Any, **__: Any) -> None:
        raise AssertionError("pickle was used")

    for owner, name in (
        (pickle, "loads"),
        (pickle, "load"),
        (pickle, "dumps"),
        (pickle, "dump"),
        (torch, "load"),
        (torch, "save"),
    ):
        monkeypatch.setattr(owner, name, forbidden)
    folder = write(tmp_path, 1)
    assert step_of(tmp_path) == 1
    assert {path.suffix for path in folder.iterdir()} == {".safetensors", ".json"}
