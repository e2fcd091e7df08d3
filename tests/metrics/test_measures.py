from tunesmith.metrics.measures import CALIBRATION, TEXT, measure_sheet
from tunesmith.records import Example, Prediction


def example(*choices: str) -> Example:
    return Example(id="1", task="t", split="test", prompt="Lamp 7", target="a", references=("a",), choices=choices)


def prediction(text: str, **logprobs: float) -> Prediction:
    return Prediction(example_id="1", text=text, prompt_tokens=1, new_tokens=1, finish="stop", choice_logprobs=logprobs)


def test_ranked_answers_are_measured_by_their_confidence_and_written_ones_by_their_text() -> None:
    ranked = measure_sheet([example("a", "b")], [prediction("a", a=-1, b=-2)], candidate="c", task="t")
    written = measure_sheet([example()], [prediction("Lamp 8 of Ngozi")], candidate="c", task="t")
    assert ranked is not None
    assert written is not None
    assert tuple(one.metric for one in ranked.scores) == CALIBRATION
    assert tuple(one.metric for one in written.scores) == TEXT
    assert [one.value for one in written.scores] == [0, 0, 100, 100]


def test_a_choice_without_likelihoods_is_not_measured() -> None:
    assert measure_sheet([example("a", "b")], [prediction("a")], candidate="c", task="t") is None
