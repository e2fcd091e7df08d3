"""An adapter merged into its base: a model folder of plain safetensors, kept only if it answers the same."""

import gc
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from tunesmith import __version__
from tunesmith.cards import CARD, base_under
from tunesmith.environment import quiet_peft
from tunesmith.errors import GateError, RecipeError, UsageError, did_you_mean
from tunesmith.exporting.replay import choose_prompts, encode, equal_answers, largest_difference, replay
from tunesmith.exporting.sources import Source
from tunesmith.inference.answer import fitting, load_beside
from tunesmith.machine import need_space
from tunesmith.models.load import load, quiet
from tunesmith.progress import say
from tunesmith.records import AdapterCard, Record
from tunesmith.registry import METHODS, resolve
from tunesmith.rundir import settle, write_record

Dtype = Literal["float32", "float16", "bfloat16"]
LIMITS: dict[str, tuple[float, int]] = {"float32": (0.01, 31), "float16": (0.1, 29), "bfloat16": (1.0, 24)}
"""Number format -> the largest difference of two logits, and the least equal answers of 32, that are let pass.

Where two tokens are equally likely, rounding decides: one answer may differ though nothing is wrong.
"""
RECORD = "merged.json"


class Merged(Record):
    """What was merged, and the proof that it answers the same."""

    schema_version: int = 1
    adapter: str  # name of the candidate
    method: str
    model: str  # the base, as the recipe named it
    model_hash: str
    dtype: Dtype  # of the weights in the folder
    dequantized: bool  # the base was kept in four bits, and merged as these stand for
    prompts: int
    prompts_from: str  # how many of what
    largest_difference: float  # of two logits, adapter beside base against merged, both computed in float32
    largest_allowed: float
    equal_answers: int  # greedy, of at most 16 tokens
    least_equal: int
    bytes: int  # of the folder's weights
    tunesmith: str

    @property
    def holds(self) -> bool:
        """Whether both are within their limits."""
        return self.largest_difference <= self.largest_allowed and self.equal_answers >= self.least_equal

    @property
    def sentence(self) -> str:
        """The proof in words."""
        return (
            f"{self.prompts_from} replayed: the largest logit difference is "
            f"{self.largest_difference:.2g} (at most {self.largest_allowed:g} is let pass), {self.equal_answers} of "
            f"{self.prompts} greedy answers are equal ({self.equal_answers / self.prompts:.0%}; at least "
            f"{self.least_equal} must be)."
        )


def dtype_of(name: str) -> Dtype:
    """Return a number format by its name.

    Raises:
        UsageError: There is no such one.
    """
    if name not in LIMITS:
        raise UsageError(
            f'--dtype: "{name}" is not known.{did_you_mean(name, list(LIMITS))} Known: {", ".join(LIMITS)}.'
        )
    return name  # type: ignore[return-value]


def merge_all(
    sources: Sequence[Source], out: Path, *, base: str | None = None, dtype: Dtype = "float32"
) -> Iterator[tuple[Path, Merged]]:
    """Merge adapters, one into ``out``, several into folders in it that have their names.

    Args:
        sources: From ``find_adapters``.
        out: Where to; must not be there yet.
        base: The base under them; None = what each one's card names.
        dtype: Number format of the weights that are written.

    Yields:
        Each folder with its proof, as soon as it is whole.

    Raises:
        RecipeError: An adapter that cannot be merged; all are named before anything is done.
        UsageError: Something is in the way.
        GateError: A merged model does not answer as its adapter did. Nothing of it is left.
    """
    quiet()
    cards = _cards(sources)
    names = [source.name for source in sources]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"--out: several adapters are called {', '.join(twice)}. Merge them one by one.")
    targets = [out] if len(sources) == 1 else [out / name for name in names]
    if taken := [target for target in targets if target.exists()]:
        raise UsageError(f"{target}: is there already. Give --out the name of a new folder." for target in taken)
    for source, card, target in zip(sources, cards, targets, strict=True):
        yield target, _merge(source, card, target, base=base, dtype=dtype)


def _cards(sources: Sequence[Source]) -> list[AdapterCard]:
    """Return the cards of adapters that can be merged; refuse all that cannot, with the reason."""
    cards: list[AdapterCard] = []
    problems = []
    for source in sources:
        if source.card is None:
            problems.append(f"{source.folder} has no {CARD}. Give the adapter folder of a candidate of a run.")
            continue
        method = resolve("method", source.card.method, METHODS)
        if method.ON_DISK == "model":
            problems.append(f"{source.folder} is a whole model already. Copy it as it is.")
        elif not hasattr(method, "merge"):
            problems.append(f"{source.folder}: {source.card.method} cannot be merged: {method.NO_MERGE}")
        else:
            cards.append(source.card)
    if problems and cards:
        good = [str(source.folder) for source in sources if source.card in cards]
        problems.append(f"Name those that can be merged alone: {', '.join(good)}.")
    if problems:
        raise RecipeError(problems)
    return cards


def _merge(source: Source, card: AdapterCard, target: Path, *, base: str | None, dtype: Dtype) -> Merged:
    folder = base_under(source.folder, card, base, option="--base")
    method = resolve("method", card.method, METHODS)
    dequantized = bool(getattr(method, "QUANTIZE", False))
    if dequantized:
        say(
            f"{source.name}: learned beside a base in four bits. It is merged into the weights that these stand for, "
            "turned back from four bits, not into the base as it was before rounding."
        )
    examples, origin = choose_prompts(source)
    loaded = load_beside(method, folder, source.folder, dtype=torch.float32)
    prompts = encode(examples, loaded, max_tokens=card.max_tokens)
    before = replay(loaded, prompts)
    with _staged(target) as staged:
        with fitting(source.folder, folder), quiet_peft():
            loaded = replace(loaded, model=method.merge(loaded.model))
        size = (
            sum(weight.numel() for weight in loaded.model.parameters()) * torch.finfo(getattr(torch, dtype)).bits // 8
        )
        need_space(staged, size, f"writing {target}")
        loaded.model.to(getattr(torch, dtype)).save_pretrained(staged)
        loaded.tokenizer.save_pretrained(staged)
        del loaded
        gc.collect()  # two models at once would take twice the memory
        after = replay(load(staged, dtype=torch.float32), prompts, before)
        largest, least = LIMITS[dtype]
        found = Merged(
            adapter=source.name, method=card.method, model=card.model, model_hash=card.model_hash, dtype=dtype,
            dequantized=dequantized, prompts=len(prompts), prompts_from=origin,
            largest_difference=largest_difference(before, after), largest_allowed=largest,
            equal_answers=equal_answers(before, after), least_equal=least,
            bytes=sum(path.stat().st_size for path in staged.glob("*.safetensors")), tunesmith=__version__,
        )  # fmt: skip
        if not found.holds:
            raise GateError(f"{source.folder}: {found.sentence} {_mend(dtype)}")
        write_record(staged / RECORD, found)
        # The folder is a whole model, which is what full tuning leaves; so is it loaded.
        write_record(staged / CARD, card.model_copy(update={"method": "full", "settings": {}}))
    return found


def _mend(dtype: Dtype) -> str:
    if dtype == "float32":
        return "The merged model does not answer as the adapter does, and was not kept. Serve the adapter as it is."
    return (
        f"Rounded to {dtype} it is another model, and was not kept. Leave --dtype out, or serve the adapter as it is."
    )


@contextmanager
def _staged(target: Path) -> Iterator[Path]:
    """Have a folder to write into, which takes its name at the end, or is gone."""
    target.parent.mkdir(parents=True, exist_ok=True)
    staged = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir()
    try:
        yield staged
        settle(staged)
        staged.rename(target)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def as_plain(found: Mapping[Path, Merged]) -> dict[str, Any]:
    """Return folders and proofs for ``--json``."""
    return {"merged": [{"folder": str(folder), **one.model_dump()} for folder, one in found.items()]}
