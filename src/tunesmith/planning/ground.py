"""What all parts of a plan stand on: the recipe, the sizes of the model, the lengths of the examples."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tunesmith.data.encode import Coder
from tunesmith.data.replay import general_examples
from tunesmith.inference.answer import NO_LIMIT
from tunesmith.machine import compute_device, fastest_dtype
from tunesmith.mixtures import quotas_of, tuned_tasks
from tunesmith.models.load import Loaded, load_tokenizer
from tunesmith.models.skeleton import skeleton
from tunesmith.planning.calibration import depths_of
from tunesmith.planning.lengths import Counted, count_tokens
from tunesmith.planning.probe import Order
from tunesmith.planning.shapes import Shape, shape_of
from tunesmith.recipe import train_settings
from tunesmith.records import Example, Split
from tunesmith.settings import Recipe


@dataclass(frozen=True, slots=True)
class Ground:
    """What all candidates of a plan stand on."""

    recipe: Recipe
    loaded: Loaded  # the base, its model without weights
    shape: Shape
    examples: Mapping[Split, Sequence[Example]]
    counted: Mapping[Split, Sequence[Counted]]
    general: Sequence[Counted]  # the shipped general instructions, in their order
    quotas: Mapping[str, int] | None = None  # task -> examples of an epoch; None = each epoch has them all

    def stored(self, *, tuned: bool = False) -> int:
        """Return the bytes of the files of the base's weights; none where models are not in main memory.

        Args:
            tuned: Of a whole model that was trained and written instead, in float32.
        """
        if compute_device().type != "cpu":
            return 0
        files = self.loaded.folder.glob("*.safetensors")
        return 4 * self.shape.total if tuned else sum(path.stat().st_size for path in files)

    def for_candidate(self, name: str) -> "Ground":
        """Return the ground of one candidate's training: the tasks that it is tuned on, in its mixture."""
        tuned = tuned_tasks(self.recipe, name)
        own: dict[Split, Sequence[Counted]] = {
            split: [one for one in found if split == "test" or one.task in tuned]
            for split, found in self.counted.items()
        }
        quotas = quotas_of(self.recipe, name, Counter(one.task for one in own["train"]))
        return replace(self, counted=own, quotas=quotas)

    def with_recipe(self, recipe: Recipe) -> "Ground":
        """Return the same model and data under another recipe."""
        return replace(self, recipe=recipe)


def survey(recipe: Recipe, folder: Path, examples: Mapping[Split, Sequence[Example]]) -> Ground:
    """Measure model and data: shapes from the config, tokens by the tokenizer; no weight is read."""
    from transformers import GenerationConfig

    bones = skeleton(folder)
    if (folder / "generation_config.json").is_file():
        bones.generation_config = GenerationConfig.from_pretrained(folder)
    tokenizer, kind = load_tokenizer(folder)
    shape = shape_of(bones)
    coder = Coder(tokenizer, kind, NO_LIMIT)
    counted = {split: count_tokens(found, coder, seed=recipe.seed) for split, found in examples.items()}
    general = count_tokens(general_examples(), coder)
    return Ground(recipe, Loaded(bones, tokenizer, kind, folder, shape.context), shape, examples, counted, general)


def orders(ground: Ground, name: str) -> tuple[Order, ...]:
    """Return what has to be measured for a candidate: answering, and training where there is some."""
    import torch

    candidate, settings = ground.recipe.candidates[name], train_settings(ground.recipe, name)
    half = settings.precision == "bfloat16" or (settings.precision == "auto" and fastest_dtype() == torch.bfloat16)
    given: dict[str, Any] = {
        "folder": str(ground.loaded.folder), "half": half, "threads": torch.get_num_threads(),
        "depths": depths_of(ground.shape),
    }  # fmt: skip
    answer = Order(what="answer", **given)
    if candidate.method == "none":
        return (answer,)
    own = candidate.settings.model_dump(mode="json") if candidate.settings else {}
    return (answer, Order(what="train", method=candidate.method, settings=own, optimizer=settings.optimizer, **given))
