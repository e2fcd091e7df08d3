"""Right or wrong, and how well labels are told apart: from the right and the given answer of every example.

Sources: C. J. van Rijsbergen, "Information retrieval", 1979 (F1); J. Gorodkin, "Comparing two K-category assignments
by a K-category correlation coefficient", 2004 (Matthews correlation for several labels); P. Rajpurkar et al.,
"SQuAD", 2016 (how texts are levelled before the quasi exact match).
"""

import re
import string
from collections.abc import Hashable, Sequence

import numpy as np

from tunesmith import __version__
from tunesmith.metrics.contract import Answers, Floats, Measured, Metric, reference_count

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def is_exact(prediction: str, references: Sequence[str]) -> bool:
    """Say whether the answer is one of the references, but for white space at its ends."""
    return prediction.strip() in (reference.strip() for reference in references)


def is_quasi_exact(prediction: str, references: Sequence[str]) -> bool:
    """Say whether they agree without case, ASCII punctuation, English articles and extra white space.

    >>> is_quasi_exact("The  Answer: 42.", ["answer 42"])
    True
    """
    return _level(prediction) in map(_level, references)


def _level(text: str) -> str:
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def accuracy(gold: Sequence[Hashable], predicted: Sequence[Hashable]) -> float:
    """Return the share of equal labels, between 0 and 1."""
    first, second = _paired(gold, predicted)
    return sum(a == b for a, b in zip(first, second, strict=True)) / len(gold)


def f1_by_label(gold: Sequence[Hashable], predicted: Sequence[Hashable]) -> dict[Hashable, float]:
    """Return the F1 of every label that occurs on either side, between 0 and 1; never hit means 0."""
    labels = list(dict.fromkeys([*gold, *predicted]))
    hits, given, wanted = np.split(label_columns(label_counts(gold, predicted, labels=labels)).sum(axis=0), 3)
    return {label: float(2 * hits[k] / (given[k] + wanted[k])) for k, label in enumerate(labels)}


def macro_f1(gold: Sequence[Hashable], predicted: Sequence[Hashable]) -> float:
    """Return the mean F1 over all labels that occur on either side, between 0 and 1."""
    scores = f1_by_label(gold, predicted)
    return sum(scores.values()) / len(scores)


def mcc(gold: Sequence[Hashable], predicted: Sequence[Hashable]) -> float:
    """Return the Matthews correlation, -1 to 1; 0 where one side has a single label."""
    labels = list(dict.fromkeys([*gold, *predicted]))
    sums = label_columns(label_counts(gold, predicted, labels=labels)).sum(axis=0, keepdims=True)
    return float(mcc_of_sums(sums)[0])


def label_counts(gold: Sequence[Hashable], predicted: Sequence[Hashable], *, labels: Sequence[Hashable]) -> Floats:
    """Return the numbers of the right and of the given label (n, 2); -1 is an answer that is no label at all.

    Raises:
        ValueError: if the two differ in length, or if a right answer is not among ``labels``.
    """
    number = {label: place for place, label in enumerate(labels)}
    unknown = [label for label in gold if label not in number]
    if unknown:
        raise ValueError(f"not among the labels: {unknown[0]!r}")
    first, second = _paired(gold, predicted)
    return np.array([[number[a], number.get(b, -1)] for a, b in zip(first, second, strict=True)], dtype=np.float64)


def label_columns(counts: Floats) -> Floats:
    """Return for each of L labels whether it was hit, given and wanted (n, 3 L) from label numbers (n, 2)."""
    labels = np.arange(counts.max() + 1)
    wanted, given = (counts[:, [side]] == labels for side in range(2))
    return np.concatenate([wanted & given, given, wanted], axis=1).astype(np.float64)


def macro_f1_of_sums(sums: Floats) -> Floats:
    """Return macro F1 in % from sums (R, 3 L); a label that neither side has in a resample is left out of its mean."""
    hits, given, wanted = np.split(sums, 3, axis=1)
    seen = given + wanted
    scores = 2 * hits / np.maximum(seen, 1)
    return np.asarray(100 * scores.sum(axis=1) / np.maximum((seen > 0).sum(axis=1), 1))


def mcc_of_sums(sums: Floats) -> Floats:
    """Return the Matthews correlation from sums (R, 3 L); answers that are no label count as one more label."""
    hits, given, wanted = np.split(sums, 3, axis=1)
    n = wanted.sum(axis=1)
    given = np.concatenate([given, n[:, None] - given.sum(axis=1, keepdims=True)], axis=1)
    agreed = hits.sum(axis=1) * n - (given[:, :-1] * wanted).sum(axis=1)
    spread = (n**2 - (given**2).sum(axis=1)) * (n**2 - (wanted**2).sum(axis=1))
    return np.asarray(np.where(spread > 0, agreed / np.sqrt(np.where(spread > 0, spread, 1)), 0.0))


def _paired(gold: Sequence[Hashable], predicted: Sequence[Hashable]) -> tuple[Sequence[Hashable], Sequence[Hashable]]:
    if len(gold) != len(predicted) or not gold:
        raise ValueError(f"{len(gold)} right and {len(predicted)} given labels; there must be as many, and some")
    return gold, predicted


def _measure_right(names: Sequence[str], answers: Answers) -> dict[str, Measured]:
    measured = {}
    for name in names:
        agrees = is_quasi_exact if name == "quasi-exact-match" else is_exact
        pairs = zip(answers.predictions, answers.references, strict=True)
        values = tuple(100.0 * agrees(text, references) for text, references in pairs)
        case = "lower|punct:none|articles:none" if agrees is is_quasi_exact else "mixed"
        refs = reference_count(answers.references)
        signature = f"{name}|case:{case}|space:stripped|refs:{refs}|agg:mean|tunesmith:{__version__}"
        measured[name] = Measured(signature, values)
    return measured


def _measure_labels(names: Sequence[str], answers: Answers) -> dict[str, Measured]:
    predicted = [text.strip() for text in answers.predictions]
    accepted = [[text.strip() for text in references] for references in answers.references]
    gold = [text if text in texts else texts[0] for text, texts in zip(predicted, accepted, strict=True)]
    chosen = {choice.strip() for choices in answers.choices for choice in choices}.intersection(predicted)
    labels = sorted(chosen.union(gold))
    counts = tuple(tuple(map(float, row)) for row in label_counts(gold, predicted, labels=labels))
    refs = reference_count(answers.references)
    signature = f"case:mixed|space:stripped|labels:wanted-or-chosen|refs:{refs}|tunesmith:{__version__}"
    return {name: Measured(f"{name}|{signature}", counts=counts) for name in names}


RIGHT = Metric(measure=_measure_right, unit="%", right_or_wrong=True)
MACRO_F1 = Metric(measure=_measure_labels, unit="%", columns=label_columns, finish=macro_f1_of_sums, for_each=False)
MCC = Metric(measure=_measure_labels, unit="correlation", columns=label_columns, finish=mcc_of_sums, for_each=False)
