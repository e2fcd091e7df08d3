"""A tuned model by its adapter folder: the weights and the template it was trained with, in one object."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import torch

from tunesmith.cards import base_under, read_card
from tunesmith.errors import UsageError
from tunesmith.inference.answer import load_tuned
from tunesmith.inference.asking import Asker, answer_all
from tunesmith.inference.together import Adapters
from tunesmith.machine import fastest_dtype
from tunesmith.models.fused.packing import keep_fused
from tunesmith.models.load import Loaded, quiet
from tunesmith.records import AdapterCard
from tunesmith.registry import METHODS, resolve


@dataclass(frozen=True, slots=True)
class Tuned:
    """A tuned model, ready to answer rows like those that it was trained on."""

    loaded: Loaded
    card: AdapterCard

    @overload
    @classmethod
    def load(cls, adapter: Path | str, /, *, base: Path | str | None = None) -> "Tuned": ...

    @overload
    @classmethod
    def load(cls, base: Path | str, adapters: Mapping[str, Path | str], /) -> Adapters: ...

    @classmethod
    def load(
        cls, folder: Path | str, adapters: Mapping[str, Path | str] | None = None, /, *, base: Path | str | None = None
    ) -> "Tuned | Adapters":
        """Load an adapter folder and the base model under it; or a base, and many adapters on it.

        Args:
            folder: ``candidates/NAME/adapter`` of a run folder. With ``adapters``, the base: catalog name, hub id,
                folder or .gguf file.
            adapters: Name -> adapter folder.
            base: The base of a single adapter; None = the one that the card names.

        Raises:
            RecipeError: A folder is no adapter of tunesmith, its base is not to be had or is another one, or it cannot
                share one.
        """
        quiet()
        if adapters is not None:
            if base is not None:
                raise UsageError("base: the base comes first here, before the adapters. Leave base= out.")
            return Adapters.load(folder, adapters)
        card = read_card(Path(folder))
        model = Path(folder)
        if resolve("method", card.method, METHODS).ON_DISK == "adapter":
            model = base_under(model, card, str(base) if base else None, option="base=")
        dtype: torch.dtype = fastest_dtype()
        loaded = load_tuned(card.method, model, Path(folder), dtype=dtype)
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
        asker = Asker(self.card, self.loaded.virtual)
        numbered = dict(enumerate(rows, 1))
        return answer_all(self.loaded, asker.questions(self.loaded, numbered, asker.task(task)))
