"""ROUGE-W, ROUGE-S and ROUGE-SU, by the paper or as the Perl script ROUGE-1.5.5 computes them.

Source: C.-Y. Lin, "ROUGE: a package for automatic evaluation of summaries", 2004, sections 4 to 6. The script
departs from it: for W it raises the reference length to the weight twice, so that a perfect answer has a recall
below 1, works line by line and counts only runs without a gap in the reference; for SU it leaves out the last word.
Variant ``rouge155`` without stemming gives the values of the script. ROUGE-S is the same in both.
"""

from collections.abc import Hashable, Sequence
from itertools import chain, combinations
from typing import Literal

from tunesmith.metrics.contract import Answers, Measured, Metric
from tunesmith.metrics.rouge import RougeScore, Text, read, score_of, shared, signature

Variant = Literal["paper", "rouge155"]


def rouge_w(
    prediction: str,
    references: Sequence[str],
    *,
    weight: float = 1.2,
    stem: bool = True,
    variant: Variant = "paper",
) -> RougeScore:
    """Score the longest common subsequence so that unbroken runs count for more.

    Args:
        prediction: the text to judge.
        references: accepted texts; the one with the best F1 counts.
        weight: a run of k words counts as k to this power; at least 1.
        stem: whether words longer than three letters are reduced to their Porter stem.
        variant: ``paper`` or ``rouge155``.

    Raises:
        ValueError: without references, or for a weight below 1.

    >>> round(rouge_w("a b c d h i k", ["a b c d e f g"], weight=2).f1, 3)
    0.571
    >>> round(rouge_w("a h b k c i d", ["a b c d e f g"], weight=2).f1, 3)
    0.286
    """
    _check(references)
    if weight < 1:
        raise ValueError("weight must be at least 1")
    judge = _w_paper if variant == "paper" else _w_rouge155
    ours = read(prediction, stem)
    scores = (judge(ours, read(reference, stem), weight) for reference in references)
    return max(scores, key=lambda score: score.f1)


def rouge_s(
    prediction: str,
    references: Sequence[str],
    *,
    gap: int | None = 4,
    unigrams: bool = False,
    stem: bool = True,
    variant: Variant = "paper",
) -> RougeScore:
    """Score pairs of words in their order (ROUGE-S), and single words too (ROUGE-SU).

    Args:
        prediction: the text to judge.
        references: accepted texts; the one with the best F1 counts.
        gap: most words between the two of a pair; None for any number.
        unigrams: whether single words count as well, which makes it ROUGE-SU.
        stem: whether words longer than three letters are reduced to their Porter stem.
        variant: ``paper``, or ``rouge155``, which leaves out the last single word.

    Raises:
        ValueError: without references, or for a negative gap.

    >>> rouge_s("police kill the gunman", ["police killed the gunman"], stem=False).f1
    0.5
    """
    _check(references)
    if gap is not None and gap < 0:
        raise ValueError("gap must be 0 or more, or None")
    ours, *theirs = (_units(read(text, stem).words, gap, unigrams, variant) for text in (prediction, *references))
    scores = (score_of(shared(ours, units), candidate=len(ours), reference=len(units)) for units in theirs)
    return max(scores, key=lambda score: score.f1)


def _check(references: Sequence[str]) -> None:
    if isinstance(references, str) or not references:
        raise ValueError("references must be a sequence of at least one text")


def _units(words: tuple[str, ...], gap: int | None, unigrams: bool, variant: Variant) -> list[Hashable]:
    if gap is None:
        pairs = list(combinations(words, 2))
    else:
        steps = range(1, gap + 2)
        pairs = list(chain.from_iterable(zip(words, words[step:], strict=False) for step in steps))
    if not unigrams:
        return [*pairs]
    return [*pairs, *(words if variant == "paper" else words[:-1])]


def _w_paper(ours: Text, theirs: Text, weight: float) -> RougeScore:
    if not ours.words or not theirs.words:
        return RougeScore(0.0, 0.0, 0.0)
    hits = _weighted_table(theirs.words, ours.words, weight)[-1][-1]
    return _rooted(hits, len(ours.words) ** weight, len(theirs.words) ** weight, weight)


def _w_rouge155(ours: Text, theirs: Text, weight: float) -> RougeScore:
    if not ours.words or not theirs.words:
        return RougeScore(0.0, 0.0, 0.0)
    left = {word: ours.words.count(word) for word in set(ours.words)}
    hits = 0.0
    for line in theirs.lines:
        marked = set(chain.from_iterable(_marked(line, other, weight) for other in ours.lines))
        run = 0
        for place in sorted(marked):
            if left.get(line[place], 0) > 0:
                left[line[place]] -= 1
                run += 1
                if place + 1 not in marked:
                    hits += run**weight
                    run = 0
    length = sum(len(line) ** weight for line in theirs.lines)
    return _rooted(hits, len(ours.words) ** weight, length**weight, weight)


def _rooted(hits: float, candidate: float, reference: float, weight: float) -> RougeScore:
    if not hits:
        return RougeScore(0.0, 0.0, 0.0)
    precision, recall = ((hits / length) ** (1 / weight) for length in (candidate, reference))
    return RougeScore(precision, recall, 2 * precision * recall / (precision + recall))


def _weighted_table(reference: Sequence[str], candidate: Sequence[str], weight: float) -> list[list[float]]:
    """Return the weighted length for the first ``i`` reference and ``j`` candidate words at ``[i][j]``."""
    worth = [length**weight for length in range(len(reference) + 1)]
    table = [[0.0] * (len(candidate) + 1)]
    runs = [0] * (len(candidate) + 1)
    for word in reference:
        above, row, diagonal = table[-1], [0.0], 0
        for place, other in enumerate(candidate):
            run, diagonal = diagonal, runs[place + 1]  # run: unbroken matches that end one word earlier on both sides
            if word == other:
                row.append(above[place] + worth[run + 1] - worth[run])
                runs[place + 1] = run + 1
            else:
                row.append(max(above[place + 1], row[place]))
                runs[place + 1] = 0
        table.append(row)
    return table


def _marked(reference: Sequence[str], candidate: Sequence[str], weight: float) -> list[int]:
    """Return the places in the reference line that the script marks as part of the subsequence."""
    table = _weighted_table(reference, candidate, weight)
    i, j, places = len(reference), len(candidate), []
    while i and j:
        if reference[i - 1] == candidate[j - 1]:
            i, j = i - 1, j - 1
            places.append(i)
        elif table[i - 1][j] >= table[i][j - 1]:
            i -= 1
        else:
            j -= 1
    return places


def _measure(names: Sequence[str], answers: Answers) -> dict[str, Measured]:
    measured = {}
    for name in names:
        kind, *more = name.split("-")
        variant: Variant = "rouge155" if "rouge155" in more else "paper"
        stem = variant == "paper"  # the script's own stemmer is another one, so that its values need none
        values = []
        for text, references in zip(answers.predictions, answers.references, strict=True):
            if kind == "rougeW":
                score = rouge_w(text, references, weight=float(more[0]), stem=stem, variant=variant)
            else:
                unigrams = kind == "rougeSU4"
                score = rouge_s(text, references, gap=4, unigrams=unigrams, stem=stem, variant=variant)
            values.append(100 * score.f1)
        settings = signature(name, "f1", stem=stem, references=answers.references)
        measured[name] = Measured(settings, tuple(values))
    return measured


ROUGE = Metric(measure=_measure, unit="points of 100")
