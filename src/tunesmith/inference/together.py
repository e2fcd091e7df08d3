"""Many adapters on one base, in one process: each row says which one answers it, and all are answered together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tunesmith.cards import named_base, of_another_base, read_card
from tunesmith.errors import DataError, RecipeError, UsageError, did_you_mean
from tunesmith.inference.answer import fitting
from tunesmith.inference.asking import Asker, Question, answer_all
from tunesmith.machine import fastest_dtype
from tunesmith.methods.sharing import Sharing
from tunesmith.models.catalog import fingerprint
from tunesmith.models.fused.packing import keep_fused
from tunesmith.models.load import Loaded, check_adapter, load
from tunesmith.records import AdapterCard
from tunesmith.registry import METHODS, resolve


@dataclass(frozen=True, slots=True)
class Member:
    """One adapter among those that share a base."""

    asker: Asker
    size: int  # bytes on the disk
    alone: bool  # needs batches of its own

    @property
    def card(self) -> AdapterCard:
        """What the adapter's folder says of it."""
        return self.asker.card


@dataclass(frozen=True, slots=True)
class Adapters:
    """One base in memory and many adapters on it. Nothing is loaded when another adapter's turn comes."""

    loaded: Loaded
    members: Mapping[str, Member]

    @classmethod
    def load(cls, base: Path | str, adapters: Mapping[str, Path | str]) -> "Adapters":
        """Load a base once, and adapters onto it.

        Args:
            base: Catalog name, hub id, folder or .gguf file.
            adapters: Name -> adapter folder.

        Raises:
            RecipeError: A folder is no adapter, was trained on another base, or changes weights that others read; all
                of them are named.
        """
        folders = {name: Path(folder) for name, folder in adapters.items()}
        model = named_base(str(base), "base=")
        cards = _cards(folders, model)
        dtype: torch.dtype = fastest_dtype()
        loaded = load(model, dtype=dtype, quantize=_quantized(cards))
        sharing = Sharing(loaded.model)
        for number, (name, card) in enumerate(cards.items(), 1):
            with fitting(folders[name], model):
                resolve("method", card.method, METHODS).join(sharing, number, folders[name])
        stride = sharing.tokens.stride
        members = {
            name: Member(Asker(card, sharing.virtual(number), number * stride), _size(folders[name]),
                         sharing.leads(number))
            for number, (name, card) in enumerate(cards.items(), 1)
        }  # fmt: skip
        keep_fused(loaded.model, dtype=dtype)  # where virtual tokens are all there is to it
        return cls(loaded, members)

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes on the disk of each adapter, and of the base under the name ""."""
        return {**{name: member.size for name, member in self.members.items()}, "": _size(self.loaded.folder)}

    def __str__(self) -> str:
        sizes = self.sizes
        base = sizes.pop("")
        lines = [
            f"{name}: {self.members[name].card.method}, {size / 1e6:.2f} MB ({size / base:.2%} of the base)"
            for name, size in sizes.items()
        ]
        return "\n".join([*lines, f"base: {self.loaded.folder.name}, {base / 1e6:.1f} MB"])

    def answer(
        self, rows: Sequence[Mapping[str, Any]], *, adapter: str | Sequence[str],
        task: str | Sequence[str | None] | None = None,
    ) -> list[str]:  # fmt: skip
        """Answer rows, each by the adapter that it names, all in the same batches.

        Adapters that put virtual tokens before the decoder of an encoder-decoder are answered in batches of their own.

        Args:
            rows: One mapping of column to value for each question.
            adapter: A name for all rows, or one for each.
            task: Likewise the task; None = the adapter's only one, or the one that has the adapter's name here.

        Raises:
            UsageError: There is no such adapter or task, or there are not as many names as rows.
            DataError: A row lacks a column, or renders to nothing; all such rows are named.
        """
        names, tasks = _one_each(adapter, len(rows), "adapter"), _one_each(task, len(rows), "task")
        unknown = [name for name in dict.fromkeys(names) if name not in self.members]
        if unknown:
            known = list(self.members)
            raise UsageError(
                f'adapter: there is no "{name}".{did_you_mean(str(name), known)} Loaded: {", ".join(known)}.'
                for name in unknown
            )
        questions = self._questions(rows, list(zip(names, tasks, strict=True)))
        found: dict[int, str] = {}
        apart = {name: name if self.members[name].alone else "" for name in names}
        for group in dict.fromkeys(apart.values()):
            own = [n for n in range(len(rows)) if apart[names[n]] == group]
            found.update(zip(own, answer_all(self.loaded, [questions[n] for n in own]), strict=True))
        return [found[n] for n in range(len(rows))]

    def _questions(
        self, rows: Sequence[Mapping[str, Any]], asked: Sequence[tuple[str, str | None]]
    ) -> dict[int, Question]:
        found: dict[int, Question] = {}
        problems: list[str] = []
        for name, task in dict.fromkeys(asked):
            asker = self.members[name].asker
            own = [n for n, one in enumerate(asked) if one == (name, task)]
            named = task is None and name in {one["name"] for one in asker.card.tasks}
            settings = asker.task(name if named else task)
            try:
                questions = asker.questions(self.loaded, {n + 1: rows[n] for n in own}, settings)
            except DataError as error:
                problems += error.problems
                continue
            found.update(zip(own, questions, strict=True))
        if problems:
            raise DataError(problems)
        return found


def _one_each(given: Any, count: int, what: str) -> list[Any]:
    if given is None or isinstance(given, str):
        return [given] * count
    if len(given) != count:
        raise UsageError(
            f"{what}: there are {len(given)} names for {count} rows. Give one for each row, or one for all."
        )
    return list(given)


def _cards(folders: Mapping[str, Path], model: Path) -> dict[str, AdapterCard]:
    """Read the cards of adapters that are to share a base, and refuse all that cannot."""
    if not folders:
        raise UsageError("adapters: there are none. Give a name and a folder for each.")
    found: dict[str, AdapterCard] = {}
    problems: list[str] = []
    own = fingerprint(model)
    for name, folder in folders.items():
        try:
            card = found[name] = read_card(folder)
            method = resolve("method", card.method, METHODS)
            if not hasattr(method, "join"):
                problems.append(f"{name}: {folder}: {card.method} cannot share a base: {NOT_SHARED[method.ON_DISK]}")
            elif problem := of_another_base(folder, card, model, own):
                problems.append(f"{name}: {problem} Load it on the base that it was trained on.")
            else:
                check_adapter(folder)
        except RecipeError as error:
            problems += [f"{name}: {problem}" for problem in error.problems]
    if problems:
        raise RecipeError(problems)
    return found


NOT_SHARED = {
    "model": "it is a whole model. Load it by itself.",
    "adapter": "it changes weights of the base, which all others read. Load it by itself.",
}
"""What a method leaves on the disk -> why one that cannot join others cannot."""


def _quantized(cards: Mapping[str, AdapterCard]) -> bool:
    """Tell whether the base is to be in four bits, as all of its adapters were trained, or none of them.

    Raises:
        RecipeError: Some were and some were not.
    """
    four = [name for name, card in cards.items() if getattr(resolve("method", card.method, METHODS), "QUANTIZE", False)]
    if four and len(four) < len(cards):
        others = [name for name in cards if name not in four]
        raise RecipeError(
            f"{', '.join(four)} learned beside a base in four bits, and {', '.join(others)} did not: they would answer "
            "otherwise on the same one. Load the two kinds apart."
        )
    return bool(four)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
