from collections.abc import Callable
from pathlib import Path

import pytest

from tunesmith.errors import DataError
from tunesmith.metrics.tables import Row, read_table

Write = Callable[[str, str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    monkeypatch.chdir(tmp_path)

    def write(name: str, content: str | bytes) -> Path:
        path = Path(name)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def problems(path: Path) -> tuple[str, ...]:
    with pytest.raises(DataError) as caught:
        read_table(path)
    return caught.value.problems


def test_quoted_cells_may_span_lines_and_rows_know_where_they_begin(write: Write) -> None:
    path = write("a.csv", '\ufeffid,text\r\n1,"two\r\nlines, ""quoted"""\r\n\r\n2,one\r\n')
    table = read_table(path)
    assert table.columns == ("id", "text")
    assert table.rows == (
        Row(2, {"id": "1", "text": 'two\r\nlines, "quoted"'}),
        Row(5, {"id": "2", "text": "one"}),
    )
    assert table.notes == ()


@pytest.mark.parametrize(
    ("name", "content", "notes"),
    [
        ("a.tsv", "id\ttext\n1\ta,b\n", ()),
        ("a.csv", "id;text\n1;a,b\n", ("Cells are separated by semicolons.",)),
        ("a.csv", "id\ttext\n1\ta,b\n", ("Cells are separated by tabs.",)),
        ("a.jsonl", '\ufeff{"id": "1", "text": "a,b"}\n\n', ()),
        ("a.json", '[\n {"id": "1",\n  "text": "a,b"}]\n', ()),
    ],
)
def test_all_kinds_of_files_give_the_same_rows(write: Write, name: str, content: str, notes: tuple[str, ...]) -> None:
    table = read_table(write(name, content))
    assert [row.cells for row in table.rows] == [{"id": "1", "text": "a,b"}]
    assert table.notes == notes


def test_rows_of_json_know_their_lines(write: Write) -> None:
    listed = read_table(write("a.json", '\n[{"a": 1},\n\n{"a": "x\\ny"},\n{"a": 2}]'))
    assert [row.line for row in listed.rows] == [2, 4, 5]
    apart = read_table(write("a.jsonl", '\n{"a": 1}\n\n{"b": 2}'))
    assert [row.line for row in apart.rows] == [2, 4]


def test_columns_of_json_are_all_that_any_row_has(write: Write) -> None:
    assert read_table(write("a.jsonl", '{"a": 1}\n{"b": [1, null]}')).columns == ("a", "b")


def test_a_very_long_cell_is_no_mistake(write: Write) -> None:
    assert len(read_table(write("a.csv", f"text\n{'x' * 300_000}\n")).rows[0].cells["text"]) == 300_000


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.txt", "x", "a.txt: the name does not tell what kind of file this is. Use .csv, .tsv, .jsonl, .json."),
        ("a.csv", " \n", "a.csv: the file is empty. Write the table into it."),
        ("a.csv", "id,text\n", "a.csv: there are no rows. Write the table into it."),
        ("a.json", "[]", "a.json: there are no rows. Write the table into it."),
        ("a.csv", b"id\n1\n\xff\xfe\n", "a.csv:3: this is not UTF-8 text. Save the file as UTF-8."),
        ("a.csv", "a,b,a\n1,2,3\n", 'a.csv:1: column "a" is there twice. Give each its own name.'),
        ("a.csv", 'a\n"b\n', "a.csv:2: this row cannot be read (unexpected end of data). Check its quotes."),
        ("a.json", '{"a": 1}', "a.json: this is not a list of objects. Write [{...}, {...}], or use .jsonl."),
        ("a.json", '[{"a": 1}\n{"a": 2}]', "a.json:2: this is not JSON (Expecting ',' or ']'). Mend this line."),
        ("a.json", '[{"a": 1},\n', "a.json:2: this is not JSON (Expecting value). Mend this line."),
        ("a.json", '[{"a": 1}]\n[{"a": 2}]', "a.json:2: this is not JSON (Extra data). Mend this line."),
        ("a.json", "[1]", "a.json:1: this is not an object with named columns. Write {...}."),
    ],
)
def test_files_that_cannot_be_read_say_why(write: Write, name: str, content: str | bytes, expected: str) -> None:
    assert problems(write(name, content)) == (expected,)


def test_a_missing_file_is_named(write: Write) -> None:
    assert problems(Path("no.csv")) == ("no.csv: there is no such file. Check the name.",)
    assert problems(Path()) == (".: this is a folder. Name the file in it.",)


def test_all_bad_rows_are_named_at_once(write: Write) -> None:
    assert problems(write("a.csv", "a,b\n1,2\n1\n1,2,3\n")) == (
        "a.csv:3: this row has 1 cell, the header has 2. Put quotes around cells that hold separators.",
        "a.csv:4: this row has 3 cells, the header has 2. Put quotes around cells that hold separators.",
    )
    assert problems(write("a.jsonl", '{"a": 1}\n{"a": \n[1]\n')) == (
        "a.jsonl:2: this line is not JSON (Expecting value). Write one object on each line.",
        "a.jsonl:3: this is not an object with named columns. Write {...}.",
    )
