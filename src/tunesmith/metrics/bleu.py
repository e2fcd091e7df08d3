"""Corpus BLEU, chrF and TER: sacrebleu counts and signs, and the counts of every example are kept for resampling.

BLEU is no average of examples: matches and lengths are summed over the corpus first, then follow the geometric mean
of the n-gram precisions and the penalty for brevity. The ``*_of_sums`` functions are those last steps for many sets
of sums at once; they agree with sacrebleu's own. Sources: K. Papineni et al., "BLEU", 2002; M. Popovic, "chrF",
2015; M. Snover et al., "A study of translation edit rate", 2006; M. Post, "A call for clarity in reporting BLEU
scores", 2018.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunesmith.metrics.contract import Answers, Floats, Measured, Metric

_ORDERS = 4  # of BLEU
_BETA_SQUARED = 4  # chrF2: recall counts twice


@dataclass(frozen=True, slots=True)
class CorpusScore:
    """A score of all examples together."""

    value: float  # points of 100
    counts: tuple[tuple[float, ...], ...]  # (n, K), what each example adds to the sums
    signature: str


def bleu(
    predictions: Sequence[str], references: Sequence[Sequence[str]], *, tokenize: str = "13a", **settings: Any
) -> CorpusScore:
    """Return corpus BLEU.

    Args:
        predictions: n texts.
        references: for each of them at least one accepted text.
        tokenize: how sacrebleu cuts words: ``13a`` (splits off punctuation), ``none`` (white space), ``intl``,
            ``char``, ``zh``.
        settings: go to ``sacrebleu.metrics.BLEU`` as they are: ``lowercase``, ``smooth_method``, ``smooth_value``,
            ``max_ngram_order``, ``effective_order``.

    Raises:
        ValueError: if the shapes do not fit.

    >>> tea = "I am very happy that I am drinking a cup of tea."
    >>> warm = "I am very happy to say that I am drinking a warm cup of tea."
    >>> [round(bleu([tea], [[warm]], tokenize=cut).value / 100, 3) for cut in ("13a", "none")]
    [0.539, 0.495]
    """
    from sacrebleu.metrics.bleu import BLEU as SacreBleu  # here, as comparing counts needs none of it

    return _corpus("bleu", SacreBleu(tokenize=tokenize, **settings), predictions, references)


def chrf(predictions: Sequence[str], references: Sequence[Sequence[str]], *, word_order: int = 0) -> CorpusScore:
    """Return corpus chrF (``word_order`` 0) or chrF++ (2); the shapes are those of ``bleu``."""
    from sacrebleu.metrics.chrf import CHRF as SacreChrf

    return _corpus("chrf++" if word_order else "chrf", SacreChrf(word_order=word_order), predictions, references)


def ter(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> CorpusScore:
    """Return the corpus translation edit rate, lower is better; the shapes are those of ``bleu``."""
    from sacrebleu.metrics.ter import TER as SacreTer

    return _corpus("ter", SacreTer(), predictions, references)


def _corpus(name: str, metric: Any, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> CorpusScore:
    _check_shapes(predictions, references)
    most = max(map(len, references))
    # sacrebleu takes the first references of all examples, then the second ones; None where there is none.
    streams = [[texts[k] if k < len(texts) else None for texts in references] for k in range(most)]
    counts = metric._extract_corpus_statistics(list(predictions), streams)
    score = metric._aggregate_and_compute([list(row) for row in counts])
    signature = f"{name}|{metric.get_signature().format()}"
    return CorpusScore(float(score.score), tuple(tuple(map(float, row)) for row in counts), signature)


def _check_shapes(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    """Refuse what sacrebleu would score without a word: it cuts to the shorter side and takes a text for a list."""
    if isinstance(predictions, str) or not predictions:
        raise ValueError("predictions must be a sequence of at least one text")
    if len(references) != len(predictions):
        raise ValueError(
            f"{len(predictions)} predictions, but references for {len(references)}; give one list of references for "
            "each prediction"
        )
    wrong = [number for number, texts in enumerate(references) if isinstance(texts, str) or not texts]
    if wrong:
        raise ValueError(f"references of prediction {wrong[0]} must be a sequence of at least one text")


def bleu_of_sums(sums: Floats) -> Floats:
    """Return BLEU from sums (R, 10): prediction and reference length, matches and totals of orders 1 to 4."""
    ours, theirs = sums[:, 0], sums[:, 1]
    matches, totals = sums[:, 2 : 2 + _ORDERS], sums[:, 2 + _ORDERS :]
    missed = (matches == 0) & (totals > 0)
    halved = 1 / 2.0 ** np.cumsum(missed, axis=1)  # "exp" smoothing: each order without a match counts half a match
    precisions = np.where(matches > 0, matches, halved) / np.maximum(totals, 1)
    brevity = np.where(ours < theirs, np.exp(1 - theirs / np.maximum(ours, 1)), 1.0)
    defined = (totals > 0).all(axis=1) & (matches > 0).any(axis=1)
    return np.asarray(np.where(defined, 100 * brevity * np.exp(np.log(precisions).mean(axis=1)), 0.0))


def chrf_of_sums(sums: Floats) -> Floats:
    """Return chrF from sums (R, 3 K): n-grams of prediction and reference and their matches, for each order."""
    ours, theirs, matches = (sums[:, start::3] for start in range(3))
    counted = (ours > 0) & (theirs > 0)
    orders = np.maximum(counted.sum(axis=1), 1)
    precision = np.where(counted, matches / np.maximum(ours, 1), 0).sum(axis=1) / orders
    recall = np.where(counted, matches / np.maximum(theirs, 1), 0).sum(axis=1) / orders
    below = _BETA_SQUARED * precision + recall
    return np.asarray(100 * (1 + _BETA_SQUARED) * precision * recall / np.where(below > 0, below, 1))


def ter_of_sums(sums: Floats) -> Floats:
    """Return TER from sums (R, 2): edits and reference words."""
    edits, words = sums[:, 0], sums[:, 1]
    return np.asarray(100 * np.where(words > 0, edits / np.where(words > 0, words, 1), edits > 0))


def _measure(names: Sequence[str], answers: Answers) -> dict[str, Measured]:
    measured = {}
    for name in names:
        kind, _, setting = name.partition("-")
        if kind == "bleu":
            score = bleu(answers.predictions, answers.references, tokenize=setting or "13a")
        elif kind == "ter":
            score = ter(answers.predictions, answers.references)
        else:
            score = chrf(answers.predictions, answers.references, word_order=2 if kind == "chrf++" else 0)
        measured[name] = Measured(score.signature, counts=score.counts)
    return measured


BLEU = Metric(measure=_measure, unit="points of 100", finish=bleu_of_sums, for_each=False)
CHRF = Metric(measure=_measure, unit="points of 100", finish=chrf_of_sums, for_each=False)
TER = Metric(measure=_measure, unit="points of 100", better="lower", finish=ter_of_sums, for_each=False)
