import pytest

from tunesmith.data.characters import fault_in_text, is_empty
from tunesmith.data.rows import Row, check_share, excerpt, set_aside
from tunesmith.errors import DataError
from tunesmith.records import SetAside


def bad_rows(count: int) -> list[SetAside]:
    return [SetAside(file="a.csv", line=n, reason="broken", excerpt=f"row {n}") for n in range(2, 2 + count)]


def test_an_excerpt_has_at_most_80_characters_and_shows_what_is_invisible():
    assert excerpt("a  b\n\tc") == "a b c"
    assert excerpt("x" * 80) == "x" * 80
    assert excerpt("x" * 81) == "x" * 79 + "…"
    assert excerpt("x" * 20_000_000) == "x" * 79 + "…"
    assert excerpt("a\x00b\ud800") == "a\\x00b\\ud800"
    assert excerpt({"text": "é", "n": 1}) == '{"text": "é", "n": 1}'
    assert len(excerpt("\x01" * 80)) == 80


def test_a_row_that_is_set_aside_keeps_its_place():
    assert set_aside(Row({"text": "hi"}, "a.csv", 7), "no target") == SetAside(
        file="a.csv", line=7, reason="no target", excerpt='{"text": "hi"}'
    )


def test_characters_that_are_no_text_are_found_at_any_depth():
    assert fault_in_text("tab\tline\nreturn\rfeed\fé😀\x85") is None
    assert fault_in_text([{"a": ["x", {"b": "\x00"}]}]) == "NUL character"
    assert fault_in_text({"\x1b": 1}) == "control character U+001B"
    assert fault_in_text("\x7f") == "control character U+007F"
    assert fault_in_text("\ud83d") == "lone surrogate U+D83D"
    assert fault_in_text(4) is None


def test_empty_is_null_or_blank_but_not_zero():
    assert [is_empty(value) for value in (None, "", " \n", 0, False, [], "x")] == [True] * 3 + [False] * 4


def test_a_few_bad_rows_pass_and_too_many_stop_with_the_first_ten_and_the_way_out():
    check_share("t", bad_rows(1), read=100, allowed=0.01)
    check_share("t", [], read=0, allowed=0.0)
    with pytest.raises(DataError) as error:
        check_share("t", bad_rows(2), read=100, allowed=0.01)
    assert error.value.problems == (
        'task "t": 2 of 100 rows (2.0%) cannot be used; 1.0% may be set aside.',
        "a.csv:2: broken: row 2",
        "a.csv:3: broken: row 3",
        "Mend these rows, or set them aside with `data.allow_bad: 0.02` in the recipe.",
    )
    with pytest.raises(DataError) as error:
        check_share("t", bad_rows(13), read=300, allowed=0.0)
    assert error.value.problems[0] == 'task "t": 13 of 300 rows (4.3%) cannot be used; 0.0% may be set aside.'
    assert error.value.problems[10] == "a.csv:11: broken: row 11"
    assert error.value.problems[11:] == (
        "... and 3 more.",
        "Mend these rows, or set them aside with `data.allow_bad: 0.05` in the recipe.",
    )
    check_share("t", bad_rows(13), read=300, allowed=0.05)


def test_all_rows_are_never_set_aside_on_advice() -> None:
    bad = [SetAside(file="a.csv", line=2, reason="broken", excerpt="x")]
    with pytest.raises(DataError) as error:
        check_share("t", bad, read=1, allowed=0.01)
    assert error.value.problems[-1] == "Mend these rows."
