import json

import pytest

from tunesmith.data.jsonfiles import fault, read_json, read_json_lines
from tunesmith.data.rows import Table
from tunesmith.errors import DataError

MEND = " Mend it there; in a file with one object a line (.jsonl) only that row would be lost."


def lines(data: bytes, max_row_bytes: int = 1_000_000) -> Table:
    return read_json_lines("a.jsonl", data, max_row_bytes=max_row_bytes)


def array(text: str, max_row_bytes: int = 1_000_000) -> Table:
    return read_json("a.json", text.encode("utf-8", "surrogateescape"), max_row_bytes=max_row_bytes)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"a": 1', "broken JSON: expecting ',' delimiter at column 8"),
        (b"hello", "broken JSON: expecting value at column 1"),
        (b'{"a": 1} {"a": 2}', "broken JSON: extra data at column 10"),
        (b'{"a": NaN}', "broken JSON: the word NaN is not JSON; write null"),
        (b'{"a": 1, "a": 2}', 'broken JSON: key "a" stands in it twice'),
        (b'{"a": {"b": 1, "b": 2}}', 'broken JSON: key "b" stands in it twice'),
        (b"[1, 2]", "a list instead of an object"),
        (b'"text"', "a text instead of an object"),
        (b"3", "a number instead of an object"),
        (b"true", "true or false instead of an object"),
        (b"null", "null instead of an object"),
        (b'{"a": "caf\xe9"}', "bytes that are not UTF-8; save the file as UTF-8"),
        (b'{"a": "\xed\xa0\x80"}', "bytes that are not UTF-8; save the file as UTF-8"),
        (b'{"a": "' + b"x" * 300 + b'"}', "row of 309 bytes"),
        (b'{"a": ' + b"[" * 140, "broken JSON: expecting value at column 147"),
    ],
)
def test_a_bad_line_is_set_aside_with_its_reason_and_the_others_stay(line: bytes, reason: str):
    table = lines(b'{"a": 0}\n\n' + line + b'\n{"a": 9}\n', max_row_bytes=300)
    assert table.rows == ((1, {"a": 0}), (4, {"a": 9}))
    assert [(row.file, row.line, row.reason) for row in table.set_aside] == [("a.jsonl", 3, reason)]
    assert len(table.set_aside[0].excerpt) <= 80


def test_nesting_deeper_than_the_parser_goes_is_set_aside():
    deep = b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    assert lines(deep + b"\n").set_aside[0].reason == "nested too deep"


def test_line_separators_inside_a_text_do_not_end_a_line():
    assert lines('{"a": "x\u2028y\x85z"}\n'.encode()).rows == ((1, {"a": "x\u2028y\x85z"}),)


def test_an_array_gives_each_object_its_line():
    table = array('[\n {"a": 1},\n\n {"a":\n  2}, 7,\n {"a": 3} ]\n')
    assert table.rows == ((2, {"a": 1}), (4, {"a": 2}), (6, {"a": 3}))
    assert [(row.line, row.reason) for row in table.set_aside] == [(5, "a number instead of an object")]
    assert array("[]").rows == ()


def test_an_object_with_data_is_read_and_what_stands_beside_it_is_said():
    table = array('{"version": [1, 2],\n "data": [{"a": 1},\n {"a": 2}], "by": "us"}')
    assert table.rows == ((2, {"a": 1}), (3, {"a": 2}))
    assert table.notes == ("a.json: beside data it has version, by; not read",)
    assert array('{"data": [{"a": 1}]}').notes == ()


def test_json_lines_called_json_are_read_as_lines():
    table = array('{"a": 1}\n{"a": 2}\nbroken\n')
    assert table.rows == ((1, {"a": 1}), (2, {"a": 2}))
    assert table.notes == ("a.json: an object a line, read as JSON lines",)
    assert [row.line for row in table.set_aside] == [3]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[{"a": 1},\n {"a" 2}]', "a.json:2: broken JSON: expecting ':' delimiter at column 7."),
        ('[{"a": 1},\n {"a": 2},]', "a.json:2: broken JSON: a comma before ']' at column 11."),
        ('[{"a": 1}\n {"a": 2}]', "a.json:2: broken JSON: expecting ',' at column 2."),
        ('[{"a": 1}', "a.json:1: broken JSON: expecting ',' at column 10."),
        ('[{"a": 1}]\nmore', "a.json:2: broken JSON: text after the array at column 1."),
        ('[\n{"a": 1, "a": 2}]', 'a.json:2: broken JSON: key "a" stands in it twice at column 1.'),
        ('[\n{"a": Infinity}]', "a.json:2: broken JSON: the word Infinity is not JSON; write null at column 1."),
        ('{"a": 1, "a": 2}', 'a.json: broken JSON: key "a" stands in it twice.'),
        ("7", 'a.json:1: broken JSON: this is neither an array of objects, [...], nor {"data": [...]} at column 1.'),
        ("[" + "[" * 100_000, "a.json:1: broken JSON: nested too deep at column 2."),
    ],
)
def test_a_broken_array_stops_with_its_line(text: str, problem: str):
    with pytest.raises(DataError) as error:
        array(text)
    assert str(error.value) == problem + MEND


def test_an_object_without_rows_is_told_what_it_is():
    wanted = "and rows are wanted: "
    by_column = f"this is a table column by column (a, b), {wanted}[{{...}}, {{...}}]. Of pandas, " + (
        '`to_json(FILE, orient="records")` writes them.'
    )
    one = f'{wanted}an array of objects, [...], or {{"data": [...]}}.'
    for text, says in (
        ('{"a": [1, 2], "b": [3, 4]}', f"a.json:1: {by_column}"),
        ('\n{"a": {"0": 1, "1": 2}, "b": {"0": 3, "1": 4}}', f"a.json:2: {by_column}"),
        ('{"rows": [1]}', f"a.json:1: this is one object (rows), {one}"),
        ('{"data": {"a": 1}}', f"a.json:1: this is one object (data), {one}"),
        ('{"a": "hi", "b": "x"}', f"a.json:1: this is one object (a, b), {one}"),
    ):
        with pytest.raises(DataError) as error:
            array(text)
        assert str(error.value) == says


def test_bad_bytes_and_large_elements_of_an_array_are_set_aside():
    table = array('[{"a": "\udce9"}, {"a": "' + "x" * 300 + '"}, {"a": "ok"}]', max_row_bytes=200)
    assert [row.reason for row in table.set_aside] == [
        "bytes that are not UTF-8; save the file as UTF-8",
        "row of 309 bytes",
    ]
    assert [values for _, values in table.rows] == [{"a": "ok"}]


def test_two_thousand_objects_keep_their_lines():
    rows = [{"n": n, "t": "x\ny"} for n in range(2000)]
    table = array(json.dumps(rows, indent=1))
    assert [values for _, values in table.rows] == rows
    assert table.rows[1999][0] == 2 + 4 * 1999


def test_an_array_on_one_line_gives_each_object_its_number():
    table = read_json("a.json", b'[{"a": 1}, 7, {"a": 3}]', max_row_bytes=1_000_000)
    assert table.rows == ((1, {"a": 1}), (1, {"a": 3}))
    assert table.entries == (1, 3)
    assert [(row.file, row.line) for row in table.set_aside] == [("a.json[2]", 1)]
    assert array('[{"a": 1},\n{"a": 2}]').entries == ()


def test_a_text_without_its_end_is_told_in_one_sentence() -> None:
    with pytest.raises(ValueError, match="Unterminated") as error:
        json.loads('{"a": "b')
    assert fault(error.value) == "broken JSON: unterminated string starting at column 7"
