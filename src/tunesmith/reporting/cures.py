"""Settings against forgetting: which candidates have some, and what these brought beside the same without them."""

from collections.abc import Mapping, Sequence

from tunesmith.forgetting.compared import ProseChange, SkillChange, compare_results, holm
from tunesmith.metrics.comparison import SURE, amount, decimals, is_sure, title
from tunesmith.mixtures import mixture_settings
from tunesmith.probe_records import Probe, ProbeResult
from tunesmith.recipe import train_settings
from tunesmith.records import Comparison, Score, TrainResult
from tunesmith.reporting.contents import CureEffect, TaskReport
from tunesmith.reporting.side_by_side import columns, compared
from tunesmith.settings import Recipe, TrainSettings
from tunesmith.wording import fixed, probability

NONE = TrainSettings()
NAMES = ("replay", "kl", "average")


def cures_of(recipe: Recipe, name: str, result: TrainResult | None = None) -> tuple[str, ...]:
    """Return the settings against forgetting of a candidate, in words, such as "replay 0.1".

    Args:
        recipe: Of the run.
        name: Of the candidate.
        result: Of its training, which knows the share that was searched; None where it is not finished.
    """
    if recipe.candidates[name].method == "none":
        return ()
    settings = train_settings(recipe, name)
    said = [f"{one} {getattr(settings, one)}" for one in NAMES if getattr(settings, one) != getattr(NONE, one)]
    searched = result.averaged.share if result and result.averaged and settings.average == "auto" else None
    return tuple(f"average {searched:g}, searched" if one == "average auto" and searched else one for one in said)


def twin_of(recipe: Recipe, name: str) -> str | None:
    """Return the candidate that is the same without settings against forgetting, if the recipe has one."""
    if not cures_of(recipe, name):
        return None
    mine = _but_for_cures(recipe, name)
    return next(
        (
            other
            for other in recipe.candidates
            if other != name and not cures_of(recipe, other) and _but_for_cures(recipe, other) == mine
        ),
        None,
    )


def _but_for_cures(recipe: Recipe, name: str) -> tuple[object, ...]:
    candidate = recipe.candidates[name]
    settings = train_settings(recipe, name).model_copy(update={one: getattr(NONE, one) for one in NAMES})
    return candidate.method, candidate.shots, candidate.settings, settings, mixture_settings(recipe, name)


def cure_effects(
    recipe: Recipe, probe: Probe, results: Mapping[str, ProbeResult], tasks: Sequence[TaskReport], *,
    cures: Mapping[str, tuple[str, ...]],
) -> tuple[CureEffect, ...]:  # fmt: skip
    """Compare every candidate that has settings against forgetting with the same one without.

    Args:
        recipe: Of the run.
        probe: What was asked.
        results: Candidate -> what it made of the probe; all of the same one.
        tasks: Of the report; the first metric of the first says what was gained.
        cures: Candidate -> its settings in words.
    """
    pairs = [(name, twin) for name in results if (twin := twin_of(recipe, name)) is not None and twin in results]
    found = [
        compare_results(probe, results[twin], results[name], candidate=name, seed=recipe.seed) for name, twin in pairs
    ]
    corrected = holm([one.all.p_value for one in found])
    effects = []
    for (name, twin), change, p in zip(pairs, found, corrected, strict=True):
        items, (gain, score) = change.all.model_copy(update={"p_holm": p}), _gain(tasks, name, twin)
        said = ", ".join(cures[name])
        effects.append(
            CureEffect(
                candidate=name, than=twin, cures=cures[name], items=items, prose=change.prose, gain=gain,
                sentence=f"With {said}, {_kept(name, twin, items, change.prose)}{_cost(gain, score)}.",
            )
        )  # fmt: skip
    return tuple(effects)


def effect_sentence(effects: Sequence[CureEffect]) -> tuple[str, ...]:
    """Return what the headline says: the cure that kept most for sure, or that none did; nothing without any."""
    if not effects:
        return ()
    sure = [one for one in effects if one.items.change > 0 and one.items.p_holm < SURE]
    if sure:
        return (max(sure, key=lambda one: one.items.change).sentence,)
    said = ", ".join(dict.fromkeys(cure for one in effects for cure in one.cures))
    return (f"That {said} kept more of the {effects[0].items.n} probe items than the same without cannot be shown.",)


def _gain(tasks: Sequence[TaskReport], name: str, twin: str) -> tuple[Comparison | None, Score | None]:
    for task in tasks[:1]:
        for column in columns(task):
            if found := compared(task, column.metric, candidate=name, baseline=twin):
                scores = task.scores.get(name, ())
                return found, next((score for score in scores if score.metric == column.metric), None)
    return None, None


def _kept(name: str, twin: str, items: SkillChange, prose: ProseChange) -> str:
    flips = f"{items.won} of {items.n} probe items right that {twin} gets wrong, and {items.lost} the other way round"
    loss = f"prose costs {fixed(abs(prose.change), 3)} nats per token less" if prose.high < 0 else ""
    if prose.low > 0:
        loss = f"prose costs {fixed(abs(prose.change), 3)} nats per token more"
    return f"{name} gets {flips} ({probability(items.p_holm)})" + (f"; {loss}" if loss else "")


def _cost(gain: Comparison | None, score: Score | None) -> str:
    if gain is None or score is None:
        return ""
    if not is_sure(gain) and not is_sure(gain.model_copy(update={"low": -gain.high, "high": -gain.low})):
        return f"; a difference in {title(score.metric)} cannot be shown"
    more = "more" if gain.difference > 0 else "less"
    return f"; it gains {fixed(abs(gain.difference), decimals(score))} {amount(score)} {more}"
