import json
import os
import sys
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tunesmith.data.rows import Rows
from tunesmith.data.sources import read_rows
from tunesmith.errors import DataError, RecipeError, UserError
from tunesmith.settings import DataSettings, SourceSettings, TaskSettings, TemplateSettings

TEMPLATE = TemplateSettings(prompt="{{ text }}", target="{{ label }}")


def read(base: Path, source: Any, *, allow_bad: float = 0.0, max_row_bytes: int = 1_000_000, **fields: Any) -> Rows:
    fields.setdefault("template", TEMPLATE)
    task = TaskSettings(name="t", source=source, **fields)
    return read_rows(task, DataSettings(allow_bad=allow_bad, max_row_bytes=max_row_bytes), base=base)


def problems(base: Path, source: Any, **fields: Any) -> tuple[str, ...]:
    with pytest.raises(DataError) as error:
        read(base, source, **fields)
    return error.value.problems


def write_json_lines(path: Path, *rows: Any) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "text,label\nhi,x\nho,y\n"),
        ("a.tsv", "text\tlabel\nhi\tx\nho\ty\n"),
        ("a.jsonl", '{"text": "hi", "label": "x"}\n{"text": "ho", "label": "y"}\n'),
        ("a.ndjson", '{"text": "hi", "label": "x"}\n{"text": "ho", "label": "y"}'),
        ("a.JSON", '[{"text": "hi", "label": "x"},\n{"text": "ho", "label": "y"}]'),
        ("b.json", '{"data": [{"text": "hi", "label": "x"},\n{"text": "ho", "label": "y"}]}'),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_every_format_gives_the_same_rows_in_every_encoding(
    tmp_path: Path, name: str, text: str, encoding: str, ending: str
):
    content = text.replace("\n", ending).encode(encoding)
    (tmp_path / name).write_bytes(content)
    rows = read(tmp_path, name)
    assert [row.values for row in rows.rows] == [{"text": "hi", "label": "x"}, {"text": "ho", "label": "y"}]
    first = 2 if name.endswith((".csv", ".tsv")) else 1
    assert [(row.file, row.line, row.split) for row in rows.rows] == [(name, first, None), (name, first + 1, None)]
    assert rows.files == {name: sha256(content).hexdigest()}
    assert rows.notes == ((f"{name}: read as UTF-16",) if encoding == "utf-16" else ())


def test_several_files_and_given_sides_are_read_in_order(tmp_path: Path):
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.csv").write_text(f"text,label\n{name},x\n")
    assert [row.values["text"] for row in read(tmp_path, ("b.csv", "a.csv")).rows] == ["b", "a"]
    rows = read(tmp_path, SourceSettings(train=("a.csv", "b.csv"), test="c.csv"))
    assert [(row.file, row.split) for row in rows.rows] == [("a.csv", "train"), ("b.csv", "train"), ("c.csv", "test")]


def test_an_absolute_path_is_called_by_its_name_unless_two_share_it(tmp_path: Path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.csv").write_text("text,label\nhi,x\n")
    one, two = str(tmp_path / "one" / "a.csv"), str(tmp_path / "two" / "a.csv")
    assert [row.file for row in read(tmp_path, one).rows] == ["a.csv"]
    assert [row.file for row in read(tmp_path, (one, two)).rows] == [one, two]


def test_what_is_wrong_with_the_files_is_said_at_once(tmp_path: Path):
    (tmp_path / "chats.csv").write_text("text,label\nhi,x\n")
    (tmp_path / "empty.csv").write_text(" \n")
    (tmp_path / "head.csv").write_text("text,label\n")
    (tmp_path / "none.json").write_text("[]")
    (tmp_path / "sheet.xlsx").write_bytes(b"PK")
    (tmp_path / "plain").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "odd.csv").write_bytes(b"\xff\xfea\x00\x00\xd8")
    sources = ("chat.csv", "no/x.csv", "empty.csv", "head.csv", "none.json", "sheet.xlsx", "plain", "folder", "odd.csv")
    assert problems(tmp_path, (*sources, "chats.csv", "chats.csv")) == (
        'task "t": source "chats.csv" is named 2 times. Name it once.',
        f'chat.csv: there is no such file in {tmp_path}. Did you mean "chats.csv"?',
        f"no/x.csv: there is no folder {tmp_path / 'no'}.",
        "empty.csv: the file is empty.",
        "head.csv: the file has no rows.",
        "none.json: the file has no rows.",
        'sheet.xlsx: the ending ".xlsx" is not read; .csv, .tsv, .jsonl, .ndjson, .json, .parquet are. Save it as one '
        "of these.",
        "plain: it has no ending that tells what it is; .csv, .tsv, .jsonl, .ndjson, .json, .parquet are. Save it as "
        "one of these.",
        "folder: this is a folder. Name the files in it.",
        "odd.csv: begins as UTF-16, but byte 4 is not. Save it as UTF-8.",
    )


@pytest.mark.parametrize("source", ["https://example.org/a.csv", "https:/example.org/a", "s3://rows/a.jsonl"])
def test_an_address_is_not_fetched_and_that_is_said(tmp_path: Path, source: str):
    assert problems(tmp_path, source) == (
        f"{source}: this is an address, and a source is a file: nothing is fetched from there. Download it first and "
        "name the file. A data set of the Hugging Face hub is written hub:org/name.",
    )


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json"])
def test_utf_16_without_its_mark_is_named(tmp_path: Path, encoding: str, name: str):
    text = "\u95ee\u9898,\u7b54\u6848\n" if name == "a.csv" else '[{"text": "hi", "label": "x"}]'
    (tmp_path / name).write_bytes(text.encode(encoding))
    assert problems(tmp_path, name) == (
        f'{name}: this is UTF-16 without the mark that says so at its beginning. Save it as UTF-8 (in Excel: "CSV '
        'UTF-8").',
    )


def test_a_table_of_one_column_is_told_how_columns_are_separated(tmp_path: Path):
    (tmp_path / "a.csv").write_text("text : label\nhi : x\n")
    where = "Columns are separated by commas, semicolons, tabs or bars: look at its first line."
    assert problems(tmp_path, "a.csv") == (
        f'a.csv: it has one column, "text : label", and template of task "t" needs 2. {where}',
    )
    assert problems(tmp_path, "a.csv", template=None) == (
        'task "t": there is one column, text : label, and a prompt and an answer are needed. ' + where,
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path):
    (tmp_path / "a.csv").write_text("text,label\nhi,x\n")
    (tmp_path / "a.csv").chmod(0)
    assert problems(tmp_path, "a.csv") == ("a.csv: cannot be read (Permission denied).",)


def test_columns_get_the_names_of_the_recipe_and_keep_their_own(tmp_path: Path):
    (tmp_path / "a.csv").write_text("Body,Mark,text\nhi,x,other\n")
    rows = read(tmp_path, "a.csv", columns={"text": "Body", "label": "Mark"})
    assert rows.rows[0].values == {"Body": "hi", "Mark": "x", "text": "hi", "label": "x"}


def test_all_missing_columns_are_named_with_what_there_is(tmp_path: Path):
    (tmp_path / "a.csv").write_text("text,labels\nhi,x\n")
    (tmp_path / "b.csv").write_text("txt,label\nhi,x\n")
    template = TemplateSettings(prompt="{{ text }} {{ topic }} {{ choices }}", target="{{ label }}")
    fields: dict[str, Any] = {"columns": {"topic": "Topic"}, "references": ("label2",), "template": template}
    assert problems(tmp_path, ("a.csv", "b.csv"), **fields) == (
        'a.csv: `columns` of task "t" names "Topic", and there is no such column; it has labels, text.',
        'a.csv: `references` of task "t" names "label2", and there is no such column; it has labels, text. '
        'Did you mean "labels"?',
        'a.csv: template of task "t" names {{ choices }}, and the task has none. Write `choices: [...]` or '
        "`choices: targets` in the recipe.",
        'a.csv: template of task "t" names {{ label }}, and there is no column "label"; it has labels, text, topic. '
        'Did you mean "labels"? Write `columns: {label: COLUMN}` in the recipe, or change the template.',
        'b.csv: `columns` of task "t" names "Topic", and there is no such column; it has label, txt.',
        'b.csv: `references` of task "t" names "label2", and there is no such column; it has label, txt. '
        'Did you mean "label"?',
        'b.csv: template of task "t" names {{ choices }}, and the task has none. Write `choices: [...]` or '
        "`choices: targets` in the recipe.",
        'b.csv: template of task "t" names {{ text }}, and there is no column "text"; it has label, topic, txt. '
        'Did you mean "txt"? Write `columns: {text: COLUMN}` in the recipe, or change the template.',
    )


def test_a_template_that_is_not_in_the_catalog_is_a_recipe_error(tmp_path: Path):
    (tmp_path / "a.csv").write_text("text,label\nhi,x\n")
    with pytest.raises(RecipeError) as error:
        read(tmp_path, "a.csv", template="dialog-summary")
    assert str(error.value).startswith(
        'template "dialog-summary" is not known. Did you mean "dialogue-summary"? Known:'
    )


def test_a_missing_package_is_no_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match="needs pyarrow"):
        read(tmp_path, "a.parquet")


def test_the_side_of_a_hub_part_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    parts = {"train": [{"text": "a", "label": "x"}], "test": [{"text": "b", "label": "y"}]}
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=lambda name: parts))
    rows = read(tmp_path, "hub:org/name")
    assert [(row.file, row.line, row.split) for row in rows.rows] == [
        ("hub:org/name", 1, "train"),
        ("hub:org/name", 1, "test"),
    ]
    assert [row.split for row in read(tmp_path, SourceSettings(train="hub:org/name")).rows] == ["train"]
    assert problems(tmp_path, SourceSettings(train="hub:org/name", validation="hub:org/name")) == (
        "hub:org/name: it has no validation part; it has train, test. Name the source without splitting it.",
    )


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({"x": "y"}, "an object"),
        ([{"x": "y"}], "a list with an object or a list in it"),
        ([["x"], "y"], "a list with an object or a list in it"),
        ([], "an empty list"),
        (["", None], "an empty list"),
    ],
)
def test_an_answer_that_is_no_text_sets_its_row_aside(tmp_path: Path, value: Any, kind: str):
    write_json_lines(tmp_path / "a.jsonl", {"text": "hi", "mark": value}, {"text": {"n": 1}, "mark": ["x", 5]})
    rows = read(tmp_path, "a.jsonl", columns={"label": "mark"}, allow_bad=0.5)
    reason = f'column "mark" is the answer, and is {kind}, not text'
    assert [(row.line, row.reason) for row in rows.set_aside] == [(1, reason)]
    assert len(rows.rows) == 1
    part = TemplateSettings(prompt="{{ text }}", target="{{ label | length }}")
    assert len(read(tmp_path, "a.jsonl", columns={"label": "mark"}, template=part).rows) == 2


FAULTS: list[tuple[bytes, str]] = [
    (b'{"text": "hi", "label"', "broken JSON: expecting ':' delimiter at column 23"),
    (b'["text", "label"]', "a list instead of an object"),
    (b'{"text": "hi"}', 'column "label" is not in this row'),
    (b'{"text": "hi", "label": ""}', 'column "label" is empty'),
    (b'{"text": null, "label": "x"}', 'column "text" is empty'),
    (b'{"text": " \\n ", "label": "x"}', 'column "text" is empty'),
    (b'{"text": "a\\u0000b", "label": "x"}', 'column "text" has a NUL character'),
    (b'{"text": "a\\ud83d", "label": "x"}', 'column "text" has a lone surrogate U+D83D'),
    (b'{"text": "a\\u001bb", "label": "x"}', 'column "text" has a control character U+001B'),
    (b'{"text": ["a", {"b": "\\u0000"}], "label": "x"}', 'column "text" has a NUL character'),
    (b'{"text": "caf\xe9", "label": "x"}', "bytes that are not UTF-8; save the file as UTF-8"),
    (b'{"text": "' + b"x" * 2_000 + b'", "label": "x"}', "row of 2,026 bytes"),
    (b'{"text": "hi", "text": "ho", "label": "x"}', 'broken JSON: key "text" stands in it twice'),
]


def test_137_planted_faults_among_10000_rows_are_all_set_aside_and_no_good_row_is_lost(tmp_path: Path):
    lines = [b'{"text": "text %d", "label": "x"}' % number for number in range(10_000)]
    planted: dict[int, str] = {}
    for number in range(137):
        at = number * 71 + 3
        lines[at], planted[at + 1] = FAULTS[number % len(FAULTS)]
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + b"\n".join(lines))
    assert problems(tmp_path, "a.jsonl", allow_bad=0.01, max_row_bytes=1_000)[0] == (
        'task "t": 137 of 10000 rows (1.4%) cannot be used; 1.0% may be set aside.'
    )
    rows = read(tmp_path, "a.jsonl", allow_bad=0.02, max_row_bytes=1_000)
    assert {row.line: row.reason for row in rows.set_aside} == planted
    assert len(rows.rows) == 10_000 - 137
    assert {row.line for row in rows.rows}.isdisjoint(planted)
    assert all(row.file == "a.jsonl" and 0 < len(row.excerpt) <= 80 for row in rows.set_aside)


def test_a_column_that_the_template_tests_may_be_empty_or_absent_in_a_row(tmp_path: Path):
    write_json_lines(
        tmp_path / "a.jsonl",
        {"text": "hi", "label": "x", "topic": "greeting"},
        {"text": "hi", "label": "x", "topic": ""},
        {"text": "hi", "label": "x"},
    )
    template = TemplateSettings(prompt="{% if topic %}{{ topic }}: {% endif %}{{ text }}", target="{{ label }}")
    rows = read(tmp_path, "a.jsonl", template=template)
    assert [row.values["topic"] for row in rows.rows] == ["greeting", "", None]


def test_columns_that_no_template_names_may_hold_anything(tmp_path: Path):
    write_json_lines(tmp_path / "a.jsonl", {"text": "hi", "label": "x", "raw": "\x00"})
    assert len(read(tmp_path, "a.jsonl").rows) == 1


def test_a_bad_reference_or_an_earlier_turn_sets_the_row_aside(tmp_path: Path):
    write_json_lines(tmp_path / "a.jsonl", {"text": "hi", "label": "x", "more": ["y", "\x00"]})
    assert problems(tmp_path, "a.jsonl", references=("more",))[1] == (
        'a.jsonl:1: a column of references has a NUL character: {"text": "hi", "label": "x", "more": ["y", "\\u0000"]}'
    )
    talk = [("user", "a\x00"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    write_json_lines(tmp_path / "b.jsonl", {"messages": [{"role": role, "content": text} for role, text in talk]})
    assert "an earlier turn has a NUL character" in problems(tmp_path, "b.jsonl", template=None)[1]


def test_when_no_row_can_be_used_the_first_reason_is_given(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text("broken\n" * 3)
    assert problems(tmp_path, "a.jsonl", allow_bad=1.0) == (
        'task "t": none of its 3 rows can be used; the first: broken JSON: expecting value at column 1.',
    )


def test_without_a_template_the_shape_is_used_and_said(tmp_path: Path):
    write_json_lines(tmp_path / "a.jsonl", {"instruction": "Add.", "input": "1 2", "output": "3"})
    write_json_lines(tmp_path / "b.jsonl", {"prompt": "Sing.", "completion": "la"}, {"prompt": "Sing."})
    rows = read(tmp_path, ("a.jsonl", "b.jsonl"), template=None, allow_bad=0.5)
    assert [(row.values["prompt"], row.values["completion"]) for row in rows.rows] == [
        ("Add.\n\n1 2", "3"),
        ("Sing.", "la"),
    ]
    assert [(row.line, row.reason) for row in rows.set_aside] == [(2, 'column "completion" is not in this row')]
    assert rows.notes == (
        "a.jsonl: rows are read as Alpaca (instruction, input, output)",
        "b.jsonl: rows are read as prompt and completion",
    )
    assert rows.task.template is None


def test_a_shape_is_found_under_other_column_names(tmp_path: Path):
    write_json_lines(tmp_path / "a.jsonl", {"turns": [{"role": "user", "content": "q"}]})
    task = {"template": None, "columns": {"messages": "turns"}}
    assert problems(tmp_path, "a.jsonl", **task)[1].startswith("a.jsonl:1: no turn is the assistant's: ")


def test_files_with_and_without_a_shape_do_not_mix(tmp_path: Path):
    write_json_lines(tmp_path / "a.jsonl", {"prompt": "Sing.", "completion": "la"})
    write_json_lines(tmp_path / "b.jsonl", {"x": "Sing.", "y": "la"})
    assert problems(tmp_path, ("a.jsonl", "b.jsonl"), template=None) == (
        "b.jsonl: its columns are x, y, and it has none of the shapes that need no template. Give the task a template, "
        "or write all files alike.",
    )


def test_without_shape_and_template_columns_are_guessed_and_the_guess_is_written_down(tmp_path: Path):
    (tmp_path / "a.csv").write_text("article,summary\nlong text,short\n")
    rows = read(tmp_path, "a.csv", template=None)
    assert (rows.task.template, rows.task.columns) == ("text-summary", {"text": "article"})
    assert rows.rows[0].values["text"] == "long text"
    assert rows.notes == ('task "t": guessed template text-summary with article as prompt and summary as answer',)


def test_a_table_of_another_encoding_is_said_once(tmp_path: Path):
    (tmp_path / "a.csv").write_bytes(b"text,label\n" + b"caf\xe9,x\n" * 30 + b"tea,x\n")
    says = 'a.csv:2: this file is not UTF-8; 30 of its rows have other bytes. Save it as UTF-8 (in Excel: "CSV UTF-8").'
    assert problems(tmp_path, "a.csv") == (says,)
