"""Tasks of lm-evaluation-harness with rows of our choosing.

The harness's own definition of a task is taken as it is: prompt, choices, metrics, worked examples. Only where its rows
come from is ours, and which of them are asked.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from tunesmith.bench_records import BenchTask
from tunesmith.errors import DataError, UsageError
from tunesmith.suites.hush import hushed
from tunesmith.suites.local import Rows
from tunesmith.wording import first_line


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
        UsageError: There are fewer worked examples than asked for, or the task takes none.
    """
    from lm_eval.api.task import ConfigurableTask

    local = rows if isinstance(rows, Rows) else None
    splits: Any = _as_datasets(local) if local else rows
    own = dict(defined, custom_dataset=lambda **_: splits)
    if own.get("training_split") not in splits:
        own.pop("training_split", None)
    with hushed():
        task = ConfigurableTask(config=own)
    usual = defined.get("num_fewshot")
    if usual == 0 and asking.shots:
        raise UsageError(
            f"--shots {asking.shots}: {name} is asked without worked examples. Ask it apart, without them."
        )
    shots = (usual or 0) if asking.shots is None else asking.shots
    if shots and shots > len(task.sampler.df):
        raise UsageError(f"--shots {shots}: {name} has {len(task.sampler.df)} worked examples. Ask for no more.")
    task.set_config(key="num_fewshot", value=shots)
    items = choose_items(len(task.eval_docs), asking.limit, seed=asking.seed, name=name)
    hub = " ".join(filter(None, [defined["dataset_path"], defined.get("dataset_name")]))
    record = BenchTask(
        task=name, harness=defined["task"], version=str(task.VERSION), split=asked_split(defined),
        source="local" if local else hub, files=dict(local.files) if local else {}, shots=shots, items=items,
        of=len(task.eval_docs), notes=local.notes if local else (),
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
