"""Soft prompts: the prompt begins with virtual tokens whose embeddings learn, and the model stays frozen.

Lester, Al-Rfou and Constant 2021, "The Power of Scale for Parameter-Efficient Prompt Tuning", arXiv 2104.08691. The
file is that of peft's prompt tuning wherever peft can hold it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from tunesmith.errors import RecipeError
from tunesmith.progress import say
from tunesmith.settings import Settings as Base

ABOUT = "virtual tokens before the prompt (arXiv 2104.08691)"
ON_DISK = "adapter"  # in peft's format, or in one of its own where peft's cannot hold it
NO_MERGE = "it stands before the prompt as tokens, and no weight of the base stands for them."
RATES = {
    "causal": ((float("inf"), 1e-2),),
    "seq2seq": ((float("inf"), 3e-2),),
}
"""What `learning_rate: auto` means: (largest number of base parameters, rate), by architecture."""
TRAIN = {"epochs": 6.0, "warmup": 0.1}
"""A prompt learns slowly: more epochs and a longer warm-up than the other methods."""

FREQUENT = 5000  # ids that init: vocab draws from; the first of a byte pair encoding are the most frequent


class Settings(Base):
    """What a soft prompt can be told."""

    tokens: int = Field(20, ge=1, description="v, how many virtual tokens.")
    init: Literal["text", "vocab", "random"] = Field(
        "text", description="Begin with the words of the task's template, with frequent tokens, or with noise."
    )
    init_text: str | None = Field(None, min_length=1, description="Other words to begin with; None: the template's.")
    place: Literal["encoder", "decoder", "both"] = Field(
        "encoder", description="Of an encoder-decoder; a causal model has one place."
    )
    per_task: bool = Field(False, description="A prompt of its own for each task, all on one frozen model.")
    _tasks: tuple[str, ...] = ("",)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks with a prompt of their own; "" alone stands for all tasks."""
        return self._tasks

    def for_tasks(self, names: tuple[str, ...]) -> "Settings":
        """Return the same settings, told which tasks there are."""
        told = self.model_copy()
        told._tasks = names if self.per_task else ("",)
        return told


def size(tokens: int, width: int, tables: int = 1) -> int:
    """Return how many parameters learn.

    Twenty virtual tokens of a model that is 576 wide:

    >>> size(20, 576)
    11520
    """
    return tokens * width * tables


def count(settings: Settings, model: Any) -> int:
    """Return how many parameters learn: tokens times the width of the embedding, for each prompt.

    Raises:
        RecipeError: More virtual tokens than the context, or a place that the architecture does not have; all at once.
    """
    from tunesmith.methods.virtual import room_for

    problems = room_for("soft-prompt", settings.tokens, model)
    if settings.place != "encoder" and not model.config.is_encoder_decoder:
        problems.append(
            f"soft-prompt: place: {settings.place} is one of an encoder-decoder; this model is causal. Delete it."
        )
    if settings.place != "encoder" and settings.per_task:
        problems.append("soft-prompt: per_task needs place: encoder; a decoder does not see which task it serves.")
    if settings.init != "text" and settings.init_text is not None:
        problems.append(f"soft-prompt: init_text is not read with init: {settings.init}. Delete one of the two.")
    if problems:
        raise RecipeError(problems)
    tables = len(settings.tasks) + (settings.place == "both")
    return size(settings.tokens, model.get_input_embeddings().weight.shape[1], tables)


def attach(settings: Settings, model: Any, kind: str) -> Any:
    """Give the model virtual tokens that begin as noise of the embedding's spread; ``begin`` gives them words.

    Args:
        settings: How many tokens, and where.
        model: transformers model; its own weights are frozen.
        kind: "causal" or "seq2seq".
    """
    from tunesmith.methods.virtual import Table, VirtualTokens, lead

    count(settings, model)
    model.requires_grad_(False)
    base, tasks = model.get_input_embeddings(), settings.tasks
    width, std = base.weight.shape[1], base.weight.float().std().item()
    if settings.place != "decoder":
        rows = Table(len(tasks) * settings.tokens, width, std=std)
        model.set_input_embeddings(VirtualTokens(base, rows, tokens=settings.tokens, tasks=tasks))
    if settings.place != "encoder":
        lead(model.get_decoder(), Table(settings.tokens, width, std=std))
    return model


def begin(settings: Settings, model: Any, *, tokenizer: Any, instructions: Mapping[str, str]) -> None:
    """Let the virtual tokens begin as embeddings of real ones: of the task's words, or of frequent tokens.

    Args:
        settings: init and init_text.
        model: What ``attach`` returned.
        tokenizer: Of the model.
        instructions: Task -> the words of its template.
    """
    import torch

    if settings.init == "random":
        return
    with torch.no_grad():
        for (task, _), rows in _prompts(model).items():
            said = [instructions[task]] if task else list(dict.fromkeys(instructions.values()))
            ids = _first_ids(settings, tokenizer, settings.init_text or "\n".join(said))
            embedding = model.get_input_embeddings()
            rows.copy_(embedding(torch.tensor(ids, device=rows.device)))


def _first_ids(settings: Settings, tokenizer: Any, text: str) -> list[int]:
    import torch

    from tunesmith.methods.virtual import words_to_begin_with

    if settings.init == "text":
        if ids := words_to_begin_with(tokenizer, text, tokens=settings.tokens):
            return ids
        say("soft-prompt: the template has no words of its own; the prompt begins with frequent tokens.")
    special = set(tokenizer.all_special_ids)
    known = [token for token in range(min(FREQUENT, len(tokenizer))) if token not in special]
    drawn = torch.randint(len(known), (settings.tokens,)).tolist()
    return [known[n] for n in drawn]


def _prompts(model: Any) -> dict[tuple[str, str], Any]:
    """Return (task, place) -> rows (v, D) of every prompt of a model."""
    found: dict[tuple[str, str], Any] = {}
    embedding = model.get_input_embeddings()
    for task, ids in getattr(embedding, "virtual", {}).items():
        found[task, ""] = embedding.rows()[ids[0] - embedding.first : ids[-1] + 1 - embedding.first]
    if model.config.is_encoder_decoder and hasattr(model.get_decoder(), "prompt"):
        found["", "decoder"] = model.get_decoder().prompt()
    return found


def vectors(model: Any) -> dict[tuple[str, str], Any]:
    """Return (task, place) -> the virtual tokens (v, D), for the report to say what they are near to."""
    return {key: rows.detach() for key, rows in _prompts(model).items()}


def save(model: Any, folder: Path) -> None:
    """Write adapter_config.json and adapter_model.safetensors; plain peft loads them if it is one prompt at the start.

    A prompt of the decoder, and one for each task, have no place in peft's format and are refused by it.
    """
    from safetensors.torch import save_file

    from tunesmith.methods.virtual import write_as_peft

    prompts = {key: rows.detach().float().contiguous().clone() for key, rows in _prompts(model).items()}
    if list(prompts) == [("", "")]:
        write_as_peft(model, prompts["", ""], folder, kind="PROMPT_TUNING")
        return
    tokens = len(next(iter(prompts.values())))
    places = {place or "encoder" for _, place in prompts}
    config = {
        "tunesmith_type": "soft-prompt",
        "num_virtual_tokens": tokens,
        "place": "both" if len(places) == 2 else places.pop(),
        "tasks": [task for task, _ in prompts if task],
    }
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    save_file({_key(*key): rows for key, rows in prompts.items()}, folder / "adapter_model.safetensors")


def _key(task: str, place: str) -> str:
    return ".".join(part for part in ("prompt", place, task) if part)


def load(model: Any, folder: Path) -> Any:
    """Put a saved prompt onto its base."""
    import torch

    settings, saved = _saved(folder)
    model = attach(settings, model, "")
    with torch.no_grad():
        for key, rows in _prompts(model).items():
            rows.copy_(saved[key])
    return model


def join(sharing: Any, number: int, folder: Path) -> None:
    """Put a saved prompt onto a base that other adapters share."""
    settings, saved = _saved(folder)
    count(settings, sharing.model)
    for (task, place), rows in saved.items():
        if place == "decoder":
            sharing.lead(number, rows)
        else:
            sharing.add_tokens(number, rows, task=task)


def _saved(folder: Path) -> tuple[Settings, dict[tuple[str, str], Any]]:
    """Return what a saved prompt was made with, and (task, place) -> its rows (v, D)."""
    from safetensors.torch import load_file

    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    saved = load_file(folder / "adapter_model.safetensors")
    tasks, place = tuple(config.get("tasks", ())), config.get("place", "encoder")
    settings = Settings(tokens=config["num_virtual_tokens"], place=place, per_task=bool(tasks)).for_tasks(tasks)
    if "prompt_embeddings" in saved:
        return settings, {("", ""): saved["prompt_embeddings"]}
    keys = [(task, "") for task in settings.tasks if place != "decoder"]
    keys += [("", "decoder")] if place != "encoder" else []
    return settings, {key: saved[_key(*key)] for key in keys}
