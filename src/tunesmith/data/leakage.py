"""Rows of training that are in validation or test too, word for word or nearly: found exactly, named, moved out.

Two texts are compared by the Jaccard similarity of their sets of word 5-grams (Broder 1997, "On the resemblance and
containment of documents"). All pairs above the threshold are found, none by chance: with the 5-grams of every text
ordered from rare to common, two texts that are similar enough share one among their first few (prefix filter;
Chaudhuri et al. 2006, "A primitive operator for similarity joins in data cleaning"; Xiao et al. 2008, PPJoin).
Texts of fewer than five words are compared as they are.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from math import ceil

import numpy as np
from numpy.typing import NDArray

from tunesmith.data.splits import Placed
from tunesmith.records import Leak, Split

GRAM = 5  # words
SLACK = 1e-9  # of floating point, so that a Jaccard of exactly the threshold counts
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, from the golden ratio

Grams = NDArray[np.uint64]
Found = tuple[int, float]  # index of a text, similarity


def find_leaks(placed: Sequence[Placed], *, similarity: float) -> tuple[Leak, ...]:
    """Find the rows that must leave an earlier side because a later one has them.

    Validation rows are compared with test, training rows with test and with what then is left of validation. The order
    of the rows changes nothing.

    Args:
        placed: Rows of all tasks with their sides and normalised inputs.
        similarity: Jaccard of word 5-grams from which two texts count as the same, above 0.

    Returns:
        One leak for each row that must move, in the order of ids: with the most similar row of the later sides.
    """
    texts = sorted({item.words for item in placed})
    number = {text: index for index, text in enumerate(texts)}
    here: dict[Split, dict[int, list[str]]] = {"train": {}, "validation": {}, "test": {}}
    for item in sorted(placed, key=lambda item: item.id):
        here[item.split].setdefault(number[item.words], []).append(item.id)
    grams = gram_sets(texts)
    leaks = _leaks(here["validation"], here["test"], grams, similarity)
    moved = {leak.moved_id for leak in leaks}
    later = {text: list(ids) for text, ids in here["test"].items()}
    for text, ids in here["validation"].items():
        if ids[0] not in moved:  # rows of one text stay or move together
            later.setdefault(text, []).extend(ids)
    leaks += _leaks(here["train"], later, grams, similarity)
    return tuple(sorted(leaks, key=lambda leak: leak.moved_id))


def _leaks(
    earlier: Mapping[int, Sequence[str]], later: Mapping[int, Sequence[str]], grams: Sequence[Grams], similarity: float
) -> list[Leak]:
    same: dict[int, Found] = {text: (text, 1.0) for text in earlier if text in later}
    near = nearest(grams, probes=earlier.keys() - same.keys(), indexed=later.keys(), similarity=similarity)
    return [
        Leak(kept_id=later[other][0], moved_id=name, similarity=value)
        for text, (other, value) in {**same, **near}.items()
        for name in earlier[text]
    ]


def nearest(
    grams: Sequence[Grams], *, probes: Collection[int], indexed: Collection[int], similarity: float
) -> dict[int, Found]:
    """Return for each probe the most similar other indexed text, if one is similar enough; of equals the first.

    Args:
        grams: Of all texts, from ``gram_sets``.
        probes: Texts to look up.
        indexed: Texts to find.
        similarity: Smallest Jaccard similarity.
    """
    order = sorted(indexed)
    place = {text: at for at, text in enumerate(order)}
    postings = _postings([grams[text] for text in order])
    firsts = np.unique(_joined([_prefix(grams[text], similarity) for text in order]))
    sizes = np.array([len(grams[text]) for text in order], np.int64)
    found: dict[int, Found] = {}
    for probe in sorted(probes):
        if not len(_positions(firsts, _prefix(grams[probe], similarity))):
            continue  # no text of the index can be similar enough
        shared = postings.shared(grams[probe])
        if probe in place:
            shared[place[probe]] = 0
        values = shared / (len(grams[probe]) + sizes - shared)
        best = int(values.argmax())
        if values[best] >= similarity - SLACK:
            found[probe] = (order[best], float(values[best]))
    return found


@dataclass(frozen=True, slots=True)
class _Postings:
    """Which texts hold each gram."""

    grams: Grams  # distinct, ascending
    starts: NDArray[np.int64]  # of each gram's texts; one more than there are grams
    texts: NDArray[np.int64]
    count: int  # of all texts

    def shared(self, grams: Grams) -> NDArray[np.int64]:
        """Return for every text how many of these grams it has."""
        at = _positions(self.grams, grams)
        held = [self.texts[self.starts[place] : self.starts[place + 1]] for place in at]
        return np.bincount(np.concatenate([np.empty(0, np.int64), *held]), minlength=self.count)


def _postings(sets: Sequence[Grams]) -> _Postings:
    every = _joined(sets)
    texts = np.repeat(np.arange(len(sets)), [len(grams) for grams in sets])
    order = np.argsort(every, kind="stable")
    distinct, starts = np.unique(every[order], return_index=True)
    return _Postings(distinct, np.append(starts, len(every)), texts[order], len(sets))


def _positions(ascending: Grams, wanted: Grams) -> NDArray[np.int64]:
    """Return where those of the wanted grams that are there stand."""
    at = np.searchsorted(ascending, wanted)
    at[at == len(ascending)] = 0
    return at[ascending[at] == wanted] if len(ascending) else np.empty(0, np.int64)


def _joined(sets: Sequence[Grams]) -> Grams:
    return np.concatenate([np.empty(0, np.uint64), *sets])


def gram_sets(texts: Sequence[str]) -> list[Grams]:
    """Return the distinct word 5-grams of each normalised text as 64-bit hashes, none if it has fewer than five words.

    The grams of a text are ordered from rare to common over all texts, equally rare ones by their hash.
    """
    codes = _Codes()
    sets = [_grams(np.array([codes[word] for word in text.split()], np.uint64)) for text in texts]
    distinct, counts = np.unique(_joined(sets), return_counts=True)
    ordered: list[Grams] = []
    for grams in sets:
        rarity = counts[np.searchsorted(distinct, grams)]
        ordered.append(grams[np.lexsort((grams, rarity))])
    return ordered


class _Codes(dict[str, int]):
    """Word -> its 64-bit hash, found when it is first asked for: the words of all texts are never held together."""

    def __missing__(self, word: str) -> int:
        self[word] = int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "big")
        return self[word]


def _grams(codes: Grams) -> Grams:
    count = max(0, len(codes) - GRAM + 1)
    mixed = np.zeros(count, np.uint64)
    for place in range(GRAM):
        mixed = mixed * MULTIPLIER + codes[place : place + count]  # wraps at 2**64, as a hash may
    return np.unique(mixed)


def _prefix(grams: Grams, similarity: float) -> Grams:
    """Return the grams of which a similar text must share one."""
    needed = ceil(similarity * len(grams) - SLACK)
    return grams[: len(grams) - needed + 1] if len(grams) else grams
