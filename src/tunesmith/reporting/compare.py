"""What a run says about its candidates in one to three sentences, and the comparisons behind them."""

from collections.abc import Sequence

from tunesmith.metrics.comparison import amount, compare_sheets, decimals, find_score, sample_size, title
from tunesmith.metrics.scoring import find_metric
from tunesmith.records import Comparison, Score, ScoreSheet
from tunesmith.wording import fixed

__all__ = ["compare_sheets", "headline"]

BASELINE = "zero-shot"
_MOST = 3  # sentences


def headline(sheets: Sequence[ScoreSheet], comparisons: Sequence[Comparison]) -> tuple[str, ...]:
    """Return one to three sentences: the best candidate against zero-shot, and whether the runner-up differs.

    The first metric of each task decides. No difference is claimed that its comparison does not show. With several
    tasks there is one sentence for each of the first three.

    Args:
        sheets: scores of the candidates; none gives no sentence.
        comparisons: what ``compare_sheets`` found between them.
    """
    tasks = list(dict.fromkeys(sheet.task for sheet in sheets))
    if len(tasks) == 1:
        return _of_task(sheets, comparisons)[:_MOST]
    return tuple(
        f"{task}: {_of_task([sheet for sheet in sheets if sheet.task == task], comparisons)[0]}"
        for task in tasks[:_MOST]
    )


def _of_task(sheets: Sequence[ScoreSheet], comparisons: Sequence[Comparison]) -> tuple[str, ...]:
    metric = _deciding_metric(sheets[0])
    scored = [(sheet, score) for sheet in sheets if (score := find_score(sheet, metric))]
    here = [one for one in comparisons if (one.task, one.metric) == (sheets[0].task, metric)]
    if not here:
        return tuple(_alone(*one) for one in scored)
    scored.sort(key=lambda one: one[1].value, reverse=scored[0][1].higher_is_better)
    best, *others = scored
    found = {frozenset((one.better, one.than)): one for one in here}
    rivals = [others[0][0].candidate]
    if any(sheet.candidate == BASELINE for sheet, _ in others) and BASELINE not in rivals:
        rivals.insert(0, BASELINE)
    sentences = [found[frozenset((best[0].candidate, rival))].sentence for rival in rivals]
    if best[0].candidate == BASELINE:
        sentences.insert(0, f"No candidate does better than {BASELINE}.")
    elif BASELINE not in rivals:
        sentences.insert(0, _alone(*best))
    return (*sentences, *_silent(*best))


def _deciding_metric(sheet: ScoreSheet) -> str:
    """Return the first metric with a better side; a sheet of length ratios alone has to do with that."""
    names = [score.metric for score in sheet.scores]
    return next((name for name in names if find_metric(name).better != "neither"), names[0])


def _alone(sheet: ScoreSheet, score: Score) -> str:
    value, low, high = (fixed(one, decimals(score.unit)) for one in (score.value, score.low, score.high))
    name = title(score.metric)
    reached = f"{value} {amount(score)}" if score.unit == "points of 100" else f"a {name} of {value}"
    if score.unit == "%":
        reached = f"{value} % {name}"
    return f"{sheet.candidate} reaches {reached} (95 % CI {low} to {high}, {sample_size(sheet)})."


def _silent(sheet: ScoreSheet, score: Score) -> tuple[str, ...]:
    if not score.n_empty:
        return ()
    return (f"{sheet.candidate} left {score.n_empty} of {score.n} examples without an answer.",)
