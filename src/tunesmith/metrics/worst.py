"""Scores when the worst answer counts, over an example and its perturbed copies.

Source: P. Liang et al., "Holistic evaluation of language models", arXiv 2211.09110: the worst score of each instance,
then the mean over instances. There the worst is always the lowest; here it is the highest where lower is better.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tunesmith.metrics.contract import Answers, Floats, mean, per_example
from tunesmith.metrics.scoring import collect_answers, find_metric, measure
from tunesmith.metrics.statistics import interval, resample, together
from tunesmith.records import Example, Family, Perturbed, Prediction, Record

SHOWN = 5  # losses that are named


class KindScore(Record):
    """How one kind of perturbation changes a score; examples that it leaves as they are count unchanged."""

    kind: str
    changed: int  # examples that it changes
    value: float  # mean over all examples that were asked again
    difference: float  # from the unperturbed mean
    low: float  # 95 % paired bootstrap interval of the difference
    high: float


class Loss(Record):
    """An answer that became worse when its example was asked in another way."""

    example_id: str
    kind: str
    before: float
    after: float
    answer: str
    changed_answer: str


class WorstCase(Record):
    """One metric when the worst answer of each example counts, over the example and its perturbed copies."""

    family: Family
    metric: str
    unit: str
    higher_is_better: bool
    n: int  # examples that were asked again
    changed: int  # those that at least one kind changes
    original: float  # mean over the same examples, asked as they are
    original_low: float  # 95 % bootstrap interval
    original_high: float
    worst: float
    worst_low: float
    worst_high: float
    difference: float  # worst - original, with its paired interval
    low: float
    high: float
    kinds: tuple[KindScore, ...]
    losses: tuple[Loss, ...]  # the largest, at most five


Original = tuple[Example, Prediction]
Copy = tuple[Perturbed, Prediction]


def worst_cases(
    originals: Sequence[Original],
    copies: Sequence[Copy],
    *,
    families: Sequence[Family],
    metrics: Sequence[str],
    seed: int = 0,
) -> tuple[WorstCase, ...]:
    """Return the worst case of every metric that has a better side and a value for every example.

    A copy that a perturbation leaves as it is need not be among ``copies``: its score is that of the example.

    Args:
        originals: examples of one task that were asked again, with their answers.
        copies: their perturbed copies with the answers.
        families: what is measured, also where no example was changed by it.
        metrics: names as ``expand_metrics`` returns them.
        seed: of the resampling.

    Raises:
        UserError: if there are no examples.
    """
    measured = {name: one.values for name, one in measure(metrics, _answers(originals)).items() if one.values}
    wanted = {name: np.array(values) for name, values in measured.items() if find_metric(name).better != "neither"}
    if not wanted:
        return ()
    found = []
    for family in families:
        by_kind: dict[str, list[Copy]] = {}
        for copy in copies:
            if copy[0].family == family:
                by_kind.setdefault(copy[0].kind, []).append(copy)
        asked = _Asked(family, originals, by_kind, _changed(originals, by_kind, before=wanted))
        found += [_worst_case(asked, name, before, seed=seed) for name, before in wanted.items()]
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Asked:
    """The examples of a task and their copies of one family."""

    family: Family
    originals: Sequence[Original]
    by_kind: Mapping[str, Sequence[Copy]]
    values: Mapping[str, Mapping[str, Floats]]  # kind -> metric -> (n,)


def _changed(
    originals: Sequence[Original], by_kind: Mapping[str, Sequence[Copy]], *, before: Mapping[str, Floats]
) -> dict[str, dict[str, Floats]]:
    """Return the values of all examples under each kind; what it leaves as it is keeps its value."""
    place = {example.id: number for number, (example, _) in enumerate(originals)}
    changed: dict[str, dict[str, Floats]] = {}
    for kind, given in by_kind.items():
        measured = measure(list(before), _answers([(copy.example, prediction) for copy, prediction in given]))
        rows = [place[copy.of] for copy, _ in given]
        changed[kind] = {}
        for name, values in before.items():
            changed[kind][name] = values.copy()
            changed[kind][name][rows] = measured[name].values
    return changed


def _worst_case(asked: _Asked, metric: str, before: Floats, *, seed: int) -> WorstCase:
    kind = find_metric(metric)
    pick = np.min if kind.better == "higher" else np.max
    after = [values[metric] for values in asked.values.values()]
    worst = np.asarray(pick(np.stack([before, *after]), axis=0))
    columns = [before, worst, *after]
    counts, finish = together([(per_example(values), mean) for values in columns])
    means = finish(counts.sum(axis=0, keepdims=True))[0].tolist()
    groups = [example.group or example.id for example, _ in asked.originals]
    samples = resample(counts, finish, groups=groups, seed=seed)
    spread = [interval(samples[:, place]) for place in range(2)]
    fall = [interval(samples[:, place] - samples[:, 0]) for place in range(len(columns))]
    return WorstCase(
        family=asked.family,
        metric=metric,
        unit=kind.unit,
        higher_is_better=kind.better == "higher",
        n=len(asked.originals),
        changed=len({copy.of for given in asked.by_kind.values() for copy, _ in given}),
        original=means[0],
        original_low=spread[0].low,
        original_high=spread[0].high,
        worst=means[1],
        worst_low=spread[1].low,
        worst_high=spread[1].high,
        difference=means[1] - means[0],
        low=fall[1].low,
        high=fall[1].high,
        kinds=tuple(
            KindScore(
                kind=name,
                changed=len(asked.by_kind[name]),
                value=value,
                difference=value - means[0],
                low=one.low,
                high=one.high,
            )
            for name, value, one in zip(asked.values, means[2:], fall[2:], strict=True)
        ),
        losses=_losses(asked, metric, before, sign=1 if kind.better == "higher" else -1),
    )


def _losses(asked: _Asked, metric: str, before: Floats, *, sign: int) -> tuple[Loss, ...]:
    """Return the largest losses, one for each example."""
    place = {example.id: number for number, (example, _) in enumerate(asked.originals)}
    worst: dict[str, Loss] = {}
    for kind, given in asked.by_kind.items():
        for copy, prediction in given:
            number = place[copy.of]
            old, new = float(before[number]), float(asked.values[kind][metric][number])
            known = worst.get(copy.of)
            if sign * (old - new) > (sign * (known.before - known.after) if known else 0):
                worst[copy.of] = Loss(
                    example_id=copy.of,
                    kind=kind,
                    before=old,
                    after=new,
                    answer=asked.originals[number][1].text,
                    changed_answer=prediction.text,
                )
    return tuple(sorted(worst.values(), key=lambda loss: sign * (loss.after - loss.before))[:SHOWN])


def _answers(asked: Sequence[Original]) -> Answers:
    examples, predictions = [example for example, _ in asked], [prediction for _, prediction in asked]
    return collect_answers(examples, predictions, candidate="the copies", task=examples[0].task if examples else "")
