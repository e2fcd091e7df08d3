"""General instructions among the training examples, so that a model is reminded of what it could do before.

Which ones, and how often, is a function of seed and numbers alone. They share nothing with the probe of what was
forgotten: ``tests/data/test_replay.py`` holds that.
"""

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


def replayed(examples: int, share: float, *, known: int, seed: int) -> list[int]:
    """Return which instructions are mixed in; if more are wanted than there are, they come round again.

    Args:
        examples: Training examples of the tasks.
        share: Of the mixture that is to be general instructions.
        known: How many instructions there are.
        seed: The recipe's.

    A tenth of 10 is 1, beside 9 examples:

    >>> len(replayed(9, 0.1, known=146, seed=0)), len(replayed(9, 0.75, known=20, seed=0))
    (1, 27)
    """
    wanted = round(examples * share / (1 - share))
    if share and examples:
        wanted = max(1, wanted)
    order: list[int] = []
    while len(order) < wanted:
        following = list(range(known))
        random.Random(f"{seed}/replay/{len(order)}").shuffle(following)
        order += following
    return order[:wanted]
