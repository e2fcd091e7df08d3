"""Intervals and paired tests by resampling, McNemar's exact test, and Holm's correction for many tests.

Examples that belong together (one dialogue with three summaries, one customer) are drawn together: the group is the
unit that is resampled. All draws come from ``numpy.random.default_rng(seed)``, so the same scores and the same seed
give the same interval in every process. Sources: B. Efron and R. Tibshirani, "An introduction to the bootstrap",
1993, chapters 13 and 16; P. Koehn, "Statistical significance tests for machine translation evaluation", 2004;
Q. McNemar, Psychometrika 12, 1947; S. Holm, Scandinavian Journal of Statistics 6, 1979.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from tunesmith.metrics.contract import Finish, Floats, mean, per_example

RESAMPLES = 10_000
_GRID = 2.0**30  # values are rounded to 1e-9, so that sums are exact and do not depend on the order of adding
_DRAWS_AT_ONCE = 2_000_000  # bounds memory to some 50 MB


@dataclass(frozen=True, slots=True)
class Interval:
    """The middle 95 % of the resampled values."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """First minus second on the same examples."""

    value: float
    low: float  # 95 % interval
    high: float
    p_value: float  # two-sided


def bootstrap_mean(
    values: Sequence[float] | Floats,
    *,
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """Return the 95 % percentile interval of the mean of ``values``.

    Args:
        values: one per example.
        groups: the independent unit of each example; None means that every example is its own.
        seed: of the draws.
        resamples: number of draws.
    """
    return bootstrap_corpus(per_example(values), mean, groups=groups, seed=seed, resamples=resamples)


def bootstrap_corpus(
    counts: Floats,
    finish: Finish,
    *,
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """Return the 95 % percentile interval of a value that is computed from sums over all examples.

    Args:
        counts: (n, K), what each example adds to the sums.
        finish: turns sums (R, K) into values (R,).
        groups: the independent unit of each example.
        seed: of the draws.
        resamples: number of draws.
    """
    return interval(resample(counts, finish, groups=groups, seed=seed, resamples=resamples))


def paired_difference(
    first: Sequence[float] | Floats,
    second: Sequence[float] | Floats,
    *,
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Difference:
    """Compare two candidates by the mean of their values on the same examples, by paired bootstrap.

    Args:
        first: one value per example.
        second: values of the same examples in the same order.
        groups: the independent unit of each example.
        seed: of the draws.
        resamples: number of draws.

    Raises:
        ValueError: if the lengths differ.
    """
    if len(first) != len(second):
        raise ValueError(f"values of different examples: {len(first)} and {len(second)}")
    counts, finish = together([(per_example(first), mean), (per_example(second), mean)])
    values = finish(counts.sum(axis=0, keepdims=True))[0]
    samples = resample(counts, finish, groups=groups, seed=seed, resamples=resamples)
    units = unit_count(groups, len(first))
    return paired_samples(float(values[0] - values[1]), samples[:, 0] - samples[:, 1], units=units)


def paired_samples(value: float, differences: Floats, *, units: int) -> Difference:
    """Return interval and two-sided p from resampled differences (R,).

    The share of resamples on the far side of zero cannot tell apart what few units allow: with G of them, an exact
    test that flips signs has no p below 2 / 2^G, so neither has this one.
    """
    resamples = len(differences)
    beyond = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    p_value = min(1.0, 2 * (beyond + 1) / (resamples + 1))
    spread = interval(differences)
    return Difference(value, spread.low, spread.high, max(p_value, min(1.0, 2.0 ** (1 - units))))


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> float:
    """Return the exact two-sided p that two candidates are right equally often on the same examples.

    Only the examples where one is right and the other wrong count. Four flips one way and two the other way:

    >>> mcnemar([True] * 4 + [False] * 2, [False] * 4 + [True] * 2)
    0.6875
    """
    only_first = sum(a and not b for a, b in zip(first, second, strict=True))
    only_second = sum(b and not a for a, b in zip(first, second, strict=True))
    flips = only_first + only_second
    tail, ways = 0, 1
    for count in range(min(only_first, only_second) + 1):
        tail += ways
        ways = ways * (flips - count) // (count + 1)
    return min(1.0, 2 * tail / (1 << flips))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number: the chance that any of them is a false alarm stays theirs.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = highest
    return corrected


def interval(samples: Floats) -> Interval:
    """Return the 2.5 % and 97.5 % quantiles of ``samples`` (R,)."""
    low, high = np.quantile(samples, (0.025, 0.975))
    return Interval(float(low), float(high))


def unanimous_interval(right: bool, units: int) -> Interval:
    """Return the exact 95 % interval in % where all examples are right, or all wrong: resampling sees no spread there.

    Source: C. Clopper and E. Pearson, "The use of confidence or fiducial limits", Biometrika 26, 1934.

    >>> round(unanimous_interval(True, 10).low, 1)
    69.2
    """
    edge = 100 * 0.025 ** (1 / units)
    return Interval(edge, 100.0) if right else Interval(0.0, 100.0 - edge)


def flipped(found: Difference, first: Sequence[bool], second: Sequence[bool], *, units: int) -> Difference:
    """Return a difference in right answers with what resampling cannot see.

    Where every example stands for itself, p is McNemar's. Where both are right and wrong on the same examples, the
    interval is the exact one: none of so many has flipped.

    Args:
        found: First minus second, in %.
        first: Whether each answer of the first one is right.
        second: And of the second one.
        units: Independent ones among the examples.
    """
    p_value = mcnemar(first, second) if units == len(first) else found.p_value
    if first == second:
        edge = unanimous_interval(False, units).high
        return Difference(found.value, -edge, edge, p_value)
    return Difference(found.value, found.low, found.high, p_value)


def share_interval(right: float, n: float) -> Interval:
    """Return the 95 % interval of a share in %, good for few examples too.

    Source: E. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22, 1927.

    >>> found = share_interval(8, 10)
    >>> round(found.low, 1), round(found.high, 1)
    (49.0, 94.3)
    """
    z = 1.959964
    share, scale = right / n, 1 + z**2 / n
    middle, half = share + z**2 / (2 * n), z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return Interval(float(100 * max(0.0, (middle - half) / scale)), float(100 * min(1.0, (middle + half) / scale)))


def unit_count(groups: Sequence[Hashable] | None, examples: int) -> int:
    """Return how many independent units there are."""
    return examples if groups is None else len(set(groups))


def together(parts: Sequence[tuple[Floats, Finish]]) -> tuple[Floats, Finish]:
    """Join several counts (n, K1), (n, K2), ... of the same examples, to be drawn together.

    Returns:
        Counts (n, K1 + K2 + ...), and a function that turns their sums (R, K1 + K2 + ...) into values (R, parts).
    """
    ends = np.cumsum([counts.shape[1] for counts, _ in parts])[:-1]

    def finish(sums: Floats) -> Floats:
        pieces = zip(parts, np.split(sums, ends, axis=1), strict=True)
        return np.stack([one(piece) for (_, one), piece in pieces], axis=1)

    return np.concatenate([counts for counts, _ in parts], axis=1), finish


def resample(
    counts: Floats,
    finish: Finish,
    *,
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Floats:
    """Draw the groups with replacement, as many as there are, and finish the sums of what their examples hold.

    The draws depend on the seed and on the number of groups alone: several metrics or candidates that are drawn
    together, or one after the other, meet the same resamples.

    Args:
        counts: (n, K), one row per example.
        finish: turns sums (R, K) into values (R,) or (R, M).
        groups: the independent unit of each example; None means that every example is its own.
        seed: of the draws.
        resamples: R, number of draws.

    Returns:
        What ``finish`` makes of each resample: (R,) or (R, M).

    Raises:
        ValueError: without examples, or if groups and examples differ in number.
    """
    if len(counts) == 0:
        raise ValueError("there is nothing to resample")
    if groups is not None and len(groups) != len(counts):
        raise ValueError(f"{len(counts)} examples, but {len(groups)} groups")
    sums = _group_sums(np.rint(counts * _GRID) / _GRID, groups)
    units = len(sums)
    random = np.random.default_rng(seed)
    rows_at_once = max(1, _DRAWS_AT_ONCE // max(sums.shape))
    values = []
    for start in range(0, resamples, rows_at_once):
        rows = min(rows_at_once, resamples - start)
        draws = random.integers(0, units, size=(rows, units)) + units * np.arange(rows)[:, None]
        times = np.bincount(draws.ravel(), minlength=rows * units).reshape(rows, units)
        values.append(finish(times.astype(np.float64) @ sums))
    return np.concatenate(values)


def _group_sums(counts: Floats, groups: Sequence[Hashable] | None) -> Floats:
    if groups is None:
        return counts
    place = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    sums = np.zeros((len(place), counts.shape[1]))
    np.add.at(sums, [place[group] for group in groups], counts)
    return sums
