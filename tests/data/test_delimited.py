import csv
import io

import pytest

from tunesmith.data.delimited import read_delimited
from tunesmith.data.rows import Table
from tunesmith.errors import DataError


def read(text: str | bytes, name: str = "a.csv", max_row_bytes: int = 1_000_000) -> Table:
    data = text if isinstance(text, bytes) else text.encode()
    return read_delimited(name, data, max_row_bytes=max_row_bytes)


def reasons(table: Table) -> list[tuple[int, str]]:
    return [(row.line, row.reason) for row in table.set_aside]


def test_rows_have_the_line_where_they_begin_also_after_fields_of_several_lines_and_blank_lines():
    table = read('text,label\n"one\ntwo\n\nthree",x\n\n"a ""quoted"" word",y\nplain,z\n')
    assert table.rows == (
        (2, {"text": "one\ntwo\n\nthree", "label": "x"}),
        (7, {"text": 'a "quoted" word', "label": "y"}),
        (8, {"text": "plain", "label": "z"}),
    )
    assert table.set_aside == ()


@pytest.mark.parametrize(("delimiter", "spoken"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars")])
def test_the_delimiter_is_found_from_the_text_and_said(delimiter: str, spoken: str):
    table = read(f"text{delimiter}label\n" + f"well, yes, no{delimiter}x\n" * 3)
    assert table.rows[0] == (2, {"text": "well, yes, no", "label": "x"})
    assert table.notes == (f"a.csv: columns are separated by {spoken}",)


def test_commas_need_no_note_and_win_when_nothing_else_fits():
    assert read("text,label\na;b|c,x\n").notes == ()
    assert read("text\none word\n").rows == ((2, {"text": "one word"}),)


def test_tsv_means_tabs_whatever_else_is_in_the_line():
    table = read("a,b\tc\n1,2\t3\n", name="a.TSV")
    assert table.rows == ((2, {"a,b": "1,2", "c": "3"}),)
    assert table.notes == ()
    assert read("a,b,c\td\n1,2,3\t4\n", name="a.tsv").rows == ((2, {"a,b,c": "1,2,3", "d": "4"}),)
    assert read("text\none, two\n", name="a.tsv").rows == ((2, {"text": "one, two"}),)


def test_a_tsv_without_a_tab_in_its_header_is_read_by_what_separates_it_and_that_is_said():
    table = read("text,label\nhi,x\n", name="a.tsv")
    assert table.rows == ((2, {"text": "hi", "label": "x"}),)
    assert table.notes == ("a.tsv: columns are separated by commas",)


def test_rows_with_too_many_or_too_few_fields_are_set_aside():
    table = read('a,b\n1,2\n1,2,3\n1\n"x\ny",2,3\n3,4\n')
    assert [line for line, _ in table.rows] == [2, 7]
    assert reasons(table) == [
        (3, "3 fields, the header has 2"),
        (4, "1 field, the header has 2"),
        (5, "3 fields, the header has 2 (lines 5 to 6)"),
    ]
    assert table.set_aside[0].excerpt == "1,2,3"


def test_a_quote_that_never_closes_costs_only_its_own_row():
    table = read('a,b\n1,2\n"open,2\n3,4\n5,6\n')
    assert [line for line, _ in table.rows] == [2, 4, 5]
    assert reasons(table) == [(3, "a quote opens in this row and never closes")]


def test_text_after_a_closing_quote_is_set_aside():
    table = read('a,b\n"say "hi" now",2\n3,4\n"x\n"y",5\n')
    why = "text follows a closing quote; a quote inside a quoted field is written twice"
    assert [line for line, _ in table.rows] == [3]
    assert reasons(table) == [(2, why), (4, f"{why} (lines 4 to 5)")]


def test_a_carriage_return_inside_a_plain_field_is_set_aside():
    table = read("a,b\n1\r,2\n3,4\n")
    assert reasons(table) == [(2, "a carriage return stands outside quotes; let every line end in a line feed")]


def test_many_stray_quotes_are_read_in_one_go():
    table = read("a,b\n" + '"x\n1,2\n' * 2_001)
    assert len(table.rows) + len(table.set_aside) >= 1_000
    assert table.set_aside[-1].reason == "a quote opens in this row and never closes"
    assert table.rows[-1] == (4003, {"a": "1", "b": "2"})


def test_bytes_that_are_not_utf8_cost_their_row():
    table = read(b"a,b\ncaf\xe9,1\nna\xc3\xafve,2\n")
    assert table.rows == ((3, {"a": "naïve", "b": "2"}),)
    assert reasons(table) == [(2, "bytes that are not UTF-8; save the file as UTF-8")]
    assert table.set_aside[0].excerpt == "caf\\udce9,1"


def test_a_row_over_the_limit_is_set_aside_and_a_long_field_is_no_problem():
    table = read("a,b\n" + "x" * 200_000 + ",1\n" + "y" * 300_000 + ",2\n", max_row_bytes=250_000)
    assert [(line, len(values["a"])) for line, values in table.rows] == [(2, 200_000)]
    assert reasons(table) == [(3, "row of 300,003 bytes")]
    assert csv.field_size_limit() == 131_072


def test_header_problems_are_named_all_at_once():
    with pytest.raises(DataError) as error:
        read("\ntext,,label,text\n1,2,3,4\n")
    assert error.value.problems == (
        "a.csv:2: column 2 has no name. Name it, or delete the column.",
        'a.csv:2: 2 columns are named "text". Give each its own name.',
    )
    with pytest.raises(DataError) as error:
        read(b"t\xe9xt,label\n1,2\n")
    assert (
        str(error.value)
        == 'a.csv:1: the header has bytes that are not UTF-8. Save it as UTF-8 (in Excel: "CSV UTF-8").'
    )
    with pytest.raises(DataError) as error:
        read('"a"b,c\n1,2\n')
    assert str(error.value) == (
        "a.csv:1: the header line cannot be read: text follows a closing quote; a quote inside a quoted field is "
        "written twice."
    )
    with pytest.raises(DataError) as error:
        read("\n\n")
    assert str(error.value) == "a.csv: the file is empty. It needs a header line and rows."


def test_what_the_csv_module_writes_is_read_back():
    rows = [{"a": 'x "y", z\n', "b": ""}, {"a": "'", "b": " lead"}, {"a": ";;;", "b": "\t|"}]
    file = io.StringIO()
    writer = csv.DictWriter(file, ["a", "b"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    assert [values for _, values in read(file.getvalue()).rows] == rows
