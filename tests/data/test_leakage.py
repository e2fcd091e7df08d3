import random
from typing import Any

import pytest

from tunesmith.data.leakage import find_leaks, gram_sets, nearest
from tunesmith.data.rows import Row
from tunesmith.data.splits import Placed
from tunesmith.data.wording import normalised, words
from tunesmith.records import Leak, Split

VOCABULARY = [f"w{n}" for n in range(3000)]


def place(text: str, split: Split, line: int, task: str = "t") -> Placed:
    return Placed(
        f"{task}/{split}/a.csv:{line}", task, Row({"text": text}, "a.csv", line), split, "g", normalised(text)
    )


def jaccard(one: str, other: str) -> float:
    """The definition, word for word."""

    def grams(text: str) -> set[Any]:
        found = words(text)
        return {tuple(found[n : n + 5]) for n in range(len(found) - 4)}

    a, b = grams(one), grams(other)
    return len(a & b) / len(a | b) if a | b else 0.0


def dialogue(draw: random.Random, turns: int = 8) -> str:
    names = ("Customer", "Agent")
    lines = (" ".join(draw.choices(VOCABULARY, k=draw.randint(6, 24))) for _ in range(turns))
    return "\n".join(f"{names[n % 2]}: {line}" for n, line in enumerate(lines))


def edited(draw: random.Random, text: str, low: float, high: float) -> str:
    """Change single words until the similarity to the text lies between low and high."""
    while True:
        found = text.split(" ")
        for _ in range(draw.randint(1, 3)):
            found[draw.randrange(1, len(found) - 1)] = draw.choice(VOCABULARY)
        changed = " ".join(found)
        if low <= jaccard(text, changed) <= high:
            return changed


COPIES = [
    lambda text: text,
    lambda text: text.upper(),
    lambda text: text.replace(" ", "  ").replace("\n", " \n\n"),
    lambda text: text.replace("Customer:", "#Person1#:").replace("Agent:", "Dr. O'Neil:"),
]


def planted(seed: int) -> tuple[list[Placed], set[str], set[str]]:
    """300 training rows, 40 of them copies and 40 edits of the 100 test and 100 validation rows."""
    draw = random.Random(seed)
    held = [dialogue(draw) for _ in range(200)]
    rows = [place(text, "test" if n < 100 else "validation", n) for n, text in enumerate(held)]
    copies, edits = set(), set()
    for n in range(300):
        if n < 40:
            text = COPIES[n % 4](held[n * 5])
            copies.add(f"t/train/a.csv:{1000 + n}")
        elif n < 80:
            text = edited(draw, held[n * 2], 0.8, 0.95)
            edits.add(f"t/train/a.csv:{1000 + n}")
        else:
            text = dialogue(draw)
        rows.append(place(text, "train", 1000 + n))
    return rows, copies, edits


def test_planted_copies_and_edits_are_all_found_and_nothing_else():
    rows, copies, edits = planted(0)
    leaks = find_leaks(rows, similarity=0.8)
    assert {leak.moved_id for leak in leaks} == copies | edits
    assert all(leak.similarity == 1.0 for leak in leaks if leak.moved_id in copies)
    assert all(0.8 <= leak.similarity < 1.0 for leak in leaks if leak.moved_id in edits)


def test_row_order_changes_nothing():
    rows, _, _ = planted(1)
    first = find_leaks(rows, similarity=0.8)
    for seed in range(3):
        shuffled = rows[:]
        random.Random(seed).shuffle(shuffled)
        assert find_leaks(shuffled, similarity=0.8) == first


@pytest.mark.parametrize("similarity", [0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0])
def test_the_nearest_text_is_the_one_that_comparing_everything_finds(similarity: float):
    draw = random.Random(3)
    base = [dialogue(draw, 3) for _ in range(12)]
    texts = base + [edited(draw, text, low, low + 0.1) for text in base for low in (0.5, 0.7, 0.8)]
    texts += [base[0] + " " + base[1], base[2][: len(base[2]) // 2], "four words are short", "", "and"]
    plain = [normalised(text) for text in texts]
    everything = range(len(plain))
    grams = gram_sets(plain)
    found = nearest(grams, probes=everything, indexed=everything, similarity=similarity)
    expected: dict[int, tuple[int, float]] = {}
    for one in everything:
        values = {other: jaccard(plain[one], plain[other]) for other in everything if other != one}
        best = max(values, key=lambda other: (values[other], -other))
        if values[best] >= similarity:
            expected[one] = (best, pytest.approx(values[best]))
    assert found == expected
    assert (len(found) > 5) == (similarity < 0.9)


def test_the_threshold_itself_counts():
    one = " ".join(VOCABULARY[:13])  # 9 grams; 8 shared of 10 in all
    other = " ".join([*VOCABULARY[:12], "other"])
    assert jaccard(one, other) == 0.8
    rows = [place(one, "train", 1), place(other, "test", 2)]
    assert find_leaks(rows, similarity=0.8) == (
        Leak(kept_id="t/test/a.csv:2", moved_id="t/train/a.csv:1", similarity=0.8),
    )
    assert find_leaks(rows, similarity=0.81) == ()


def test_texts_of_fewer_than_five_words_must_be_the_same():
    rows = [
        place("Great, thank you!", "test", 1),
        place("great thank you", "train", 2),
        place("great thank you so", "train", 3),
        place("😀", "test", 4),
        place("😀", "train", 5),
        place("😡", "train", 6),
    ]
    assert [(leak.moved_id, leak.kept_id) for leak in find_leaks(rows, similarity=0.1)] == [
        ("t/train/a.csv:2", "t/test/a.csv:1"),
        ("t/train/a.csv:5", "t/test/a.csv:4"),
    ]


def test_the_later_side_keeps_the_row_and_what_was_moved_moves_nothing():
    text = " ".join(VOCABULARY[:30])
    near = text.replace("w29", "x")
    far = near.replace("w0 ", "y ").replace("w1 ", "y ")
    assert jaccard(text, near) > 0.9
    assert jaccard(text, far) < 0.8 < jaccard(near, far)
    rows = [place(text, "test", 1), place(near, "validation", 2), place(far, "train", 3), place(near, "train", 4)]
    leaks = find_leaks(rows, similarity=0.8)
    assert [(leak.moved_id, leak.kept_id) for leak in leaks] == [
        ("t/train/a.csv:4", "t/test/a.csv:1"),
        ("t/validation/a.csv:2", "t/test/a.csv:1"),
    ]
    assert [leak.moved_id for leak in find_leaks(rows[1:], similarity=0.8)] == ["t/train/a.csv:3", "t/train/a.csv:4"]


def test_the_most_similar_row_is_named_by_the_first_id_of_its_text():
    text = " ".join(VOCABULARY[:30])
    rows = [
        place(text.replace("w29", "x"), "test", 1),
        place(text, "test", 3),
        place(text, "test", 2),
        place(text, "validation", 9),
        place(text, "train", 4),
        place(text, "train", 5),
    ]
    leaks = find_leaks(rows, similarity=0.8)
    assert [(leak.moved_id, leak.kept_id, leak.similarity) for leak in leaks] == [
        ("t/train/a.csv:4", "t/test/a.csv:2", 1.0),
        ("t/train/a.csv:5", "t/test/a.csv:2", 1.0),
        ("t/validation/a.csv:9", "t/test/a.csv:2", 1.0),
    ]


def test_rows_of_other_tasks_leak_too_and_one_side_alone_does_not():
    text = " ".join(VOCABULARY[:30])
    rows = [place(text, "test", 1, "one"), place(text, "train", 1, "two")]
    assert [leak.moved_id for leak in find_leaks(rows, similarity=0.8)] == ["two/train/a.csv:1"]
    assert find_leaks([place(text, "train", 1), place(text, "train", 2)], similarity=0.8) == ()
    assert find_leaks([], similarity=0.8) == ()


def test_grams_are_a_set_of_hashes_that_do_not_change_between_runs():
    sets = gram_sets(["a b c d", "a b c d e", "a a a a a a a", "b a c d e", "a b c d e f"])
    assert [len(grams) for grams in sets] == [0, 1, 1, 1, 2]
    assert sets[1].tolist() == [8775120377282934009]
    assert sets[3].tolist() != sets[1].tolist()
    assert sets[4].tolist()[1] == sets[1].tolist()[0], "the gram that two texts have comes after the one that one has"
    assert gram_sets([]) == []
