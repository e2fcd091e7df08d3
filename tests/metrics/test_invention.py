import json
from importlib.resources import files
from pathlib import Path

import pytest

from tunesmith.errors import DataError
from tunesmith.metrics.files import score_file
from tunesmith.metrics.invention import invented_entities, invented_numbers, number_words, numbers
from tunesmith.metrics.scoring import score_predictions, source_text
from tunesmith.records import Example, Message, Prediction

CHAT = (
    "Customer: Suitcase came off belt 5 in Gdańsk with three wheels. It left Malta with 4 wheels on Mon, 2 Jan.\n"
    "Agent: I've opened GDN-MV-40917 for 1,250.50 euros at 07:30. The second desk closes at half past six."
)


@pytest.mark.parametrize(
    ("text", "meanings"),
    [
        ("1000", [{"1000"}]),
        ("1,000", [{"1000", "1"}]),
        ("1.000", [{"1000", "1"}]),
        ("1,000,000", [{"1000000"}]),
        ("1.250,50 and 1,250.50", [{"1250.5"}, {"1250.5"}]),
        ("12.50", [{"12.5"}]),
        ("3,5", [{"3.5"}]),
        ("1\N{NARROW NO-BREAK SPACE}000", [{"1000"}]),
        ("007", [{"7"}]),
        ("$5, 5kg, 5% and the 5th", [{"5"}] * 4),
        ("12:30", [{"12"}, {"30"}]),
        ("2:500", [{"2"}, {"500"}]),
        ("12.05.2024", [{"12"}, {"5"}, {"2024"}]),
        ("GDN-MV-40917", [{"40917"}]),
        ("R8TQ2M", [{"r8tq2m"}]),
        ("4x4", [{"4x4"}]),
        ("$1.5 million", [{"1500000"}]),
        ("2 hundred thousand", [{"200000"}]),
        ("1.500 million", [{"1500000", "1500000000"}]),
        ("5k, 1.5m, 3bn, 4kb", [{"5", "5000"}, {"1.5", "1500000"}, {"3", "3000000000"}, {"4"}]),
        ("12 dozen millions, 4\nmillion", [{"144"}, {"4"}]),
        ("9" * 5000 + " thousand", [{"9" * 5000 + "000"}]),
        ("no number, 5\N{SUPERSCRIPT TWO} \N{SUPERSCRIPT TWO}", [{"5"}, {"\N{SUPERSCRIPT TWO}"}]),
        ("9" * 5000, [{"9" * 5000}]),
    ],
)
def test_what_a_number_may_mean(text: str, meanings: list[set[str]]) -> None:
    assert [set(found) for _, found in numbers(text)] == meanings


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("twenty-five", ["25"]),
        ("one hundred and five", ["100", "5"]),  # "and" also joins two numbers
        ("two thousand three hundred forty", ["2340"]),
        ("three million", ["3000000"]),
        ("a hundred", ["100"]),
        ("1.5 million and three", ["3"]),
        ("a dozen, two dozen, half a dozen, half a million", ["12", "24", "6", "500000"]),
        ("dozens", []),
        ("three five", ["3", "5"]),
        ("fifteen twenty", ["15", "20"]),
        ("zero", ["0"]),
        ("often attend", []),
    ],
)
def test_numbers_in_words(text: str, values: list[str]) -> None:
    assert [value for _, value in number_words(text)] == values


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("Belt 5 lost one of four wheels, so 3 are left.", ()),
        ("1250.50 euros, GDN-MV-40917, 7:30", ()),
        ("The 2nd desk closes at 6.", ()),
        ("It was belt 8.", ("8",)),
        ("Five wheels, 12 euros, 12 desks.", ("12",)),
        ("There were eight wheels.", ("eight",)),
        ("One of the two.", ()),
        ("Report GDN-MV-40918.", ("40918",)),
        ("", ()),
    ],
)
def test_numbers_that_the_source_lacks(answer: str, found: tuple[str, ...]) -> None:
    assert invented_numbers(answer, CHAT) == found


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("He paid $1.5 million.", "He paid 1,500,000 dollars."),
        ("12 eggs", "a dozen eggs"),
        ("6 eggs", "half a dozen eggs"),
        ("3 million people", "three million people"),
        ("1.5m euros", "1.5 million euros"),
    ],
)
def test_a_number_may_be_written_in_several_ways(one: str, other: str) -> None:
    assert invented_numbers(one, other) == invented_numbers(other, one) == ()


def test_the_word_after_digits_is_no_number_of_its_own() -> None:
    assert invented_numbers("1,000,000 or 2 million", "1.5 million") == ("1,000,000", "2 million")
    assert invented_numbers("between 1 and 1.5 million", "1 million to 1.5 million") == ()


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("The suitcase came from Malta to Gdańsk.", ()),
        ("A bag from Rome came late.", ("Rome",)),
        ("The agent sent it to New Jersey and to New Jersey again.", ("New Jersey",)),
        ("Bags arrive. Nobody knows.", ()),  # an unknown word at the beginning of a sentence is no name
        ("Sarah asks for a bag.", ("Sarah",)),  # but a first name is
        ("Quillan asks. Later Quillan leaves.", ("Quillan",)),  # and a word that is capitalised within one
        ("Casimir Borg lost his bag.", ("Casimir Borg",)),
        ("The Customer and Agent met Mr. Borg's wife.", ("Borg",)),
        ("On Monday in January.", ()),  # the chat has Mon and Jan
        ("On Tuesday.", ("Tuesday",)),
        ("MALTA AND ROME", ()),
        ("I think it's OK.", ()),
        ("- Rome\n- Malta", ()),  # the limit: items of a list begin sentences
        ("The bag of Malta's belt", ()),
        ("From Gdańsk-Malta to Gdańsk-Rome.", ("Gdańsk-Rome",)),
    ],
)
def test_names_that_the_source_lacks(answer: str, found: tuple[str, ...]) -> None:
    assert invented_entities(answer, CHAT) == found


def example(name: str, prompt: str, *history: str) -> Example:
    turns = tuple(Message(role="user", content=text) for text in history)
    return Example(id=name, task="t", split="test", prompt=prompt, target="x", references=("x",), history=turns)


def test_the_source_is_everything_that_was_asked() -> None:
    one = example("1", "And then?", "Order 4711 of Ngozi", "is late.")
    assert source_text(one) == "Order 4711 of Ngozi\nis late.\nAnd then?"


def test_summaries_written_by_people_are_hardly_ever_suspected() -> None:
    text = (files("tunesmith.data.support") / "chats.jsonl").read_text(encoding="utf-8")
    chats = [json.loads(line) for line in text.splitlines()]
    assert len(chats) > 400
    assert [chat["id"] for chat in chats if invented_numbers(chat["summary"], chat["dialogue"])] == []
    assert len([chat for chat in chats if invented_entities(chat["summary"], chat["dialogue"])]) <= 4


def test_a_score_is_the_share_of_answers_that_invent() -> None:
    examples = [example(str(n), "Lamp 7 of Ngozi.") for n in range(4)]
    texts = ("Lamp 7 of Ngozi", "Lamp 8 of Ngozi", "Lamp 7 of Tunde", "")
    answers = [
        Prediction(example_id=str(n), text=text, prompt_tokens=1, new_tokens=1, finish="stop")
        for n, text in enumerate(texts)
    ]
    names = ["invented-numbers", "invented-entities"]
    sheet = score_predictions(examples, answers, candidate="c", task="t", metrics=names)
    assert sheet.per_example == {"invented-numbers": (0, 100, 0, 0), "invented-entities": (0, 0, 100, 0)}
    assert [(one.value, one.unit, one.higher_is_better) for one in sheet.scores] == [(25, "%", False)] * 2


def test_a_file_needs_a_column_of_what_was_asked(tmp_path: Path) -> None:
    path = tmp_path / "answers.csv"
    path.write_text("dialogue,summary,model_pred\n" + "Lamp 7 is late.,Late lamp,Lamp 8 is late.\n" * 4)
    assert score_file(path, metrics=["invented-numbers"]).sheets[0].scores[0].value == 100
    path.write_text("summary,model_pred\nLate lamp,Lamp 8 is late.\n")
    with pytest.raises(DataError) as caught:
        score_file(path, metrics=["rouge1", "invented-numbers", "invented-entities"])
    assert str(caught.value) == (
        f"{path}: invented-numbers and invented-entities compare answers with what was asked, and no column holds "
        "that; it has summary, model_pred. Call one dialogue or document, or take the metric out."
    )
