from math import sqrt
from statistics import stdev

import pytest

from tunesmith.bench_records import BenchRun, BenchScore
from tunesmith.suites.deltas import deltas, paired_mean, paired_resampled


def score(task: str, values: tuple[float, ...], *, metric: str = "acc") -> BenchScore:
    return BenchScore(
        task=task, metric=metric, filter="none", value=sum(values) / len(values), stderr=None, n=len(values),
        higher_is_better=True, values=values,
    )  # fmt: skip


def run(candidate: str, *scores: BenchScore) -> BenchRun:
    return BenchRun(candidate=candidate, method="none", seconds=0.0, scores=scores)


def whole(value: float, n: int) -> BenchScore:
    return BenchScore(
        task="mmlu", metric="acc", filter="none", value=value, stderr=None, n=n, higher_is_better=True
    )  # fmt: skip


def test_the_error_of_a_difference_is_that_of_the_differences() -> None:
    base, tuned = [1.0, 0.0, 1.0, 0.0, 1.0, 0.0], [1.0, 1.0, 1.0, 0.0, 0.0, 1.0]
    difference, stderr = paired_mean(base, tuned)
    assert difference == pytest.approx(1 / 6)
    assert stderr == pytest.approx(stdev([0, 1, 0, 0, -1, 1]) / sqrt(6))


def test_a_model_does_not_differ_from_itself() -> None:
    assert paired_mean([1.0, 0.0, 1.0], [1.0, 0.0, 1.0]) == (0.0, 0.0)
    assert paired_resampled([(0.0, 1.0), (1.0, 1.0)], [(0.0, 1.0), (1.0, 1.0)], agreement, seed=0) == (0.0, 0.0)


def test_a_single_item_has_no_error() -> None:
    assert paired_mean([0.0], [1.0]) == (1.0, None)


def agreement(items: list[tuple[float, float]]) -> float:
    return sum(wanted == given for wanted, given in items) / len(items)


def test_resampling_a_mean_agrees_with_its_formula() -> None:
    wanted = [float(n % 2) for n in range(200)]
    base = [(one, float(n % 3 == 0)) for n, one in enumerate(wanted)]
    tuned = [(one, float(n % 5 == 0)) for n, one in enumerate(wanted)]
    exact = paired_mean([float(a == b) for a, b in base], [float(a == b) for a, b in tuned])
    found = paired_resampled(base, tuned, agreement, seed=3)
    assert exact[1] is not None
    assert found[0] == pytest.approx(exact[0])
    assert found[1] == pytest.approx(exact[1], rel=0.1)


def test_items_won_and_lost_are_counted() -> None:
    (found,) = deltas(
        run("base", score("glue/rte", (1, 1, 0, 0))), run("lora", score("glue/rte", (0, 1, 1, 1))),
        finish={}, weights={"glue/rte": 1.0}, seed=0,
    )  # fmt: skip
    assert (found.candidate, found.better, found.worse, found.n) == ("lora", 2, 1, 4)
    assert found.difference == 0.25


def test_a_metric_of_all_items_together_has_no_single_winners() -> None:
    pairs = ((0.0, 1.0), (1.0, 1.0), (1.0, 0.0), (0.0, 0.0))
    one = score("glue/cola", (0.0,) * 4, metric="mcc").model_copy(update={"values": pairs})
    better = one.model_copy(update={"values": ((0.0, 0.0), *pairs[1:])})
    (found,) = deltas(
        run("base", one), run("lora", better), finish={("glue/cola", "mcc", "none"): agreement}, weights={}, seed=0
    )
    assert (found.better, found.worse, found.difference) == (None, None, 0.25)
    assert found.stderr is not None


def test_the_error_of_a_whole_suite_adds_up_the_squares_of_its_tasks() -> None:
    base = run("base", whole(0.5, 8), score("a", (1, 0, 1, 0)), score("b", (0, 0, 1, 1)))
    tuned = run("lora", whole(0.625, 8), score("a", (1, 1, 1, 0)), score("b", (0, 1, 0, 1)))
    together, first, second = deltas(base, tuned, finish={}, weights={"a": 0.5, "b": 0.5}, seed=0)
    assert first.stderr is not None
    assert second.stderr is not None
    assert together.task == "mmlu"
    assert together.difference == 0.125
    assert together.stderr == pytest.approx(0.5 * sqrt(first.stderr**2 + second.stderr**2))
    assert (together.better, together.worse) == (2, 1)


def test_a_whole_suite_takes_the_metric_that_it_is_in() -> None:
    def strict(*values: float) -> BenchScore:
        return score("a", values).model_copy(update={"filter": "strict"})

    base = run("base", whole(0.5, 4), strict(0, 0, 0, 0), score("a", (1, 0, 1, 0)))
    tuned = run("lora", whole(0.75, 4), strict(0, 0, 0, 0), score("a", (1, 1, 1, 0)))
    together, _, flexible = deltas(base, tuned, finish={}, weights={"a": 1.0}, seed=0)
    assert (together.stderr, together.better) == (flexible.stderr, 1)
