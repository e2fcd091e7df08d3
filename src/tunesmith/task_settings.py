"""Fields of what a recipe asks: tasks with their templates, and benchmark suites."""

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from tunesmith.forms import Form


class Settings(BaseModel):
    """Frozen, closed to unknown keys, and strict: text is not a number."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, protected_namespaces=())


class Phrasing(Settings):
    """One way to put a task into words."""

    form: Form = Field("zero-shot", description="Which form of the task it is; a task says which it wants.")
    prompt: str = Field(description="Jinja text; the columns of a row are its variables.")
    target: str = Field(description="Jinja text of the wanted answer.")
    intro: str = Field("", description="few-shot: Jinja text that stands once, before the worked examples.")
    join: str = Field("\n", description="few-shot: between a prompt and its answer; the question ends with it, too.")
    separator: str = Field("\n\n", description="few-shot: between intro, worked examples and question.")


class TemplateSettings(Settings):
    """A template written into the recipe instead of taken from the catalog."""

    prompt: str | None = Field(None, description="The prompt, if there is a single phrasing.")
    target: str | None = Field(None, description="The wanted answer, if there is a single phrasing.")
    phrasings: tuple[Phrasing, ...] = Field(
        (), description="Several ways to ask the same; one is drawn for each example by a hash of seed and id."
    )
    system: str | None = Field(None, description="System message for models that have one.")
    inputs: tuple[str, ...] = Field(
        (),
        description="Columns by which rows are split and leaks found. Empty: those that only the first prompt names.",
    )


class SourceSettings(Settings):
    """Files that are already split."""

    train: str | tuple[str, ...] = Field(description="File or files of the training rows.")
    validation: str | tuple[str, ...] | None = Field(None, description="None: taken from the training rows.")
    test: str | tuple[str, ...] | None = Field(None, description="None: taken from the training rows.")


class TaskSettings(Settings):
    """Rows, a template, an answer, metrics."""

    name: str = Field(
        "task",
        pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$",
        description="Of the task; its files are called so. No two tasks share one.",
    )
    family: str | None = Field(
        None,
        pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$",
        description="Kind of task, for `mixture.held_out`. None: the catalog name of its template, or its own name.",
    )
    source: str | tuple[str, ...] | SourceSettings = Field(
        description="File, files, support (the shipped chats), hub:org/name, or {train:, validation:, test:}."
    )
    columns: dict[str, str] = Field(
        default_factory=dict, description="Template variable -> column of the file. Others keep their own name."
    )
    template: str | TemplateSettings | None = Field(
        None, description="Catalog name, file, or a template. None: the prompt and target that the rows bring along."
    )
    forms: tuple[Form, ...] = Field(
        ("zero-shot",),
        min_length=1,
        description="Forms of the template that training rows are drawn from; validation and test rows are asked "
        "in the first of them that is zero-shot or chain-of-thought.",
    )
    shots: int = Field(2, ge=1, description="Worked examples in a training prompt of the form few-shot.")
    references: tuple[str, ...] = Field((), description="Columns with further accepted answers.")
    choices: tuple[str, ...] | Literal["targets"] = Field(
        (), description='Closed answer set, ranked by likelihood; "targets": all answers seen in training.'
    )
    metrics: tuple[str, ...] = Field(
        (), description="Names from `tunesmith ls metrics`. Empty: rouge, or accuracy and macro-f1 with choices."
    )
    max_new_tokens: int = Field(128, ge=1, description="Longest answer, in tokens.")

    def paths(self) -> tuple[str, ...]:
        """Return every source that the task names, in the order of the recipe."""
        parts = self.source if isinstance(self.source, str | tuple) else tuple(dict(self.source).values())
        flat = (parts,) if isinstance(parts, str) else parts
        return tuple(name for part in flat if part for name in ((part,) if isinstance(part, str) else part))


class SuiteSettings(Settings):
    """A public benchmark suite that the base and all that was tuned are asked after tuning."""

    suite: str = Field(description="A name from `tunesmith ls suites`, or a single task of one as superglue/boolq.")
    data: str | None = Field(
        None, description="Folder of local files, seen from where sources are. None: the data sets come from the hub."
    )
    limit: int | None = Field(None, ge=1, description="At most so many items of each task, chosen by seed. None: all.")
    shots: int | None = Field(
        None, ge=0, description="Worked examples before each question. None: as the suite has it."
    )
    chat_template: bool = Field(False, description="Ask in the model's own chat template.")


def _kind(given: Any) -> str:
    """Tell a suite from a task, so that only what is wrong with the one or the other is told."""
    named = isinstance(given, SuiteSettings) or (isinstance(given, dict) and "suite" in given)
    return "SuiteSettings" if named else "TaskSettings"


Asked: TypeAlias = Annotated[
    Annotated[TaskSettings, Tag("TaskSettings")] | Annotated[SuiteSettings, Tag("SuiteSettings")], Discriminator(_kind)
]
Forgetting: TypeAlias = Literal["default", "off"] | tuple[Asked, ...]
