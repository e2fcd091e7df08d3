"""The number of tuning tasks against the mean score over held-out tasks.

After J. Wei et al., "Finetuned language models are zero-shot learners", 2022 (arXiv 2109.01652), section 4.1.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from tunesmith.data.mixture import held_out
from tunesmith.forgetting.in_turn import row_metric
from tunesmith.metrics.contract import Floats, Measured
from tunesmith.metrics.scoring import additive, find_metric
from tunesmith.metrics.statistics import interval, resample
from tunesmith.mixtures import mixture_settings, tuned_tasks
from tunesmith.recipe import train_settings
from tunesmith.records import ScoreSheet
from tunesmith.reporting.contents import ZERO_SHOT, ByTasks, TaskNumber
from tunesmith.settings import Recipe


def by_tasks(recipe: Recipe, sheets: Sequence[ScoreSheet]) -> tuple[ByTasks, ...]:
    """Return the mean over held-out tasks for each number of tuning tasks, one table for each way to tune.

    Candidates are in one table if they differ only in ``tasks`` of their mixture. The mean is of each task's first
    metric that counts to 100, each task weighing the same. Those that lack scores are left out.

    Args:
        recipe: Of the run; nothing is returned unless it scores held-out tasks alone.
        sheets: Scores of the candidates.
    """
    if recipe.mixture is None or recipe.mixture.scored != "held-out":
        return ()
    out = held_out(recipe.tasks, recipe.mixture)
    found = {(sheet.candidate, sheet.task): sheet for sheet in sheets}
    means = {
        name: mean
        for name in recipe.candidates
        if (mean := _means([found.get((name, task)) for task in out], seed=recipe.seed)) is not None
    }
    tables = []
    for names in _ways(recipe):
        numbers = {name: len(tuned_tasks(recipe, name)) for name in names if name in means}
        if len(set(numbers.values())) > 1:
            base = {ZERO_SHOT: 0} if ZERO_SHOT in means else {}
            tables.append(ByTasks(held_out=out, rows=_rows({**base, **numbers}, means)))
    return tuple(tables)


def _ways(recipe: Recipe) -> list[list[str]]:
    """Return the names of candidates that differ only in their number of tasks; none learns what is held out."""
    ways: dict[str, list[str]] = {}
    for name, candidate in recipe.candidates.items():
        mixture = mixture_settings(recipe, name)
        if candidate.method != "none" and mixture is not None:
            same = mixture.model_copy(update={"tasks": None})
            key = repr((candidate.method, candidate.settings, train_settings(recipe, name), same))
            ways.setdefault(key, []).append(name)
    return list(ways.values())


def _means(sheets: Sequence[ScoreSheet | None], *, seed: int) -> Floats | None:
    """Return the mean over tasks, as it is and then of every resample (1 + R,); None if a task has no such score.

    The rows of each task are drawn by themselves, and alike for all candidates, so that differences are paired.
    """
    means = []
    for place, sheet in enumerate(sheets):
        metric = row_metric([score.metric for score in sheet.scores]) if sheet else None
        if sheet is None or metric is None:
            return None
        values, counts = sheet.per_example.get(metric, ()), sheet.counts.get(metric, ())
        sums, finish = additive(find_metric(metric), Measured("", values=values, counts=counts))
        drawn = resample(sums, finish, groups=sheet.groups, seed=seed + place)
        means.append(np.concatenate([finish(sums.sum(axis=0, keepdims=True)), drawn]))
    return np.mean(means, axis=0) if means else None


def _rows(numbers: Mapping[str, int], means: Mapping[str, Floats]) -> tuple[TaskNumber, ...]:
    base = means.get(ZERO_SHOT)
    rows = []
    for name in sorted(numbers, key=lambda one: numbers[one]):
        spread, gain = interval(means[name][1:]), None
        if base is not None and name != ZERO_SHOT:
            more = means[name] - base
            over = interval(more[1:])
            gain = (float(more[0]), over.low, over.high)
        rows.append(
            TaskNumber(
                candidate=name, tasks=numbers[name], mean=float(means[name][0]), low=spread.low, high=spread.high,
                gain=gain,
            )
        )  # fmt: skip
    return tuple(rows)
