"""What all parts of a plan stand on: the recipe, the sizes of the model, the lengths of the examples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tunesmith.data.encode import Coder
from tunesmith.errors import DataError
from tunesmith.inference.answer import NO_LIMIT
from tunesmith.machine import fastest_dtype
from tunesmith.models.load import load_tokenizer, skeleton
from tunesmith.planning.calibration import depths_of
from tunesmith.planning.lengths import Counted, count_tokens, training_lengths
from tunesmith.planning.probe import Order
from tunesmith.planning.shapes import Shape, shape_of
from tunesmith.planning.work import Length, Load, batch_load
from tunesmith.recipe import train_settings
from tunesmith.records import Example, Split
from tunesmith.settings import Recipe, TrainSettings
from tunesmith.training.batches import all_steps


@dataclass(frozen=True, slots=True)
class Ground:
    """What all candidates of a plan stand on."""

    recipe: Recipe
    folder: Path  # of the base model
    bones: Any  # the model without weights
    shape: Shape
    tokenizer: Any
    examples: Mapping[Split, Sequence[Example]]
    counted: Mapping[Split, Sequence[Counted]]

    def with_recipe(self, recipe: Recipe) -> "Ground":
        """Return the same model and data under another recipe."""
        return replace(self, recipe=recipe)


def survey(recipe: Recipe, folder: Path, examples: Mapping[Split, Sequence[Example]]) -> Ground:
    """Measure model and data: shapes from the config, tokens by the tokenizer; no weight is read."""
    bones = skeleton(folder)
    tokenizer, kind = load_tokenizer(folder)
    coder = Coder(tokenizer, kind, NO_LIMIT)
    counted = {split: count_tokens(found, coder, seed=recipe.seed) for split, found in examples.items()}
    return Ground(recipe, folder, bones, shape_of(bones), tokenizer, examples, counted)


def orders(ground: Ground, name: str) -> tuple[Order, ...]:
    """Return what has to be measured for a candidate: answering, and training where there is some."""
    import torch

    candidate, settings = ground.recipe.candidates[name], train_settings(ground.recipe, name)
    half = settings.precision == "bfloat16" or (settings.precision == "auto" and fastest_dtype() == torch.bfloat16)
    given: dict[str, Any] = {
        "folder": str(ground.folder), "half": half, "threads": torch.get_num_threads(),
        "depths": depths_of(ground.shape),
    }  # fmt: skip
    answer = Order(what="answer", **given)
    if candidate.method == "none":
        return (answer,)
    own = candidate.settings.model_dump(mode="json") if candidate.settings else {}
    return (answer, Order(what="train", method=candidate.method, settings=own, **given))


def limit_of(shape: Shape, settings: TrainSettings) -> int:
    """Return the longest example in tokens."""
    return min(settings.max_tokens, shape.context) if shape.context else settings.max_tokens


def train_steps(ground: Ground, settings: TrainSettings) -> list[list[Load]]:
    """Return every optimizer step of a training as the loads of its batches.

    Raises:
        DataError: No example fits.
    """
    shape = ground.shape
    lengths = training_lengths(ground.counted["train"], shape.kind, limit_of(shape, settings))
    if not lengths:
        raise DataError("plan: there is nothing to train on: no example fits into train.max_tokens. Raise it.")
    steps = all_steps(
        sizes_of(lengths, shape), settings, seed=ground.recipe.seed,
        tokens_per_batch=tokens_at_once(shape, settings), ragged=shape.kind == "causal",
    )  # fmt: skip
    return [[batch_load([lengths[index] for index in batch], shape.kind) for batch in step] for _, step in steps]


def sizes_of(lengths: Sequence[Length], shape: Shape) -> list[int]:
    """Return the tokens of each example that pass through the model."""
    return [n + u if shape.kind == "seq2seq" else n for n, u in lengths]


def tokens_at_once(shape: Shape, settings: TrainSettings) -> int:
    """Return the tokens in memory at once; one example at a time where ``training.loop`` does so."""
    return settings.tokens_per_batch if shape.kind == "seq2seq" or shape.ragged else 1
