"""From examples and predictions to a score sheet: values, 95 % intervals and signatures. Needs no model."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np

from tunesmith.errors import RecipeError, UserError
from tunesmith.forms import final_answer
from tunesmith.metrics.calibration import ENOUGH
from tunesmith.metrics.contract import Answers, Finish, Floats, Measured, Metric, per_example
from tunesmith.metrics.rouge import text_notes
from tunesmith.metrics.statistics import interval, resample, together, unanimous_interval, unit_count
from tunesmith.records import Example, Prediction, Score, ScoreSheet
from tunesmith.registry import METRICS, known, resolve

GROUPS: dict[str, tuple[str, ...]] = {
    "rouge": ("rouge1", "rouge2", "rougeL", "rougeLsum"),
    "rouge-unstemmed": ("rouge1-unstemmed", "rouge2-unstemmed", "rougeL-unstemmed", "rougeLsum-unstemmed"),
}
"""Names that stand for several metrics."""

_NAMED = 5  # ids in one message


def expand_metrics(names: Sequence[str], has_choices: bool) -> tuple[str, ...]:
    """Return the metrics that are computed for what a recipe asks for.

    Args:
        names: names of metrics or of groups; empty means rouge, or accuracy and macro-f1 with choices.
        has_choices: whether answers come from a closed set.

    Raises:
        RecipeError: for names that are not known; it names the nearest ones.

    >>> expand_metrics(["rouge", "bleu"], has_choices=False)
    ('rouge1', 'rouge2', 'rougeL', 'rougeLsum', 'bleu')
    """
    problems: list[str] = []
    table: dict[str, object] = {**GROUPS, **METRICS}
    for name in names:
        try:
            known("metric", name, table)
        except RecipeError as error:
            problems += error.problems
    if problems:
        raise RecipeError(problems)
    asked = names or (("accuracy", "macro-f1") if has_choices else ("rouge",))
    return tuple(dict.fromkeys(metric for name in asked for metric in GROUPS.get(name, (name,))))


def find_metric(name: str) -> Metric:
    """Return what ``name`` stands for.

    Raises:
        RecipeError: if the name is not known.
    """
    return cast(Metric, resolve("metric", name, METRICS))


def score_predictions(
    examples: Sequence[Example],
    predictions: Sequence[Prediction],
    *,
    candidate: str,
    task: str,
    metrics: Sequence[str],
    seed: int = 0,
) -> ScoreSheet:
    """Score the answers of one candidate to one task.

    An empty prediction counts as zero, and is counted. Answers that come after their reasons are compared by what
    ``final_answer`` finds in them. Intervals come from resampling the groups of the examples.

    Args:
        examples: all examples of the task.
        predictions: one for each of them, in any order.
        candidate: whose answers they are.
        task: name of the task.
        metrics: names as ``expand_metrics`` returns them.
        seed: of the resampling.

    Raises:
        UserError: if a prediction is missing, is there twice, or belongs to no example.
        RecipeError: if a metric is not known.
    """
    answers = collect_answers(examples, predictions, candidate=candidate, task=task)
    groups = tuple(example.group or example.id for example in examples)
    measured = measure(metrics, answers)
    if any(map(_reasons, examples)):
        measured = {name: replace(one, signature=f"{one.signature}|answer:final") for name, one in measured.items()}
    parts = [additive(find_metric(name), one) for name, one in measured.items()]
    counts, finish = together(parts)
    values = finish(counts.sum(axis=0, keepdims=True))[0]
    samples = resample(counts, finish, groups=groups, seed=seed)
    n_empty = sum(not text.strip() for text in answers.predictions)
    scores = []
    for place, (name, one) in enumerate(measured.items()):
        metric, value, spread = find_metric(name), float(values[place]), interval(samples[:, place])
        if metric.right_or_wrong and spread.low == spread.high:
            spread = unanimous_interval(value > 0, unit_count(groups, len(groups)))
        scores.append(
            Score(
                task=task,
                metric=name,
                value=value,
                unit=metric.unit,
                higher_is_better=metric.better == "higher",
                n=len(examples),
                n_empty=n_empty,
                low=min(spread.low, value),  # resamples of an ECE can all lie above it
                high=max(spread.high, value),
                signature=one.signature,
            )
        )
    return ScoreSheet(
        candidate=candidate,
        task=task,
        example_ids=tuple(example.id for example in examples),
        groups=groups,
        scores=tuple(scores),
        notes=(*scoring_notes(answers, candidate=candidate, metrics=metrics), *label_notes(examples, task, metrics)),
        per_example={name: one.values for name, one in measured.items() if one.values},
        counts={name: one.counts for name, one in measured.items() if one.counts},
    )


def scoring_notes(answers: Answers, *, candidate: str, metrics: Sequence[str]) -> tuple[str, ...]:
    """Return what the reader of these scores should know: texts in which ROUGE sees nothing, too few for an ECE."""
    notes: list[str] = []
    if any(name.startswith("rouge") for name in metrics):
        references = [text for texts in answers.references for text in texts]
        notes += text_notes(references, "references")
        notes += text_notes(answers.predictions, f"predictions of {candidate}")
    if "ece" in metrics and len(answers.predictions) < ENOUGH:
        notes.append(
            f"ECE of {len(answers.predictions)} examples: with fewer than about {ENOUGH}, it is well above zero even "
            "for a model whose confidence is right."
        )
    return tuple(notes)


def label_notes(examples: Sequence[Example], task: str, metrics: Sequence[str]) -> tuple[str, ...]:
    """Return what an accuracy is to be held against: that of one who gives the commonest label every time."""
    if "accuracy" not in metrics or len({example.choices for example in examples}) != 1 or not examples[0].choices:
        return ()
    (label, hits), *_ = Counter(example.target for example in examples).most_common(1)
    reached = f"given every time, it would reach {100 * hits / len(examples):.1f} %"
    return (f'{task}: "{label}" is right for {hits} of {len(examples)} rows; {reached}.',)


def collect_answers(
    examples: Sequence[Example], predictions: Sequence[Prediction], *, candidate: str, task: str
) -> Answers:
    """Put the predictions in the order of the examples; of a chain of thought, only the final answers.

    Raises:
        UserError: if there are no examples, or if a prediction is missing, is there twice, or belongs to no example.
    """
    place = f'candidate "{candidate}", task "{task}"'
    if not examples:
        raise UserError(f"{place}: there are no examples to score. Give the split some rows.")
    by_id = {prediction.example_id: prediction for prediction in predictions}
    wanted = [example.id for example in examples]
    found = [prediction.example_id for prediction in predictions]
    problems = [
        f"{place}: {what}: {_list(ids)}. Run predict again."
        for what, ids in (
            ("examples without a prediction", [one for one in wanted if one not in by_id]),
            ("examples with more than one prediction", _repeated(found)),
            ("predictions for unknown examples", sorted(by_id.keys() - set(wanted))),
            ("examples that are there more than once", _repeated(wanted)),
        )
        if ids
    ]
    if problems:
        raise UserError(problems)
    ordered = [by_id[one] for one in wanted]
    return Answers(
        predictions=tuple(
            _compared(example, prediction.text) for example, prediction in zip(examples, ordered, strict=True)
        ),
        references=tuple(
            tuple(_compared(example, text) for text in example.references or (example.target,)) for example in examples
        ),
        choices=tuple(example.choices for example in examples),
        choice_logprobs=tuple(prediction.choice_logprobs for prediction in ordered),
        sources=tuple(map(source_text, examples)),
    )


def source_text(example: Example) -> str:
    """Return all that a model is shown of an example: earlier turns and prompt, without worked examples."""
    return "\n".join([*(message.content for message in example.history), example.prompt])


def _reasons(example: Example) -> bool:
    return example.form == "chain-of-thought"


def _compared(example: Example, text: str) -> str:
    return final_answer(text) if _reasons(example) else text


def additive(metric: Metric, measured: Measured) -> tuple[Floats, Finish]:
    """Return what adds up over the examples (n, K), and how sums become values of the metric."""
    if measured.values:
        return per_example(measured.values), metric.finish
    return metric.columns(np.asarray(measured.counts, dtype=np.float64)), metric.finish


def measure(names: Sequence[str], answers: Answers) -> dict[str, Measured]:
    """Measure names of one family at once, and return them in the order in which they were asked for."""
    families: dict[object, list[str]] = {}
    for name in names:
        families.setdefault(find_metric(name).measure, []).append(name)
    measured: dict[str, Measured] = {}
    for family in families.values():
        measured |= find_metric(family[0]).measure(family, answers)
    return {name: measured[name] for name in names}


def _repeated(ids: Sequence[str]) -> list[str]:
    return [one for one, times in Counter(ids).items() if times > 1]


def _list(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
    return ", ".join(ids[:_NAMED]) + more
