"""Tasks one after the other: R[i][j] is the score on task j after training on task i.

Sources: D. Lopez-Paz and M. Ranzato, "Gradient Episodic Memory", 2017 (ACC, BWT, FWT; means over the T - 1 tasks that
can show them, as in the paper); A. Chaudhry et al., "Riemannian Walk for Incremental Learning", 2018 (forgetting).
"""

from collections.abc import Sequence

Matrix = Sequence[Sequence[float]]


def average_score(scores: Matrix) -> float:
    """Return ACC, the mean over all tasks after the last one: mean_j R[T][j].

    Raises:
        ValueError: The matrix is not square.
    """
    last = _square(scores, least=1)[-1]
    return sum(last) / len(last)


def backward_transfer(scores: Matrix) -> float:
    """Return BWT, what later training did to earlier tasks: 1/(T-1) sum_{j<T} (R[T][j] - R[j][j]).

    Raises:
        ValueError: The matrix is not square, or has a single task.
    """
    rows = _square(scores, least=2)
    return sum(rows[-1][j] - rows[j][j] for j in range(len(rows) - 1)) / (len(rows) - 1)


def forward_transfer(scores: Matrix, initial: Sequence[float]) -> float:
    """Return FWT, what earlier training did to later tasks: 1/(T-1) sum_{j>1} (R[j-1][j] - b_j).

    Args:
        scores: R, (T, T).
        initial: b, score of each task before any training.

    Raises:
        ValueError: The matrix is not square, has a single task, or ``initial`` has another length.
    """
    rows = _square(scores, least=2)
    if len(initial) != len(rows):
        raise ValueError(f"{len(rows)} tasks, but {len(initial)} scores from before")
    return sum(rows[j - 1][j] - initial[j] for j in range(1, len(rows))) / (len(rows) - 1)


def sequence_forgetting(scores: Matrix) -> float:
    """Return forgetting after Chaudhry: mean_{j<T} (max_{i<T} R[i][j] - R[T][j]); negative = improved since.

    The last row is no part of the maximum.

    Raises:
        ValueError: The matrix is not square, or has a single task.
    """
    rows = _square(scores, least=2)
    tasks = range(len(rows) - 1)
    return sum(max(row[j] for row in rows[:-1]) - rows[-1][j] for j in tasks) / len(tasks)


def _square(scores: Matrix, *, least: int) -> Matrix:
    if len(scores) < least or any(len(row) != len(scores) for row in scores):
        shape = [len(row) for row in scores]
        raise ValueError(f"R has a row and a column for each of at least {least} tasks; these rows have {shape} values")
    return scores
