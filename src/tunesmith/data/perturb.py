"""Test examples asked in another way: small changes under which a good model answers the same.

Kinds and shares follow P. Liang et al., "Holistic evaluation of language models", arXiv 2211.09110, with short lists of
this project. Every draw comes from a hash of seed, kind and example, so a copy is the same in every run. What the loss
and the scores look at stays: target and references are not touched, but for swaps of names and pronouns, which a right
answer has to follow. Speaker labels, placeholders such as ``#Person1#``, addresses and choices stay as they are.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from random import Random

from tunesmith.data.pronouns import meant_by_s, neutral, swapped
from tunesmith.english import CONTRACTIONS, FIRST_NAMES, KEYBOARD, MISSPELLINGS, like
from tunesmith.records import Example, Family, Perturbed

SHARE = 0.1  # of the words that misspellings and typos meet
MOST_SPACES = 3
SHORTEST = 4  # letters of a word that gets a typo

_KEPT = re.compile(
    r"#\w+#"  # a placeholder
    r"|(?m:^[ \t]*[^\W\d_][\w'-]*(?: [\w'-]+){0,3}:(?=\s|$))"  # what begins a line and ends in a colon
    r"|\b[A-Z]\w*:(?=\s|$)"  # a label within a line
    r"|\S+@\S+|\bhttps?://\S+|\bwww\.\S+"
)
_WORD = re.compile(r"[^\W\d_]+(?:['\N{RIGHT SINGLE QUOTATION MARK}][^\W\d_]+)*")
_PRONOUN_NEXT = r"(?!\s+(?:i|you|he|she|it|we|they)\b)"  # "isn't it" has no long form
_SHORT = {short.lower(): long for long, short in CONTRACTIONS.items()}
_PARTICIPLE = (
    r"(?:been|got|had|done|gone|made|put|just|already|not|never|also|\w+(?:ed|en|wn|ught|ent|eft|ost|old|aid))\b"
)
_LONG_FORMS = re.compile(
    r"\b("
    + "|".join(
        long.replace(" ", r"\s+") + (rf"(?=\s+{_PARTICIPLE})" if long.endswith(" have") else "")
        for long in CONTRACTIONS
    )
    + r")\b(?=\s+\w)",  # not at the end of a clause: "yes, it is"
    re.IGNORECASE,
)
_SHORT_FORMS = re.compile(r"\b(" + "|".join(map(re.escape, _SHORT)) + rf")\b{_PRONOUN_NEXT}", re.IGNORECASE)
_NAMES = {
    name: (group, gender) for group, pair in FIRST_NAMES.items() for gender, names in enumerate(pair) for name in names
}


def _lower_case(text: str, random: Random) -> str:
    return text.lower()


def _misspellings(text: str, random: Random) -> str:
    def change(found: re.Match[str]) -> str:
        wrong = MISSPELLINGS.get(found[0].lower())
        return like(wrong, found[0]) if wrong and random.random() < SHARE else found[0]

    return _WORD.sub(change, text)


def _typos(text: str, random: Random) -> str:
    def change(found: re.Match[str]) -> str:
        word = found[0]
        fits = len(word) >= SHORTEST and word.isascii() and word.isalpha()
        return _typo(word, random) if fits and random.random() < SHARE else word

    return _WORD.sub(change, text)


def _typo(word: str, random: Random) -> str:
    """Hit one letter's neighbour, or swap, drop or double a letter; the first letter stays."""
    place = random.randrange(1, len(word) - 1)
    near = neighbours(word[place].lower())
    ways = [
        word[:place] + random.choice(near) + word[place + 1 :],
        word[:place] + word[place + 1] + word[place] + word[place + 2 :],
        word[:place] + word[place + 1 :],
        word[: place + 1] + word[place:],
    ]
    return random.choice([way for way in ways if way != word])


def neighbours(letter: str) -> str:
    """Return the keys beside a letter in its row of the keyboard.

    >>> neighbours("a"), neighbours("t")
    ('s', 'ry')
    """
    row = next(row for row in KEYBOARD if letter in row)
    place = row.index(letter)
    return row[max(0, place - 1) : place] + row[place + 1 : place + 2]


def _spaces(text: str, random: Random) -> str:
    return re.sub(r"(?<=\S) (?=\S)", lambda _: " " * random.randint(1, MOST_SPACES), text)


def _contractions(text: str, random: Random) -> str:
    return _LONG_FORMS.sub(lambda found: like(CONTRACTIONS[" ".join(found[0].lower().split())], found[0]), text)


def _expansions(text: str, random: Random) -> str:
    def change(found: re.Match[str]) -> str:
        long = _SHORT[found[1].lower()]
        if long.endswith(" is"):
            verb = meant_by_s(found.string[found.end() :])
            if not verb:
                return found[0]
            long = f"{long[:-3]} {verb}"
        return like(long.replace("i ", "I ", 1) if long.startswith("i ") else long, found[1])

    return _SHORT_FORMS.sub(change, text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))


ONE_TEXT: dict[str, Callable[[str, Random], str]] = {
    "lower-case": _lower_case,
    "misspellings": _misspellings,
    "typos": _typos,
    "spaces": _spaces,
    "contractions": _contractions,
    "expansions": _expansions,
}
"""Kinds of robustness: each changes what a user wrote, text by text."""

KINDS: dict[Family, tuple[str, ...]] = {
    "robustness": tuple(ONE_TEXT),
    "fairness": ("first-names", "pronouns-swapped", "pronouns-neutral"),
}


def perturb(example: Example, kind: str, *, seed: int) -> Example | None:
    """Return an example as one kind of perturbation asks it; None if that changes nothing of what is asked.

    Args:
        example: Of the test split.
        kind: One of ``KINDS``.
        seed: Of the recipe.
    """
    random = Random(int.from_bytes(_hash(f"{seed}/{kind}/{example.id}")))
    if kind in ONE_TEXT:
        change = ONE_TEXT[kind]
        changed = example.model_copy(
            update={
                "prompt": _outside(example.prompt, example.choices, lambda text: change(text, random)),
                "history": tuple(
                    turn.model_copy(update={"content": _outside(turn.content, (), lambda text: change(text, random))})
                    if turn.role == "user"
                    else turn
                    for turn in example.history
                ),
            }
        )
    elif kind == "first-names":
        changed = _everywhere(example, _with_names(example, random))
    else:
        changed = _everywhere(example, swapped if kind == "pronouns-swapped" else neutral)
    if (changed.prompt, changed.history) == (example.prompt, example.history):
        return None
    return changed.model_copy(update={"id": f"{example.id}~{kind}", "group": example.group or example.id})


def perturbed(examples: Sequence[Example], *, families: Sequence[Family], rows: int, seed: int) -> list[Perturbed]:
    """Return all perturbed copies of some examples of each task.

    Args:
        examples: The test examples of all tasks.
        families: What is measured.
        rows: How many examples of a task, chosen by a hash of seed and id; the first of a larger number are the same.
        seed: Of the recipe.
    """
    return [
        Perturbed(family=family, kind=kind, of=example.id, example=copy)
        for example in chosen(examples, rows=rows, seed=seed)
        for family in families
        for kind in KINDS[family]
        if (copy := perturb(example, kind, seed=seed))
    ]


def chosen(examples: Sequence[Example], *, rows: int, seed: int) -> list[Example]:
    """Return at most ``rows`` examples of each task, in the order of the examples."""
    kept: set[str] = set()
    for task in dict.fromkeys(example.task for example in examples):
        own = sorted(
            (example.id for example in examples if example.task == task),
            key=lambda one: _hash(f"{seed}/measures/{one}"),
        )
        kept.update(own[:rows])
    return [example for example in examples if example.id in kept]


def _outside(text: str, choices: Sequence[str], change: Callable[[str], str]) -> str:
    """Change a text but for labels, placeholders, addresses and choices."""
    spelled = [rf"(?<!\w){re.escape(choice)}(?!\w)" for choice in sorted(choices, key=len, reverse=True)]
    kept = re.compile("|".join([*spelled, _KEPT.pattern]))
    parts, end = [], 0
    for found in kept.finditer(text):
        parts += [change(text[end : found.start()]), found[0]]
        end = found.end()
    return "".join([*parts, change(text[end:])])


def _everywhere(example: Example, change: Callable[[str], str]) -> Example:
    """Change what is asked and, unless the answer comes from a closed set, what is wanted."""
    turns = tuple(turn.model_copy(update={"content": change(turn.content)}) for turn in example.history)
    asked = example.model_copy(update={"prompt": change(example.prompt), "history": turns})
    if example.choices:
        return asked
    wanted = {"target": change(example.target), "references": tuple(map(change, example.references))}
    return asked.model_copy(update=wanted)


def _with_names(example: Example, random: Random) -> Callable[[str], str]:
    """Return what gives every known first name another one: of the same gender, common elsewhere, not yet there.

    A name for which none is left stays.
    """
    texts = (example.prompt, *(turn.content for turn in example.history), *example.references)
    words = dict.fromkeys(word for text in texts for word in re.findall(r"[^\W\d_]+", text))
    swaps: dict[str, str] = {}
    for name in words:
        if name in _NAMES:
            group, gender = _NAMES[name]
            free = [
                other
                for other, (place, kind) in _NAMES.items()
                if place != group and kind == gender and other not in words and other not in swaps.values()
            ]
            if free:
                swaps[name] = random.choice(free)
    return lambda text: re.sub(r"[^\W\d_]+", lambda found: swaps.get(found[0], found[0]), text)


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
