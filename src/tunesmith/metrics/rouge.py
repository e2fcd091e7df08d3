"""ROUGE-N, ROUGE-L and ROUGE-Lsum with the values of rouge_score 0.1.2, bit for bit.

Source: C.-Y. Lin, "ROUGE: a package for automatic evaluation of summaries", 2004. Words are ``[a-z0-9]+`` of the
lower-cased text; those longer than three letters are stemmed. ROUGE-L reads a text as one line, ROUGE-Lsum takes
the union over the lines of the candidate for each line of the reference. With several references the one with the
best F1 counts, for each kind alone.
"""

import re
from collections import Counter
from collections.abc import Hashable, Sequence
from functools import lru_cache
from itertools import chain
from typing import NamedTuple

from tunesmith import __version__
from tunesmith.metrics.contract import Answers, Measured, Metric, reference_count
from tunesmith.metrics.lcs import lcs_bits, lcs_length, positions
from tunesmith.metrics.porter import stem as porter_stem

KINDS = ("rouge1", "rouge2", "rougeL", "rougeLsum")

_KNOWN = {f"rouge{size}" for size in range(1, 10)} | {"rougeL", "rougeLsum"}

_find_words = re.compile(r"[a-z0-9]+").findall
_MIN_STEMMED = 4  # letters; shorter words stay as they are


class RougeScore(NamedTuple):
    """Shares between 0 and 1."""

    precision: float
    recall: float
    f1: float


_ZERO = RougeScore(0.0, 0.0, 0.0)


class Text(NamedTuple):
    """The words of a text, line by line and all together; lines without words are left out."""

    lines: tuple[tuple[str, ...], ...]
    words: tuple[str, ...]


@lru_cache(maxsize=1 << 16)
def _stemmed(word: str) -> str:
    return porter_stem(word) if len(word) >= _MIN_STEMMED else word


@lru_cache(maxsize=4096)
def read(text: str, stem: bool) -> Text:
    """Return the words of ``text``; kept, because the same references come back for every candidate."""
    found = filter(None, map(_find_words, text.lower().split("\n")))
    lines = tuple(tuple(map(_stemmed, line)) if stem else tuple(line) for line in found)
    return Text(lines, lines[0] if len(lines) == 1 else tuple(chain.from_iterable(lines)))


def forget_texts() -> None:
    """Empty the caches of words and stems; only a fair measurement of speed needs this."""
    read.cache_clear()
    _stemmed.cache_clear()


def score_of(hits: float, *, candidate: float, reference: float) -> RougeScore:
    """Return precision, recall and F1 from the matches and from what each side holds."""
    if not hits:
        return _ZERO
    precision, recall = hits / candidate, hits / reference
    return RougeScore(precision, recall, 2 * precision * recall / (precision + recall))


def rouge(
    prediction: str, references: Sequence[str], *, kinds: Sequence[str] = KINDS, stem: bool = True
) -> dict[str, RougeScore]:
    """Score one prediction against its references.

    Args:
        prediction: the text to judge; an empty one scores 0.
        references: at least one accepted text.
        kinds: of ``rouge1`` to ``rouge9``, ``rougeL``, ``rougeLsum``.
        stem: whether words longer than three letters are reduced to their Porter stem.

    Returns:
        One score for each kind.

    Raises:
        ValueError: for an unknown kind, or without references.

    >>> score = rouge("It is very cold outside", ["It is cold outside"])["rougeL"]
    >>> score.precision, score.recall, round(score.f1, 3)
    (0.8, 1.0, 0.889)
    """
    if isinstance(references, str) or not references:
        raise ValueError("references must be a sequence of at least one text")
    if not _KNOWN.issuperset(kinds):
        raise ValueError(f"unknown kind of ROUGE: {', '.join(kind for kind in kinds if kind not in _KNOWN)}")
    ours = read(prediction, stem)
    scored = [_score_pair(ours, read(reference, stem), kinds) for reference in references]
    if len(scored) == 1:
        return scored[0]
    return {kind: max((scores[kind] for scores in scored), key=lambda score: score.f1) for kind in kinds}


def text_notes(texts: Sequence[str], what: str) -> tuple[str, ...]:
    """Return what ROUGE does not see in ``texts``, which ``what`` names: other scripts, and escaped line breaks."""
    foreign = sum(any(map(str.isalnum, text)) and not read(text, False).words for text in texts)
    escaped = sum("\\n" in text and "\n" not in text for text in texts)
    notes = []
    if foreign:
        notes.append(
            f"{foreign} of {len(texts)} {what} are in letters that ROUGE does not see: it reads a-z and 0-9 alone, "
            "and scores them 0. Use chrf, which reads every script."
        )
    if escaped:
        notes.append(
            f"{escaped} of {len(texts)} {what} hold a backslash and an n instead of a line break. rougeLsum takes "
            "each of them for one line; put real line breaks."
        )
    return tuple(notes)


def _score_pair(ours: Text, theirs: Text, kinds: Sequence[str]) -> dict[str, RougeScore]:
    if not ours.lines or not theirs.lines:
        return dict.fromkeys(kinds, _ZERO)
    one_line = len(ours.lines) == len(theirs.lines) == 1
    scores = {}
    for kind in kinds:
        size = 1
        if kind == "rougeL" or (kind == "rougeLsum" and one_line):
            hits = lcs_length(theirs.words, ours.words)
        elif kind == "rougeLsum":
            hits = _union_hits(ours, theirs)
        else:
            size = int(kind[5:])
            hits = shared(ngrams(ours.words, size), ngrams(theirs.words, size))
        less = size - 1
        scores[kind] = score_of(hits, candidate=len(ours.words) - less, reference=len(theirs.words) - less)
    return scores


def ngrams(words: Sequence[str], size: int) -> Sequence[Hashable]:
    """Return all runs of ``size`` neighbouring words; for size 1 the words themselves."""
    return words if size == 1 else tuple(zip(*(words[start:] for start in range(size)), strict=False))


def shared(ours: Sequence[Hashable], theirs: Sequence[Hashable]) -> int:
    """Count what both have, each thing as often as the side that has fewer of it.

    Whatever we have once counts once, so that only what we repeat has to be counted on their side.
    """
    found = list(filter(set(theirs).__contains__, ours))
    if len(set(found)) == len(found):
        return len(found)
    counts = Counter(found)
    repeated = {thing: count for thing, count in counts.items() if count > 1}
    limits = Counter(filter(repeated.__contains__, theirs))
    return len(counts) - len(repeated) + sum(min(count, limits[thing]) for thing, count in repeated.items())


def _union_hits(ours: Text, theirs: Text) -> int:
    """Count the words of all union subsequences, each word at most as often as the candidate has it."""
    hits: list[str] = []
    for line in theirs.lines:
        where = positions(line)
        union = 0
        for other in ours.lines:
            union |= lcs_bits(where, other, length=len(line))
        hits += [word for word, bit in zip(line, bin(union)[:1:-1], strict=False) if bit == "1"]
    return shared(hits, ours.words)


def _measure(names: Sequence[str], answers: Answers) -> dict[str, Measured]:
    measured = {}
    for stem in (True, False):
        wanted = {name: name.split("-") for name in names if ("unstemmed" not in name) == stem}
        kinds = sorted({parts[0] for parts in wanted.values()})
        pairs = zip(answers.predictions, answers.references, strict=True)
        scores = [rouge(text, references, kinds=kinds, stem=stem) for text, references in pairs] if kinds else []
        for name, (kind, *more) in wanted.items():
            field = next((side for side in ("precision", "recall") if side in more), "f1")
            values = tuple(100 * getattr(score[kind], field) for score in scores)
            measured[name] = Measured(signature(kind, field, stem=stem, references=answers.references), values)
    return measured


def signature(kind: str, field: str, *, stem: bool, references: Sequence[Sequence[str]]) -> str:
    """Return the settings that decide a ROUGE value, as one line."""
    side = {"precision": "P", "recall": "R", "f1": "F"}[field]
    split = "newline" if kind == "rougeLsum" else "none"
    return (
        f"{kind}|{side}|stem:{'porter' if stem else 'none'}|tok:a-z0-9|case:lower|refs:{reference_count(references)}"
        f"|split:{split}|agg:mean|tunesmith:{__version__}"
    )


ROUGE = Metric(measure=_measure, unit="points of 100")
