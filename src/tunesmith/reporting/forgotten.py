"""What the tuned candidates forgot, from their files, and the sentence that says it beside what they gained."""

from collections.abc import Mapping, Sequence

from tunesmith.forgetting.compared import Forgotten, SkillChange, compare_results
from tunesmith.metrics.comparison import SURE, amount, decimals, is_sure, title
from tunesmith.probe_records import Probe, ProbeResult
from tunesmith.records import Comparison, Score
from tunesmith.reporting.contents import ZERO_SHOT, ForgettingReport, TaskReport
from tunesmith.reporting.side_by_side import columns, compared
from tunesmith.wording import fixed, probability


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
    gained = f"{_gained(gain, score)} and " if gain and score else ""
    return f"{change.candidate} {gained}{_lost(change)}."


def _gained(gain: Comparison, score: Score) -> str:
    turned = gain.model_copy(update={"low": -gain.high, "high": -gain.low})
    size = f"{fixed(abs(gain.difference), decimals(score))} {amount(score)}"
    if is_sure(gain):
        return f"gained {size}"
    return f"lost {size}" if is_sure(turned) else f"gained nothing that can be shown in {title(score.metric)}"


def _lost(change: Forgotten) -> str:
    sure = [skill for skill in change.skills if is_forgotten(skill)]
    if sure:
        worst = min(sure, key=lambda skill: skill.change)
        more = len(sure) - 1
        others = f", and some in {more} more skill{'' if more == 1 else 's'}" if more else ""
        return f"{_amount_lost(worst)} ({_corrected(worst, len(change.skills))}){others}"
    every = change.all
    flips = f"{every.lost} lost, {every.won} won, {probability(every.p_value)}"
    if every.p_value < SURE and every.change < 0:
        return f"lost some of the {every.n} probe items ({flips}), though in no skill by itself that can be shown"
    return f"lost nothing that the {every.n} probe items can show ({flips})"


def _amount_lost(skill: SkillChange) -> str:
    if skill.lost is None:
        unit = "points" if skill.unit == "points of 100" else skill.unit
        return f"lost {fixed(-skill.change, 1)} {title(skill.metric)} {unit} in {skill.skill}"
    won = f" and won {skill.won}" if skill.won else ""
    return f"lost {skill.lost}{won} of {skill.n} items of {skill.skill}"


def _corrected(skill: SkillChange, skills: int) -> str:
    return f"{probability(skill.p_holm)}, corrected for {skills} skills"


def is_forgotten(skill: SkillChange) -> bool:
    """Say whether a loss in one skill may be claimed beside the tests of all others."""
    return skill.change < 0 and skill.p_holm < SURE
