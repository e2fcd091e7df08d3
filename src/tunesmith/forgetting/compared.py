"""What a model forgot: the same items and the same prose before and after tuning.

Change per skill with a paired interval, items lost and won, McNemar's exact test. The tests of a candidate's shipped
skills are corrected for their number, and those of own tasks for theirs (Holm).
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from tunesmith.forgetting.ability import HALF, blind_chance, skills_had
from tunesmith.metrics.contract import mean
from tunesmith.metrics.scoring import find_metric
from tunesmith.metrics.statistics import (
    flipped,
    holm,
    paired_difference,
    paired_samples,
    resample,
    together,
    unit_count,
)
from tunesmith.probe_records import Probe, ProbeAnswer, ProbeResult, ProseLoss, Skill
from tunesmith.records import Example, Record

ALL = "all skills"

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
    p_holm: float  # the same, corrected for the number of shipped skills, or of own tasks
    own: bool = False  # a task that the recipe names, beside the shipped skills
    had: bool = True  # False: the base does it no better than blind guesses, so a loss cannot show


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
    all: SkillChange  # the shipped items of all skills that the base has; of all skills, and not had, if it has none
    skills: tuple[SkillChange, ...]  # the shipped ones, then the own tasks
    prose: ProseChange
    lost: tuple[LostItem, ...]

    @property
    def shipped(self) -> tuple[SkillChange, ...]:
        """The skills of the shipped probe."""
        return tuple(skill for skill in self.skills if not skill.own)

    @property
    def own(self) -> tuple[SkillChange, ...]:
        """The tasks that the recipe names beside them."""
        return tuple(skill for skill in self.skills if skill.own)


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
    old, new = (by_item(result) for result in (before, after))
    had = skills_had(probe, before)
    items = {skill: [item for item in probe.items if item.task == skill.name] for skill in probe.skills}
    found = [
        skill_change(skill, own, old, new, seed=seed).model_copy(update={"had": skill.name in had})
        for skill, own in items.items()
    ]
    return Forgotten(
        candidate=candidate,
        all=whole_change(probe, before, after, had=had, seed=seed),
        skills=_corrected(found),
        prose=prose_change(before.prose, after.prose, seed=seed),
        lost=tuple(
            LostItem(
                id=item.id, skill=item.task, prompt=item.prompt, target=item.target, before=old[item.id].text,
                after=new[item.id].text,
            )
            for skill, own in items.items()
            if find_metric(skill.metric).right_or_wrong
            for item in own
            if old[item.id].value > HALF >= new[item.id].value
        ),
    )  # fmt: skip


def whole_change(
    probe: Probe, before: ProbeResult, after: ProbeResult, *, had: Collection[str], seed: int
) -> SkillChange:
    """Compare two results over the shipped items of all skills that the base has; of all skills if it has none.

    Args:
        probe: What both were asked.
        before: Of the base, or of one candidate.
        after: Of another.
        had: What ``skills_had`` finds of the base.
        seed: Of the resampling.
    """
    shipped = [skill.name for skill in probe.skills if not skill.own]
    counted = [name for name in shipped if name in had]
    items = [item for item in probe.items if item.task in (counted or shipped)]
    every = Skill(name=ALL, metric="accuracy", max_new_tokens=1)
    found = skill_change(every, items, by_item(before), by_item(after), seed=seed)
    return found.model_copy(update={"had": bool(counted)})


def by_item(result: ProbeResult) -> Answers:
    """Return the answers of a result by item."""
    return {answer.item: answer for answer in result.answers}


def _corrected(found: Sequence[SkillChange]) -> tuple[SkillChange, ...]:
    """Correct the tests of the shipped skills for their number, and those of the own tasks for theirs."""
    p_values: dict[str, float] = {}
    for own in (False, True):
        family = [one for one in found if one.own == own]
        p_values |= zip((one.skill for one in family), holm([one.p_value for one in family]), strict=True)
    return tuple(one.model_copy(update={"p_holm": p_values[one.skill]}) for one in found)


def skill_change(skill: Skill, items: Sequence[Example], before: Answers, after: Answers, *, seed: int) -> SkillChange:
    """Compare the answers to the items of one skill."""
    metric = find_metric(skill.metric)
    old, new = ([answers[item.id].value for item in items] for answers in (before, after))
    groups = [item.group or item.id for item in items]
    difference = paired_difference(new, old, groups=groups, seed=seed)
    units = unit_count(groups, len(items))
    lost = won = None
    if metric.right_or_wrong:
        was, now = ([value > HALF for value in values] for values in (old, new))
        lost = sum(a and not b for a, b in zip(was, now, strict=True))
        won = sum(b and not a for a, b in zip(was, now, strict=True))
        difference = flipped(difference, now, was, units=units)
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
        own=skill.own,
    )


def _blind(items: Sequence[Example]) -> float:
    return 100 * sum(map(blind_chance, items)) / len(items)


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
