"""Tasks of lm-evaluation-harness with rows of our choosing, and what a model scores on them.

The harness's own definition of a task is taken as it is: prompt, choices, metrics, worked examples. Only where its rows
come from is ours, and which of them are asked.
"""

import contextlib
import io
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from tunesmith.bench_records import BenchScore, BenchTask, Value
from tunesmith.errors import DataError, UsageError
from tunesmith.models.gguf import first_line
from tunesmith.suites.catalog import Suite, harness_tasks
from tunesmith.suites.deltas import RESAMPLES, Finish, Key
from tunesmith.suites.local import Rows

FEWSHOT_SEED = 1234  # the harness's own
WHOLE = "mean of the tasks' first metrics"


@dataclass(frozen=True, slots=True)
class Ready:
    """One task, ready to be asked."""

    record: BenchTask
    task: Any  # lm_eval.api.task.ConfigurableTask


@dataclass(frozen=True, slots=True)
class Asking:
    """How all tasks are asked."""

    limit: int | None  # items of each task at most
    shots: int | None  # None: as the harness has it
    seed: int
    chat_template: bool


def definition(path: Path, *, whole: bool = True) -> dict[str, Any]:
    """Return how the harness defines a task, with what the file includes.

    Args:
        path: Of the harness's file.
        whole: Also import the functions that the file names; else their places stand for them.

    Raises:
        ImportError: A function needs what is not installed.
    """
    from lm_eval.tasks._yaml_loader import load_yaml

    found: dict[str, Any] = load_yaml(path, resolve_func=whole, recursive=True)
    return {key: value for key, value in found.items() if key not in ("tag", "group")}


def asked_split(defined: Mapping[str, Any]) -> str:
    """Return the split whose items are asked."""
    return str(defined.get("test_split") or defined["validation_split"])


def shots_split(defined: Mapping[str, Any], shots: int | None) -> str:
    """Return the split that worked examples come from; empty where none are asked for, or the task brings its own."""
    own = defined.get("fewshot_config") or {}
    if not (defined.get("num_fewshot") or 0 if shots is None else shots) or own.get("samples"):
        return ""
    return str(defined.get("fewshot_split") or own.get("split") or defined.get("training_split") or "")


def prepare(name: str, defined: dict[str, Any], rows: Rows | Any, asking: Asking) -> Ready:
    """Build a task and choose its items.

    Args:
        name: As ``superglue/boolq``.
        defined: By ``definition``.
        rows: Of local files, or what the hub gave.
        asking: Shots, limit and seed.

    Raises:
        UsageError: There are fewer worked examples than asked for.
    """
    from lm_eval.api.task import ConfigurableTask

    local = isinstance(rows, Rows)
    splits = _as_datasets(rows) if local else rows
    own = dict(defined, custom_dataset=lambda **_: splits)
    if own.get("training_split") not in splits:
        own.pop("training_split", None)
    with hushed():
        task = ConfigurableTask(config=own)
    shots = (defined.get("num_fewshot") or 0) if asking.shots is None else asking.shots
    if shots and shots > len(task.sampler.df):
        raise UsageError(f"--shots {shots}: {name} has {len(task.sampler.df)} worked examples. Ask for no more.")
    task.set_config(key="num_fewshot", value=shots)
    items = choose_items(len(task.eval_docs), asking.limit, seed=asking.seed, name=name)
    hub = " ".join(filter(None, [defined["dataset_path"], defined.get("dataset_name")]))
    record = BenchTask(
        task=name, harness=defined["task"], version=str(task.VERSION), split=asked_split(defined),
        source="local" if local else hub, files=dict(rows.files) if local else {}, shots=shots, items=items,
        of=len(task.eval_docs), notes=rows.notes if local else (),
    )  # fmt: skip
    return Ready(record, task)


def choose_items(n: int, limit: int | None, *, seed: int, name: str) -> tuple[int, ...]:
    """Return the places of the items that are asked, drawn by the seed and the name of the task, in rising order.

    >>> choose_items(5, None, seed=0, name="glue/rte"), len(choose_items(1000, 20, seed=0, name="glue/rte"))
    ((0, 1, 2, 3, 4), 20)
    """
    if limit is None or limit >= n:
        return tuple(range(n))
    return tuple(sorted(Random(f"{seed} {name}").sample(range(n), limit)))


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


@contextmanager
def hushed() -> Iterator[None]:
    """Keep the harness from writing between our own lines, and from starting a process for every core."""
    before = os.environ.get("DISABLE_MULTIPROC")
    os.environ["DISABLE_MULTIPROC"] = "1"
    log = logging.getLogger("lm_eval")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), _no_bars():
            yield
    finally:
        log.setLevel(level)
        if before is None:
            del os.environ["DISABLE_MULTIPROC"]
        else:
            os.environ["DISABLE_MULTIPROC"] = before


@contextmanager
def _no_bars() -> Iterator[None]:
    from tqdm import tqdm

    kind: Any = tqdm
    plain = kind.__init__

    def silent(bar: Any, *arguments: Any, **options: Any) -> None:
        plain(bar, *arguments, **(options | {"disable": True}))

    kind.__init__ = silent
    try:
        yield
    finally:
        kind.__init__ = plain


def _as_datasets(rows: Rows) -> Any:
    from datasets import Dataset

    return {split: Dataset.from_list(own) for split, own in rows.splits.items()}


def from_hub(name: str, defined: Mapping[str, Any], file: str) -> Any:
    """Return the splits of a task's data set on the hub.

    Args:
        name: As ``superglue/boolq``.
        defined: By ``definition``.
        file: That would do as well, below a folder of local data.

    Raises:
        DataError: The hub does not give them.
    """
    from datasets import load_dataset

    path, part = defined["dataset_path"], defined.get("dataset_name")
    options = {key: value for key, value in (defined.get("dataset_kwargs") or {}).items() if key != "trust_remote_code"}
    try:
        return load_dataset(path, part, **options)
    except Exception as error:  # whatever the network, the hub or its libraries have to say
        raise DataError(
            f'{name}: "{path}" could not be fetched from the hub: {first_line(error)} Check the network, or give '
            f"{file} in a folder with --data; docs/benchmarks.md has the layout."
        ) from None


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
