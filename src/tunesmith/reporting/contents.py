"""What a report holds: everything that its page shows, in one record.

``report.json`` is a ``Report``. Nothing in it depends on the clock or on the machine that wrote it, so the same run
folder gives the same report.
"""

from typing import Literal

from pydantic import ConfigDict, Field

from tunesmith.bench_records import BenchResult
from tunesmith.forgetting.compared import Forgotten, ProseChange, SkillChange
from tunesmith.forgetting.in_turn import InTurn
from tunesmith.metrics.worst import WorstCase
from tunesmith.plan_records import CandidatePlan
from tunesmith.records import (
    Comparison,
    DataHealth,
    Finish,
    Message,
    Mixture,
    PredictResult,
    Record,
    RunRecord,
    Score,
    Split,
    TrainPoint,
    TrainResult,
    VirtualToken,
)

ZERO_SHOT = "zero-shot"
"""The candidate that every other one is measured against: the base model without worked examples."""


class Answer(Record):
    """What one candidate answered to one example."""

    text: str
    finish: Finish
    new_tokens: int
    shots: int
    words: int  # separated by white space
    scores: dict[str, float]  # metric -> value of this example, in the unit of the metric


class ExampleRow(Record):
    """One test example with the answers of all candidates."""

    id: str
    history: tuple[Message, ...]
    prompt: str
    references: tuple[str, ...]
    answers: dict[str, Answer]  # candidate -> answer; candidates without one are left out


class Lengths(Record):
    """How long the answers of one candidate are, in words separated by white space."""

    candidate: str
    n: int
    median: float
    ratio: float | None  # all words answered / all words of the targets of the same examples
    empty: int
    cut_off: int  # answers that ended at the token limit
    histogram: tuple[int, ...]  # answers per bin of the task's ``length_edges``


class ChoiceCount(Record):
    """How often one allowed answer was right, and how often each candidate chose it."""

    choice: str
    wanted: int
    chosen: dict[str, int]  # candidate -> times
    right: dict[str, int]  # candidate -> times chosen where it was wanted


class Bin(Record):
    """Answers of about the same confidence."""

    n: int
    confidence: float  # mean, in %
    accuracy: float  # in %
    low: float  # 95 % interval of the accuracy
    high: float


class Invention(Record):
    """An answer that names what its source lacks."""

    candidate: str
    example_id: str
    numbers: tuple[str, ...]
    names: tuple[str, ...]


class Beyond(Record):
    """What is looked at beside the average of one task; each field is empty where it was not measured."""

    scores: dict[str, tuple[Score, ...]]  # candidate -> calibration with choices, else repetition and invention
    comparisons: tuple[Comparison, ...]
    reliability: dict[str, tuple[Bin, ...]]  # candidate -> bins of rising confidence; with choices
    inventions: tuple[Invention, ...]
    worst: dict[str, tuple[WorstCase, ...]]  # candidate -> family by family, metric by metric


class TaskReport(Record):
    """Scores, comparisons, lengths and examples of one task."""

    task: str
    scores: dict[str, tuple[Score, ...]]  # candidate -> its scores, in the order of the recipe's metrics
    comparisons: tuple[Comparison, ...]
    length_edges: tuple[int, ...]  # words; bin i holds edges[i] <= words < edges[i + 1], the last one also all above
    target_lengths: tuple[int, ...]  # targets per bin
    lengths: tuple[Lengths, ...]  # empty for a task with choices
    choices: tuple[ChoiceCount, ...]  # empty for a task without choices
    examples: tuple[ExampleRow, ...]
    beyond: Beyond | None = None


class CandidateReport(Record):
    """What was done with one candidate, what it cost, and what is not there yet."""

    name: str
    method: str
    shots: int
    missing: tuple[str, ...]  # what is not finished or not readable, in words; empty = all there
    train: TrainResult | None
    predict: PredictResult | None
    seconds_per_answer: float | None  # of a distinct prompt
    flops_per_answer: float | None  # by formula; None: not recorded
    plan: CandidatePlan | None = None  # what it was expected to take, if that was asked before
    steps: tuple[TrainPoint, ...]  # at most 200; neighbouring steps are averaged
    validations: tuple[TrainPoint, ...]  # all of them
    cures: tuple[str, ...] = ()  # settings against forgetting, in words
    events: tuple[str, ...]  # what the training log noted, with its step
    virtual: tuple[VirtualToken, ...] = ()  # of a soft prompt, with the words that each is near to


class SplitSummary(Record):
    """The examples of one task in one split."""

    task: str
    split: Split
    used: str = ""  # what for, in words
    examples: int
    groups: int
    prompt_words: tuple[float, float]  # median and 95th percentile
    target_words: tuple[float, float]


class Pairwise(Record):
    """What two tuned candidates made of the same probe."""

    candidate: str
    than: str  # what it is set beside
    items: SkillChange  # before is of ``than``, after of ``candidate``; p_holm is corrected for all pairs
    prose: ProseChange  # the same
    gain: Comparison | None  # in the first metric of the first task; positive = ``candidate`` is better


class CureEffect(Pairwise):
    """A candidate with settings against forgetting beside the same one without them."""

    cures: tuple[str, ...]  # in words
    sentence: str


class ForgettingReport(Record):
    """What the tuned candidates forgot outside the tasks of the recipe."""

    changes: tuple[Forgotten, ...]  # of every tuned candidate that took the probe, in the order of the recipe
    sentences: tuple[str, ...]  # one for each of them
    stale: tuple[str, ...]  # candidates whose probe is not the one that the base took
    effects: tuple[CureEffect, ...] = ()
    pairs: tuple[Pairwise, ...] = ()  # other tuned candidates beside each other


class TaskNumber(Record):
    """The mean score over held-out tasks of one candidate."""

    candidate: str
    tasks: int  # that it was tuned on; 0 = the base
    mean: float  # counts to 100; each task weighs the same
    low: float  # 95 % interval
    high: float
    gain: tuple[float, float, float] | None  # over the base, with its paired 95 % interval; None: of the base itself


class ByTasks(Record):
    """Candidates that differ only in the number of tasks that they were tuned on."""

    held_out: tuple[str, ...]  # tasks that are scored
    rows: tuple[TaskNumber, ...]  # the fewest tasks first


class Report(Record):
    """Everything the page of a run shows."""

    model_config = ConfigDict(serialize_by_alias=True)

    schema_version: Literal[1] = Field(1, alias="schema")
    run: RunRecord
    recipe: str
    headline: tuple[str, ...]
    candidates: tuple[CandidateReport, ...]
    tasks: tuple[TaskReport, ...]
    forgetting: ForgettingReport | None  # None = the recipe says off
    benchmarks: tuple[BenchResult, ...] = ()  # suites that were run on it, without the values of single items
    by_tasks: tuple[ByTasks, ...] = ()  # one for each way to tune, where only held-out tasks are scored
    in_turn: tuple[InTurn, ...] = ()  # of every tuned candidate, where the recipe has a sequence
    health: DataHealth | None
    mixtures: tuple[Mixture, ...] = ()  # how tasks share the training; empty where each gives all that it has
    splits: tuple[SplitSummary, ...]
    notes: tuple[str, ...]  # what the report could not use, in words
