"""Rows to questions as an adapter was trained with them, and questions to answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.data.encode import Coder, encode_prompts
from tunesmith.data.rendering import put_rows
from tunesmith.data.rows import Row
from tunesmith.data.sandbox import Failure
from tunesmith.data.templates import load_template
from tunesmith.errors import DataError, UsageError
from tunesmith.inference.answer import context_room
from tunesmith.inference.generate import generate
from tunesmith.inference.rank import rank_all
from tunesmith.models.load import Loaded
from tunesmith.records import AdapterCard, Example
from tunesmith.settings import GenerateSettings, TaskSettings


@dataclass(frozen=True, slots=True)
class Question:
    """One row, ready to be put to a model."""

    ids: tuple[int, ...]
    limit: int  # longest answer in tokens
    choices: tuple[str, ...] = ()  # closed answer set; not empty means that they are ranked
    targets: tuple[tuple[int, ...], ...] = ()  # ids of the choices, each with the token that ends an answer


@dataclass(frozen=True, slots=True)
class Asker:
    """How one adapter is asked."""

    card: AdapterCard
    virtual: Mapping[str, tuple[int, ...]]  # task -> ids of the virtual tokens that its prompts begin with
    mark: int = 0  # what its ids are raised by, where several adapters share a base (``methods.sharing``)

    def task(self, name: str | None) -> TaskSettings:
        """Return one of the tasks that the adapter was trained on.

        Raises:
            UsageError: There is no such task, or there are several and none is named.
        """
        tasks = {task["name"]: task for task in self.card.tasks}
        if name is None and len(tasks) == 1:
            name = next(iter(tasks))
        if name not in tasks:
            raise UsageError(f"task: say which of {', '.join(tasks)} these rows are.")
        return TaskSettings.model_validate(tasks[name], strict=False)

    def questions(self, loaded: Loaded, rows: Mapping[int, Mapping[str, Any]], task: TaskSettings) -> list[Question]:
        """Put rows into the words, and the words into the ids, that the adapter was trained with.

        Every row is put into the first phrasing that is not empty for it, so that its answer does not depend on where
        it stands among others.

        Args:
            loaded: Tokenizer and room.
            rows: Number of a row, for messages -> column -> value.
            task: Of ``task``.

        Raises:
            DataError: A row lacks a column, or renders to nothing; all such rows are named.
        """
        if not rows:
            return []
        template = load_template(task)
        choices = task.choices if isinstance(task.choices, tuple) else ()
        ways = [template.of_form(template.asked)] * len(rows)
        named = [Row(_renamed(row, task.columns), "rows", n, None) for n, row in rows.items()]
        prompts = [put.prompt for put in put_rows(template, named, ways, choices=choices, answered=False)]
        failed = [f"row {n}: {p.where}" for n, p in zip(rows, prompts, strict=True) if isinstance(p, Failure)]
        if failed:
            raise DataError(failed)
        system = ({"role": "system", "content": template.system},) if template.system else ()
        examples = [
            Example.model_validate(
                {"id": f"row/{n}", "task": task.name, "split": "test", "prompt": prompt, "target": "",
                 "references": (), "history": system}
            )
            for n, prompt in zip(rows, prompts, strict=True)
        ]  # fmt: skip
        own = max(map(len, self.virtual.values()), default=0)
        coder = Coder(
            loaded.tokenizer, loaded.kind, min(context_room(loaded, task), self.card.max_tokens + own), self.virtual
        )
        ids, _ = encode_prompts(examples, coder)
        marked = [tuple(self.mark + token for token in prompt) for prompt in ids]
        if not choices or template.asked != "zero-shot":
            return [Question(prompt, task.max_new_tokens) for prompt in marked]
        targets = tuple(tuple(coder.target(examples[0].model_copy(update={"target": one}))) for one in choices)
        return [Question(prompt, task.max_new_tokens, choices, targets) for prompt in marked]


def answer_all(loaded: Loaded, questions: Sequence[Question]) -> list[str]:
    """Answer questions greedily, those with choices by the likeliest of them; as many at once as there is room for."""
    found: dict[int, str] = {}
    written = [n for n, question in enumerate(questions) if not question.choices]
    asked, limits = [questions[n].ids for n in written], [questions[n].limit for n in written]
    answers = generate(loaded, asked, settings=GenerateSettings(), max_new_tokens=limits)
    found.update((n, answer.text(loaded)) for n, answer in zip(written, answers, strict=True))
    ranked = [n for n, question in enumerate(questions) if question.choices]
    if ranked:
        logprobs = rank_all(loaded, [questions[n].ids for n in ranked], [questions[n].targets for n in ranked])
        for n, own in zip(ranked, logprobs, strict=True):
            found[n] = questions[n].choices[max(range(len(own)), key=own.__getitem__)]
    return [found[n] for n in range(len(questions))]


def _renamed(row: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """Give columns the names of the template, beside their own."""
    return {**row, **{variable: row[column] for variable, column in columns.items() if column in row}}
