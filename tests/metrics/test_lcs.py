import random

from tunesmith.metrics.lcs import lcs_bits, lcs_length, positions


def walk(reference: str, candidate: str) -> set[int]:
    """The textbook table and rouge_score's way back through it, written out."""
    table = [[0] * (len(candidate) + 1) for _ in range(len(reference) + 1)]
    for i, word in enumerate(reference, 1):
        for j, other in enumerate(candidate, 1):
            table[i][j] = table[i - 1][j - 1] + 1 if word == other else max(table[i - 1][j], table[i][j - 1])
    i, j, chosen = len(reference), len(candidate), set()
    while i and j:
        if reference[i - 1] == candidate[j - 1]:
            i, j = i - 1, j - 1
            chosen.add(i)
        elif table[i][j - 1] > table[i - 1][j]:
            j -= 1
        else:
            i -= 1
    return chosen


def test_words_of_a_subsequence_need_not_stand_side_by_side() -> None:
    reference, longer, turned = map(str.split, ("it is cold outside", "it is very cold outside", "outside cold it is"))
    assert lcs_length(reference, longer) == 4
    assert lcs_length(reference, turned) == 2


def test_nothing_is_shared_with_an_empty_text() -> None:
    assert lcs_length([], ["a"]) == 0
    assert lcs_length(["a"], []) == 0
    assert lcs_bits({}, ["a"], length=0) == 0


def test_the_chosen_words_are_those_of_the_textbook_walk() -> None:
    rng = random.Random(0)
    for _ in range(1000):
        alphabet = "abcdefgh"[: rng.randint(1, 8)]
        reference, candidate = ("".join(rng.choices(alphabet, k=rng.randint(0, 40))) for _ in range(2))
        chosen = walk(reference, candidate)
        bits = lcs_bits(positions(reference), candidate, length=len(reference))
        assert {place for place in range(bits.bit_length()) if bits >> place & 1} == chosen
        assert lcs_length(reference, candidate) == len(chosen)
