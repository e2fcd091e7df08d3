"""Worked examples before a prompt: which ones, and how many have room."""

from collections.abc import Sequence

from tunesmith.data.encode import Coder
from tunesmith.data.shots import shot_order
from tunesmith.records import Example


def choose_shots(training: Sequence[Example], *, task: str, shots: int, seed: int) -> list[Example]:
    """Choose worked examples of a task from the training split, the same for every test example.

    The choice depends on the seed and on the examples' ids, not on the order of the rows.
    """
    own = [example for example in training if example.task == task]
    return [own[number] for number in shot_order([example.id for example in own], seed=seed)[:shots]]


def with_shots(example: Example, shots: Sequence[Example], coder: Coder) -> tuple[Example, int]:
    """Put as many worked examples before a prompt as have room.

    Args:
        example: The question.
        shots: Worked examples, the most wanted first.
        coder: Its ``limit`` is the room for the whole prompt, in tokens.

    Returns:
        The example with its longer prompt, and the number of shots in it.
    """
    for count in range(len(shots), 0, -1):
        parts = [f"{shot.prompt}\n{shot.target}" for shot in shots[:count]]
        longer = example.model_copy(update={"prompt": "\n\n".join([*parts, example.prompt])})
        if len(coder.ids(longer)) <= coder.limit:
            return longer, count
    return example, 0
