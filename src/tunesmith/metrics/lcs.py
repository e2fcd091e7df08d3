"""Longest common subsequences with the bits of Python integers.

One row of the usual table is one integer: bit ``i`` is clear where the length grows from ``i`` to ``i + 1``
reference words, so that a row follows from the one before in four operations on whole integers.
Source: H. Hyyro, "Bit-parallel LCS-length computation revisited", AWOCA 2004.
"""

from collections.abc import Mapping, Sequence


def positions(words: Sequence[str]) -> dict[str, int]:
    """Return word -> integer whose bit ``i`` is set where ``words[i]`` is that word."""
    where: dict[str, int] = {}
    bit = 1
    for word in words:
        where[word] = where.get(word, 0) | bit
        bit <<= 1
    return where


def lcs_length(reference: Sequence[str], candidate: Sequence[str]) -> int:
    """Return how many words the longest common subsequence has; they need not stand side by side.

    >>> lcs_length("it is cold outside".split(), "it is very cold outside".split())
    4
    """
    row = full = (1 << len(reference)) - 1
    for found in map(positions(reference).get, candidate):
        if found is not None:
            grown = row & found
            row = ((row + grown) | (row - grown)) & full
    return len(reference) - row.bit_count()


def lcs_bits(where: Mapping[str, int], candidate: Sequence[str], *, length: int) -> int:
    """Return which reference words belong to the longest common subsequence that rouge_score picks.

    Of the subsequences of equal length, rouge_score reads the one that its walk from the last cell of the table
    meets: along a match if there is one, else back one candidate word if the reference word at hand still adds
    to the length, else back one reference word. In one column that walk ends at the highest bit, not above the
    present place, that is a match or an increment; only that bit is needed.

    Args:
        where: ``positions`` of the reference words.
        candidate: words of the candidate.
        length: number of reference words.

    Returns:
        An integer whose bit ``i`` is set if reference word ``i`` belongs to the subsequence.
    """
    row = full = (1 << length) - 1
    columns: list[tuple[int, int]] = []  # matches of a candidate word, and the row after it
    matched = False
    for found in map(where.get, candidate):
        if found is not None:
            grown = row & found
            row = (row + grown) | (row - grown)  # what carries beyond the top bit stays there and is cut off below
            columns.append((found, row))
            matched = True
        elif matched:
            # Words without a match change nothing, and any number of them in a row counts as one step back.
            columns.append((0, row))
            matched = False
    chosen, below = 0, full
    for found, row in reversed(columns):
        reach = (found | ~row) & below
        if not reach:
            break
        top = 1 << (reach.bit_length() - 1)
        if found & top:
            chosen |= top
            below = top - 1
        else:
            below = (top << 1) - 1
    return chosen
