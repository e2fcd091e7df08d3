"""Two candidates on the same examples: how far apart they are, how sure that is, and the sentence that follows.

It stands beside the metrics and not in ``reporting``, because scoring a file needs it too.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from tunesmith.errors import UserError
from tunesmith.metrics.contract import Finish, Floats, Measured, Metric
from tunesmith.metrics.scoring import additive, find_metric
from tunesmith.metrics.statistics import Difference, flipped, paired_samples, resample, together, unit_count
from tunesmith.records import Comparison, Score, ScoreSheet
from tunesmith.wording import fixed

SURE = 0.05  # p from which on a difference is not claimed
_MIN_UNITS = 6  # with fewer, no exact paired test reaches SURE
COUNTED = "words"  # the unit of metrics that count in a single answer: there the values are whole
_HALF = 50.0  # between wrong (0) and right (100)
_TITLES = {
    "bleu": "BLEU",
    "chrf": "chrF",
    "chrf++": "chrF++",
    "ter": "TER",
    "exact-match": "exact match",
    "quasi-exact-match": "quasi exact match",
    "macro-f1": "macro F1",
    "mcc": "Matthews correlation",
    "accuracy-norm": "length-normalised accuracy",
    "bits-per-byte": "bits per byte",
    "length-ratio": "length ratio",
    "ece": "ECE",
    "ece-1": "ECE (1 bin)",
    "selective-accuracy": "selective accuracy",
    "coverage-auc": "area under coverage",
    "brier": "Brier score",
    "longest-repeat": "longest repeat",
    "invented-numbers": "answers with invented numbers",
    "invented-entities": "answers with invented names",
}


def compare_sheets(sheets: Sequence[ScoreSheet], *, seed: int = 0) -> tuple[Comparison, ...]:
    """Compare all pairs of candidates of each task, for every metric that both have and that has a better side.

    Right and wrong answers are compared by McNemar's exact test where every example is its own group; all else by
    paired bootstrap over the groups. In a comparison the first candidate is the one with the better value.

    Args:
        sheets: scores of several candidates, of one task or of several.
        seed: of the resampling.

    Raises:
        UserError: if candidates of a task were scored on different examples or with different settings.
    """
    comparisons: list[Comparison] = []
    for task in dict.fromkeys(sheet.task for sheet in sheets):
        ours = [sheet for sheet in sheets if sheet.task == task]
        if len(ours) == 1:
            continue
        _check_examples(ours)
        for score in ours[0].scores:
            if find_metric(score.metric).better != "neither":
                comparisons += _compare(score.metric, ours, seed)
    return tuple(comparisons)


def find_score(sheet: ScoreSheet, metric: str) -> Score | None:
    """Return the score of a metric, if the sheet has it."""
    return next((score for score in sheet.scores if score.metric == metric), None)


def title(metric: str) -> str:
    """Return the name of a metric as papers print it.

    >>> title("rougeLsum"), title("rouge1-precision"), title("bleu-none")
    ('ROUGE-Lsum', 'ROUGE-1 (precision)', 'BLEU (none)')
    """
    if metric in _TITLES:
        return _TITLES[metric]
    kind, _, setting = metric.partition("-")
    name = kind.replace("rouge", "ROUGE-") if kind.startswith("rouge") else _TITLES.get(kind, kind)
    return f"{name} ({setting})" if setting else name


def amount(score: Score) -> str:
    """Return what a number of this score counts, to be written after it: ``ROUGE-1 points``."""
    name = title(score.metric)
    if score.unit == "points of 100":
        return f"{name} points"
    if score.unit == "%":
        return f"percentage points of {name}"
    return name if name == score.unit else f"in {name}"


def decimals(unit: str) -> int:
    """Return with how many decimals scores of a unit are printed.

    >>> decimals("points of 100"), decimals("words"), decimals("bits per byte")
    (1, 1, 3)
    """
    return 1 if unit in ("points of 100", "%", COUNTED) else 3


def sample_size(sheet: ScoreSheet) -> str:
    """Return the number of examples, and of groups if some examples belong together: ``n = 1500 in 500 groups``."""
    n, units = len(sheet.example_ids), len(set(sheet.groups))
    return f"n = {n}" if n == units else f"n = {n} in {units} groups"


def _check_examples(sheets: Sequence[ScoreSheet]) -> None:
    first, *others = sheets
    problems = []
    for other in others:
        place = f'task "{first.task}": candidates "{first.candidate}" and "{other.candidate}"'
        if (first.example_ids, first.groups) != (other.example_ids, other.groups):
            problems.append(f"{place} were not scored on the same examples. Score both again.")
        for score in first.scores:
            twin = find_score(other, score.metric)
            if twin and twin.signature != score.signature:
                problems.append(
                    f"{place} have {score.metric} with different settings, {score.signature} and {twin.signature}. "
                    "Score both again."
                )
    if problems:
        raise UserError(problems)


def _compare(metric: str, sheets: Sequence[ScoreSheet], seed: int) -> list[Comparison]:
    scored = [(sheet, score) for sheet in sheets if (score := find_score(sheet, metric))]
    kind = find_metric(metric)
    counts, finish = together([_counts(sheet, metric, kind) for sheet, _ in scored])
    samples = resample(counts, finish, groups=sheets[0].groups, seed=seed)
    units = unit_count(sheets[0].groups, len(counts))
    comparisons = []
    for first, second in combinations(range(len(scored)), 2):
        value = scored[first][1].value - scored[second][1].value
        # The one with the better value comes first; with equal values, the one that was named first.
        better, than = (second, first) if (value < 0 if kind.better == "higher" else value > 0) else (first, second)
        sign = 1.0 if kind.better == "higher" else -1.0
        spread = sign * (samples[:, better] - samples[:, than])
        difference = paired_samples(abs(value), np.asarray(spread), units=units)
        comparisons.append(_comparison(scored[better], scored[than][0], difference, units=units))
    return comparisons


def _counts(sheet: ScoreSheet, metric: str, kind: Metric) -> tuple[Floats, Finish]:
    values, counts = sheet.per_example.get(metric, ()), sheet.counts.get(metric, ())
    return additive(kind, Measured("", values=values, counts=counts))


def _comparison(
    better: tuple[ScoreSheet, Score], than: ScoreSheet, difference: Difference, *, units: int
) -> Comparison:
    sheet, score = better
    closed = find_metric(score.metric).right_or_wrong
    if closed:
        right = [[value > _HALF for value in one.per_example[score.metric]] for one in (sheet, than)]
        difference = flipped(difference, *right, units=units)
    comparison = Comparison(
        task=sheet.task,
        metric=score.metric,
        better=sheet.candidate,
        than=than.candidate,
        difference=difference.value,
        low=difference.low,
        high=difference.high,
        p_value=difference.p_value,
        test="McNemar" if closed and units == len(sheet.example_ids) else "paired bootstrap",
        n=len(sheet.example_ids),
        sentence="",
    )
    return comparison.model_copy(update={"sentence": _sentence(comparison, sheet, score)})


def is_sure(comparison: Comparison) -> bool:
    """Say whether a difference may be claimed: the test rejects equality, and the interval is above zero."""
    return comparison.p_value < SURE and comparison.low > 0


def _sentence(comparison: Comparison, sheet: ScoreSheet, score: Score) -> str:
    sure = is_sure(comparison)
    places = decimals(score.unit)
    while sure and round(comparison.low, places) == 0:
        places += 1  # "by 0.0 points" would say the opposite
    low, high = (fixed(end, places) for end in (comparison.low, comparison.high))
    lower = "" if score.higher_is_better else "; lower is better"
    size = f"{fixed(comparison.difference, places)} {amount(score)}"
    spread = f"(95 % CI {low} to {high}, {sample_size(sheet)}{lower})."
    if sure:
        return f"{comparison.better} beats {comparison.than} by {size} {spread}"
    if len(set(sheet.groups)) < _MIN_UNITS:
        return f"Too few examples to tell {comparison.better} and {comparison.than} apart: +{size} {spread}"
    return f"No difference between {comparison.better} and {comparison.than} can be shown: +{size} {spread}"
