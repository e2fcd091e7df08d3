"""Tuned minus base on the same items, with a standard error that knows that they are the same."""

from collections.abc import Callable, Mapping, Sequence
from math import sqrt
from typing import Any

import numpy as np

from tunesmith.bench_records import BenchDelta, BenchRun, BenchScore, Value

RESAMPLES = 1000
Finish = Callable[[list[Any]], float]
"""What the harness makes of the values of all items; for metrics that are no mean."""
Key = tuple[str, str, str]
"""Task, metric, filter."""


def deltas(
    base: BenchRun, tuned: BenchRun, *, finish: Mapping[Key, Finish], weights: Mapping[str, float], seed: int
) -> tuple[BenchDelta, ...]:
    """Return the difference in every score that both have.

    Args:
        base: Scores of the base.
        tuned: Scores of the tuned model on the same items.
        finish: How a metric is computed from the values of all items; absent for means.
        weights: Task -> its share in the score of the whole suite.
        seed: Of the resampling.
    """
    before = {key_of(score): score for score in base.scores}
    found: dict[Key, BenchDelta] = {}
    for score in tuned.scores:
        key = key_of(score)
        if key not in before or not score.values:
            continue
        difference, stderr = (
            paired_resampled(before[key].values, score.values, finish[key], seed=seed)
            if key in finish
            else paired_mean(_floats(before[key].values), _floats(score.values))
        )
        better, worse = (None, None) if key in finish else _flips(before[key], score)
        found[key] = BenchDelta(
            candidate=tuned.candidate, task=score.task, metric=score.metric, filter=score.filter,
            difference=difference, stderr=stderr, n=score.n, better=better, worse=worse,
        )  # fmt: skip
    whole = [
        _whole(before[key_of(score)], score, tuple(found.values()), weights)
        for score in tuned.scores
        if not score.values and key_of(score) in before
    ]
    return (*whole, *found.values())


def key_of(score: BenchScore | BenchDelta) -> Key:
    """Return what names a score within a suite."""
    return score.task, score.metric, score.filter


def paired_mean(base: Sequence[float], tuned: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean difference, and its standard error: that of the mean of the differences.

    >>> paired_mean([0, 0, 1, 1], [1, 0, 1, 1])
    (0.25, 0.25)
    """
    differences = np.asarray(tuned, float) - np.asarray(base, float)
    n = len(differences)
    return float(differences.mean()), float(differences.std(ddof=1) / sqrt(n)) if n > 1 else None


def paired_resampled(
    base: Sequence[Value], tuned: Sequence[Value], finish: Finish, *, seed: int
) -> tuple[float, float | None]:
    """Return the difference of two corpus metrics, and its standard error by a paired bootstrap over the items."""
    n = len(base)
    draws = np.random.default_rng(seed).integers(0, n, (RESAMPLES, n))
    found = [finish([tuned[i] for i in draw]) - finish([base[i] for i in draw]) for draw in draws]
    difference = finish(list(tuned)) - finish(list(base))
    return float(difference), float(np.std(found, ddof=1)) if n > 1 else None


def _whole(
    base: BenchScore, tuned: BenchScore, parts: Sequence[BenchDelta], weights: Mapping[str, float]
) -> BenchDelta:
    """Return the difference in a score of the whole suite; the items of its tasks are independent of each other.

    Its tasks enter by the metric of the suite, or where they have no common one by their first, each with its weight,
    so that their errors add up as squares.
    """
    common = [part for part in parts if (part.metric, part.filter) == (tuned.metric, tuned.filter)]
    own = list({part.task: part for part in reversed(common or parts) if part.task in weights}.values())
    errors = [(weights[part.task], part.stderr) for part in own]
    known = [weight * error for weight, error in errors if error is not None]
    counted = [part for part in own if part.better is not None and part.worse is not None]
    return BenchDelta(
        candidate=parts[0].candidate, task=tuned.task, metric=tuned.metric, filter=tuned.filter,
        difference=tuned.value - base.value,
        stderr=sqrt(sum(error**2 for error in known)) if len(known) == len(errors) else None,
        n=tuned.n,
        better=sum(part.better or 0 for part in own) if len(counted) == len(own) else None,
        worse=sum(part.worse or 0 for part in own) if len(counted) == len(own) else None,
    )  # fmt: skip


def _flips(base: BenchScore, tuned: BenchScore) -> tuple[int, int]:
    sign = 1 if tuned.higher_is_better else -1
    changes = [
        sign * (after - before)
        for before, after in zip(_floats(base.values), _floats(tuned.values), strict=True)
    ]  # fmt: skip
    return sum(change > 0 for change in changes), sum(change < 0 for change in changes)


def _floats(values: Sequence[Value]) -> list[float]:
    return [value for value in values if not isinstance(value, tuple)]
