"""Are all copies and near copies across splits found among 20,000 rows, and how long does that take?

Makes 20,000 invented dialogues of 40 to 240 words by a seeded generator: words as frequent as in real text, greetings
and farewells shared by many. Into training it plants 500 copies of held-out rows (exact, other case, other spacing,
speakers renamed) and 500 edits whose similarity to a held-out row is 0.8 to 0.95. Then it looks for leaks, and compares
a part of the rows with all others, pair by pair, by the definition of the similarity.

    python benchmarks/leakage.py [--rows 20000]
"""

import argparse
import random
import time
from itertools import accumulate
from typing import Any

from keeping import keep

from tunesmith.data.leakage import find_leaks
from tunesmith.data.rows import Row
from tunesmith.data.splits import Placed
from tunesmith.data.wording import normalised, words
from tunesmith.machine import peak_memory
from tunesmith.records import Split

PLANTED = 500  # of each kind
HELD_OUT = 0.2  # share of the rows; half of it validation, half test
SIMILARITY = 0.8
GOAL = 60.0  # seconds
CHECKED = 200  # training rows that are compared with every held-out row
VOCABULARY = [f"word{n}" for n in range(20_000)]
WEIGHTS = list(accumulate(1 / rank for rank in range(1, len(VOCABULARY) + 1)))  # Zipf
SHARED = [" ".join(f"polite{n}x{m}" for m in range(9)) for n in range(20)]


def place(text: str, split: Split, line: int) -> Placed:
    return Placed(f"t/{split}/rows:{line}", "t", Row({"text": text}, "rows", line), split, "", normalised(text))


def dialogue(draw: random.Random) -> str:
    turns = [" ".join(draw.choices(VOCABULARY, cum_weights=WEIGHTS, k=draw.randint(5, 30))) for _ in range(8)]
    lines = [draw.choice(SHARED), *turns[: draw.randint(2, 8)], draw.choice(SHARED)]
    return "\n".join(f"{('Customer', 'Agent')[n % 2]}: {line}" for n, line in enumerate(lines))


def copy(text: str, kind: int) -> str:
    if kind == 1:
        return text.upper()
    if kind == 2:
        return text.replace(" ", "  ").replace("\n", " \n\n")
    return text.replace("Customer:", "#Person1#:").replace("Agent:", "Anna:") if kind else text


def grams(text: str) -> set[tuple[str, ...]]:
    found = words(text)
    return {tuple(found[n : n + 5]) for n in range(len(found) - 4)}


def similarity(one: set[Any], other: set[Any]) -> float:
    return len(one & other) / len(one | other)


def edit(draw: random.Random, text: str) -> str:
    """Change words until the similarity lies between 0.8 and 0.95."""
    before = grams(text)
    while True:
        found = text.split(" ")
        for _ in range(draw.randint(1, 4)):
            found[draw.randrange(1, len(found) - 1)] = draw.choice(VOCABULARY)
        if SIMILARITY <= similarity(before, grams(" ".join(found))) <= 0.95:
            return " ".join(found)


def make(count: int, draw: random.Random) -> tuple[list[Placed], set[str], set[str]]:
    held = [dialogue(draw) for _ in range(int(count * HELD_OUT))]
    rows = [place(text, "test" if n % 2 else "validation", n) for n, text in enumerate(held)]
    sources = draw.sample(held, 2 * PLANTED)
    copies = [place(copy(text, n % 4), "train", count + n) for n, text in enumerate(sources[:PLANTED])]
    edits = [place(edit(draw, text), "train", count + PLANTED + n) for n, text in enumerate(sources[PLANTED:])]
    others = [place(dialogue(draw), "train", n) for n in range(len(held), count - 2 * PLANTED)]
    rows += copies + edits + others
    draw.shuffle(rows)
    return rows, {row.id for row in copies}, {row.id for row in edits}


def disagreements(rows: list[Placed], moved: set[str]) -> int:
    """Count the checked training rows that comparing every pair sorts otherwise."""
    held = [grams(row.row.values["text"]) for row in rows if row.split != "train"]
    checked = [row for row in rows if row.split == "train"][:CHECKED]
    leaks = {
        row.id
        for row in checked
        if any(similarity(grams(row.row.values["text"]), other) >= SIMILARITY for other in held)
    }
    return len(leaks ^ {row.id for row in checked if row.id in moved})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000)
    count = parser.parse_args().rows
    rows, copies, edits = make(count, random.Random(0))
    start = time.perf_counter()
    leaks = find_leaks(rows, similarity=SIMILARITY)
    seconds = time.perf_counter() - start
    moved = {leak.moved_id for leak in leaks}
    found = {
        "question": "are all copies and near copies across splits found, and how long does it take?",
        "rows": len(rows),
        "seconds": round(seconds, 2),
        "goal_seconds": GOAL,
        "planted": {"copies": len(copies), "edits of 0.8 to 0.95": len(edits)},
        "recall": {"copies": len(copies & moved) / len(copies), "edits": len(edits & moved) / len(edits)},
        "moved_but_not_planted": len(moved - copies - edits),
        "checked_pair_by_pair": {"training rows": CHECKED, "disagreements": disagreements(rows, moved)},
        "peak_bytes": peak_memory(),
    }
    keep("leakage", found, packages=("tunesmith", "numpy"))


if __name__ == "__main__":
    main()
