"""What an answer names that its source does not: numbers, and names. Surface alone; it finds no wrong facts.

The source is all that the model was shown: earlier turns, instruction and text, without worked examples. Both measures
are rules of this project. The idea of comparing the entities of summary and source is that of F. Nan et al.,
"Entity-level factual consistency of abstractive text summarization", arXiv 2102.09130, which uses a tagger.
"""

import re
from collections.abc import Callable, Sequence
from decimal import Decimal, localcontext
from functools import lru_cache
from itertools import groupby
from math import prod

from tunesmith import __version__
from tunesmith.english import (
    DAYS,
    FIRST_NAMES,
    FUNCTION_WORDS,
    LARGE_NUMBERS,
    MONTHS,
    ORDINALS,
    SMALL_NUMBERS,
    TENS,
    words,
)
from tunesmith.metrics.contract import Answers, Measured, Metric

_APOSTROPHE = "\N{RIGHT SINGLE QUOTATION MARK}"
_SEPARATORS = f".,:'{_APOSTROPHE}\N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}"
_TOKEN = re.compile(rf"[^\W_]+(?:(?<=\d)[{_SEPARATORS}]\d+)*")
_SCALES = {**LARGE_NUMBERS, "dozen": 12}
_SCALE = rf"(?:{'|'.join(_SCALES)})\b"
_AFTER_DIGITS = re.compile(rf"(?<=\d)(?:(?:[^\S\n]+|-){_SCALE})+", re.IGNORECASE)
_IN_WORDS = re.compile(rf"\bhalf\s+an?\s+{_SCALE}|[a-z]+", re.IGNORECASE)
_SHORT_SCALES = {"k": 1_000, "m": 1_000_000, "bn": 1_000_000_000}
_SHORT = re.compile(rf"(?:{'|'.join(_SHORT_SCALES)})\b", re.IGNORECASE)
_CHECKED_FROM = 3  # one and two are mostly no counts: "no one", "the two of them"

_WORD = re.compile(rf"[^\W\d_]+(?:['{_APOSTROPHE}-][^\W\d_]+)*")
_POSSESSIVE = re.compile(rf"['{_APOSTROPHE}]s?$")
_BEGINS = frozenset('.!?:;"([*-\N{LEFT DOUBLE QUOTATION MARK}\N{EN DASH}\N{EM DASH}')  # after which a sentence begins
_TITLES = frozenset(("mr", "mrs", "ms", "dr", "prof"))
_NAMES = frozenset(name.lower() for pair in FIRST_NAMES.values() for names in pair for name in names)
_CALENDAR = {word: word[:3] for word in (*DAYS, *MONTHS)}
_SHORTENED = frozenset(word[:size] for word in _CALENDAR for size in range(3, len(word) + 1))
_FUNCTION_WORDS = frozenset(FUNCTION_WORDS)
_NO_NAMES = frozenset(
    words(
        "i i'm i've i'll i'd mr mrs ms miss dr prof sir madam customer agent client user caller assistant support "
        "person speaker ok okay am pm tv id yes no"
    )
)


def numbers(text: str) -> list[tuple[str, frozenset[str]]]:
    """Return the numbers of a text with all that each may mean, as plain decimals, or as it stands if it is a code.

    ``1,000`` and ``1000`` mean the same, as do ``12.50`` and ``12.5``, ``07`` and ``7``; ``1.000`` may be one or a
    thousand. ``5kg`` and ``3rd`` are numbers, ``GDN7`` is a code, and the parts of ``12:30`` and of ``12.05.2024`` are
    numbers of their own. ``1.5 million`` is one number, and ``5k`` may be five or five thousand.

    >>> [sorted(means) for _, means in numbers("1,000 of 12.50 for R8T")]
    [['1', '1000'], ['12.5'], ['r8t']]
    """
    found = []
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token[0].isdecimal():
            digits = re.sub(r"[^\W\d_]+$", "", token)
            found += _scaled(_read(digits), text, match.start() + len(digits))
        elif any(character.isdigit() for character in token):
            found.append((token, frozenset([token.lower()])))
    return found


def number_words(text: str) -> list[tuple[str, str]]:
    """Return the numbers that are written in words, with their decimals; those that begin in digits are left out.

    >>> number_words("Twenty-five of one thousand two hundred, half a dozen of 3 million")
    [('Twenty five', '25'), ('one thousand two hundred', '1200'), ('half a dozen', '6')]
    """
    found = []
    pieces = _IN_WORDS.findall(_AFTER_DIGITS.sub(" of ", text))
    for kind, run in groupby(pieces, key=_kind):
        if kind == "half":
            found += [(piece, str(_SCALES[piece.lower().split()[-1]] // 2)) for piece in run]
        elif kind == "number":
            found += _composed(list(run))
    return found


def invented_numbers(answer: str, source: str) -> tuple[str, ...]:
    """Return the numbers of an answer that its source has neither in digits nor in words, each once.

    Numbers in words count from three on. What is rounded, added up or converted counts as invented.

    >>> invented_numbers("Three lamps for 1000 euros on 5 May", "3 lamps, 1,000 euros")
    ('5',)
    """
    asked = numbers(answer)
    asked += [(text, frozenset([value])) for text, value in number_words(answer) if int(value) >= _CHECKED_FROM]
    known = _numbers_of(source) if asked else frozenset()
    return tuple(dict.fromkeys(text for text, meanings in asked if not meanings & known))


def invented_entities(answer: str, source: str) -> tuple[str, ...]:
    """Return the capitalised names of an answer that hold a word that its source lacks, each once.

    The first word of a sentence is taken for a name if another capitalised word follows it, if it is capitalised within
    a sentence of the same answer, or if it is a known first name. Weekdays and months may be shortened in the source.

    >>> invented_entities("Sarah took the lamp to Leeds. The shop was closed.", "SARAH has a lamp.")
    ('Leeds',)
    """
    if not any(character.islower() for character in answer):
        return ()  # capitals say nothing here
    known = _words_of(source)
    common = known | _FUNCTION_WORDS
    runs = _capitals(answer)
    inside = {_bare(word) for run in runs for word, first in run if not first}
    invented = []
    for run in runs:
        names = [
            word
            for word, first in run
            if not first or _bare(word) in inside | _NAMES or (len(run) > 1 and _bare(word) not in common)
        ]
        if any(not _is_known(_bare(word), known) for word in names):
            invented.append(" ".join(_POSSESSIVE.sub("", word) for word in names))
    return tuple(dict.fromkeys(invented))


@lru_cache(maxsize=10_000)  # all candidates answer to the same sources
def _numbers_of(source: str) -> frozenset[str]:
    texts = (source, _AFTER_DIGITS.sub("", source))  # "1 to 2 million" has 1, 2 and 2 million
    known = {meaning for text in texts for _, meanings in numbers(text) for meaning in meanings}
    known |= {meaning for _, meaning in number_words(source)}
    said = set(re.findall("[a-z]+", source.lower()))
    return frozenset(known | {str(place) for place, word in enumerate(ORDINALS, 1) if word in said})


@lru_cache(maxsize=10_000)
def _words_of(source: str) -> frozenset[str]:
    known = {_bare(word) for whole in _WORD.findall(source) for word in (whole, *whole.split("-"))}
    return frozenset(known | {word[:3] for word in known & _SHORTENED})


def _read(token: str) -> list[tuple[str, frozenset[str]]]:
    """Return what a token of digits and separators means: one number, or several."""
    if any(character.isalpha() for character in token):
        return [(token, frozenset([token.lower()]))]
    groups, marks = re.findall(r"\d+", token), re.findall(r"\D", token)
    whole, joined = [_plain(group) for group in groups], _plain("".join(groups))
    thousands = len(groups[0]) <= 3 and all(len(group) == 3 for group in groups[1:])
    if not marks:
        return [(token, frozenset(whole))]
    if len(marks) == 1 and marks[0] in ".,":
        return [(token, frozenset([_plain(*groups), *([joined] if thousands else [])]))]
    if ":" not in marks and len(set(marks)) == 1 and thousands:
        return [(token, frozenset([joined]))]
    inner = all(len(group) == 3 for group in groups[1:-1])
    if ":" not in marks and len(set(marks[:-1])) == 1 and marks[-1] != marks[0] and inner:
        return [(token, frozenset([_plain("".join(groups[:-1]), groups[-1])]))]
    return [(group, frozenset([value])) for group, value in zip(groups, whole, strict=True)]


def _scaled(read: list[tuple[str, frozenset[str]]], text: str, end: int) -> list[tuple[str, frozenset[str]]]:
    """Multiply the last of the numbers that end at a place of a text by what follows; k, m and bn may be units, too."""
    *rest, (said, meanings) = read
    if words := _AFTER_DIGITS.match(text, end):
        worths = [_SCALES[word.lower()] for word in re.findall("[A-Za-z]+", words[0])]
        return [*rest, (said + words[0], frozenset(_times(meaning, worths) for meaning in meanings))]
    if short := _SHORT.match(text, end):
        worth = _SHORT_SCALES[short[0].lower()]
        return [*rest, (said, meanings | {_times(meaning, [worth]) for meaning in meanings})]
    return read


def _times(meaning: str, worths: Sequence[int]) -> str:
    """Multiply a plain decimal, however long it is."""
    with localcontext(prec=len(meaning) + 20 * len(worths)):
        whole, _, fraction = f"{prod(map(Decimal, worths), start=Decimal(meaning)):f}".partition(".")
    return _plain(whole, fraction)


def _plain(whole: str, fraction: str = "") -> str:
    """Return digits without zeros that say nothing. Not by way of int, which refuses very long ones."""
    rest = fraction.rstrip("0")
    return (whole.lstrip("0") or "0") + (f".{rest}" if rest else "")


def _kind(piece: str) -> str:
    if any(map(str.isspace, piece)):
        return "half"
    return "word" if _worth(piece) is None else "number"


def _worth(word: str) -> int | None:
    word = word.lower()
    if word in SMALL_NUMBERS:
        return SMALL_NUMBERS.index(word)
    if word in TENS:
        return 10 * TENS.index(word) + 20
    return _SCALES.get(word)


def _composed(run: list[str]) -> list[tuple[str, str]]:
    """Split a run of number words where a number cannot go on, and add each up."""
    found: list[tuple[str, str]] = []
    said: list[str] = []
    total = part = 0
    limit = 10**12  # what the next word must stay below to be a part of this number
    for word in run:
        worth = _worth(word) or 0
        if word.lower() in _SCALES:
            if word.lower() == "dozen":
                total, part, limit = 0, max(total + part, 1) * worth, 0
            elif worth == 100:
                part, limit = max(part, 1) * 100, 100
            else:
                total, part, limit = total + max(part, 1) * worth, 0, worth
        elif not said or worth < limit:
            part += worth
            limit = 10 if 20 <= worth < 100 else 0
        else:
            found.append((" ".join(said), str(total + part)))
            said, total, part, limit = [], 0, worth, 10 if 20 <= worth < 100 else 0
        said.append(word)
    return [*found, (" ".join(said), str(total + part))]


def _capitals(answer: str) -> list[list[tuple[str, bool]]]:
    """Return the runs of capitalised words, each word with whether it begins a sentence."""
    runs: list[list[tuple[str, bool]]] = [[]]
    end, before = 0, ""
    for found in _WORD.finditer(answer):
        word, between = found[0], answer[end : found.start()]
        mark = between.strip()
        titled = mark == "." and before in _TITLES
        first = not end or "\n" in between or (mark[-1:] in _BEGINS and not titled)
        capital = word[0].isupper() and _bare(word) not in _NO_NAMES
        if first or mark or not capital:
            runs.append([])
        if capital:
            runs[-1].append((word, first))
        end, before = found.end(), word.lower()
    return [run for run in runs if run]


def _bare(word: str) -> str:
    return _POSSESSIVE.sub("", word.replace(_APOSTROPHE, "'").lower())


def _is_known(word: str, known: frozenset[str]) -> bool:
    return word in known or _CALENDAR.get(word, "?") in known or all(part in known for part in word.split("-"))


def _measure(find: Callable[[str, str], tuple[str, ...]], words: str) -> Callable[..., dict[str, Measured]]:
    def measure(names: Sequence[str], answers: Answers) -> dict[str, Measured]:
        pairs = zip(answers.predictions, answers.sources, strict=True)
        values = tuple(100.0 * bool(find(text, source)) for text, source in pairs)
        settings = f"answers-with:any|source:prompt-and-history|{words}|agg:mean|tunesmith:{__version__}"
        return {name: Measured(f"{name}|{settings}", values) for name in names}

    return measure


INVENTED_NUMBERS = Metric(
    measure=_measure(invented_numbers, "in-words:from-three"), unit="%", better="lower", right_or_wrong=True,
    needs_source=True,
)  # fmt: skip
INVENTED_ENTITIES = Metric(
    measure=_measure(invented_entities, "names:capitalised"), unit="%", better="lower", right_or_wrong=True,
    needs_source=True,
)  # fmt: skip
