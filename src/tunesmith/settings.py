"""Every field of a recipe: its name, its default, what it means. Nothing else knows a default.

Those of what is asked, tasks and benchmark suites, stand in ``task_settings.py``, and settings of a tuning method in
that method's own file (``methods/``); ``recipe.py`` reads all of this from YAML and says what is wrong with it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, field_validator

from tunesmith.forms import Form
from tunesmith.task_settings import (
    Forgetting,
    Phrasing,
    Settings,
    SourceSettings,
    SuiteSettings,
    TaskSettings,
    TemplateSettings,
)

__all__ = [
    "Candidate", "DataSettings", "Forgetting", "GenerateSettings", "MeasureSettings", "MixtureSettings", "Phrasing",
    "Recipe", "Settings", "SourceSettings", "SplitSettings", "SuiteSettings", "TaskSettings", "TemplateSettings",
    "TrainSettings",
]  # fmt: skip


class SplitSettings(Settings):
    """How rows become train, validation and test."""

    train: float = Field(0.8, ge=0, le=1, description="Share of the groups.")
    validation: float = Field(0.1, ge=0, le=1, description="The same: what the best weights are chosen by.")
    test: float = Field(0.1, ge=0, le=1, description="The same: what every score is taken on.")
    group: str | None = Field(None, description="Rows equal in this column stay together. None: the row's own text.")
    column: str | None = Field(None, description='Column that says "train", "validation" or "test" for each row.')
    limit: dict[Literal["train", "validation", "test"], int] = Field(
        default_factory=dict, description="Keep at most this many rows of a split, chosen by seed."
    )


class DataSettings(Settings):
    """Where tables lie, and what is let through."""

    folder: str = Field("", description="Folder that sources start from, seen from the recipe's. Empty: the recipe's.")
    allow_bad: float = Field(0.01, ge=0, le=1, description="Share of rows that may be set aside before it stops.")
    max_row_bytes: int = Field(1_000_000, ge=1, description="A larger row is set aside.")
    leak_similarity: float = Field(
        0.8, gt=0, le=1, description="Word 5-gram Jaccard from which two rows count as near duplicates."
    )
    leaks: Literal["move", "keep"] = Field("move", description="move: out of training. keep: only reported.")


Part: TypeAlias = Annotated[float, Field(gt=0)]
Count: TypeAlias = Annotated[int, Field(ge=1)]


class MixtureSettings(Settings):
    """How several tasks share the training. Without it an epoch has every example of every task once."""

    cap: int = Field(3000, ge=1, description="Examples of a task beyond this many add nothing to its share.")
    temperature: float = Field(
        1.0,
        gt=0,
        description="Shares are the capped sizes, or weights, to the power of 1/temperature; large: all alike.",
    )
    weights: dict[str, Part] = Field(
        default_factory=dict,
        description="Task -> its part, in place of its capped size; a task that is not named takes none.",
    )
    examples: int | None = Field(None, ge=1, description="Of one epoch. None: the sum of the capped sizes.")
    limit: int | None = Field(
        30_000, ge=1, description="Training rows of a task that are used, chosen by seed; no more are held in memory."
    )
    limits: dict[str, Count] = Field(default_factory=dict, description="Task -> its own `limit`.")
    forms: dict[Form, Part] = Field(
        default_factory=dict,
        description="Form -> its share of the training prompts, where a template and a row have it.",
    )
    held_out: tuple[str, ...] = Field((), description="Families or tasks that nothing is tuned on.")
    tasks: int | None = Field(
        None,
        ge=1,
        description="Tune on the first so many of the other tasks, in the order of the recipe. None: on all.",
    )
    scored: Literal["all", "held-out"] = Field("all", description="Tasks whose test rows are answered and scored.")


class TrainSettings(Settings):
    """How the loop runs; a candidate may override any of it under its own ``train:``."""

    epochs: float = Field(3.0, gt=0, le=10_000, description="Passes over the training examples; 0.5 is half of one.")
    max_steps: int | None = Field(None, ge=1, description="Stop after this many optimizer steps.")
    learning_rate: float | Literal["auto"] = Field("auto", description="auto: the table of docs/training.md.")
    tokens_per_step: int = Field(2048, ge=1, description="Real tokens in one optimizer step.")
    tokens_per_batch: int | Literal["auto"] = Field(
        "auto", description="Tokens in memory at once; changes speed, not the result. auto: by the size of the model."
    )
    max_tokens: int = Field(1024, ge=8, description="Longest prompt + target; longer prompts lose their oldest part.")
    warmup: float = Field(0.05, ge=0, le=1, description="Share of the steps with rising rate.")
    schedule: Literal["linear", "cosine", "constant"] = Field("cosine", description="After the warm-up.")
    final_rate: float = Field(0.1, ge=0, le=1, description="Rate of the last step as share of the highest.")
    optimizer: Literal["adamw", "adamw-8bit", "paged-adamw-8bit"] = Field(
        "adamw", description="8bit: its two moments in 8 bits, by bitsandbytes. paged: on a graphics card."
    )
    weight_decay: float = Field(0.0, ge=0, description="Of AdamW, for matrices only.")
    clip: float = Field(1.0, gt=0, description="Largest gradient norm.")
    beta1: float = Field(0.9, ge=0, lt=1, description="Of AdamW.")
    beta2: float = Field(0.999, ge=0, lt=1, description="Of AdamW.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="Of the frozen weights and the activations; auto measures this machine."
    )
    replay: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of an epoch that is general instructions; other ones in each, while there are any.",
    )
    kl: float = Field(
        0.0, ge=0, description="Weight of the divergence from the base on general text, in nats per token; 0: none."
    )
    average: float | Literal["auto"] | None = Field(
        None,
        description="Share of the tuned weights in their average with the base's; auto: searched on validation rows. "
        "None: what was tuned, as it is.",
    )
    validations: int = Field(4, ge=0, description="How often the validation loss is taken, evenly spaced.")
    keep_best: str = Field("loss", description="loss, or a generated metric such as rouge1, by which the best is kept.")
    patience: int | None = Field(None, ge=1, description="Stop after this many validations without a better one.")
    checkpoint_minutes: float = Field(5.0, gt=0, description="Longest time between two checkpoints.")
    keep_checkpoints: int = Field(2, ge=1, description="How many stay on the disk during training; none afterwards.")

    @field_validator("learning_rate")
    @classmethod
    def _above_zero(cls, rate: float | str) -> float | str:
        if isinstance(rate, float) and rate <= 0:
            raise ValueError("greater than 0")
        return rate

    @field_validator("tokens_per_batch")
    @classmethod
    def _some_tokens(cls, tokens: int | str) -> int | str:
        if isinstance(tokens, int) and tokens < 1:
            raise ValueError("1 or more, or auto")
        return tokens

    @field_validator("average")
    @classmethod
    def _a_share(cls, share: float | str | None) -> float | str | None:
        if isinstance(share, float) and not 0 < share <= 1:
            raise ValueError("greater than 0 and at most 1, or auto")
        return share


class GenerateSettings(Settings):
    """How answers are written; greedy unless told otherwise."""

    beams: int = Field(1, ge=1, description="Beam search with this many; 1: none.")
    temperature: float = Field(0.0, ge=0, description="0: greedy.")
    top_p: float = Field(
        1.0, gt=0, le=1, description="When sampling, from the likeliest tokens that together have this probability."
    )
    tokens_per_batch: int = Field(32768, ge=1, description="Prompt and answer tokens held in memory at once.")


class MeasureSettings(Settings):
    """What is measured beside the average, where that takes more answers; every row is asked up to nine times again."""

    robustness: bool = Field(
        False, description="Ask again in lower case, with misspellings, typos, spaces, contractions; the worst counts."
    )
    fairness: bool = Field(False, description="Ask again with other first names and pronouns; the worst answer counts.")
    rows: int = Field(100, ge=1, description="Test examples of each task that are asked again, chosen by seed.")


class Candidate(Settings):
    """One thing that is compared: the base with k shots, or the base tuned by a method."""

    method: str = Field("none", description="none, or a name from `tunesmith ls methods`.")
    shots: int = Field(0, ge=0, description="Worked examples before the prompt, from the training split.")
    train: dict[str, Any] = Field(default_factory=dict, description="Overrides of `train` for this candidate.")
    mixture: dict[str, Any] = Field(
        default_factory=dict, description="Overrides of `mixture` for this candidate, but of what shapes the rows."
    )
    settings: Any = Field(None, description="The method's own settings; written beside `method`, without this word.")


class Recipe(Settings):
    """The one file that a run depends on."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$", description="Of the run; its folder is `runs/NAME`.")
    seed: int = Field(
        0,
        ge=0,
        lt=2**63,
        description="Of the split, the phrasings, the shots, the order of training, sampling, and the intervals.",
    )
    model: str = Field("smollm2-135m-instruct", description="Catalog name, hub id, local folder, or .gguf file.")
    tasks: tuple[TaskSettings, ...] = Field(min_length=1, description="At least one.")
    split: SplitSettings = Field(SplitSettings(), description="How rows become train, validation and test.")
    data: DataSettings = Field(DataSettings(), description="What is let through.")
    mixture: MixtureSettings | None = Field(None, description="How tasks share the training. None: in full, each.")
    train: TrainSettings = Field(TrainSettings(), description="How candidates are trained.")
    generate: GenerateSettings = Field(GenerateSettings(), description="How answers are written.")
    measures: MeasureSettings = Field(MeasureSettings(), description="What is measured beside the average.")
    sequence: tuple[str, ...] = Field(
        (), description="Names of tasks: candidates are tuned on one after the other. Empty: on all tasks together."
    )
    candidates: dict[str, Candidate] = Field(
        default_factory=dict, description='What is compared. The base with no shots, "zero-shot", is always among them.'
    )
    forgetting: Forgetting = Field(
        "default",
        description="default: the shipped probe before and after tuning. A list: tasks to keep and benchmark suites, "
        "beside it.",
    )

    def kept(self) -> dict[int, TaskSettings]:
        """Return the tasks under ``forgetting``, which are asked before and after tuning, by their place there."""
        return {place: one for place, one in enumerate(self._entries()) if isinstance(one, TaskSettings)}

    def suites(self) -> dict[int, SuiteSettings]:
        """Return the benchmark suites under ``forgetting`` by their place there."""
        return {place: one for place, one in enumerate(self._entries()) if isinstance(one, SuiteSettings)}

    def _entries(self) -> tuple[TaskSettings | SuiteSettings, ...]:
        return () if isinstance(self.forgetting, str) else self.forgetting

    def tables(self, tasks: Sequence[TaskSettings], base: Path) -> list[Path]:
        """Return where the sources of tasks are, seen from the folder ``base`` of the recipe; names of the hub too."""
        folder = base / Path(self.data.folder).expanduser()
        return list(dict.fromkeys(folder / Path(source).expanduser() for task in tasks for source in task.paths()))
