import random

import pytest

from tunesmith.metrics.rouge import KINDS, read, rouge, text_notes

WORDS = "the cat cats running runs happily happy 42 U.S. it's well-known Straße ΣΊΣΥΦΟΣ İstanbul ... 猫"


def test_rouge_1_of_the_lecture_example() -> None:
    score = rouge("It is very cold outside", ["It is cold outside"])
    assert score["rouge1"] == (0.8, 1.0, pytest.approx(8 / 9))
    assert score["rouge2"] == (0.5, pytest.approx(2 / 3), pytest.approx(4 / 7))
    assert score["rougeL"] == score["rouge1"]


def test_a_repeated_word_counts_as_often_as_the_reference_has_it() -> None:
    assert rouge("cold cold cold cold", ["it is cold outside"], kinds=["rouge1"])["rouge1"].precision == 0.25
    assert rouge("a a a b", ["a a b b"], kinds=["rouge1"])["rouge1"].precision == 0.75


def test_rouge_l_ignores_line_breaks_and_rouge_lsum_does_not() -> None:
    score = rouge("d e f\na b c", ["a b c\nd e f"])
    assert score["rougeL"].f1 == 0.5
    assert score["rougeLsum"].f1 == 1.0


def test_only_words_of_more_than_three_letters_are_stemmed() -> None:
    assert read("ties running was", True).words == ("tie", "run", "was")
    assert read("is his goes", True).words == ("is", "his", "goe")
    assert read("ties running", False).words == ("ties", "running")


def test_stemming_can_be_turned_off() -> None:
    assert rouge("he walks", ["they walked"], kinds=["rouge1"])["rouge1"].f1 == 0.5
    assert rouge("he walks", ["they walked"], kinds=["rouge1"], stem=False)["rouge1"].f1 == 0.0


def test_the_best_reference_counts_for_each_kind_alone() -> None:
    score = rouge("a b c d", ["d c b a", "a b x y"], kinds=["rouge1", "rouge2"])
    assert score["rouge1"].f1 == 1.0
    assert score["rouge2"].f1 == pytest.approx(1 / 3)


@pytest.mark.parametrize(("prediction", "reference"), [("", "a"), ("a", ""), ("", ""), ("!?", "a"), ("a", "b")])
def test_empty_texts_score_zero(prediction: str, reference: str) -> None:
    assert set(rouge(prediction, [reference]).values()) == {(0.0, 0.0, 0.0)}


def test_one_word_has_no_bigrams() -> None:
    score = rouge("yes", ["yes"], kinds=["rouge1", "rouge2"])
    assert (score["rouge1"].f1, score["rouge2"].f1) == (1.0, 0.0)


@pytest.mark.parametrize("kind", ["rouge0", "rouge10", "rougel", "bleu", ""])
def test_unknown_kinds_are_refused(kind: str) -> None:
    with pytest.raises(ValueError, match=f"^unknown kind of ROUGE: {kind}$"):
        rouge("a", ["a"], kinds=["rouge1", kind])


@pytest.mark.parametrize("references", [[], "a text"])
def test_references_must_be_a_list_of_texts(references: list[str]) -> None:
    with pytest.raises(ValueError, match="references must be a sequence of at least one text"):
        rouge("a", references)


def test_a_note_tells_of_letters_that_rouge_does_not_see() -> None:
    assert text_notes(["доброе утро", "good morning", "...", ""], "references") == (
        "1 of 4 references are in letters that ROUGE does not see: it reads a-z and 0-9 alone, and scores them 0. "
        "Use chrf, which reads every script.",
    )


def test_a_note_tells_of_escaped_line_breaks() -> None:
    assert text_notes(["first\\nsecond", "first\nsecond"], "predictions of lora") == (
        "1 of 2 predictions of lora hold a backslash and an n instead of a line break. rougeLsum takes each of them "
        "for one line; put real line breaks.",
    )


@pytest.mark.parametrize("stem", [True, False])
def test_values_equal_those_of_rouge_score_bit_for_bit(stem: bool) -> None:
    rouge_scorer = pytest.importorskip("rouge_score.rouge_scorer", reason="rouge_score is only an oracle")
    kinds = [*KINDS, "rouge3", "rouge9"]
    oracle = rouge_scorer.RougeScorer(kinds, use_stemmer=stem)
    rng = random.Random(1)

    def text() -> str:
        words = WORDS.split()[: rng.randint(3, 17)]
        return "\n".join(" ".join(rng.choices(words, k=rng.randint(0, 12))) for _ in range(rng.randint(0, 5)))

    for _ in range(150):
        prediction, references = text(), [text() for _ in range(rng.randint(1, 3))]
        expected = {kind: tuple(score) for kind, score in oracle.score_multi(references, prediction).items()}
        assert rouge(prediction, references, kinds=kinds, stem=stem) == expected
