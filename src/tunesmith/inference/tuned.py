"""A tuned model by its adapter folder: the weights and the template it was trained with, in one object."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tunesmith.data.encode import Coder, encode_prompts
from tunesmith.data.rendering import render_prompts
from tunesmith.data.rows import Row
from tunesmith.data.sandbox import Failure
from tunesmith.data.templates import draw_phrasing, load_template
from tunesmith.errors import DataError, RecipeError, UsageError
from tunesmith.inference.answer import context_room, load_tuned
from tunesmith.inference.generate import generate
from tunesmith.inference.rank import rank_all
from tunesmith.machine import fastest_dtype
from tunesmith.models.fused.stack import keep_fused
from tunesmith.models.load import Loaded, materialize, quiet
from tunesmith.records import AdapterCard, Example
from tunesmith.rundir import read_record
from tunesmith.settings import GenerateSettings, TaskSettings

CARD = "tunesmith.json"


@dataclass(frozen=True, slots=True)
class Tuned:
    """A tuned model, ready to answer rows like those that it was trained on."""

    loaded: Loaded
    card: AdapterCard

    @classmethod
    def load(cls, adapter: Path | str, *, base: Path | str | None = None) -> "Tuned":
        """Load an adapter folder and the base model under it.

        Args:
            adapter: ``candidates/NAME/adapter`` of a run folder.
            base: Folder of the base model; None = the one that the card names.

        Raises:
            RecipeError: The folder is no adapter of tunesmith, or its base is not to be had.
        """
        quiet()
        folder = Path(adapter)
        if not (folder / CARD).is_file():
            raise RecipeError(f"{folder} has no {CARD}. Give the adapter folder of a candidate of a run.")
        card = read_record(folder / CARD, AdapterCard)
        model = materialize(str(base or card.model), base=Path.cwd())
        dtype: torch.dtype = fastest_dtype()
        loaded = load_tuned(card.method, model, folder, dtype=dtype)
        if loaded.kind == "causal":
            keep_fused(loaded.model, dtype=dtype)  # once, and not again for each call of ``answer``
        return cls(loaded, card)

    def answer(self, rows: Sequence[Mapping[str, Any]], *, task: str | None = None) -> list[str]:
        """Answer rows with the columns that the training rows had; the target column may be absent.

        Args:
            rows: One mapping of column to value for each question.
            task: Name of the task, if the model was trained on several.

        Raises:
            UsageError: The task is not one that the model was trained on, or must be named.
            DataError: A row lacks a column, or renders to nothing; all such rows are named.
        """
        settings = self._task(task)
        template = load_template(settings)
        named = [
            (f"row/{n}", Row(_renamed(row, settings.columns), "rows", n, None)) for n, row in enumerate(rows, 1)
        ]  # fmt: skip
        choices = settings.choices if isinstance(settings.choices, tuple) else ()
        drawn = [
            (draw_phrasing(template, name, form=template.asked, seed=self.card.seed), row) for name, row in named
        ]  # fmt: skip
        prompts = render_prompts(template, drawn, choices=choices)
        failures = [f"row {n}: {p.where}" for n, p in enumerate(prompts, 1) if isinstance(p, Failure)]
        if failures:
            raise DataError(failures)
        system = ({"role": "system", "content": template.system},) if template.system else ()
        examples = [
            Example.model_validate(
                {"id": name, "task": settings.name, "split": "test", "prompt": prompt, "target": "", "references": (),
                 "history": system}
            )
            for (name, _), prompt in zip(named, prompts, strict=True)
        ]  # fmt: skip
        limit = min(context_room(self.loaded, settings), self.card.max_tokens + self.loaded.virtual_tokens)
        coder = Coder(self.loaded.tokenizer, self.loaded.kind, limit, self.loaded.virtual)
        ids, _ = encode_prompts(examples, coder)
        if choices and template.asked == "zero-shot":
            targets = [coder.target(examples[0].model_copy(update={"target": choice})) for choice in choices]
            found = rank_all(self.loaded, ids, [targets] * len(ids))
            return [choices[max(range(len(choices)), key=logprobs.__getitem__)] for logprobs in found]
        answers = generate(self.loaded, ids, settings=GenerateSettings(), max_new_tokens=settings.max_new_tokens)
        return [found.text(self.loaded) for found in answers]

    def _task(self, name: str | None) -> TaskSettings:
        tasks = {task["name"]: task for task in self.card.tasks}
        if name is None and len(tasks) == 1:
            name = next(iter(tasks))
        if name not in tasks:
            raise UsageError(f"task: say which of {', '.join(tasks)} these rows are.")
        return TaskSettings.model_validate(tasks[name], strict=False)


def _renamed(row: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """Give columns the names of the template, beside their own."""
    return {**row, **{variable: row[column] for variable, column in columns.items() if column in row}}
