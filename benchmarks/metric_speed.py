"""How much faster is tunesmith's ROUGE than rouge_score, with the same values?

Makes 1,500 pairs of five lines each, about 100 words of reference and 85 of candidate, by a seeded generator: from the
shipped chats, or else from the text below. First every value is checked to be equal, bit for bit; then both programs
take turns at 100 pairs each, so that a busy moment of the machine falls on both. Ours forgets all words and stems
before each round. Both use one thread, so processor time is counted: it does not grow while others have the core.

    pip install rouge_score
    python benchmarks/metric_speed.py [--data FILE] [--rounds 3]

FILE is csv, tsv, jsonl or json with the columns "reference" and "candidate".
"""

import argparse
import random
import re
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from keeping import keep
from rouge_score.rouge_scorer import RougeScorer

import tunesmith
from tunesmith.metrics.rouge import forget_texts, rouge
from tunesmith.metrics.tables import read_table

PAIRS = 1500
REFERENCE_WORDS, CANDIDATE_WORDS, LINES = 100, 85, 5
KEPT = 0.6  # share of the reference words that the candidate keeps
GOAL = 9.0  # times faster, for the four kinds with stemmer
FOUR = ("rouge1", "rouge2", "rougeL", "rougeLsum")
QUESTIONS = {
    "1, 2, L and Lsum, stemmed": (FOUR, True),
    "1, 2, L and Lsum, not stemmed": (FOUR, False),
}
PART = 100  # pairs in one turn
SHORTEST = 4  # words of a sentence that is drawn
CHATS = Path(tunesmith.__file__).parent / "data" / "support" / "chats.jsonl"
TEXT = """
The customer asks why her parcel has not arrived although the page says that it was delivered on Monday.
The agent finds out that the driver left it with a neighbour and tells her the name on the receipt.
She thanks him and wants to know whether the missing cable can be sent without paying for delivery again.
A man writes that his lamp flickers every evening and that he has already changed the bulb two times.
The agent explains how to reset the switch, and promises a replacement if the flickering comes back.
Someone was billed twice in one month; the second payment is returned within five working days.
They agree that a technician calls tomorrow morning between nine and eleven to look at the heating.
The order was cancelled by mistake, so the agent places it again and adds a voucher as an apology.
"""

Pair = tuple[str, str]


def sentences() -> list[list[str]]:
    """The sentences to draw from, as words."""
    texts = [TEXT]
    if CHATS.is_file():
        rows = read_table(CHATS).rows
        texts = [str(row.cells[column]) for row in rows for column in ("dialogue", "summary")]
    cut = [part.split() for text in texts for part in re.split(r"(?<=[.?!])\s|\n", text)]
    return [words for words in cut if len(words) >= SHORTEST]


def in_lines(words: list[str]) -> str:
    per_line = len(words) // LINES
    return "\n".join(" ".join(words[start : start + per_line]) for start in range(0, len(words), per_line))


def make_pairs() -> list[Pair]:
    """Candidates keep most words of their reference in order, and have others in between."""
    rng, source = random.Random(0), sentences()
    vocabulary = [word for words in source for word in words]
    pairs = []
    for _ in range(PAIRS):
        reference: list[str] = []
        while len(reference) < REFERENCE_WORDS:
            reference += rng.choice(source)
        reference = reference[:REFERENCE_WORDS]
        candidate = [word for word in reference if rng.random() < KEPT]
        while len(candidate) < CANDIDATE_WORDS:
            candidate.insert(rng.randrange(len(candidate) + 1), rng.choice(vocabulary))
        pairs.append((in_lines(candidate[:CANDIDATE_WORDS]), in_lines(reference)))
    return pairs


def read_pairs(path: Path) -> list[Pair]:
    return [(str(row.cells["candidate"]), str(row.cells["reference"])) for row in read_table(path).rows]


def ours(pairs: list[Pair], kinds: tuple[str, ...], stem: bool) -> list[Any]:
    return [rouge(candidate, [reference], kinds=kinds, stem=stem) for candidate, reference in pairs]


def theirs(pairs: list[Pair], kinds: tuple[str, ...], stem: bool) -> list[Any]:
    scorer = RougeScorer(list(kinds), use_stemmer=stem)
    return [scorer.score(reference, candidate) for candidate, reference in pairs]


def seconds(program: Callable[..., list[Any]], *arguments: Any) -> float:
    start = time.process_time()
    program(*arguments)
    return time.process_time() - start


def check(pairs: list[Pair]) -> int:
    """Compare all values of both programs and return how many there are; stops at the first that differs."""
    count = 0
    for kinds, stem in QUESTIONS.values():
        for pair, mine, other in zip(pairs, ours(pairs, kinds, stem), theirs(pairs, kinds, stem), strict=True):
            for kind in kinds:
                if tuple(mine[kind]) != tuple(other[kind]):
                    sys.exit(f"{kind}, stem={stem}: {mine[kind]} is not {other[kind]} for {pair}")
                count += len(mine[kind])
    return count


def measure(pairs: list[Pair], rounds: int) -> dict[str, dict[str, float]]:
    found = {}
    parts = [pairs[start : start + PART] for start in range(0, len(pairs), PART)]
    for name, (kinds, stem) in QUESTIONS.items():
        times = []
        for _ in range(rounds):
            forget_texts()
            turns = [
                (seconds(theirs, part, kinds, stem), seconds(ours, part, kinds, stem), seconds(ours, part, kinds, stem))
                for part in parts
            ]
            times.append([sum(column) for column in zip(*turns, strict=True)])
        slow, fast, again = (statistics.median(column) for column in zip(*times, strict=True))
        found[name] = {
            "rouge_score": round(slow, 3),
            "tunesmith": round(fast, 3),
            "tunesmith, texts seen before": round(again, 3),
            "times faster": round(statistics.median(slow / fast for slow, fast, _ in times), 1),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    pairs = read_pairs(options.data) if options.data else make_pairs()
    words = [statistics.mean(len(text.split()) for text in side) for side in zip(*pairs, strict=True)]
    equal = check(pairs)
    found = {
        "question": "how much faster is tunesmith's ROUGE than rouge_score, with the same values?",
        "unit": "seconds of processor time for all pairs, one thread; median of the rounds",
        "pairs": {
            "number": len(pairs),
            "from": options.data.name
            if options.data
            else "generator, seed 0, sentences of the shipped chats"
            if CHATS.is_file()
            else "generator, seed 0",
            "candidate words": round(words[0], 1),
            "reference words": round(words[1], 1),
        },
        "values compared and equal": equal,
        "rounds": options.rounds,
        "goal": {"1, 2, L and Lsum, stemmed": GOAL},
        "found": measure(pairs, options.rounds),
    }
    keep("metric_speed", found, packages=("tunesmith", "rouge_score", "nltk", "numpy"))


if __name__ == "__main__":
    main()
