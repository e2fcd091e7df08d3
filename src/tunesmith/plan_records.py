"""What a plan holds: memory, time and disk of each candidate, said before a run."""

from tunesmith.records import Record


class StagePlan(Record):
    """What training or answering is expected to take."""

    seconds: float  # training: of the optimizer steps; answering: of everything after the model is loaded
    parts: dict[str, int]  # part of the memory -> bytes; docs/planning.md says what each is
    peak: int  # bytes, the sum of the parts: highest resident memory of the process
    moment: str  # when it is reached
    steps: int = 0  # optimizer steps
    largest: int = 0  # tokens of the largest batch, padding included
    tokens: int = 0  # training: of all steps; answering: of prompts and answers

    @property
    def needed(self) -> int:
        """Bytes beside the program itself, which is there already, and what the system can have back."""
        return self.peak - self.parts.get("program", 0) - self.parts.get("files", 0)


class CandidatePlan(Record):
    """What one candidate is expected to take."""

    name: str
    method: str
    total: int  # parameters of the base
    trainable: int
    train: StagePlan | None  # None: the base as it is
    validating: float  # seconds of all validations
    answer: StagePlan
    disk: int  # bytes of the adapter or the model
    working_disk: int  # bytes of the checkpoints while it trains
    advice: str = ""  # a setting that fits, where this one does not fit into memory


class Fit(Record):
    """Whether training fits into memory by one method, with examples of one length."""

    method: str
    length: int  # tokens of each example
    examples: int  # in memory at once
    peak: int  # bytes of the process
    fits: bool


class Plan(Record):
    """What a run is expected to take, said before it."""

    free: int  # bytes of memory that were free when it was made; 0 = unknown
    program: int  # bytes of the process with all libraries, before a model is there
    calibrated: str  # day of the oldest measurement that it rests on, ISO 8601
    candidates: tuple[CandidatePlan, ...]
    fits: tuple[Fit, ...] = ()  # what else would fit this machine; not kept with a run
    notes: tuple[str, ...] = ()
