"""What a method learns from a few training examples before it is attached, such as which weights matter."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from tunesmith.data.encode import Encoded
from tunesmith.machine import need_memory
from tunesmith.models.load import Loaded
from tunesmith.training.batches import make_batch
from tunesmith.training.checkpoint import damage, read_checkpoint, write_checkpoint
from tunesmith.training.loss import loss_sum

NAME = "prepared"  # what the folder beside the checkpoints begins with, and its tensors are called


@dataclass(frozen=True, slots=True)
class Losses:
    """The losses of some examples, drawn by the seed: each alone, summed over its target tokens."""

    loaded: Loaded  # the base, whose weights the losses depend on
    examples: Sequence[Encoded]  # of training
    seed: int  # the recipe's

    @property
    def longest(self) -> int:
        """Tokens that the longest example passes through the model."""
        return max((example.tokens for example in self.examples), default=0)

    def __call__(self, count: int) -> Iterator[Callable[[], Tensor]]:
        """Give the losses of so many examples as functions: a method may compute one again with other weights."""
        model, kind = self.loaded.model, self.loaded.kind
        number = min(count, len(self.examples))
        for index in random.Random(f"{self.seed}/{NAME}").sample(range(len(self.examples)), number):
            batch = make_batch(
                [self.examples[index]], kind=kind, pad_id=self.loaded.tokenizer.pad_token_id, device=model.device
            )
            yield partial(loss_sum, model, batch, kind)


def attach_prepared(method: Any, settings: Any, loaded: Loaded, *, losses: Losses, kept: Path, identity: str) -> Any:
    """Attach a method to a model after preparing it.

    What was found is kept beside the checkpoints, under the name of all that decides it. A training that goes on reads
    it from there, so that it goes on with the same weights whatever the machine computes now.

    Args:
        method: Its module, which has ``prepare``.
        settings: Its own.
        loaded: The base.
        losses: Those of the training examples.
        kept: Where checkpoints live.
        identity: Of all that decides the weights.
    """
    folder = kept / f"{NAME}-{identity[:16]}"
    if not damage(folder):
        return method.attach(settings, loaded.model, loaded.kind, prepared=read_checkpoint(folder).tensors[NAME])
    need_memory(
        method.preparing_bytes(settings, loaded.model, tokens=losses.longest),
        "scoring the weights",
        "Take a smaller model, or a method that need not look at every weight, such as lora.",
    )
    prepared = method.prepare(settings, loaded.model, losses)
    write_checkpoint(kept, folder.name, {NAME: prepared}, {})
    return method.attach(settings, loaded.model, loaded.kind, prepared=prepared)
