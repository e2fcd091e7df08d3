import pytest

from tunesmith.data.pronouns import neutral, swapped


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("He asks her.", "She asks him."),
        ("SHE IS LATE", "HE IS LATE"),
        ("It is her first order.", "It is his first order."),
        ("I told her that his is late.", "I told him that hers is late."),
        ("her", "him"),
        ("his.", "hers."),
        ("Hers, not his!", "His, not hers!"),
        ("she'll see for herself", "he'll see for himself"),
        ("He\N{RIGHT SINGLE QUOTATION MARK}s here", "She\N{RIGHT SINGLE QUOTATION MARK}s here"),
        ("The shepherd there heard this.", "The shepherd there heard this."),
        ("They are late.", "They are late."),
    ],
)
def test_he_and_she_change_places(text: str, expected: str) -> None:
    assert swapped(text) == expected


@pytest.mark.parametrize("text", ["She lost his lamp and he lost hers.", "Did he see her? He saw her lamp himself."])
def test_swapping_twice_gives_the_text_back(text: str) -> None:
    assert swapped(text) != text
    assert swapped(swapped(text)) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("She is late.", "They are late."),
        ("He wasn't there, she has it.", "They weren't there, they have it."),
        ("He tries, she watches, he goes.", "They try, they watch, they go."),
        ("She really wants it and he also needs it.", "They really want it and they also need it."),
        ("She called.", "They called."),
        ("What does she want?", "What do they want?"),
        ("How long has he had it?", "How long have they had it?"),
        ("Was he there?", "Were they there?"),
        ("So does she.", "So do they."),
        ("What's he doing?", "What are they doing?"),
        ("He's late, she's been ill.", "They're late, they've been ill."),
        ("She's told him. He's just seen it.", "They've told them. They've just seen it."),
        ("She's worried about it, he's called.", "They're worried about it, he's called."),
        ("She'd come if he'll ask.", "They'd come if they'll ask."),
        ("It is hers, ask him for his lamp.", "It is theirs, ask them for their lamp."),
        ("He did it himself.", "They did it themselves."),
        ("She passes the bus.", "They pass the bus."),
        ("she", "they"),
    ],
)
def test_they_comes_with_its_forms_and_its_verb(text: str, expected: str) -> None:
    assert neutral(text) == expected
