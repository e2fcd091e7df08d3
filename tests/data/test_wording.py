import pytest

from tunesmith.data.rows import Row
from tunesmith.data.wording import input_text, normalised, words
from tunesmith.records import Message


@pytest.mark.parametrize(
    "text",
    [
        "Customer: Where IS my order?\nAgent: On its way.",
        "customer:   where is my order\nagent: on   its way",
        "#Person1#: Where is my order? \n#Person2#: On its way!",
        "Where is my order?\nOn its way.",
        "[Anna-Lena O'Neil]: Where is my order?\n\n\n<bot>: On its way…",
        "Where is my order?\r\n\uff2fn its way",
    ],
)
def test_case_marks_spacing_and_speakers_make_no_difference(text: str):
    assert normalised(text) == "where is my order on its way"


def test_times_and_colons_inside_a_line_stay():
    assert words("Meet at 6:40, room: 12") == ["meet", "at", "6", "40", "room", "12"]


def test_a_single_line_with_a_colon_is_no_conversation():
    assert words("Solve: 3 + 4") == ["solve", "3", "4"]
    assert normalised("Question 1: why") != normalised("Question 2: why")


def test_scripts_without_spaces_count_each_character():
    assert words("今日は寒い OK") == ["今", "日", "は", "寒", "い", "ok"]


def test_text_without_words_is_compared_as_it_is():
    assert normalised(" 😀?! ") == "😀?!"
    assert normalised("") == ""
    assert normalised("A:\nB:") == "A:\nB:"


def test_the_input_of_a_row_is_its_turns_and_its_columns():
    row = Row({"a": "x", "b": [1, "é"], "c": 2}, "a.csv", 1, history=(Message(role="user", content="before"),))
    assert input_text(row, ("b", "a")) == 'before\n[1, "é"]\nx'
