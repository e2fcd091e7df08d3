"""How much an answer repeats itself: needs the answer alone.

Sources: S. Welleck et al., "Neural text generation with unlikelihood training", arXiv 1908.04319 (the share of repeated
n-grams); Y. Su et al., "A contrastive framework for neural text generation", arXiv 2202.06417 (the same with n = 3).
"""

import re
from collections.abc import Sequence

from tunesmith import __version__
from tunesmith.metrics.contract import Answers, Measured, Metric

SIZE = 3
_WORD = re.compile(r"\w+")


def repetition(text: str, *, size: int = SIZE) -> float:
    """Return 1 - different n-grams / all n-grams, from 0 to below 1; a text of fewer than n words repeats nothing.

    >>> repetition("no no no no no")
    0.6666666666666667
    """
    found = _grams(_words(text), size)
    return 1 - len(set(found)) / len(found) if found else 0.0


def longest_repeat(text: str) -> int:
    """Return how many words the longest run has that stands twice in the text without overlap.

    >>> longest_repeat("the lamp is late and the lamp is broken")
    3
    """
    found = _words(text)
    low, high = 0, len(found) // 2
    while low < high:  # a run that stands twice holds shorter ones that do
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _stands_twice(found, middle) else (low, middle - 1)
    return low


def _words(text: str) -> list[str]:
    """Return runs of letters and digits of any script, in lower case."""
    return _WORD.findall(text.lower())


def _stands_twice(found: Sequence[str], size: int) -> bool:
    first: dict[tuple[str, ...], int] = {}
    return any(place - first.setdefault(gram, place) >= size for place, gram in enumerate(_grams(found, size)))


def _grams(found: Sequence[str], size: int) -> list[tuple[str, ...]]:
    return [tuple(found[start : start + size]) for start in range(len(found) - size + 1)]


def _measure_share(names: Sequence[str], answers: Answers) -> dict[str, Measured]:
    values = tuple(100 * repetition(text) for text in answers.predictions)
    settings = f"n:{SIZE}|case:lower|words:unicode|agg:mean|tunesmith:{__version__}"
    return {name: Measured(f"{name}|{settings}", values) for name in names}


def _measure_longest(names: Sequence[str], answers: Answers) -> dict[str, Measured]:
    values = tuple(float(longest_repeat(text)) for text in answers.predictions)
    settings = f"without:overlap|case:lower|words:unicode|agg:mean|tunesmith:{__version__}"
    return {name: Measured(f"{name}|{settings}", values) for name in names}


REPETITION = Metric(measure=_measure_share, unit="%", better="lower")
LONGEST_REPEAT = Metric(measure=_measure_longest, unit="words", better="lower")
