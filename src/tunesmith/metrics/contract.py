"""What a metric is: how answers are measured, and how the measurements of many examples become one number."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Finish: TypeAlias = Callable[[Floats], Floats]
"""Turns sums (R, K), one row for each of R sets of examples, into values (R,)."""


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers of one candidate to one task; every field has one entry per example."""

    predictions: tuple[str, ...]
    references: tuple[tuple[str, ...], ...]  # at least one each; the target is the first
    choices: tuple[tuple[str, ...], ...]  # empty where the answer was free text
    choice_logprobs: tuple[Mapping[str, float], ...]  # nats; empty where no choices were ranked
    sources: tuple[str, ...]  # what was asked: earlier turns and prompt


@dataclass(frozen=True, slots=True)
class Measured:
    """One metric of all examples: a value for each of them, or counts where only their sum has a value."""

    signature: str
    values: tuple[float, ...] = ()  # in the unit of the metric
    counts: tuple[tuple[float, ...], ...] = ()


def mean(sums: Floats) -> Floats:
    """Divide the first column of ``sums`` (R, 2) by the second: (R,)."""
    return np.asarray(sums[:, 0] / np.maximum(sums[:, 1], 1e-300), dtype=np.float64)


def unchanged(counts: Floats) -> Floats:
    """Return counts that add up as they are."""
    return counts


@dataclass(frozen=True, slots=True)
class Metric:
    """How names of one family are measured, and what holds for all of them."""

    measure: Callable[[Sequence[str], Answers], dict[str, Measured]]  # names of one family at once, as work is shared
    unit: str
    better: Literal["higher", "lower", "neither"] = "higher"
    columns: Callable[[Floats], Floats] = unchanged  # counts (n, C) -> what adds up (n, K)
    finish: Finish = mean
    for_each: bool = True  # every answer has a value of its own; else only all of them together have one
    needs_choices: bool = False  # it reads the likelihood of every choice
    needs_source: bool = False  # it reads what was asked
    right_or_wrong: bool = False  # every example counts 0 or 100, so that McNemar's test applies


def per_example(values: Sequence[float] | Floats) -> Floats:
    """Return values as columns (n, 2) whose sums are finished by ``mean``."""
    return np.stack([np.asarray(values, dtype=np.float64), np.ones(len(values))], axis=1)


def reference_count(references: Sequence[Sequence[str]]) -> str:
    """Return how many references the examples have, as a signature says it: ``1``, ``3`` or ``var``."""
    sizes = {len(texts) for texts in references}
    return str(sizes.pop()) if len(sizes) == 1 else "var"
