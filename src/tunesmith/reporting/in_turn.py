"""Tasks one after the other, from the folders of their stages."""

from collections.abc import Mapping

from tunesmith.forgetting.in_turn import InTurn, in_turn
from tunesmith.records import PredictResult, ScoreSheet, TrainResult
from tunesmith.reporting.contents import ZERO_SHOT
from tunesmith.rundir import CandidateDir, RunDir, read_record
from tunesmith.settings import Recipe


def turns(run: RunDir, recipe: Recipe) -> tuple[InTurn, ...]:
    """Return R of every tuned candidate, as far as it has come; nothing where the recipe has no sequence."""
    if not recipe.sequence:
        return ()
    base = _sheets(run.candidate(ZERO_SHOT), recipe)
    found = (
        in_turn(name, recipe.sequence, [base, *(_sheets(where, recipe) for where in _stages(run, recipe, name))])
        for name, candidate in recipe.candidates.items()
        if candidate.method != "none"
    )
    return tuple(one for one in found if one)


def trained_in_all(run: RunDir, recipe: Recipe, name: str, last: TrainResult | None) -> TrainResult | None:
    """Return what training took in all; its losses and rates are those of the last task."""
    if last is None or not recipe.sequence:
        return last
    files = [where.train_result for where in _stages(run, recipe, name)[:-1]]
    whole = [*(read_record(path, TrainResult) for path in files if path.exists()), last]
    summed = {field: sum(getattr(one, field) for one in whole) for field in TRAINED}
    return last.model_copy(update={**summed, "peak_bytes": max(one.peak_bytes for one in whole)})


def answered_in_all(run: RunDir, recipe: Recipe, name: str, last: PredictResult | None) -> PredictResult | None:
    """Return what answering took in all, after each task."""
    if last is None or not recipe.sequence or recipe.candidates[name].method == "none":
        return last
    files = [where.predict_result for where in _stages(run, recipe, name)[:-1]]
    whole = [*(read_record(path, PredictResult) for path in files if path.exists()), last]
    summed = {field: sum(getattr(one, field) for one in whole) for field in ANSWERED}
    return last.model_copy(update={**summed, "peak_bytes": max(one.peak_bytes for one in whole)})


TRAINED = ("steps", "tokens", "target_tokens", "seconds")
ANSWERED = ("seconds", "prompts", "prompt_tokens", "new_tokens", "answers", "flops")


def _stages(run: RunDir, recipe: Recipe, name: str) -> list[CandidateDir]:
    where = run.candidate(name)
    return [*(where.stage(number, task) for number, task in enumerate(recipe.sequence[:-1], 1)), where]


def _sheets(where: CandidateDir, recipe: Recipe) -> Mapping[str, ScoreSheet]:
    paths = {task: where.scores(task) for task in recipe.sequence}
    return {task: read_record(path, ScoreSheet) for task, path in paths.items() if path.exists()}
