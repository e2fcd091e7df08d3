"""Rows of training that are in validation or test too, word for word or nearly: found exactly, named, moved out.

Two texts are compared by the Jaccard similarity of their sets of word 5-grams (Broder 1997, "On the resemblance and
containment of documents"). All pairs above the threshold are found, none by chance: with the 5-grams of every text
ordered from rare to common, two texts that are similar enough share one among their first few (prefix filter;
Chaudhuri et al. 2006, "A primitive operator for similarity joins in data cleaning"; Xiao et al. 2008, PPJoin).
Texts of fewer than five words are compared as they are.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunesmith.data.splits import Placed
from tunesmith.records import Leak, Split

GRAM = 5  # words
SLACK = 1e-9  # of floating point, so that a Jaccard of exactly the threshold counts

MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, from the golden ratio

Grams = NDArray[np.uint64]
Pair = tuple[int, float]  # index of the other text, similarity


def find_leaks(placed: Sequence[Placed], *, similarity: float) -> tuple[Leak, ...]:
    """Find the rows that must leave an earlier side because a later one has them.

    Validation rows are compared with test, training rows with test and with what then is left of validation. The order
    of the rows changes nothing.

    Args:
        placed: Rows of all tasks with their sides and normalised inputs.
        similarity: Jaccard of word 5-grams from which two texts count as the same, above 0.

    Returns:
        One leak for each row that must move, in the order of ids: with the most similar row of the later side.
    """
    texts = sorted({item.words for item in placed})
    number = {text: index for index, text in enumerate(texts)}
    here: dict[Split, dict[int, list[str]]] = {"train": {}, "validation": {}, "test": {}}
    for item in placed:
        here[item.split].setdefault(number[item.words], []).append(item.id)
    later = here["validation"].keys() | here["test"].keys()
    earlier = here["train"].keys() | here["validation"].keys()
    near = similar_texts(texts, probes=earlier, indexed=later, similarity=similarity)
    leaks = _leaks(here["validation"], here["test"], near)
    moved = {leak.moved_id for leak in leaks}
    stays = {
        text: kept for text, ids in here["validation"].items() if (kept := [name for name in ids if name not in moved])
    }
    kept_back = dict(here["test"])
    for text, ids in stays.items():
        kept_back[text] = [*kept_back.get(text, ()), *ids]
    leaks += _leaks(here["train"], kept_back, near)
    return tuple(sorted(leaks, key=lambda leak: leak.moved_id))


def _leaks(
    earlier: Mapping[int, Sequence[str]], later: Mapping[int, Sequence[str]], near: Mapping[int, Sequence[Pair]]
) -> list[Leak]:
    found: list[Leak] = []
    for text, ids in earlier.items():
        pairs = [(other, value) for other, value in ((text, 1.0), *near.get(text, ())) if other in later]
        if pairs:
            # the most similar; of equals the one with the smallest id, so that row order plays no part
            value, kept = min(((-value, min(later[other])) for other, value in pairs))
            found += [Leak(kept_id=kept, moved_id=name, similarity=-value) for name in ids]
    return found


def similar_texts(
    texts: Sequence[str], *, probes: Iterable[int], indexed: Iterable[int], similarity: float
) -> dict[int, list[Pair]]:
    """Return for each probe all other indexed texts that are similar enough.

    Args:
        texts: Normalised and distinct.
        probes: Indexes of texts to look up.
        indexed: Indexes of texts to find.
        similarity: Smallest Jaccard similarity.
    """
    grams = _rare_first([text_grams(text) for text in texts])
    sets = [np.sort(row) for row in grams]
    postings: dict[Any, list[int]] = defaultdict(list)
    for index in indexed:
        for gram in _prefix(grams[index], similarity):
            postings[gram].append(index)
    found: dict[int, list[Pair]] = {}
    for probe in probes:
        candidates = {other for gram in _prefix(grams[probe], similarity) for other in postings.get(gram, ())}
        size = len(sets[probe])
        pairs = [
            (other, _jaccard(sets[probe], sets[other]))
            for other in candidates - {probe}
            if similarity * size - SLACK <= len(sets[other]) <= size / similarity + SLACK
        ]
        close = [pair for pair in pairs if pair[1] >= similarity - SLACK]
        if close:
            found[probe] = close
    return found


def text_grams(text: str) -> Grams:
    """Return the distinct word 5-grams of a normalised text as 64-bit hashes; none if it has fewer than five words."""
    words = text.split()
    if len(words) < GRAM:
        return np.empty(0, np.uint64)
    codes = np.array([_code(word) for word in words], np.uint64)
    count = len(codes) - GRAM + 1
    mixed = np.zeros(count, np.uint64)
    for place in range(GRAM):
        mixed = mixed * MULTIPLIER + codes[place : place + count]  # wraps at 2**64, as a hash may
    return np.unique(mixed)


@lru_cache(maxsize=1_000_000)
def _code(word: str) -> int:
    return int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "big")


def _rare_first(sets: Sequence[Grams]) -> list[Grams]:
    """Order the grams of every text from rare to common over all texts; equally rare ones by their hash."""
    every = np.concatenate([*sets, np.empty(0, np.uint64)])
    distinct, counts = np.unique(every, return_counts=True)
    ordered: list[Grams] = []
    for grams in sets:
        rarity = counts[np.searchsorted(distinct, grams)]
        ordered.append(grams[np.lexsort((grams, rarity))])
    return ordered


def _prefix(grams: Grams, similarity: float) -> list[Any]:
    """Return the grams of which a similar text must share one."""
    needed = ceil(similarity * len(grams) - SLACK)
    return list(grams[: len(grams) - needed + 1].tolist()) if len(grams) else []


def _jaccard(one: Grams, other: Grams) -> float:
    shared = len(np.intersect1d(one, other, assume_unique=True))
    return shared / (len(one) + len(other) - shared)
