from itertools import pairwise
from random import Random

import pytest

from tunesmith.metrics.repetition import longest_repeat, repetition


@pytest.mark.parametrize(
    ("text", "share", "longest"),
    [
        ("", 0, 0),
        ("one", 0, 0),
        ("no no", 0, 1),
        ("the lamp is broken", 0, 0),
        # 6 trigrams, 3 different
        ("it is late it is late it is", 3 / 6, 3),
        ("a b c a b c", 1 / 4, 3),
        ("No no NO no", 1 / 2, 2),
        ("Da ist es. Da ist es, ja.", 1 / 5, 3),
    ],
)
def test_hand_worked_texts(text: str, share: float, longest: int) -> None:
    assert repetition(text) == pytest.approx(share)
    assert longest_repeat(text) == longest


def test_the_size_of_the_runs_can_be_chosen() -> None:
    assert repetition("a b a b", size=2) == pytest.approx(1 / 3)
    assert repetition("a b a b", size=1) == pytest.approx(1 / 2)


def by_trying(words: list[str]) -> int:
    spans = [
        (first, second, size)
        for size in range(1, len(words) // 2 + 1)
        for first in range(len(words))
        for second in range(first + size, len(words) - size + 1)
    ]
    return max((n for a, b, n in spans if words[a : a + n] == words[b : b + n]), default=0)


def test_the_longest_repeat_is_found_by_trying_all_spans() -> None:
    random = Random(1)
    for _ in range(200):
        words = random.choices("abc", k=random.randint(0, 14))
        assert longest_repeat(" ".join(words)) == by_trying(words), words


def test_a_text_said_once_more_repeats_more() -> None:
    text = "the agent sent a new lamp on monday"
    shares = [repetition(" ".join([text] * times)) for times in range(1, 5)]
    assert all(a < b for a, b in pairwise(shares))
