"""Settings against forgetting: which candidates have some, and what these brought beside the same without them."""

from collections.abc import Mapping, Sequence

from tunesmith.metrics.comparison import SURE, amount, decimals, is_sure, title
from tunesmith.mixtures import mixture_settings
from tunesmith.probe_records import Probe, ProbeResult
from tunesmith.recipe import train_settings
from tunesmith.records import TrainResult
from tunesmith.reporting.contents import CureEffect, Pairwise, TaskReport
from tunesmith.reporting.pairs import compare_pairs, kept
from tunesmith.settings import Recipe, TrainSettings
from tunesmith.wording import fixed

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
    return tuple(
        CureEffect(**dict(pair), cures=cures[pair.candidate], sentence=_sentence(pair, cures[pair.candidate], tasks))
        for pair in compare_pairs(probe, results, tasks, pairs, seed=recipe.seed)
    )


def effect_sentence(effects: Sequence[CureEffect]) -> tuple[str, ...]:
    """Return what the headline says: the cure that kept most for sure, or that none did; nothing without any."""
    if not effects:
        return ()
    sure = [one for one in effects if one.items.change > 0 and one.items.p_holm < SURE]
    if sure:
        return (max(sure, key=lambda one: one.items.change).sentence,)
    tried = "; ".join(dict.fromkeys(", ".join(one.cures) for one in effects))
    kept_by_none = f"keep more of the {effects[0].items.n} probe items than the same candidate without it"
    return (f"No cure can be shown to {kept_by_none} (tried: {tried}).",)


def _sentence(pair: Pairwise, cures: Sequence[str], tasks: Sequence[TaskReport]) -> str:
    said = kept(pair.candidate, pair.than, pair.items, pair.prose)
    return f"With {', '.join(cures)}, {said}{_cost(pair, tasks)}."


def _cost(pair: Pairwise, tasks: Sequence[TaskReport]) -> str:
    gain = pair.gain
    if gain is None:
        return ""
    score = next(one for one in tasks[0].scores[pair.candidate] if one.metric == gain.metric)
    if not is_sure(gain) and not is_sure(gain.model_copy(update={"low": -gain.high, "high": -gain.low})):
        return f"; a difference in {title(score.metric)} cannot be shown"
    more = "more" if gain.difference > 0 else "less"
    return f"; it gains {fixed(abs(gain.difference), decimals(score.unit))} {amount(score)} {more}"
