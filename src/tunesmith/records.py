"""What is written to disk, and the few things that are handed from step to step.

Everything here is frozen and free of torch. Files hold pydantic records; unknown keys are refused, so that a
file of another version is noticed instead of half read.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from tunesmith.forms import Form

Split = Literal["train", "validation", "test"]
Finish = Literal["stop", "length", "choice"]
Family = Literal["robustness", "fairness"]


class Record(BaseModel):
    """Frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Message(Record):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class Example(Record):
    """One rendered prompt with its target and all accepted references; text only."""

    id: str  # "summarize/test/chats.csv:214" : task, split, place of the row; never reused
    task: str
    split: Split
    prompt: str  # the last user turn
    target: str  # what the loss counts
    references: tuple[str, ...]  # what a score compares with; the target is the first
    choices: tuple[str, ...] = ()  # closed answer set; not empty means that choices are ranked, not generated
    history: tuple[Message, ...] = ()  # earlier turns and the system message, oldest first
    group: str = ""  # rows of one group are never on two sides of a split, and are resampled together
    phrasing: int = 0  # which phrasing of the template was drawn
    form: Form = "zero-shot"  # its form; with chain-of-thought the final answer is what a score compares


class Perturbed(Record):
    """A test example as it is asked to see whether the answer holds."""

    family: Family
    kind: str  # of ``data.perturb.KINDS``
    of: str  # id of the test example
    example: Example  # with an id of its own


class SetAside(Record):
    """A row, or an example, that is not used, and why."""

    file: str
    line: int  # 1-based line of the file where the row begins
    reason: str
    excerpt: str  # at most 80 characters


class Leak(Record):
    """Two rows of different splits that are the same or nearly so."""

    kept_id: str  # the example of the later split (validation, test)
    moved_id: str  # the example that was moved out of training
    similarity: float  # word 5-gram Jaccard; 1.0 = the same after normalising


class Cut(Record):
    """A prompt that was shortened to fit the model's length limit."""

    example_id: str
    tokens_before: int
    tokens_after: int


class DataHealth(Record):
    """What was read, and what became of every row."""

    rows_read: int
    rows_per_split: dict[str, int]  # after leaks were moved out
    groups: int
    set_aside: tuple[SetAside, ...]
    leaks: tuple[Leak, ...]
    repeated_in_split: int  # exact repeats within one split; kept, and counted
    files: dict[str, str]  # file name -> sha256
    notes: tuple[str, ...] = ()  # what was guessed: shapes, columns, encodings


class MixtureShare(Record):
    """What one task adds to the training of a candidate."""

    task: str
    family: str
    rows: int  # training examples that there are
    per_epoch: int  # of them in an epoch; more than ``rows`` = some stand in it more than once
    held_out: bool


class Mixture(Record):
    """How tasks share the training of some candidates."""

    candidates: tuple[str, ...]
    shares: tuple[MixtureShare, ...]  # of every task, in the order of the recipe

    @property
    def examples(self) -> int:
        """How many an epoch has."""
        return sum(share.per_epoch for share in self.shares)


class EncodingHealth(Record):
    """What the token limit did to the examples of one candidate."""

    limit: int  # tokens
    cut: tuple[Cut, ...]
    too_long: tuple[str, ...]  # ids of examples whose target alone does not fit
    prompt_tokens: int  # sums over the training examples
    target_tokens: int


class Prediction(Record):
    """One answer of one candidate."""

    example_id: str
    text: str
    prompt_tokens: int
    new_tokens: int
    finish: Finish
    shots: int = 0  # worked examples that were placed before the prompt
    choice_logprobs: dict[str, float] = {}  # nats, one per choice


class Score(Record):
    """One number of one candidate on one task, with what is needed to trust it."""

    task: str
    metric: str  # "rouge1", "bleu", "accuracy", ...
    value: float  # in unit
    unit: str  # "points of 100", "nats per token", ...
    higher_is_better: bool
    n: int  # examples
    n_empty: int  # empty predictions among them, counted as zero
    low: float  # 95 % bootstrap interval, in unit
    high: float
    signature: str  # settings that decide the value, as one line


class ScoreSheet(Record):
    """All scores of one candidate on one task, with the value of every example."""

    candidate: str
    task: str
    example_ids: tuple[str, ...]
    groups: tuple[str, ...]  # the independent units that are resampled; same length as example_ids
    scores: tuple[Score, ...]
    per_example: dict[str, tuple[float, ...]]  # metric -> one value per example, in the unit of the Score
    notes: tuple[str, ...] = ()  # what the reader of the scores should know of the texts
    counts: dict[str, tuple[tuple[float, ...], ...]] = {}  # corpus metrics: what each example adds to the sums


class Comparison(Record):
    """Candidate ``better`` minus candidate ``than`` on the same examples."""

    task: str
    metric: str
    better: str
    than: str
    difference: float  # in the unit of the metric; positive = better is better
    low: float  # 95 % paired bootstrap interval
    high: float
    p_value: float  # two-sided: paired bootstrap, or exact McNemar for right and wrong
    test: Literal["paired bootstrap", "McNemar"]
    n: int
    sentence: str  # what follows, in words


class TrainPoint(Record):
    """One line of train.jsonl: an optimizer step, or a validation."""

    step: int
    epoch: float
    seconds: float  # since the first step, of training alone, over all restarts
    tokens: int  # real tokens seen so far, prompts and targets, no padding
    target_tokens: int
    loss: float | None = None  # nats per target token, of this step
    learning_rate: float | None = None
    gradient_norm: float | None = None
    kl: float | None = None  # nats per token, divergence from the base on general text
    validation_loss: float | None = None  # nats per target token
    validation_score: float | None = None  # of the metric named in train.keep_best
    note: str = ""


class Averaged(Record):
    """How far the weights that training ended with were taken back towards the base's (WiSE-FT, arXiv 2109.01903)."""

    share: float  # of the tuned weights; the rest is the base's
    measure: str = ""  # what decided: "loss" (nats per target token) or a metric, on validation rows; empty: the recipe
    tried: tuple[tuple[float, float], ...] = ()  # share -> measure, as tried; 0 is the base and 1 what was tuned


class TrainResult(Record):
    """What training one candidate cost and reached."""

    method: str
    trainable: int  # parameters
    total: int
    steps: int
    epochs: float
    tokens: int
    target_tokens: int
    seconds: float
    peak_bytes: int  # highest resident memory of the process while training
    adapter_bytes: int  # on disk
    train_loss: float  # nats per target token, mean of the last tenth of the steps
    validation_loss: float | None
    best_step: int
    learning_rate: float
    precision: str
    stopped: Literal["finished", "early"]
    encoding: EncodingHealth
    replayed: int = 0  # general instructions in an epoch
    averaged: Averaged | None = None


class PredictResult(Record):
    """What answering the test examples cost one candidate."""

    seconds: float
    peak_bytes: int
    prompts: int  # distinct prompts, each answered once
    prompt_tokens: int
    new_tokens: int
    answers: int = 0  # also to prompts that repeat; 0: an older run
    flops: float = 0.0  # of all answers, by the formula of ``models.sizes.forward_flops``
    shots_asked: int = 0
    shots_fitting: dict[str, int] = {}  # number of shots -> how many prompts had room for just that many
    encoding: EncodingHealth


class AdapterCard(Record):
    """What lies beside an adapter's weights, so that it is used as it was trained."""

    schema_version: int = 1
    model: str  # as the recipe names the base
    model_hash: str
    method: str
    settings: dict[str, Any]
    tasks: tuple[dict[str, Any], ...]  # the recipe's tasks, with their templates
    seed: int
    max_tokens: int
    tunesmith: str  # version that wrote it


class NearToken(Record):
    """A token of the vocabulary near to a virtual one."""

    token: str  # in words, with its space
    cosine: float  # of the two embeddings


class VirtualToken(Record):
    """One learned token of a prompt, and what it is near to."""

    task: str  # empty = of all tasks
    place: str  # "decoder", or empty where the prompt begins
    number: int  # from 1, in the order of the prompt
    nearest: tuple[NearToken, ...]  # the nearest first


class NearestTokens(Record):
    """The virtual tokens of an adapter, in words."""

    tokens: tuple[VirtualToken, ...]


class RunRecord(Record):
    """What exactly was run."""

    name: str
    recipe_hash: str
    model: str
    model_hash: str
    parameters: int
    versions: dict[str, str]
    device: str
    threads: int
    started: str  # ISO 8601
    finished: dict[str, str] = {}  # step -> when it finished, ISO 8601
    seconds: dict[str, float] = {}  # step -> how long it took
