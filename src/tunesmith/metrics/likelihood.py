"""What a model thinks of the right answer: perplexity, bits per byte, and choices by likelihood.

Log-likelihoods are in nats and summed over the tokens of a text. Source of the length-normalised choice: the metric
``acc_norm`` of the LM evaluation harness, which divides by the number of characters.
"""

from collections.abc import Mapping, Sequence
from math import exp, fsum, log

import numpy as np

from tunesmith import __version__
from tunesmith.errors import DataError
from tunesmith.metrics.contract import Answers, Floats, Measured, Metric, mean


def perplexity(logprobs: Sequence[float]) -> float:
    """Return exp of the mean negative log-likelihood, in whatever unit the entries are (tokens, answers).

    Raises:
        ValueError: without entries.
    """
    if not logprobs:
        raise ValueError("there are no log-likelihoods")
    return exp(-fsum(logprobs) / len(logprobs))


def bits_per_byte(logprobs: Sequence[float], text_bytes: int) -> float:
    """Return the bits that the text costs per byte of its UTF-8 form.

    Args:
        logprobs: nats; their sum is the log-likelihood of the whole text.
        text_bytes: length of that text.

    Raises:
        ValueError: for a text of no bytes.
    """
    if text_bytes < 1:
        raise ValueError("the text has no bytes")
    return -fsum(logprobs) / text_bytes / log(2)


def best_choice(logprobs: Mapping[str, float], *, per_character: bool = False) -> str:
    """Return the choice of highest log-likelihood, or of highest log-likelihood per character.

    >>> logprobs = {"blue": -3.0, "dark green": -4.0, "red": -3.5}
    >>> best_choice(logprobs), best_choice(logprobs, per_character=True)
    ('blue', 'dark green')
    """
    return max(logprobs, key=lambda choice: logprobs[choice] / (max(1, len(choice)) if per_character else 1))


def perplexity_of_sums(sums: Floats) -> Floats:
    """Return the perplexity from sums (R, 2): negative log-likelihood and number of answers."""
    return np.asarray(np.exp(mean(sums)))


def bits_of_sums(sums: Floats) -> Floats:
    """Return bits per byte from sums (R, 2): negative log-likelihood in nats and bytes."""
    return mean(sums) / log(2)


def _right_answers(name: str, answers: Answers) -> list[tuple[str, float]]:
    """Return the right choice of every example and its log-likelihood."""
    found = [(texts[0], ranks[texts[0]]) for texts, ranks in _ranked(answers) if texts[0] in ranks]
    absent = len(answers.predictions) - len(found)
    if absent:
        raise DataError(
            f'metric "{name}" needs the log-likelihood of the right answer, and {absent} of '
            f"{len(answers.predictions)} predictions have none. Give the task choices, or take the metric out."
        )
    return found


def _ranked(answers: Answers) -> list[tuple[tuple[str, ...], Mapping[str, float]]]:
    return list(zip(answers.references, answers.choice_logprobs, strict=True))


def _measure_choice(names: Sequence[str], answers: Answers) -> dict[str, Measured]:
    measured = {}
    for name in names:
        right = _right_answers(name, answers)
        ranks = answers.choice_logprobs
        pairs = zip(right, ranks, strict=True)
        values = tuple(100.0 * (best_choice(ranked, per_character=True) == text) for (text, _), ranked in pairs)
        measured[name] = Measured(f"{name}|by:logprob-per-character|agg:mean|tunesmith:{__version__}", values)
    return measured


def _measure_cost(names: Sequence[str], answers: Answers) -> dict[str, Measured]:
    measured = {}
    for name in names:
        right = _right_answers(name, answers)
        by_byte = name == "bits-per-byte"
        counts = tuple((-logprob, float(len(text.encode()) if by_byte else 1)) for text, logprob in right)
        per = "byte" if by_byte else "answer"
        measured[name] = Measured(f"{name}|of:right-answer|per:{per}|tunesmith:{__version__}", counts=counts)
    return measured


ACCURACY_NORM = Metric(measure=_measure_choice, unit="%", right_or_wrong=True, needs_choices=True)
PERPLEXITY = Metric(
    measure=_measure_cost, unit="per answer", better="lower", finish=perplexity_of_sums, needs_choices=True,
    for_each=False,
)  # fmt: skip
BITS_PER_BYTE = Metric(
    measure=_measure_cost, unit="bits per byte", better="lower", finish=bits_of_sums, needs_choices=True, for_each=False
)
