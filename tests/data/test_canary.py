from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tunesmith.data import canary, largefiles
from tunesmith.data.canary import file_has_canary, has_canary, table_has_canary
from tunesmith.data.prepare import prepare
from tunesmith.data.rows import Table
from tunesmith.settings import DataSettings, MixtureSettings, SourceSettings, SplitSettings, TaskSettings

MARK = f"NOT FOR TRAINING. canary {'GUID'} {UUID(int=2**127 + 11)}"  # of no benchmark
ROWS = "".join(f"what is w{n}x of w{n}y and w{n}z,w{n}\n" for n in range(40))


def test_the_mark_is_the_word_with_a_number() -> None:
    assert has_canary(MARK.encode())
    assert has_canary(f'{{"canary": "{MARK.replace("GUID ", "GUID: ")}"}}'.encode())
    assert not has_canary(b"the canary GUID of a file; canary GUID 12")
    assert table_has_canary(Table(((1, {"a": ["b", MARK]}),), ()))
    assert not table_has_canary(Table(((1, {"a": ["b", "canary"]}),), ()))


def test_it_is_found_where_two_parts_of_a_large_file_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canary, "PART", 100)
    for before in range(60, 130):
        (tmp_path / "a.csv").write_text(before * "x" + MARK + 90 * "y")
        assert file_has_canary(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text(500 * "x")
    assert not file_has_canary(tmp_path / "a.csv")


def warnings(folder: Path, source: Any, **held_out: Any) -> list[str]:
    (folder / "plain.csv").write_text("question,answer\n" + ROWS.replace("what", "who"))
    (folder / "other.csv").write_text("question,answer\n" + ROWS.replace("what", "where").replace("w", "v"))
    (folder / "marked.csv").write_text("question,answer\n" + ROWS + f'"{MARK}",x\n')
    (folder / "marked.json").write_text(f'{{"canary": "{MARK}", "data": {rows_as_json()}}}')
    task = TaskSettings(name="t", source=source, template="question-answer")
    other = TaskSettings(name="o", source="other.csv", template="question-answer")
    made = prepare(
        [task, other], split=SplitSettings(), data=DataSettings(), seed=0, base=folder,
        mixture=MixtureSettings(**held_out),
    )  # fmt: skip
    return [note for note in made.health.notes if note.startswith("warning")]


def rows_as_json() -> str:
    pairs = [line.split(",") for line in ROWS.splitlines()]
    return "[" + ", ".join(f'{{"question": "{asked}", "answer": "{said}"}}' for asked, said in pairs) + "]"


@pytest.mark.parametrize("name", ["marked.csv", "marked.json"])
def test_training_rows_of_a_marked_file_are_warned_of(tmp_path: Path, name: str) -> None:
    (found,) = warnings(tmp_path, name)
    assert found.startswith(f'warning: task "t": {name} holds the canary string of a benchmark, which is not to be ')
    assert found.endswith(" of its rows are training rows. Take the file out, or make its rows test rows: "
                          "`source: {test: FILE}`.")  # fmt: skip


def test_of_large_files_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(largefiles, "LARGE", 100)
    assert len(warnings(tmp_path, "marked.csv")) == 1


def test_rows_that_are_only_asked_need_no_warning(tmp_path: Path) -> None:
    assert not warnings(tmp_path, "plain.csv")
    assert not warnings(tmp_path, SourceSettings(train="plain.csv", test="marked.csv"))
    assert not warnings(tmp_path, "marked.csv", held_out=("t",))
