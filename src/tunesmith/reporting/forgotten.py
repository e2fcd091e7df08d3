"""What the tuned candidates forgot, from their files, and the sentence that says it beside what they gained."""

from collections.abc import Mapping, Sequence

from tunesmith.forgetting.compared import Forgotten, SkillChange, compare_results
from tunesmith.metrics.comparison import SURE, amount, decimals, is_sure, title
from tunesmith.probe_records import Probe, ProbeResult
from tunesmith.records import Comparison, Score
from tunesmith.reporting.contents import ZERO_SHOT, ForgettingReport, TaskReport
from tunesmith.reporting.side_by_side import columns, compared
from tunesmith.wording import fixed, many, probability


def forgetting_report(
    probe: Probe | None, results: Mapping[str, ProbeResult], tasks: Sequence[TaskReport], *, seed: int
) -> ForgettingReport:
    """Compare every tuned candidate with the base, as far as both have taken the probe.

    Args:
        probe: What was asked; None if nothing was asked yet.
        results: Candidate -> what it made of it, in the order of the recipe; zero-shot is the base.
        tasks: Of the report; the first one's first metric says what was gained.
        seed: Of the resampling.
    """
    base = results.get(ZERO_SHOT)
    if probe is None or base is None:
        return ForgettingReport(changes=(), sentences=(), stale=())
    same = {name: result for name, result in results.items() if result.probe == base.probe}
    changes = [
        compare_results(probe, base, result, candidate=name, seed=seed)
        for name, result in same.items()
        if name != ZERO_SHOT
    ]
    return ForgettingReport(
        changes=tuple(changes),
        sentences=tuple(in_words(change, *gain_of(tasks, change.candidate)) for change in changes),
        stale=tuple(name for name in results if name not in same),
    )


def headline_sentence(report: ForgettingReport | None, tasks: Sequence[TaskReport]) -> tuple[str, ...]:
    """Return the sentence of the tuned candidate that gained most; none where no gain is known."""
    if report is None:
        return ()
    said = [
        (gain.difference, sentence)
        for change, sentence in zip(report.changes, report.sentences, strict=True)
        if (gain := gain_of(tasks, change.candidate)[0])
    ]
    return (max(said, key=lambda one: one[0])[1],) if said else ()


def gain_of(tasks: Sequence[TaskReport], candidate: str) -> tuple[Comparison | None, Score | None]:
    """Return what a candidate gained over zero-shot in the first metric of the first task that has a better side."""
    for task in tasks[:1]:
        for column in columns(task):
            found = compared(task, column.metric, candidate=candidate, baseline=ZERO_SHOT)
            if found:
                scores = task.scores.get(candidate, ())
                return found, next((score for score in scores if score.metric == column.metric), None)
    return None, None


def in_words(change: Forgotten, gain: Comparison | None, score: Score | None) -> str:
    """Return what was gained and what was lost, in words; nothing is claimed that its test does not show."""
    gained = _gained(gain, score) if gain and score else ""
    lost = _lost(change) if change.all.had else ""
    said = " and ".join(filter(None, (gained, lost)))
    first = f"{change.candidate} {said}." if said else ""
    return " ".join(filter(None, (first, _untold(change), _largest(change), _of_own(change))))


def not_had(skills: Sequence[SkillChange]) -> tuple[str, ...]:
    """Return the names of those that the base does no better than blind guesses."""
    return tuple(skill.skill for skill in skills if not skill.had)


def _gained(gain: Comparison, score: Score) -> str:
    turned = gain.model_copy(update={"low": -gain.high, "high": -gain.low})
    size = f"{fixed(abs(gain.difference), decimals(score.unit))} {amount(score)}"
    if is_sure(gain):
        return f"gained {size}"
    return f"lost {size}" if is_sure(turned) else f"gained nothing that can be shown in {title(score.metric)}"


def _lost(change: Forgotten) -> str:
    sure = [skill for skill in change.shipped if is_forgotten(skill)]
    if sure:
        worst = min(sure, key=lambda skill: skill.change)
        more = len(sure) - 1
        others = f", and some in {many(more, 'more skill')}" if more else ""
        return f"lost {_amount(worst)} ({_corrected(worst, len(change.shipped), 'skills')}){others}"
    every, left = change.all, len(change.shipped) - len(not_had(change.shipped))
    items = f"the {every.n} probe items"
    if left < len(change.shipped):
        items += f" of the {many(left, 'skill')} that the base has"
    flips = f"{every.lost} lost, {every.won} won, {probability(every.p_value)}"
    if every.p_value < SURE and every.change < 0:
        return f"lost some of {items} ({flips}), though in no skill by itself that can be shown"
    return f"lost nothing that {items} can show ({flips})"


def _untold(change: Forgotten) -> str:
    if change.all.had:
        return ""
    return (
        f"What {change.candidate} forgot cannot be told: the base does no skill of the probe better than a blind guess."
    )


def _largest(change: Forgotten) -> str:
    """Name the largest loss of one skill where none is sure, so that nobody has to look for it, and claim nothing."""
    had = [skill for skill in change.shipped if skill.had]
    worst = min(had, key=lambda skill: skill.change, default=None)
    if worst is None or worst.change >= 0 or any(map(is_forgotten, had)):
        return ""
    tests = f"{probability(worst.p_value)} by itself, {probability(worst.p_holm)} among {len(change.shipped)} skills"
    flips = f"{worst.lost} lost and {worst.won} won" if worst.won else f"{worst.lost}"
    return f"Its largest loss in one skill, {flips} of {worst.n} items of {worst.skill}, cannot be relied on ({tests})."


def _of_own(change: Forgotten) -> str:
    if not change.own:
        return ""
    said = [_lost_of_own(task, len(change.own)) for task in change.own]
    return f"In tasks of your own it {'; it '.join(said)}."


def _lost_of_own(task: SkillChange, tasks: int) -> str:
    if not task.had:
        return f"had nothing to lose in {task.skill}, which the base does no better than a blind guess"
    if is_forgotten(task):
        return f"lost {_amount(task)} ({_corrected(task, tasks, 'tasks')})"
    return f"lost nothing that the {task.n} items of {task.skill} can show ({_corrected(task, tasks, 'tasks')})"


def _amount(skill: SkillChange) -> str:
    if skill.lost is None:
        unit = "points" if skill.unit == "points of 100" else skill.unit
        return f"{fixed(-skill.change, 1)} {title(skill.metric)} {unit} in {skill.skill}"
    won = f" and won {skill.won}" if skill.won else ""
    return f"{skill.lost}{won} of {skill.n} items of {skill.skill}"


def _corrected(skill: SkillChange, number: int, what: str) -> str:
    return probability(skill.p_holm) + (f", corrected for {number} {what}" if number > 1 else "")


def is_forgotten(skill: SkillChange) -> bool:
    """Say whether a loss in one skill, which the base has, may be claimed beside the tests of all others."""
    return skill.had and skill.change < 0 and skill.p_holm < SURE
