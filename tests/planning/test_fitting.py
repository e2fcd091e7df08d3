import random

import pytest

from tunesmith.planning.fitting import dot, fit


@pytest.mark.parametrize("relative", [1, 0.5, 0])
def test_exact_measurements_give_back_their_coefficients(relative: float) -> None:
    draw = random.Random(1)
    true = [0.3, 0.0, 2e-9, 5e-12]
    rows = [[1.0, draw.random(), 1e8 * draw.random(), 1e11 * draw.random()] for _ in range(12)]
    found = fit(rows, [dot(row, true) for row in rows], relative=relative)
    assert found == pytest.approx(true, rel=1e-6, abs=1e-9)


def test_no_coefficient_is_negative_and_none_would_be_better() -> None:
    draw = random.Random(2)
    rows = [[1.0, n, n * n] for n in range(1, 9)]
    values = [10 - n + 0.5 * n * n + draw.random() for n in range(1, 9)]
    found = fit(rows, values, relative=0)
    assert min(found) >= 0

    def error(coefficients: list[float]) -> float:
        return sum((dot(row, coefficients) - value) ** 2 for row, value in zip(rows, values, strict=True))

    for place in range(3):
        for change in (0.01, -0.01):
            other = list(found)
            other[place] = max(0.0, other[place] + change)
            assert error(found) <= error(other) + 1e-9


def test_a_column_that_says_nothing_new_does_no_harm() -> None:
    rows = [[n, 2.0 * n] for n in range(1, 6)]
    found = fit(rows, [4.0 * n for n in range(1, 6)], relative=1)
    assert dot([10, 20], found) == pytest.approx(40)
