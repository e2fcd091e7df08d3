import random

import pytest

from tunesmith.metrics.porter import stem

ENDINGS = (
    "ational tional enci anci izer bli alli entli eli ousli ization ation ator alism iveness fulness ousness aliti "
    "iviti biliti fulli logi icate ative alize iciti ical ful ness al ance ence er ic able ible ant ement ment ent ion "
    "ou ism ate iti ous ive ize s es ed ing eed ied ies y ly e ll"
)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("caresses", "caress"),
        ("ponies", "poni"),
        ("agreed", "agre"),
        ("feed", "feed"),
        ("plastered", "plaster"),
        ("hopping", "hop"),
        ("hoping", "hope"),
        ("falling", "fall"),
        ("relational", "relat"),
        ("vietnamization", "vietnam"),
        ("triplicate", "triplic"),
        ("adoption", "adopt"),
        ("controlling", "control"),
        ("cease", "ceas"),
        ("2020s", "2020"),
    ],
)
def test_words_lose_their_endings_as_in_the_paper(word: str, expected: str) -> None:
    assert stem(word) == expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("skies", "sky"),
        ("dying", "die"),
        ("innings", "inning"),
        ("dies", "die"),
        ("died", "die"),
        ("spied", "spi"),
        ("enjoy", "enjoy"),
        ("fly", "fli"),
        ("is", "is"),
        ("theology", "theolog"),
        ("finally", "final"),
        ("yyyy", "yyyi"),
    ],
)
def test_departures_of_nltk_hold(word: str, expected: str) -> None:
    assert stem(word) == expected


def test_stems_equal_those_of_nltk_for_thousands_of_made_up_words() -> None:
    oracle = pytest.importorskip("nltk.stem.porter", reason="NLTK is only an oracle").PorterStemmer()
    rng = random.Random(0)
    words = {
        "".join(rng.choices("aeiouybcdlnstwxz1", k=rng.randint(0, 5)))
        + "".join(rng.choices(ENDINGS.split(), k=rng.randint(0, 3)))
        for _ in range(6_000)
    }
    assert {word: stem(word) for word in words} == {word: oracle.stem(word) for word in words}
