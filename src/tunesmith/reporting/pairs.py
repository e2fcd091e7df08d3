"""Tuned candidates beside each other: which of two kept more, on the same items and the same prose."""

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations

from tunesmith.forgetting.ability import skills_had
from tunesmith.forgetting.compared import ProseChange, SkillChange, prose_change, whole_change
from tunesmith.metrics.statistics import holm
from tunesmith.probe_records import Probe, ProbeResult
from tunesmith.records import Comparison
from tunesmith.reporting.contents import ZERO_SHOT, Pairwise, TaskReport
from tunesmith.reporting.forgotten import gain_of
from tunesmith.reporting.side_by_side import columns, compared
from tunesmith.settings import Recipe
from tunesmith.wording import fixed, probability

A_FEW = 6  # tuned candidates of which all pairs can be read


def compare_pairs(
    probe: Probe, results: Mapping[str, ProbeResult], tasks: Sequence[TaskReport], pairs: Sequence[tuple[str, str]], *,
    seed: int,
) -> tuple[Pairwise, ...]:  # fmt: skip
    """Compare what pairs of tuned candidates made of a probe, on the items of the skills that the base has.

    Args:
        probe: What was asked.
        results: Candidate -> what it made of it, the base's among them.
        tasks: Of the report; the first metric of the first says what was gained.
        pairs: Of each, the candidate, and which one it is set beside. The tests are corrected for their number.
        seed: Of the resampling.
    """
    had = skills_had(probe, results[ZERO_SHOT])
    items = [whole_change(probe, results[than], results[name], had=had, seed=seed) for name, than in pairs]
    corrected = holm([one.p_value for one in items])
    return tuple(
        Pairwise(
            candidate=name,
            than=than,
            items=change.model_copy(update={"p_holm": p}),
            prose=prose_change(results[than].prose, results[name].prose, seed=seed),
            gain=gain_between(tasks, name, than),
        )
        for (name, than), change, p in zip(pairs, items, corrected, strict=True)
    )


def tuned_pairs(
    recipe: Recipe,
    names: Sequence[str],
    tasks: Sequence[TaskReport],
    *,
    cured: Collection[str],
    known: Collection[set[str]],
) -> list[tuple[str, str]]:
    """Return which tuned candidates are set beside which: all pairs of a few, else each beside one of them.

    That one is the first that tunes the whole model without a cure, else the one that gained most.

    Args:
        recipe: Of the run.
        names: Of the tuned candidates that took the probe.
        tasks: Of the report.
        cured: Names of those with settings against forgetting.
        known: Pairs that are compared elsewhere, and left out.
    """
    if not names:
        return []
    gains = {name: gain.difference for name in names if (gain := gain_of(tasks, name)[0])}
    whole = (name for name in names if recipe.candidates[name].method == "full" and name not in cured)
    one = next(whole, None) or max(names, key=lambda name: gains.get(name, float("-inf")))
    ordered = [one, *(name for name in names if name != one)]
    pairs = combinations(ordered, 2) if len(names) <= A_FEW else ((one, other) for other in ordered[1:])
    return [(other, than) for than, other in pairs if {other, than} not in known]


def gain_between(tasks: Sequence[TaskReport], name: str, than: str) -> Comparison | None:
    """Return what one candidate gained over another, in the first metric of the first task that has a better side."""
    for task in tasks[:1]:
        for column in columns(task):
            if found := compared(task, column.metric, candidate=name, baseline=than):
                return found
    return None


def in_words(pair: Pairwise) -> str:
    """Return what only one of the two gets right, and on what prose costs it more or less."""
    return f"{kept(pair.candidate, pair.than, pair.items, pair.prose)}."


def kept(name: str, than: str, items: SkillChange, prose: ProseChange) -> str:
    """Return the same as the beginning of a sentence."""
    flips = f"{items.won} of {items.n} probe items right that {than} gets wrong, and {items.lost} the other way round"
    loss = ""
    if prose.high < 0 or prose.low > 0:
        more = "more" if prose.low > 0 else "less"
        loss = f"; prose costs {fixed(abs(prose.change), 3)} nats per token {more}"
    return f"{name} gets {flips} ({probability(items.p_holm)}){loss}"
