"""Measurements to coefficients, none of them below zero: no work takes less than no time."""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np


def fit(rows: Sequence[Sequence[float]], values: Sequence[float], *, relative: float) -> list[float]:
    """Return the coefficients, all at least 0, with which rows of work come closest to what was measured.

    Least squares over every subset of the columns; the best solution without a negative coefficient is that of the
    constrained problem (Lawson and Hanson 1974, "Solving Least Squares Problems", chapter 23). With fewer than ten
    columns trying all subsets is quick, and exact.

    Args:
        rows: One for each measurement.
        values: What was measured.
        relative: 1: errors count in per cent of the value; 0: as they are; between: those of large values count more.

    >>> [round(one, 6) for one in fit([[1, 1], [1, 2], [1, 3]], [5.0, 7.0, 9.0], relative=1)]
    [3.0, 2.0]
    """
    left, right = np.asarray(rows, float), np.asarray(values, float)
    if relative:
        left, right = left / right[:, None] ** relative, right ** (1 - relative)
    scale = np.maximum(np.abs(left).max(0), 1e-300)
    left = left / scale
    best, error = np.zeros(left.shape[1]), float(right @ right)
    for count in range(1, left.shape[1] + 1):
        for columns in combinations(range(left.shape[1]), count):
            part = left[:, columns]
            found = np.linalg.lstsq(part, right, rcond=None)[0]
            rest = float(((part @ found - right) ** 2).sum())
            if found.min() >= 0 and rest < error * (1 - 1e-9):
                best, error = np.zeros(left.shape[1]), rest
                best[list(columns)] = found
    return [float(one) for one in best / scale]


def fit_others(rows: Sequence[Sequence[float]], values: Sequence[float], known: Mapping[int, float]) -> list[float]:
    """Return the coefficients of all columns, of which some are known: the others explain what these leave.

    Args:
        rows: One for each measurement.
        values: What was measured.
        known: Column -> coefficient.

    >>> [round(one, 6) for one in fit_others([[1, 1], [1, 2], [1, 3]], [5.0, 7.0, 9.0], {1: 1.0})]
    [5.0, 1.0]
    """
    columns = [column for column in range(len(rows[0])) if column not in known]
    rest = [value - sum(row[c] * one for c, one in known.items()) for row, value in zip(rows, values, strict=True)]
    found = dict(zip(columns, fit([[row[c] for c in columns] for row in rows], rest, relative=0), strict=True))
    return [known[column] if column in known else found[column] for column in range(len(rows[0]))]


def dot(row: Sequence[float], coefficients: Sequence[float]) -> float:
    """Return the sum of products."""
    return float(sum(a * b for a, b in zip(row, coefficients, strict=True)))
