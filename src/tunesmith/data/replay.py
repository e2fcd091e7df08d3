"""General instructions among the training examples, so that a model is reminded of what it could do before.

Which ones, and how often, is a function of seed and numbers alone. They share nothing with the probe of what was
forgotten: ``tests/data/test_replay.py`` holds that.
"""

import math
import random

from tunesmith.data.general import ITEMS
from tunesmith.records import Example, Record

TASK = "general instructions"  # no task of a recipe can be called so: names have no spaces


class Instruction(Record):
    """One line of ``general/items.jsonl``."""

    id: str
    kind: str
    prompt: str
    target: str


def general_instructions() -> tuple[Instruction, ...]:
    """Return the shipped instructions, kind by kind."""
    return tuple(Instruction.model_validate_json(line) for line in ITEMS.read_text("utf-8").splitlines())


def general_examples() -> list[Example]:
    """Return the shipped instructions as training examples, in the order of the file."""
    return [
        Example(
            id=f"{TASK}/{one.id}", task=TASK, split="train", prompt=one.prompt, target=one.target,
            references=(one.target,),
        )
        for one in general_instructions()
    ]  # fmt: skip


def per_epoch(examples: int, share: float) -> int:
    """Return how many general instructions an epoch has.

    Args:
        examples: Of the tasks, in an epoch.
        share: Of the epoch that is to be general instructions.

    A tenth of 10 is 1, beside 9 examples:

    >>> per_epoch(9, 0.1), per_epoch(9, 0.75)
    (1, 27)
    """
    if not share or not examples:
        return 0
    return max(1, round(examples * share / (1 - share)))


def replayed(wanted: int, *, known: int, epochs: float, seed: int) -> list[int]:
    """Return which instructions a training has: others in each epoch, as long as there are others.

    Args:
        wanted: In an epoch.
        known: How many instructions there are.
        epochs: Of the training.
        seed: The recipe's.
    """
    return random.Random(f"{seed}/replay").sample(range(known), min(known, wanted * math.ceil(epochs)))
