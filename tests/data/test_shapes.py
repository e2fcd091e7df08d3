from typing import Any

import pytest

from tunesmith.data.rows import Row
from tunesmith.data.shapes import recognise
from tunesmith.records import Message


def convert(values: dict[str, Any]) -> Row | str:
    shape = recognise(values)
    assert shape is not None
    return shape.convert(Row(values, "a.jsonl", 1))


def pair(values: dict[str, Any]) -> tuple[str, Any, tuple[Message, ...]]:
    row = convert(values)
    assert isinstance(row, Row)
    return row.values["prompt"], row.values["completion"], row.history


def turns(*pairs: str) -> list[dict[str, str]]:
    roles = {"s": "system", "u": "user", "a": "assistant"}
    return [{"role": roles[text[0]], "content": text[2:]} for text in pairs]


@pytest.mark.parametrize(
    ("columns", "name"),
    [
        (["id", "prompt", "completion"], "prompt and completion"),
        (["messages"], "messages"),
        (["conversations", "id"], "ShareGPT (conversations)"),
        (["instruction", "input", "output"], "Alpaca (instruction, input, output)"),
        (["instruction", "output"], "Alpaca (instruction, input, output)"),
    ],
)
def test_shapes_are_known_by_their_columns(columns: list[str], name: str):
    shape = recognise(columns)
    assert shape is not None
    assert shape.name == name


def test_other_columns_have_no_shape():
    assert recognise(["dialogue", "summary", "prompt"]) is None


def test_prompt_and_completion_stay_as_they_are():
    assert pair({"prompt": " say x ", "completion": "x\n"}) == (" say x ", "x\n", ())
    assert pair({"prompt": "p", "completion": 4})[1] == 4
    assert pair({"prompt": "p", "completion": ["a", "b"]})[1] == ["a", "b"]


def test_alpaca_puts_the_input_under_the_instruction():
    assert pair({"instruction": "Add.", "input": "1 2", "output": "3"}) == ("Add.\n\n1 2", "3", ())
    assert pair({"instruction": "Sing.", "input": "", "output": "la"}) == ("Sing.", "la", ())
    assert pair({"instruction": "Sing.", "output": "la"}) == ("Sing.", "la", ())


def test_all_turns_but_the_last_answer_become_history_and_prompt():
    prompt, answer, history = pair({"messages": turns("s Be kind.", "u Hi", "a Hello", "u Bye", "a See you")})
    assert (prompt, answer) == ("Bye", "See you")
    assert [(m.role, m.content) for m in history] == [("system", "Be kind."), ("user", "Hi"), ("assistant", "Hello")]


def test_sharegpt_roles_are_translated():
    talk = [{"from": "system", "value": "S"}, {"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]
    prompt, answer, history = pair({"conversations": talk})
    assert (prompt, answer, [m.role for m in history]) == ("Q", "A", ["system"])


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"prompt": "", "completion": "x"}, 'column "prompt" is empty'),
        ({"prompt": "x", "completion": None}, 'column "completion" is empty'),
        ({"prompt": "x", "completion": []}, 'column "completion" is empty'),
        ({"prompt": ["x"], "completion": "y"}, 'column "prompt" is a list, not text'),
        ({"prompt": "x", "completion": {"a": 1}}, 'column "completion" is an object, not text'),
        ({"prompt": "x", "completion": True}, 'column "completion" is true or false, not text'),
        ({"prompt": "x", "completion": [["y"]]}, 'column "completion" is a list, not text'),
        ({"instruction": " ", "output": "x"}, 'column "instruction" is empty'),
        ({"instruction": "x", "input": {"a": 1}, "output": "x"}, 'column "input" is an object, not text'),
        ({"messages": "text"}, "there is no list of turns in it"),
        ({"messages": []}, "there is no list of turns in it"),
        ({"messages": ["hi"]}, "turn 1 is not an object"),
        ({"messages": [{"content": "x"}]}, 'turn 1 has no "role"'),
        ({"messages": [{"role": "user"}]}, 'turn 1 has no "content"'),
        (
            {"messages": [*turns("u x"), {"role": "tool", "content": "x"}]},
            'turn 2 has the unknown role "tool"; known are system, user, assistant',
        ),
        (
            {"messages": [{"role": ["user"], "content": "x"}]},
            "turn 1 has the unknown role \"['user']\"; known are system, user, assistant",
        ),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, 'turn 1 has a "content" that is not text'),
        ({"messages": turns("u x", "a  ")}, 'turn 2 has an empty "content"'),
        (
            {"messages": [*turns("u x"), {"role": "assistant", "content": "y", "tool_calls": []}]},
            'turn 2 has "tool_calls", which cannot be trained on here',
        ),
        ({"messages": turns("s x", "u y")}, "no turn is the assistant's"),
        ({"messages": turns("u x", "a y", "u z")}, "the last turn is not the assistant's"),
        ({"messages": turns("u x", "u y", "a z")}, "turn 2 is the user's where the assistant's is due"),
        ({"messages": turns("s x", "a y")}, "turn 2 is the assistant's where the user's is due"),
        ({"messages": turns("u x", "s y", "a z")}, "turn 2 is the system's where the assistant's is due"),
        ({"conversations": [{"from": "gpt", "value": "x"}]}, "turn 1 is the assistant's where the user's is due"),
        ({"conversations": [{"from": "human", "text": "x"}]}, 'turn 1 has no "value"'),
    ],
)
def test_rows_that_do_not_keep_to_their_shape_say_why(values: dict[str, Any], reason: str):
    assert convert(values) == reason
