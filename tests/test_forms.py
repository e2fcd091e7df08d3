import pytest

from tunesmith.forms import FORMS, asked_form, final_answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Six and one is seven. The answer is 7.", "7"),
        ("The answer is 7. No, wrong.\nSo the answer is: 8", "8"),
        ("the answer is  yes .", "yes"),
        ("It is late.\nThe answer is order status.\n", "order status"),
        ("The answer is 3.14.", "3.14"),
        ("The answer is .", "."),
        ("The answer is", "The answer is"),
        (" yes\n", "yes"),
        ("", ""),
    ],
)
def test_the_final_answer_is_what_the_last_sentence_of_that_kind_says(text: str, answer: str) -> None:
    assert final_answer(text) == answer


def test_a_target_of_the_pattern_gives_its_answer_back() -> None:
    for answer in ("B", "42", "not entailment", "Mr. Bell", "1,200", "no."):
        assert final_answer(f"Reasons.\nThe answer is {answer}.") == answer


def test_test_rows_are_asked_in_the_first_plain_form() -> None:
    assert asked_form(("zero-shot",)) == "zero-shot"
    assert asked_form(("few-shot", "inverted")) == "zero-shot"
    assert asked_form(("few-shot", "chain-of-thought", "zero-shot")) == "chain-of-thought"
    assert asked_form(("zero-shot", "chain-of-thought")) == "zero-shot"
    assert {asked_form((form,)) for form in FORMS} == {"zero-shot", "chain-of-thought"}
