"""Large files are read in parts, again and again; what comes out is what the readers of whole files give."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from tunesmith.data import largefiles, splits
from tunesmith.data.prepare import Prepared, prepare
from tunesmith.data.rows import Rows, Streamed
from tunesmith.data.sources import read_rows
from tunesmith.errors import DataError
from tunesmith.settings import (
    DataSettings,
    MixtureSettings,
    SourceSettings,
    SplitSettings,
    TaskSettings,
    TemplateSettings,
)

TEMPLATE = TemplateSettings(prompt="{{ text }}", target="{{ label }}")


def rows_of(base: Path, source: Any, **fields: Any) -> Rows:
    task = TaskSettings(name="t", source=source, **{"template": TEMPLATE, **fields})
    return read_rows(task, DataSettings(allow_bad=1, max_row_bytes=90), base=base)


def in_parts(patch: pytest.MonkeyPatch, rows: int = 3) -> None:
    """Take every file for a large one, to be read so many rows at a time."""
    patch.setattr(largefiles, "LARGE", 0)
    patch.setattr(largefiles, "ROWS_AT_ONCE", rows)


LINES = [json.dumps({"text": f"day {n}", "label": "ab"[n % 2]}) for n in range(8)]
CSV = ["text,label", *(f"day {n},x" for n in range(4))]
NASTY = {
    "good.jsonl": "\n".join(LINES) + "\n",
    "no end.jsonl": "\n".join(LINES),
    "blank lines.jsonl": "\n\n".join(LINES) + "\n \n\n",
    "crlf.ndjson": "\r\n".join(LINES) + "\r\n",
    "bad.jsonl": "\n".join(
        [*LINES[:2], '{"text": 1', "[]", *LINES[2:4], json.dumps({"text": "x" * 90}), '{"text": "no"}', LINES[4]]
    ),
    "good.csv": "\n".join(CSV) + "\n",
    "no end.csv": "\n".join(CSV),
    "blank lines.csv": "\n\n".join(CSV),
    "crlf.csv": "\r\n".join(CSV) + "\r\n",
    "semicolons.csv": "\n".join(CSV).replace(",", ";"),
    "tabs.tsv": "\n".join(CSV).replace(",", "\t"),
    "quoted.csv": 'text,label\n"one\ntwo\n\nthree",x\n"a ""word""",y\nz,z\n"5, 6","7\n8"\nlast,one\n',
    "inch.csv": 'text,label\n5" pipe,x\n"hello\nworld",y\nz,z\na,b\n',
    "open quote.csv": 'text,label\n1,2\n3,4\n5,6\n7,8\n"open,9\n10,11\n12,13\n14,15\n',
    "fields.csv": 'text,label\n1,2\n1,2,3\n1\n"x\ny",2,3\n3,4\n' + "y" * 100 + ",z\n5,6\n",
}  # fmt: skip


@pytest.mark.parametrize("name", NASTY)
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "with a mark"])
def test_parts_give_the_rows_the_faults_and_the_notes_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, mark: str
) -> None:
    (tmp_path / name).write_bytes((mark + NASTY[name]).encode())
    whole = rows_of(tmp_path, name)
    in_parts(monkeypatch)
    parts = rows_of(tmp_path, name)
    assert isinstance(parts.rows, Streamed)
    assert len(parts.rows) == len(whole.rows) > 2
    for _ in range(2):
        assert tuple(parts.rows) == whole.rows
    assert (parts.set_aside, parts.notes, parts.files) == (whole.set_aside, whole.notes, whole.files)


def test_what_cannot_be_read_in_parts_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_parts(monkeypatch)
    text = NASTY["good.csv"]
    (tmp_path / "a.csv").write_bytes(text.encode("utf-16"))
    (tmp_path / "b.csv").write_bytes(text.replace("\n", "\r").encode())
    (tmp_path / "c.json").write_text(json.dumps([json.loads(line) for line in LINES]))
    for name in ("a.csv", "b.csv", "c.json"):
        assert isinstance(rows_of(tmp_path, name).rows, tuple)


def test_another_encoding_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_parts(monkeypatch)
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_bytes(b"text,label\n" + b"tea,x\n" * 5 + b"caf\xe9,x\n" * 30)
    with pytest.raises(DataError) as error:
        rows_of(tmp_path, ("a.csv", "b.csv"))
    says = 'this file is not UTF-8; 30 of its rows have other bytes. Save it as UTF-8 (in Excel: "CSV UTF-8").'
    assert error.value.problems == (f"a.csv:7: {says}", f"b.csv:7: {says}")
    (tmp_path / "c.csv").write_bytes(NASTY["good.csv"].encode("utf-16-le"))
    with pytest.raises(DataError, match="UTF-16 without the mark"):
        rows_of(tmp_path, "c.csv")


def test_rows_whose_columns_are_guessed_are_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jsonl").write_text(NASTY["good.jsonl"])
    whole = rows_of(tmp_path, "a.jsonl", template=None)
    in_parts(monkeypatch)
    assert rows_of(tmp_path, "a.jsonl", template=None) == whole


def test_a_column_that_no_row_has_and_a_bad_header_are_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_parts(monkeypatch)
    (tmp_path / "a.csv").write_text("text,label\na,b\n" * 5)
    with pytest.raises(DataError) as error:
        rows_of(tmp_path, "a.csv", columns={"text": "txt"})
    assert error.value.problems[0].endswith('has label, text. Did you mean "text"?')
    (tmp_path / "b.csv").write_text("text,text\na,b\n")
    with pytest.raises(DataError) as error:
        rows_of(tmp_path, "b.csv")
    assert error.value.problems == ('b.csv:1: 2 columns are named "text". Give each its own name.',)


def sentences(count: int) -> str:
    words = ("we", "came", "to", "the", "old", "house")
    made = [
        {"text": " ".join(f"{w}{n}" for w in words), "label": "ab"[n % 2], "who": f"c{n // 3}"} for n in range(count)
    ]
    return "".join(json.dumps(row) + "\n" for row in made)


def prepared(base: Path, source: Any, **split: Any) -> Prepared:
    task = TaskSettings(name="t", source=source, template=TEMPLATE)
    return prepare(
        [task], split=SplitSettings(**split), data=DataSettings(), seed=4, base=base, mixture=MixtureSettings(limit=40)
    )


@pytest.mark.parametrize("split", [{}, {"group": "who"}, {"limit": {"test": 5, "validation": 0}}, {"column": "side"}])
def test_the_examples_are_those_of_files_that_were_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: dict[str, Any]
) -> None:
    text = sentences(300)
    sides = [{**json.loads(line), "side": ("train", "dev", "test")[n % 3]} for n, line in enumerate(text.splitlines())]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in sides))
    whole = prepared(tmp_path, "a.jsonl", **split)
    assert len(whole.examples["train"]) == 40
    in_parts(monkeypatch, rows=7)
    assert prepared(tmp_path, "a.jsonl", **split) == whole


def test_files_that_are_split_already_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, begin in (("train", 0), ("test", 900)):
        lines = sentences(1000).splitlines(keepends=True)[begin : begin + 100]
        (tmp_path / f"{name}.jsonl").write_text("".join(lines))
    source = SourceSettings(train="train.jsonl", test="test.jsonl")
    whole = prepared(tmp_path, source)
    in_parts(monkeypatch)
    assert prepared(tmp_path, source) == whole


def test_memory_grows_with_the_limit_and_not_with_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_parts(monkeypatch, rows=200)
    monkeypatch.setattr(splits, "SPARE", 10)
    peaks = []
    for count in (2_000, 8_000):
        (tmp_path / f"{count}.jsonl").write_text(sentences(count))
        tracemalloc.start()
        made = prepared(tmp_path, f"{count}.jsonl", limit={"validation": 20, "test": 20})
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(made.examples["train"]) == 40
    assert peaks[1] < 1.5 * peaks[0]
