"""What the probe asks beside the tasks of a run, and what a candidate made of it."""

from pydantic import Field

from tunesmith.records import Example, Leak, Record


class Paragraph(Record):
    """General prose whose likelihood is taken before and after tuning."""

    id: str
    field: str  # what it is about, or its kind: history, letter, ...
    text: str


class Skill(Record):
    """One part of a probe: the items whose ``task`` is its name, and how their answers are scored."""

    name: str
    metric: str  # gives every item a value of its own
    max_new_tokens: int  # longest written answer
    own: bool = False  # a task that the recipe names, beside the shipped skills


class Probe(Record):
    """What the base and every tuned candidate of a run are asked, to see what was forgotten."""

    wanted: str  # what the recipe says under ``forgetting``
    skills: tuple[Skill, ...]
    items: tuple[Example, ...]
    prose: tuple[Paragraph, ...]
    files: dict[str, str] = Field(default_factory=dict)  # of own tasks: file name -> sha256
    leaks: tuple[Leak, ...] = ()  # items of own tasks (moved_id) that training has in a row of its own (kept_id)


class ProbeAnswer(Record):
    """One answer to one item of a probe."""

    item: str  # id
    text: str  # the choice of highest likelihood, or what was written
    value: float  # in the unit of the skill's metric; 100 = right and 0 = wrong, where an answer is one or the other
    choice_logprobs: dict[str, float] = Field(default_factory=dict)  # nats, one per choice


class ProseLoss(Record):
    """What one paragraph costs a model."""

    paragraph: str  # id
    nats: float  # negative log-likelihood, summed over its tokens
    tokens: int


class ProbeResult(Record):
    """What one candidate made of a probe."""

    probe: str  # sha256 of the probe's file: results are compared only where it is equal
    seconds: float
    answers: tuple[ProbeAnswer, ...]  # in the order of the probe's items
    prose: tuple[ProseLoss, ...]  # in the order of its paragraphs
