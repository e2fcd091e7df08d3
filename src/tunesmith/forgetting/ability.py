"""What the base can do at all: a skill that it does not have it cannot lose."""

from collections.abc import Mapping, Sequence

import numpy as np

from tunesmith.metrics.comparison import SURE
from tunesmith.metrics.scoring import find_metric
from tunesmith.metrics.statistics import holm
from tunesmith.probe_records import Probe, ProbeResult, Skill
from tunesmith.records import Example

HALF = 50.0  # between wrong (0) and right (100)
A_FEW = 3  # written answers that are right: a blind guess writes none


def skills_had(probe: Probe, base: ProbeResult) -> frozenset[str]:
    """Return the skills and own tasks that the base does better than blind guesses, so that a loss can show.

    Where answers are chosen, the number right is tested, one-sided and exactly, against the items' chances. The tests
    of the shipped skills are corrected for their number, those of own tasks for theirs. Where answers are written, a
    few have to be right. What is not right or wrong is not tested, and counts as had.

    Args:
        probe: What was asked.
        base: What the base made of it.
    """
    values = {answer.item: answer.value for answer in base.answers}
    had: set[str] = set()
    for own in (False, True):
        skills = [skill for skill in probe.skills if skill.own == own]
        found = [_by_chance(skill, probe.items, values) for skill in skills]
        had |= {skill.name for skill, p in zip(skills, holm(found), strict=True) if p < SURE}
    return frozenset(had)


def _by_chance(skill: Skill, items: Sequence[Example], values: Mapping[str, float]) -> float:
    """Return the chance that blind guesses do as well in one skill."""
    if not find_metric(skill.metric).right_or_wrong:
        return 0.0
    asked = [item for item in items if item.task == skill.name]
    right = sum(values[item.id] > HALF for item in asked)
    chances = [blind_chance(item) for item in asked]
    return guessed(right, chances) if any(chances) else float(right < A_FEW)


def blind_chance(item: Example) -> float:
    """Return the chance that a blind guess is right: none where the answer is written."""
    return 1 / len(item.choices) if item.choices else 0.0


def guessed(right: int, chances: Sequence[float]) -> float:
    """Return the chance that blind guesses get at least so many items right.

    Args:
        right: Number of items.
        chances: Of each item, that a guess is right.

    >>> guessed(2, [0.5, 0.5, 0.5])
    0.5
    """
    counts = np.ones(1)  # chance of 0, 1, 2, ... right
    for chance in chances:
        counts = np.convolve(counts, [1 - chance, chance])
    return float(counts[right:].sum())
