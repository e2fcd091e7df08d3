"""What a benchmark suite found, as it is written to disk: one file for each suite, ``bench/SUITE.json``."""

from typing import Literal

from pydantic import ConfigDict, Field

from tunesmith.records import Record

Value = float | tuple[float, float]
"""Of one item: what is averaged, or the wanted and the given answer where a metric takes all items together."""


class BenchTask(Record):
    """What one task of a suite asked, of base and tuned alike."""

    task: str  # "superglue/boolq"
    harness: str  # its name in lm-evaluation-harness
    version: str  # of its prompt and metrics, as the harness counts
    split: str
    source: str  # "local", or the data set on the hub
    files: dict[str, str]  # local file -> sha256
    shots: int  # worked examples before each question
    items: tuple[int, ...]  # places in the split, from 0
    of: int  # items of the split
    notes: tuple[str, ...] = ()  # where the data are not what the hub has


class LeftOut(Record):
    """A task of a suite that could not be asked."""

    task: str
    why: str
    wanted: tuple[str, ...] = ()  # files that it lacks, below the folder of data


class BenchScore(Record):
    """One metric of one task, or of the whole suite, by one candidate."""

    task: str  # the suite itself for what its tasks give together
    metric: str  # as the harness names it
    filter: str  # what the harness did with the answer first; "none" = nothing
    value: float
    stderr: float | None  # None: the harness gives none for this metric
    n: int  # items
    higher_is_better: bool
    values: tuple[Value, ...] = ()  # one for each item; empty for the whole suite


class BenchRun(Record):
    """One candidate on all tasks of a suite."""

    candidate: str  # "base", or the name of the tuned one
    method: str  # "none" for the base
    seconds: float
    scores: tuple[BenchScore, ...]
    model_hash: str = ""  # of the weights: the base, or the adapter's folder


class BenchDelta(Record):
    """Tuned minus base on the same items."""

    candidate: str
    task: str
    metric: str
    filter: str
    difference: float
    stderr: float | None  # of the difference, paired; None with a single item, 0 where all items changed alike
    n: int
    better: int | None  # items on which the tuned one is better; None where a single item has no value
    worse: int | None


class BenchResult(Record):
    """One suite, base and tuned."""

    model_config = ConfigDict(serialize_by_alias=True)

    schema_version: Literal[1] = Field(1, alias="schema")
    suite: str
    asked: tuple[str, ...] = ()  # what was named: the suite, or tasks of it
    model: str
    chat_template: bool  # whether prompts were put into the model's chat template
    shots: int | None  # as asked; None = as the harness has it for each task
    limit: int | None  # items of each task at most
    seed: int  # decides which items
    fewshot_seed: int  # decides which worked examples, where they are drawn
    precision: str
    versions: dict[str, str]
    device: str
    started: str  # ISO 8601
    tasks: tuple[BenchTask, ...]
    left_out: tuple[LeftOut, ...]
    runs: tuple[BenchRun, ...]  # the base first
    deltas: tuple[BenchDelta, ...]
