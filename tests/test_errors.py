import re

import pytest

from tunesmith import errors
from tunesmith.errors import DataError, UserError, did_you_mean

CODES = {
    "UserError": 1,
    "UsageError": 2,
    "RecipeError": 3,
    "DataError": 4,
    "ResourceError": 5,
    "RefusedError": 6,
    "GateError": 7,
    "Interrupted": 75,
}


def test_every_kind_of_error_has_the_exit_code_that_is_promised() -> None:
    kinds = {name: kind for name, kind in vars(errors).items() if getattr(kind, "exit_code", None)}
    assert {name: kind.exit_code for name, kind in kinds.items()} == CODES


def test_every_kind_can_be_caught_as_a_user_error() -> None:
    assert all(issubclass(getattr(errors, name), UserError) for name in CODES)


def test_the_tree_in_the_module_text_names_every_kind_with_its_code() -> None:
    drawn = re.findall(r"^    [ ├└─]*(\w+) +(\d+)  ", errors.__doc__ or "", re.MULTILINE)
    assert {name: int(code) for name, code in drawn} == CODES


def test_one_problem_is_one_line() -> None:
    error = DataError("chats.csv:214: empty.")
    assert error.problems == ("chats.csv:214: empty.",)
    assert str(error) == "chats.csv:214: empty."


def test_several_problems_are_several_lines_in_their_order() -> None:
    error = DataError(f"line {number}" for number in (3, 1, 2))
    assert error.problems == ("line 3", "line 1", "line 2")
    assert str(error) == "line 3\nline 1\nline 2"


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("lorra", ' Did you mean "lora"?'),
        ("soft_prompt", ' Did you mean "soft-prompt"?'),
        ("LORA", ""),
        ("", ""),
    ],
)
def test_only_a_near_word_is_proposed(word: str, answer: str) -> None:
    assert did_you_mean(word, ["full", "lora", "soft-prompt"]) == answer
