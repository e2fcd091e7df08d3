"""Whether a model's confidence can be trusted: from the likelihoods of all choices of every example.

The confidence of an answer is the highest probability of the softmax over the log-likelihoods of the choices. Sources:
C. Guo et al., "On calibration of modern neural networks", arXiv 1706.04599 (ECE); P. Liang et al., "Holistic evaluation
of language models", arXiv 2211.09110 (ten bins of equal mass, selective accuracy, area under coverage); G. Brier,
"Verification of forecasts expressed in terms of probability", 1950. Bins and coverage are those of the package
uncertainty-calibration, which HELM uses.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from tunesmith import __version__
from tunesmith.errors import DataError
from tunesmith.metrics.classification import is_exact
from tunesmith.metrics.contract import Answers, Floats, Measured, Metric

BINS = 10
ENOUGH = 300  # examples from which on an ECE of ten bins says something
_CELLS = 200  # steps in which coverage is followed where there are more different confidences


def probabilities(logprobs: Mapping[str, float]) -> dict[str, float]:
    """Return the softmax over the log-likelihoods of the choices.

    >>> probabilities({"yes": -1.0, "no": -1.0})
    {'yes': 0.5, 'no': 0.5}
    """
    values = np.array(list(logprobs.values()), dtype=np.float64)
    weights = np.exp(values - values.max())
    return dict(zip(logprobs, (weights / weights.sum()).tolist(), strict=True))


def equal_mass_edges(confidences: Floats, bins: int) -> Floats:
    """Return the upper edges of bins that hold about equally many of ``confidences`` (n,); the last one is 1.

    An edge lies in the middle between the neighbours that it parts. Equal confidences share a bin.
    """
    parts = np.array_split(np.sort(confidences), min(bins, len(confidences)))
    middles = [(low[-1] + high[0]) / 2 for low, high in pairwise(parts)]
    return np.unique([*middles, 1.0])


def bin_columns(counts: Floats, edges: Floats) -> Floats:
    """Return what each example adds to its bin (n, 3 B): itself, its confidence, whether it is right.

    Args:
        counts: (n, 2), confidence and 1 or 0 for right or wrong.
        edges: (B,), upper edges; an edge belongs to the bin below it.
    """
    inside = np.searchsorted(edges, counts[:, 0])[:, None] == np.arange(len(edges))
    return np.concatenate(
        [inside * column for column in (np.ones((len(counts), 1)), *np.split(counts, 2, axis=1))], axis=1
    )


def error_of_sums(sums: Floats) -> Floats:
    """Return the calibration error in % from sums (R, 3 B): how far confidence and accuracy are apart."""
    n, confidence, right = np.split(sums, 3, axis=1)
    return np.asarray(100 * np.abs(confidence - right).sum(axis=1) / n.sum(axis=1))


def ten_bins(counts: Floats) -> Floats:
    """Return ``bin_columns`` of ten bins of equal mass. They are cut once: resamples are sorted into the same bins."""
    return bin_columns(counts, equal_mass_edges(counts[:, 0], BINS))


def one_bin(counts: Floats) -> Floats:
    """Return ``bin_columns`` of a single bin."""
    return bin_columns(counts, np.ones(1))


def coverage_columns(counts: Floats) -> Floats:
    """Return what each example adds to its step of coverage (n, 2 C): itself, and whether it is right.

    Steps go from the most confident answer to the least. Equal confidences share one. Above 200 examples, steps grow
    with the rank, by less than 5 % up to 10,000 examples; the one that ends with the surest tenth is always there.
    """
    n = len(counts)
    falling = np.sort(-counts[:, 0])
    last = np.arange(1, n + 1)
    if n > _CELLS:
        last = np.unique(np.rint([*np.geomspace(1, n, _CELLS), n // 10 + 1]).astype(int))
    edges = np.unique(falling[last - 1])
    size, _, right = np.split(bin_columns(counts * (-1, 1), edges), 3, axis=1)
    return np.concatenate([size, right], axis=1)


def area_of_sums(sums: Floats) -> Floats:
    """Return the area under accuracy against coverage in % from sums (R, 2 C): accuracy of the k surest, mean over k.

    Within a step every order is equally likely.
    """
    size, right = np.split(sums, 2, axis=1)
    ends, rights = size.cumsum(axis=1), right.cumsum(axis=1)
    starts = ends - size
    most = int(np.rint(ends[:, -1].max()))
    harmonic = np.concatenate([[0.0], (1 / np.arange(1, most + 1)).cumsum()])
    reach = harmonic[np.rint(ends).astype(int)] - harmonic[np.rint(starts).astype(int)]
    share = right / np.maximum(size, 1)
    return np.asarray(100 * (right + (rights - right - starts * share) * reach).sum(axis=1) / ends[:, -1])


def surest_of_sums(sums: Floats) -> Floats:
    """Return the accuracy in % of the surest tenth, rounded down and one more, from sums (R, 2 C)."""
    size, right = np.split(sums, 2, axis=1)
    ends = size.cumsum(axis=1)
    wanted = np.floor(ends[:, -1:] / 10 + 1e-9) + 1
    taken = np.clip(wanted - (ends - size), 0, size)
    return np.asarray(100 * (taken * right / np.maximum(size, 1)).sum(axis=1) / wanted[:, 0])


def _ranked(names: Sequence[str], answers: Answers) -> list[dict[str, float]]:
    absent = sum(not ranks for ranks in answers.choice_logprobs)
    if absent:
        raise DataError(
            f'metric "{names[0]}" needs the log-likelihood of every choice, and {absent} of '
            f"{len(answers.predictions)} predictions have none. Give the task choices, or take the metric out."
        )
    return [probabilities(ranks) for ranks in answers.choice_logprobs]


def _measure_confidence(names: Sequence[str], answers: Answers) -> dict[str, Measured]:
    right = [
        float(is_exact(text, accepted)) for text, accepted in zip(answers.predictions, answers.references, strict=True)
    ]
    pairs = zip(_ranked(names, answers), right, strict=True)
    counts = tuple((max(chances.values()), hit) for chances, hit in pairs)
    bins = {"ece": "|bins:10-equal-mass", "ece-1": "|bins:1", "selective-accuracy": "|coverage:10 %"}
    settings = f"confidence:softmax-of-choices|tunesmith:{__version__}"
    return {name: Measured(f"{name}{bins.get(name, '')}|{settings}", counts=counts) for name in names}


def _measure_brier(names: Sequence[str], answers: Answers) -> dict[str, Measured]:
    values = []
    for chances, accepted in zip(_ranked(names, answers), answers.references, strict=True):
        wanted = max((text.strip() for text in accepted), key=lambda text: chances.get(text, 0.0))
        missing = 0.0 if wanted in chances else 1.0
        values.append(sum((chance - (choice == wanted)) ** 2 for choice, chance in chances.items()) + missing)
    settings = f"sum-over:choices|agg:mean|tunesmith:{__version__}"
    return {name: Measured(f"{name}|{settings}", tuple(values)) for name in names}


ECE = Metric(
    measure=_measure_confidence, unit="%", better="lower", columns=ten_bins, finish=error_of_sums, needs_choices=True,
    for_each=False,
)  # fmt: skip
ECE_ONE_BIN = Metric(
    measure=_measure_confidence, unit="%", better="lower", columns=one_bin, finish=error_of_sums, needs_choices=True,
    for_each=False,
)  # fmt: skip
SELECTIVE = Metric(
    measure=_measure_confidence, unit="%", columns=coverage_columns, finish=surest_of_sums, needs_choices=True,
    for_each=False,
)  # fmt: skip
COVERAGE = Metric(
    measure=_measure_confidence, unit="%", columns=coverage_columns, finish=area_of_sums, needs_choices=True,
    for_each=False,
)  # fmt: skip
BRIER = Metric(measure=_measure_brier, unit="squared error", better="lower", needs_choices=True)
