from math import e, log

import numpy as np
import pytest

from tunesmith.metrics.likelihood import best_choice, bits_of_sums, bits_per_byte, perplexity, perplexity_of_sums


def test_perplexity_is_the_number_of_equally_likely_choices() -> None:
    assert perplexity([log(1 / 4)] * 3) == pytest.approx(4)
    assert perplexity_of_sums(np.array([[2.0, 2.0], [0.0, 5.0]])) == pytest.approx([e, 1])


def test_one_bit_per_byte_halves_the_likelihood_at_each_byte() -> None:
    assert bits_per_byte([log(1 / 8), log(1 / 2)], 4) == pytest.approx(1)
    assert bits_of_sums(np.array([[log(16), 4.0]])) == pytest.approx([1])


def test_long_choices_win_only_when_length_is_taken_out() -> None:
    logprobs = {"blue": -3.0, "dark green": -4.0}
    assert best_choice(logprobs) == "blue"
    assert best_choice(logprobs, per_character=True) == "dark green"
    assert best_choice({"": -1.0, "no": -3.0}, per_character=True) == ""


def test_nothing_has_no_perplexity() -> None:
    with pytest.raises(ValueError, match="there are no log-likelihoods"):
        perplexity([])
    with pytest.raises(ValueError, match="the text has no bytes"):
        bits_per_byte([-1.0], 0)
