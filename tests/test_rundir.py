import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tunesmith.errors import UserError
from tunesmith.records import Message, SetAside
from tunesmith.rundir import (
    RunDir,
    publish,
    read_record,
    read_records,
    write_record,
    write_records,
    write_text,
)

ROW = SetAside(file="chats.csv", line=214, reason="empty target", excerpt='a "quoted" 東京 line')


def test_every_file_of_a_run_has_its_place() -> None:
    run = RunDir(Path("runs/demo"))
    lora = run.candidate("lora")
    places = [
        run.recipe, run.record, run.lock, run.health, run.report_html, run.report_json, run.examples("test"),
        lora.adapter, lora.checkpoints, lora.train_log, lora.train_result, lora.predict_result,
        lora.predictions("sum"), lora.scores("sum"),
    ]  # fmt: skip
    assert [str(place.relative_to("runs/demo")) for place in places] == [
        "recipe.yaml", "run.json", ".lock", "data/health.json", "report.html", "report.json", "data/test.jsonl",
        "candidates/lora/adapter", "candidates/lora/checkpoints", "candidates/lora/train.jsonl",
        "candidates/lora/train.json", "candidates/lora/predict.json", "candidates/lora/predictions/sum.jsonl",
        "candidates/lora/scores/sum.json",
    ]  # fmt: skip


def test_text_is_written_as_utf8_into_folders_that_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "text.txt"
    write_text(path, "Köln 東京 🪑\n")
    assert path.read_bytes() == "Köln 東京 🪑\n".encode()
    assert os.listdir(path.parent) == ["text.txt"]


def test_new_text_replaces_the_old_whole(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    write_text(path, "long " * 1000)
    write_text(path, "short")
    assert path.read_text() == "short"


@pytest.mark.parametrize("crash", ["os.fsync", "pathlib.Path.replace"])
def test_a_process_killed_before_the_file_has_its_name_leaves_the_old_file(tmp_path: Path, crash: str) -> None:
    path = tmp_path / "record.json"
    write_text(path, "old")
    module, _, function = crash.rpartition(".")
    code = (
        "import os, pathlib\n"
        "from tunesmith.rundir import write_text\n"
        f"{module}.{function} = lambda *_: os.kill(os.getpid(), 9)\n"
        f"write_text(pathlib.Path({str(path)!r}), 'new and never finished')"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -9
    assert path.read_text() == "old"
    write_text(path, "new")
    assert path.read_text() == "new"


def test_the_bytes_are_on_the_disk_before_the_name_is_and_the_name_before_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, rename = os.fsync, Path.replace

    def spy_fsync(handle: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def spy_replace(self: Path, target: Path) -> Path:
        done.append("rename")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(Path, "replace", spy_replace)
    write_text(tmp_path / "record.json", "text")
    assert done == ["file", "rename", "folder"]


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "row.json"
    write_record(path, ROW)
    assert read_record(path, SetAside) == ROW
    assert path.read_text(encoding="utf-8").splitlines()[1] == ' "file": "chats.csv",'


def test_records_are_one_line_each_and_come_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "turns.jsonl"
    turns = [Message(role="user", content=f"line\nbreak {number}") for number in range(3)]
    write_records(path, turns)
    assert len(path.read_text().splitlines()) == 3
    assert list(read_records(path, Message)) == turns


def test_no_records_are_an_empty_file(tmp_path: Path) -> None:
    write_records(tmp_path / "none.jsonl", [])
    assert (tmp_path / "none.jsonl").read_bytes() == b""
    assert list(read_records(tmp_path / "none.jsonl", Message)) == []


def test_a_record_of_another_version_is_named_and_not_half_read(tmp_path: Path) -> None:
    path = tmp_path / "row.json"
    path.write_text('{"file": "a.csv", "line": 1, "reason": "r", "excerpt": "e", "severity": 3}')
    with pytest.raises(UserError) as caught:
        read_record(path, SetAside)
    assert str(caught.value) == (
        f"{path}: not a SetAside as this version writes it (1 validation error for SetAside). "
        "Delete the file and run again."
    )


def test_a_truncated_record_is_named(tmp_path: Path) -> None:
    path = tmp_path / "row.json"
    write_record(path, ROW)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError) as caught:
        read_record(path, SetAside)
    assert str(caught.value).startswith(f"{path}: not a SetAside as this version writes it (")


def test_a_broken_line_among_records_is_named_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "turns.jsonl"
    path.write_text('{"role": "user", "content": "fine"}\n{"role": "user", "cont\n')
    found = read_records(path, Message)
    assert next(found).content == "fine"
    with pytest.raises(UserError) as caught:
        next(found)
    assert str(caught.value) == (
        f"{path}:2: not a Message as this version writes it (1 validation error for Message). "
        "Delete the file and run again."
    )


@pytest.mark.parametrize("folder", [0o755, 0o750, 0o700])
def test_what_is_published_can_be_read_by_whoever_may_read_its_folder(tmp_path: Path, folder: int) -> None:
    staged = tmp_path / "staged"
    staged.mkdir()
    staged.chmod(folder)
    (staged / "model.safetensors").write_bytes(b"weights")
    (staged / "model.safetensors").chmod(0o600)  # as safetensors writes it
    publish(staged, tmp_path / "final")
    assert stat.S_IMODE((tmp_path / "final" / "model.safetensors").stat().st_mode) == folder & 0o666
