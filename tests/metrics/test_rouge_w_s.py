import pytest

from tunesmith.metrics.rouge_w_s import rouge_s, rouge_w

X = "a b c d e f g"


def test_rouge_w_prefers_the_unbroken_run_as_the_paper_prints_it() -> None:
    assert rouge_w("a b c d h i k", [X], weight=2).f1 == pytest.approx(4 / 7)
    assert rouge_w("a h b k c i d", [X], weight=2).f1 == pytest.approx(2 / 7)


def test_the_script_gives_both_the_same_and_a_perfect_answer_no_full_recall() -> None:
    values = [rouge_w(text, [X], weight=2, variant="rouge155") for text in ("a b c d h i k", "a h b k c i d")]
    assert values[0] == values[1] == (pytest.approx(4 / 7), pytest.approx(4 / 49), pytest.approx(1 / 7))
    assert rouge_w(X, [X], weight=2, variant="rouge155").recall == pytest.approx(1 / 7)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("police kill the gunman", 0.5), ("the gunman kill police", 1 / 6), ("the gunman police killed", 1 / 3)],
)
def test_rouge_s_counts_pairs_in_order(text: str, expected: float) -> None:
    assert rouge_s(text, ["police killed the gunman"], gap=None, stem=False).f1 == pytest.approx(expected)


def test_pairs_may_be_limited_to_near_words() -> None:
    assert rouge_s("a x b", ["a b"], gap=1).recall == 1.0
    assert rouge_s("a x b", ["a b"], gap=0).recall == 0.0


def test_the_script_leaves_out_the_last_single_word() -> None:
    assert rouge_s("cold", ["cold"], unigrams=True).f1 == 1.0
    assert rouge_s("cold", ["cold"], unigrams=True, variant="rouge155").f1 == 0.0


def test_the_best_reference_counts() -> None:
    assert rouge_w("a b", ["c d", "a b"]).f1 == rouge_s("a b", ["c d", "a b"]).f1 == 1.0


@pytest.mark.parametrize("variant", ["paper", "rouge155"])
def test_empty_texts_score_zero(variant: str) -> None:
    assert rouge_w("", ["a"], variant=variant) == rouge_s("", ["a"], variant=variant) == (0.0, 0.0, 0.0)
    assert rouge_w("a", [""], variant=variant) == rouge_s("b", ["a"], variant=variant) == (0.0, 0.0, 0.0)


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="weight must be at least 1"):
        rouge_w("a", ["a"], weight=0.5)
    with pytest.raises(ValueError, match="gap must be 0 or more, or None"):
        rouge_s("a", ["a"], gap=-1)
    with pytest.raises(ValueError, match="references must be a sequence of at least one text"):
        rouge_s("a", "a")
