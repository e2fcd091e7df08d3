"""What a method learns from a few training examples before it is attached, such as which weights matter."""

import random
from collections.abc import Callable, Iterator, Sequence
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


def attach_prepared(
    method: Any, settings: Any, loaded: Loaded, *, losses: Callable[[int], Iterator[Tensor]], kept: Path, identity: str
) -> Any:
    """Attach a method to a model after preparing it.

    What was found is kept beside the checkpoints, under the name of all that decides it. A training that goes on reads
    it from there, so that it goes on with the same weights whatever the machine computes now.

    Args:
        method: Its module, which has ``prepare``.
        settings: Its own.
        loaded: The base.
        losses: What ``losses_of`` returned.
        kept: Where checkpoints live.
        identity: Of all that decides the weights.
    """
    folder = kept / f"{NAME}-{identity[:16]}"
    if not damage(folder):
        return method.attach(settings, loaded.model, loaded.kind, prepared=read_checkpoint(folder).tensors[NAME])
    need_memory(
        16 * loaded.model.num_parameters(),  # a gradient, its derivative and two sums
        "scoring the weights",
        "Take a smaller model, or a method that need not look at every weight, such as lora.",
    )
    prepared = method.prepare(settings, loaded.model, losses)
    write_checkpoint(kept, folder.name, {NAME: prepared}, {})
    return method.attach(settings, loaded.model, loaded.kind, prepared=prepared)


def losses_of(loaded: Loaded, examples: Sequence[Encoded], *, seed: int) -> Callable[[int], Iterator[Tensor]]:
    """Return what gives the losses of some examples, drawn by the seed: each alone, summed over its target tokens.

    Args:
        loaded: The base, whose weights the losses depend on.
        examples: Of training.
        seed: The recipe's.
    """

    def losses(count: int) -> Iterator[Tensor]:
        drawn = random.Random(f"{seed}/{NAME}").sample(range(len(examples)), min(count, len(examples)))
        for index in drawn:
            batch = make_batch(
                [examples[index]], kind=loaded.kind, pad_id=loaded.tokenizer.pad_token_id, device=loaded.model.device
            )
            yield loss_sum(loaded.model, batch, loaded.kind)

    return losses
