"""What a model scores on tasks of lm-evaluation-harness, as the harness computes it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tunesmith.bench_records import BenchScore, Value
from tunesmith.suites.catalog import Suite, harness_tasks
from tunesmith.suites.deltas import RESAMPLES, Finish, Key
from tunesmith.suites.hush import hushed
from tunesmith.suites.tasks import Asking, Ready, definition

FEWSHOT_SEED = 1234  # the harness's own
WHOLE = "mean of the tasks' first metrics"


def ask(model: Any, suite: Suite, tasks: Sequence[Ready], asking: Asking) -> tuple[BenchScore, ...]:
    """Put tasks to a model; the harness makes the prompts and the scores.

    Args:
        model: By ``answering.language_model``.
        suite: That the tasks are of.
        tasks: Whose items are asked.
        asking: Whether the chat template is used.

    Returns:
        Scores of the whole suite, if it has several tasks, then those of each task.
    """
    from lm_eval.evaluator import evaluate

    for one in tasks:
        one.task.set_fewshot_seed(seed=FEWSHOT_SEED)  # every candidate meets the same worked examples
    groups = _groups(suite, tasks)
    records = [one.record for one in tasks]
    drawn = {record.harness: list(record.items) for record in records if len(record.items) < record.of}
    with hushed():
        found = evaluate(
            model,
            {"tasks": {one.record.harness: one.task for one in tasks}, "groups": groups},
            samples=drawn or None,
            bootstrap_iters=RESAMPLES,
            apply_chat_template=asking.chat_template,
            fewshot_as_multiturn=True,
        )
    scores = [score for one in tasks for score in _scores(one, found)]
    if len(tasks) == 1:
        return tuple(scores)
    return (*(_group_score(suite, found) if groups else _mean_score(suite, tasks, scores)), *scores)


def finishing(tasks: Sequence[Ready]) -> dict[Key, Finish]:
    """Return how metrics that are no means are made from the values of all items, as the harness does it."""
    from lm_eval.api.metrics import mean

    return {
        (one.record.task, metric, filtered.name): finish
        for one in tasks
        for metric, finish in one.task.aggregation().items()
        for filtered in one.task._filters
        if finish is not mean
    }


def shares(suite: Suite, tasks: Sequence[Ready]) -> dict[str, float]:
    """Return the weight of each task in the score of the whole suite."""
    total = sum(len(one.record.items) for one in tasks)
    return {
        one.record.task: len(one.record.items) / total if suite.group else 1 / len(tasks) for one in tasks
    }  # fmt: skip


def _groups(suite: Suite, tasks: Sequence[Ready]) -> dict[str, Any]:
    """Return how the harness makes one number of a suite, with the tasks that are asked; empty where it makes none."""
    if not suite.group or len(tasks) == 1:
        return {}
    from lm_eval.api.group import Group

    own = definition(harness_tasks() / suite.group)
    group = Group.from_config({"group": suite.name, "aggregate_metric_list": own["aggregate_metric_list"]})
    for one in tasks:
        group.add(one.task)
    return {suite.name: group}


def _scores(one: Ready, found: Mapping[str, Any]) -> Iterator[BenchScore]:
    """Return the scores of one task, and what each item gave."""
    name = one.record.harness
    samples = found["samples"][name]
    better = found["higher_is_better"][name]
    for key, value in found["results"][name].items():
        metric, _, filtered = key.partition(",")
        if not filtered or metric.endswith("_stderr"):
            continue
        own = sorted((sample for sample in samples if sample["filter"] == filtered), key=lambda s: int(s["doc_id"]))
        yield BenchScore(
            task=one.record.task, metric=metric, filter=filtered, value=float(value),
            stderr=_number(found["results"][name].get(f"{metric}_stderr,{filtered}")), n=len(own),
            higher_is_better=bool(better[metric]), values=tuple(_value(sample[metric]) for sample in own),
        )  # fmt: skip


def _group_score(suite: Suite, found: Mapping[str, Any]) -> Iterator[BenchScore]:
    own = found["groups"][suite.name]
    for key, value in own.items():
        metric, _, filtered = key.partition(",")
        if filtered and not metric.endswith("_stderr"):
            yield BenchScore(
                task=suite.name, metric=metric, filter=filtered, value=float(value),
                stderr=_number(own.get(f"{metric}_stderr,{filtered}")), n=int(own["sample_len"]), higher_is_better=True,
            )  # fmt: skip


def _mean_score(suite: Suite, tasks: Sequence[Ready], scores: Sequence[BenchScore]) -> Iterator[BenchScore]:
    """Return what GLUE and SuperGLUE make one number of: each task counts the same, however many items it has."""
    first: dict[str, BenchScore] = {}
    for score in scores:
        first.setdefault(score.task, score)
    errors = [score.stderr for score in first.values() if score.stderr is not None]
    yield BenchScore(
        task=suite.name, metric=WHOLE, filter="none", value=sum(score.value for score in first.values()) / len(first),
        stderr=sum(error**2 for error in errors) ** 0.5 / len(first) if len(errors) == len(first) else None,
        n=sum(len(one.record.items) for one in tasks), higher_is_better=True,
    )  # fmt: skip


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _value(given: Any) -> Value:
    """Return the value of one item: a number, or the wanted and the given answer."""
    return (float(given[0]), float(given[1])) if isinstance(given, list | tuple) else float(given)
