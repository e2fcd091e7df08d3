from pathlib import Path
from typing import Any

import pytest

from tunesmith.data.guess import guess_columns, task_name
from tunesmith.data.rows import Row
from tunesmith.data.sources import guess_task
from tunesmith.errors import DataError
from tunesmith.settings import TaskSettings


def guess(*values: dict[str, Any]) -> tuple[TaskSettings, str]:
    rows = [Row(value, "a.csv", number) for number, value in enumerate(values, 2)]
    return guess_columns(TaskSettings(name="t", source="a.csv"), rows)


def test_dialogue_and_summary_take_the_dialogue_template():
    task, note = guess({"id": "1", "dialogue": "A: hi", "summary": "A greets.", "topic": "x"})
    assert (task.template, task.columns, task.choices) == ("dialogue-summary", {}, ())
    assert note == 'task "t": guessed template dialogue-summary with dialogue as prompt and summary as answer'


def test_other_names_are_mapped_to_the_names_of_the_template():
    task, _ = guess({"Article": "Long.", "Highlights": "Short."})
    assert (task.template, task.columns) == ("text-summary", {"text": "Article", "summary": "Highlights"})
    task, _ = guess({"query": "Why?", "reply": "So."})
    assert (task.template, task.columns) == ("question-answer", {"question": "query", "answer": "reply"})
    task, _ = guess({"source": "Guten Tag", "translation": "Good day"})
    assert (task.template, task.columns) == ("prompt-completion", {"prompt": "source", "completion": "translation"})


def test_few_short_values_that_come_back_are_choices():
    task, note = guess(*({"review": f"text {n}", "stars": n % 3 + 1} for n in range(6)))
    assert (task.template, task.columns) == ("text-label", {"text": "review", "label": "stars"})
    assert task.choices == ("1", "2", "3")
    assert note == ('task "t": guessed template text-label with review as prompt and stars as answer, one of 1, 2, 3')


@pytest.mark.parametrize(
    "answers",
    [
        [f"answer {n}" for n in range(6)],
        ["a" * 41, "b"] * 3,
        ["one\nline"] * 3 + ["b"] * 3,
        ["same"] * 6,
        [f"{n}" for n in range(21)] * 2,
        [["a"], ["b"]] * 3,
    ],
)
def test_long_many_or_single_values_are_no_choices(answers: list[Any]):
    task, _ = guess(*({"text": f"t{n}", "label": answer} for n, answer in enumerate(answers)))
    assert task.choices == ()
    assert task.template == "prompt-completion"


def test_names_that_do_not_tell_are_an_error_that_shows_how_to_say_it():
    with pytest.raises(DataError) as error:
        guess({"a": "x", "b": "y"}, {"c": "z"})
    assert str(error.value) == (
        'task "t": the columns are a, b, c, and their names do not tell which is the prompt and which the answer. '
        'Say it in the recipe, for instance `template: {prompt: "{{ a }}", target: "{{ b }}"}` with your columns for '
        "a and b."
    )


def test_a_table_becomes_a_task(tmp_path: Path):
    path = tmp_path / "My Reviews.csv"
    path.write_text("Review,Sentiment\n" + "".join(f"text {n},{'good' if n % 2 else 'bad'}\n" for n in range(8)))
    assert guess_task(path) == TaskSettings(
        name="my-reviews",
        source=str(path),
        template="text-label",
        columns={"text": "Review", "label": "Sentiment"},
        choices=("bad", "good"),
    )


def test_rows_with_their_own_prompt_need_no_template(tmp_path: Path):
    path = tmp_path / "chats.jsonl"
    path.write_text('{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}\n')
    assert guess_task(path) == TaskSettings(name="chats", source=str(path))


@pytest.mark.parametrize(
    ("file", "name"), [("a.csv", "a"), ("Chats (2).csv", "chats-2"), ("élan.csv", "lan"), ("日本.csv", "task")]
)
def test_a_file_name_becomes_a_task_name(file: str, name: str):
    assert task_name(Path(file)) == name
    assert TaskSettings(name=name, source="x").name == name


def test_a_long_file_name_is_cut():
    assert task_name(Path("x" * 100 + ".csv")) == "x" * 64
