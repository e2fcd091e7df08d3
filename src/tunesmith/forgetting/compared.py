"""What a model forgot: the same items and the same prose before and after tuning.

Change per skill with a paired interval, items lost and won, McNemar's exact test. The tests of a candidate's skills are
corrected for their number (S. Holm, Scandinavian Journal of Statistics 6, 1979).
"""

from collections.abc import Mapping, Sequence

import numpy as np

from tunesmith.metrics.contract import mean
from tunesmith.metrics.scoring import find_metric
from tunesmith.metrics.statistics import (
    Difference,
    mcnemar,
    paired_difference,
    paired_samples,
    resample,
    together,
    unanimous_interval,
    unit_count,
)
from tunesmith.probe_records import Probe, ProbeAnswer, ProbeResult, ProseLoss, Skill
from tunesmith.records import Example, Record

ALL = "all skills"
_HALF = 50.0  # between wrong (0) and right (100)

Answers = Mapping[str, ProbeAnswer]  # by item


class LostItem(Record):
    """An item that was right before and is wrong after."""

    id: str
    skill: str
    prompt: str
    target: str
    before: str  # answer
    after: str


class SkillChange(Record):
    """One skill before and after tuning."""

    skill: str
    metric: str
    unit: str
    n: int
    blind: float | None  # what a blind guess gets, in the unit; None where that is not known
    before: float
    after: float
    change: float  # after - before; negative = forgotten
    low: float  # 95 % paired interval
    high: float
    lost: int | None  # right before, wrong after; None where answers are not right or wrong
    won: int | None
    p_value: float  # two-sided: exact McNemar for right and wrong, else paired bootstrap
    p_holm: float  # the same, corrected for the number of skills


class ProseChange(Record):
    """Loss on general prose before and after tuning, in nats per token."""

    n: int  # paragraphs
    tokens: int
    before: float
    after: float
    change: float  # after - before; positive = forgotten
    low: float  # 95 % paired interval over paragraphs
    high: float
    p_value: float


class Forgotten(Record):
    """What one candidate forgot."""

    candidate: str
    all: SkillChange  # all items of the shipped probe together
    skills: tuple[SkillChange, ...]
    prose: ProseChange
    lost: tuple[LostItem, ...]


def compare_results(
    probe: Probe, before: ProbeResult, after: ProbeResult, *, candidate: str, seed: int = 0
) -> Forgotten:
    """Compare what a candidate made of a probe with what the base made of it.

    Args:
        probe: What both were asked.
        before: Of the base.
        after: Of the candidate.
        candidate: Its name.
        seed: Of the resampling.

    Raises:
        ValueError: The two were asked different things.
    """
    if before.probe != after.probe:
        raise ValueError("results of different probes")
    old, new = ({answer.item: answer for answer in result.answers} for result in (before, after))
    items = {skill: [item for item in probe.items if item.task == skill.name] for skill in probe.skills}
    found = [skill_change(skill, own, old, new, seed=seed) for skill, own in items.items()]
    corrected = holm([one.p_value for one in found])
    shipped = [item for skill, own in items.items() if not skill.own for item in own]
    return Forgotten(
        candidate=candidate,
        all=skill_change(Skill(name=ALL, metric="accuracy", max_new_tokens=1), shipped, old, new, seed=seed),
        skills=tuple(one.model_copy(update={"p_holm": p}) for one, p in zip(found, corrected, strict=True)),
        prose=prose_change(before.prose, after.prose, seed=seed),
        lost=tuple(
            LostItem(
                id=item.id, skill=item.task, prompt=item.prompt, target=item.target, before=old[item.id].text,
                after=new[item.id].text,
            )
            for skill, own in items.items()
            if find_metric(skill.metric).right_or_wrong
            for item in own
            if old[item.id].value > _HALF >= new[item.id].value
        ),
    )  # fmt: skip


def skill_change(skill: Skill, items: Sequence[Example], before: Answers, after: Answers, *, seed: int) -> SkillChange:
    """Compare the answers to the items of one skill."""
    metric = find_metric(skill.metric)
    old, new = ([answers[item.id].value for item in items] for answers in (before, after))
    groups = [item.group or item.id for item in items]
    difference = paired_difference(new, old, groups=groups, seed=seed)
    units = unit_count(groups, len(items))
    lost = won = None
    if metric.right_or_wrong:
        was, now = ([value > _HALF for value in values] for values in (old, new))
        lost = sum(a and not b for a, b in zip(was, now, strict=True))
        won = sum(b and not a for a, b in zip(was, now, strict=True))
        difference = _exact(difference, was, now, units=units)
    return SkillChange(
        skill=skill.name,
        metric=skill.metric,
        unit=metric.unit,
        n=len(items),
        blind=_blind(items) if metric.right_or_wrong else None,
        before=float(np.mean(old)),
        after=float(np.mean(new)),
        change=difference.value,
        low=difference.low,
        high=difference.high,
        lost=lost,
        won=won,
        p_value=difference.p_value,
        p_holm=difference.p_value,
    )


def _exact(found: Difference, was: Sequence[bool], now: Sequence[bool], *, units: int) -> Difference:
    """Take p from McNemar's test where every item stands for itself; no flips at all leave no spread to resample."""
    p_value = mcnemar(now, was) if units == len(was) else found.p_value
    if was == now:
        edge = unanimous_interval(False, units).high
        return Difference(found.value, -edge, edge, p_value)
    return Difference(found.value, found.low, found.high, p_value)


def _blind(items: Sequence[Example]) -> float:
    return 100 * sum(1 / len(item.choices) if item.choices else 0 for item in items) / len(items)


def prose_change(before: Sequence[ProseLoss], after: Sequence[ProseLoss], *, seed: int) -> ProseChange:
    """Compare the loss per token over all paragraphs; paragraphs are resampled."""
    sums = [np.array([[one.nats, one.tokens] for one in losses], dtype=np.float64) for losses in (after, before)]
    counts, finish = together([(part, mean) for part in sums])
    new, old = (float(value) for value in finish(counts.sum(axis=0, keepdims=True))[0])
    samples = resample(counts, finish, seed=seed)
    found = paired_samples(new - old, samples[:, 0] - samples[:, 1], units=len(counts))
    return ProseChange(
        n=len(counts), tokens=sum(one.tokens for one in before), before=old, after=new, change=found.value,
        low=found.low, high=found.high, p_value=found.p_value,
    )  # fmt: skip


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected by Holm's step-down method: the chance that any of them is a false alarm stays theirs.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = highest
    return corrected
