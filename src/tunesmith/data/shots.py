"""Worked examples: in which order the training rows are taken, and how they stand in a training prompt.

There is one order, by a hash of the seed and the row's id. A candidate with k shots puts the first k rows of it before
every test prompt. A training prompt of the form few-shot takes the rows that follow its own in this order, round and
round, so that each prompt has others, never its own row, and adding a row changes the prompts of a few.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice

from tunesmith.data.characters import is_empty
from tunesmith.data.rendering import Target, render_prompts, render_targets
from tunesmith.data.rows import Row
from tunesmith.data.templates import Template
from tunesmith.settings import Phrasing

REPEATS = 100  # of a row, that are passed over in search of another one


@dataclass(frozen=True, slots=True)
class Question:
    """A training row, with the phrasing that it has drawn and its prompt in it."""

    id: str
    phrasing: int
    row: Row
    words: str  # its input, normalised: rows that repeat it would tell its answer
    prompt: str


def shot_order(ids: Sequence[str], *, seed: int) -> list[int]:
    """Return the numbers of the ids in the order in which they become worked examples."""
    return sorted(range(len(ids)), key=lambda number: sha256(f"{seed}/shots/{ids[number]}".encode()).digest())


def neighbours(pool: Sequence[Question], asking: Sequence[int], *, shots: int, seed: int) -> dict[int, list[int]]:
    """Return for the training rows that ask for them the numbers of their worked examples.

    There are fewer where there are not as many other rows, or where more than 100 repeats of a row follow it.
    """
    order = shot_order([one.id for one in pool], seed=seed)
    place = {number: at for at, number in enumerate(order)}
    steps = range(1, min(len(order), shots + REPEATS + 1))
    found = {}
    for own in asking:
        ring = (order[(place[own] + step) % len(order)] for step in steps)
        found[own] = list(islice((other for other in ring if pool[other].words != pool[own].words), shots))
    return found


def put_before(
    template: Template, pool: Sequence[Question], *, shots: int, seed: int, choices: Sequence[str] = ()
) -> list[str]:
    """Return the prompts of all training rows; those of the form few-shot with worked examples before them.

    Args:
        template: From ``load_template``.
        pool: Every training row that is used.
        shots: Worked examples for each.
        seed: Of the recipe.
        choices: The closed answer set of the task; a row with another answer is no worked example.
    """
    asking = [number for number, one in enumerate(pool) if template.phrasings[one.phrasing].form == "few-shot"]
    if not asking:
        return [one.prompt for one in pool]
    chosen = neighbours(pool, asking, shots=shots, seed=seed)
    wanted = sorted({(pool[number].phrasing, shot) for number in asking for shot in chosen[number]})
    drawn = [(phrasing, pool[shot].row) for phrasing, shot in wanted]
    prompts = render_prompts(template, drawn, choices=choices)
    targets = render_targets(template, drawn)
    worked = {
        pair: (prompt, target.text)
        for pair, prompt, target in zip(wanted, prompts, targets, strict=True)
        if isinstance(prompt, str) and isinstance(target, Target) and _fits(target, choices)
    }
    intros = render_prompts(template, [(pool[n].phrasing, pool[n].row) for n in asking], choices=choices, part="intro")
    found = [one.prompt for one in pool]
    for number, intro in zip(asking, intros, strict=True):
        one = pool[number]
        pairs = [worked[one.phrasing, shot] for shot in chosen[number] if (one.phrasing, shot) in worked]
        first = intro if isinstance(intro, str) else ""
        found[number] = joined(template.phrasings[one.phrasing], first, pairs, one.prompt)
    return found


def _fits(target: Target, choices: Sequence[str]) -> bool:
    return not choices or target.text.strip() in choices


def joined(phrasing: Phrasing, intro: str, pairs: Sequence[tuple[str, str]], question: str) -> str:
    """Return a prompt of the form few-shot: intro, worked examples as (prompt, answer), question.

    The question ends like the prompts of the worked examples, but for white space: with "Summary:", for instance.
    """
    parts = [] if is_empty(intro) else [intro]
    parts += [f"{prompt}{phrasing.join}{answer}" for prompt, answer in pairs]
    return phrasing.separator.join([*parts, f"{question}{phrasing.join}".rstrip()])
