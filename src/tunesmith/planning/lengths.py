"""How long the examples are in tokens: counted, or for many examples counted on some of them and drawn for the rest."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith.data.encode import Coder
from tunesmith.inference.few_shot import choose_shots, with_shots
from tunesmith.inference.reading import shared_prefix
from tunesmith.planning.work import Length
from tunesmith.records import Example

COUNTED = 2000  # examples of a split whose tokens are counted
WITH_SHOTS = 100  # and with worked examples before the prompt, which takes longer
WITHOUT = 10  # prompts as they are; enough to see what all begin with


@dataclass(frozen=True, slots=True)
class Counted:
    """Tokens of an example before anything is cut."""

    task: str
    prompt: int
    target: int
    choices: tuple[int, ...]  # of each allowed answer, where answers are chosen
    text: tuple[str, ...]  # equal for examples that are answered once


def count_tokens(examples: Sequence[Example], coder: Coder, *, seed: int = 0) -> list[Counted]:
    """Return the tokens of every example.

    Args:
        examples: Of one split.
        coder: For the model; its limit does not matter here.
        seed: Of the draw where there are many.
    """
    draw = random.Random(seed)
    asked = examples if len(examples) <= COUNTED else draw.sample(list(examples), COUNTED)
    choices: dict[tuple[str, ...], tuple[int, ...]] = {}
    found = []
    for one in asked:
        if one.choices not in choices:
            choices[one.choices] = tuple(len(coder.target(one.model_copy(update={"target": c}))) for c in one.choices)
        text = (one.task, one.prompt, *(message.content for message in one.history))
        found.append(Counted(one.task, len(coder.ids(one)), len(coder.target(one)), choices[one.choices], text))
    return found if asked is examples else draw.choices(found, k=len(examples))


def training_lengths(counted: Sequence[Counted], kind: str, limit: int) -> list[Length]:
    """Return (input, target) tokens of what is trained on, as ``data.encode.encode_training`` would cut and leave out.

    >>> training_lengths([Counted("t", 90, 20, (), ()), Counted("t", 5, 200, (), ())], "causal", 100)
    [(100, 20)]
    """
    if kind == "causal":
        return [(min(one.prompt + one.target, limit), one.target) for one in counted if one.target < limit]
    return [(min(one.prompt, limit), one.target) for one in counted if one.target <= limit]


@dataclass(frozen=True, slots=True)
class Prompts:
    """How the prompts of a task are when it is answered."""

    longer: float = 1.0  # times their tokens without worked examples
    shared: int = 0  # tokens that all of them begin with


def asked_prompts(
    examples: Sequence[Example], training: Sequence[Example], coder: Coder, *, shots: int, seed: int
) -> Prompts:
    """Look at the prompts of a task, or at some of them, as they are with worked examples.

    Args:
        examples: Of one task.
        training: Where the shots come from.
        coder: Its limit is the room for a prompt.
        shots: Asked for.
        seed: The recipe's.
    """
    if not examples:
        return Prompts()
    most = WITH_SHOTS if shots else WITHOUT
    some = list(examples) if len(examples) <= most else random.Random(seed).sample(list(examples), most)
    chosen = choose_shots(training, task=some[0].task, shots=shots, seed=seed) if shots else []
    asked = [tuple(coder.ids(with_shots(one, chosen, coder)[0])) for one in some]
    shared = shared_prefix(sorted(set(asked)))
    if not shots:
        return Prompts(shared=shared)
    before = sum(min(len(coder.ids(one)), coder.limit) for one in some)
    return Prompts(sum(min(len(ids), coder.limit) for ids in asked) / before, shared)
