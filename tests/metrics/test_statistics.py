import os
import subprocess
import sys
import time
from itertools import pairwise

import numpy as np
import pytest

from tunesmith.metrics.contract import mean, per_example
from tunesmith.metrics.statistics import (
    Interval,
    bootstrap_corpus,
    bootstrap_mean,
    holm,
    mcnemar,
    paired_difference,
    paired_samples,
    resample,
    together,
    unanimous_interval,
)

VALUES = np.random.default_rng(7).normal(50, 20, 500)


def test_the_interval_of_a_mean_is_that_of_the_normal_law() -> None:
    spread = bootstrap_mean(VALUES)
    half = 1.96 * VALUES.std() / np.sqrt(500)
    assert spread.low == pytest.approx(VALUES.mean() - half, abs=0.1)
    assert spread.high == pytest.approx(VALUES.mean() + half, abs=0.1)


def test_intervals_cover_the_truth_in_19_of_20_samples() -> None:
    draws = np.random.default_rng(3)
    covered = 0
    for _ in range(200):
        spread = bootstrap_mean(draws.normal(0, 1, 60), resamples=500)
        covered += spread.low <= 0 <= spread.high
    assert 180 <= covered <= 198


def test_examples_of_one_group_are_drawn_together() -> None:
    thrice, groups = np.repeat(VALUES, 3), [f"dialogue {place // 3}" for place in range(1500)]
    wide, single = bootstrap_mean(thrice, groups=groups), bootstrap_mean(VALUES)
    assert (wide.low, wide.high) == pytest.approx((single.low, single.high))
    narrow = bootstrap_mean(thrice)
    assert narrow.high - narrow.low < 0.65 * (wide.high - wide.low)


def test_groups_of_unequal_size_weigh_by_their_examples() -> None:
    values, groups = [0.0] * 9 + [100.0], ["long"] * 9 + ["short"]
    draws = resample(per_example(values), mean, groups=groups, resamples=1000)
    assert set(draws) == {0.0, 10.0, 100.0}


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    assert bootstrap_mean(VALUES, seed=1) == bootstrap_mean(VALUES, seed=1)
    assert bootstrap_mean(VALUES, seed=1) != bootstrap_mean(VALUES, seed=2)


def test_every_process_draws_the_same() -> None:
    code = (
        "from tunesmith.metrics.statistics import bootstrap_mean, paired_difference;"
        "a, b = ([k * step % 1 for k in range(90)] for step in (0.37, 0.73)); g = [f'g{k // 3}' for k in range(90)];"
        "print(bootstrap_mean(a, groups=g, seed=5), paired_difference(a, b, groups=g, seed=5))"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed, "OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed, threads in (("1", "1"), ("2", "2"))
    ]
    assert outputs[0] == outputs[1]
    assert outputs[0].startswith("Interval(")


def test_draws_do_not_depend_on_what_is_drawn_beside_them() -> None:
    other = per_example(VALUES[::-1].copy())
    counts, finish = together([(per_example(VALUES), mean), (other, mean)])
    both = resample(counts, finish, seed=4, resamples=300)
    assert both.shape == (300, 2)
    assert both[:, 0] == pytest.approx(resample(per_example(VALUES), mean, seed=4, resamples=300))


def test_a_corpus_value_is_finished_from_the_sums() -> None:
    counts = np.array([[1.0, 2.0], [30.0, 40.0]])
    draws = resample(counts, lambda sums: sums[:, 0] / sums[:, 1], resamples=400)
    assert set(draws.round(9)) == {0.5, 0.75, round(31 / 42, 9)}
    assert bootstrap_corpus(counts, lambda sums: sums[:, 0] / sums[:, 1]) == Interval(0.5, 0.75)


def test_a_paired_difference_is_surer_than_two_intervals() -> None:
    better = VALUES + np.random.default_rng(1).normal(1, 3, 500)
    difference = paired_difference(better, VALUES)
    assert difference.value == pytest.approx((better - VALUES).mean())
    assert 0 < difference.low < difference.value < difference.high < 2
    assert difference.p_value < 0.001
    first, second = bootstrap_mean(better), bootstrap_mean(VALUES)
    assert first.low < second.high


def test_equal_candidates_have_p_1() -> None:
    difference = paired_difference(VALUES, VALUES)
    assert (difference.value, difference.low, difference.high, difference.p_value) == (0, 0, 0, 1)


def test_p_is_two_sided_and_rarely_small_without_a_difference() -> None:
    draws = np.random.default_rng(5)
    small = sum(
        paired_difference(draws.normal(0, 1, 50), draws.normal(0, 1, 50), resamples=500).p_value < 0.05
        for _ in range(200)
    )
    assert 2 <= small <= 20


def test_few_units_allow_no_small_p() -> None:
    gains = np.full(100, 1.0)
    assert [paired_samples(1.0, gains, units=units).p_value for units in (1, 2, 5)] == [1.0, 0.5, 0.0625]
    assert paired_samples(1.0, gains, units=6).p_value == 0.03125
    assert paired_difference([1.0] * 10, [0.0] * 10, groups=["one"] * 10).p_value == 1.0


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [(4, 2, 0.6875), (0, 0, 1.0), (5, 0, 0.0625), (6, 0, 0.03125), (3, 3, 1.0), (2000, 1500, 3e-17)],
)
def test_mcnemar_counts_the_flips(first: int, second: int, expected: float) -> None:
    right = [True] * first + [False] * second + [True, False]
    wrong = [False] * first + [True] * second + [True, False]
    assert mcnemar(right, wrong) == pytest.approx(expected, abs=1e-12)
    assert mcnemar(right, wrong) == mcnemar(wrong, right)


def test_all_right_has_an_exact_interval() -> None:
    assert unanimous_interval(True, 10).low == pytest.approx(69.15, abs=0.01)
    assert unanimous_interval(False, 10) == Interval(0.0, pytest.approx(30.85, abs=0.01))


def test_ten_thousand_resamples_of_500_examples_take_less_than_a_second() -> None:
    started = time.process_time()
    bootstrap_mean(VALUES)
    assert time.process_time() - started < 1


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match="there is nothing to resample"):
        bootstrap_mean([])
    with pytest.raises(ValueError, match="2 examples, but 1 groups"):
        bootstrap_mean([1.0, 2.0], groups=["a"])
    with pytest.raises(ValueError, match="values of different examples: 1 and 2"):
        paired_difference([1.0], [1.0, 2.0])


class TestManyTestsAtOnce:
    def test_holm_multiplies_the_smallest_by_all_and_never_falls(self) -> None:
        assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
        assert holm([0.5, 0.9]) == [1.0, 1.0]
        assert holm([]) == []

    def test_the_order_of_the_tests_changes_nothing(self) -> None:
        values = [0.2, 0.001, 0.04, 0.013, 0.013]
        assert holm(values[::-1])[::-1] == holm(values)
        assert all(a <= b for a, b in pairwise(holm(sorted(values))))
