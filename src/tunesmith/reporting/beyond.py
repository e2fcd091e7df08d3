"""What the report says beside the average of a task: confidence, worst cases, and what answers invent."""

from collections.abc import Sequence

import numpy as np

from tunesmith.metrics.calibration import ten_bins
from tunesmith.metrics.invention import invented_entities, invented_numbers
from tunesmith.metrics.measures import Measures
from tunesmith.metrics.scoring import source_text
from tunesmith.metrics.statistics import share_interval
from tunesmith.records import Example
from tunesmith.reporting.compare import compare_sheets
from tunesmith.reporting.contents import Beyond, Bin, Invention
from tunesmith.reporting.task import Answers


def beyond_average(
    examples: Sequence[Example], answers: Sequence[Answers], measures: Sequence[Measures], *, seed: int
) -> Beyond:
    """Put what was measured of all candidates on one task beside each other.

    Args:
        examples: its test examples.
        answers: one entry per candidate, in the order of the recipe.
        measures: those that exist, in the same order.
        seed: of the resampling.
    """
    sheets = [one.sheet for one in measures if one.sheet]
    written = {sheet.candidate for sheet in sheets if "invented-numbers" in sheet.per_example}
    return Beyond(
        scores={sheet.candidate: sheet.scores for sheet in sheets},
        comparisons=compare_sheets(sheets, seed=seed),
        reliability={sheet.candidate: reliability(sheet.counts["ece"]) for sheet in sheets if "ece" in sheet.counts},
        inventions=tuple(
            one for given in answers if given.candidate in written for one in _inventions(examples, given)
        ),
        worst={one.candidate: one.worst for one in measures if one.worst},
    )


def reliability(counts: Sequence[Sequence[float]]) -> tuple[Bin, ...]:
    """Return the ten bins behind an ECE, those of least confidence first; empty ones are left out.

    Args:
        counts: confidence and 1 or 0 for right or wrong, of each example.
    """
    sums = ten_bins(np.array(counts, dtype=np.float64)).sum(axis=0).reshape(3, -1).T
    bins = []
    for n, confidence, right in sums.tolist():
        if n:
            spread = share_interval(right, n)
            share = 100 * right / n
            bins.append(
                Bin(n=round(n), confidence=100 * confidence / n, accuracy=share, low=spread.low, high=spread.high)
            )
    return tuple(bins)


def _inventions(examples: Sequence[Example], given: Answers) -> list[Invention]:
    found = []
    for example in examples:
        if example.id in given.by_id:
            text, source = given.by_id[example.id].text, source_text(example)
            numbers, names = invented_numbers(text, source), invented_entities(text, source)
            if numbers or names:
                found.append(Invention(candidate=given.candidate, example_id=example.id, numbers=numbers, names=names))
    return found
