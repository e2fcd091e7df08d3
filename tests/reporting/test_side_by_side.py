import pytest

from tunesmith.records import Comparison, Score
from tunesmith.reporting.contents import Report, TaskReport
from tunesmith.reporting.side_by_side import columns, compared, rows


def score(value: float, *, higher: bool = True, half: float = 1.0) -> Score:
    return Score(
        task="t", metric="m", value=value, unit="points", higher_is_better=higher, n=10, n_empty=0, low=value - half,
        high=value + half, signature="m|1",
    )  # fmt: skip


def comparison(better: str, than: str, low: float, high: float) -> Comparison:
    return Comparison(
        task="t", metric="m", better=better, than=than, difference=(low + high) / 2, low=low, high=high, p_value=0.5,
        test="paired bootstrap", n=10, sentence="",
    )  # fmt: skip


def task(scores: dict[str, Score], *comparisons: Comparison) -> TaskReport:
    return TaskReport(
        task="t", scores={name: (one,) for name, one in scores.items()}, comparisons=comparisons, length_edges=(),
        target_lengths=(), lengths=(), choices=(), examples=(),
    )  # fmt: skip


def marks(report: Report, shown: TaskReport) -> dict[str, str]:
    return {row.candidate.name: row.cells[0].mark if row.cells[0] else "none" for row in rows(report, shown)}


def test_the_highest_is_best_and_those_not_clearly_different_are_close(report: Report) -> None:
    shown = task(
        {"zero-shot": score(10), "lora": score(29), "full": score(30)},
        comparison("full", "zero-shot", 15, 25),
        comparison("full", "lora", -1, 3),
    )
    assert marks(report, shown) == {"zero-shot": "", "two-shot": "none", "lora": "tied", "full": "best"}


def test_the_lowest_is_best_where_lower_is_better(report: Report) -> None:
    shown = task({"zero-shot": score(3, higher=False), "lora": score(2, higher=False)})
    assert marks(report, shown)["lora"] == "best"
    assert marks(report, shown)["zero-shot"] == ""


def test_equal_values_are_both_best(report: Report) -> None:
    assert list(marks(report, task({"zero-shot": score(5), "lora": score(5)})).values()) == ["best", "none", "best", "none"]


def test_a_single_candidate_is_not_called_best(report: Report) -> None:
    assert marks(report, task({"lora": score(5)}))["lora"] == ""


def test_a_comparison_is_turned_when_asked_the_other_way_round() -> None:
    shown = task({}, comparison("full", "lora", -1, 3))
    turned = compared(shown, "m", candidate="lora", baseline="full")
    assert turned is not None
    assert (turned.better, turned.than, turned.difference, turned.low, turned.high) == ("lora", "full", -1, -3, 1)
    assert compared(shown, "m", candidate="full", baseline="lora") == shown.comparisons[0]
    assert compared(shown, "other", candidate="full", baseline="lora") is None


@pytest.mark.parametrize(("half", "value"), [(1.0, "12.3"), (0.02, "12.346"), (20.0, "12")])
def test_decimals_follow_the_uncertainty(report: Report, half: float, value: str) -> None:
    shown = task({"zero-shot": score(12.3456, half=half)})
    cell = rows(report, shown)[0].cells[0]
    assert cell is not None
    assert cell.value == value


def test_a_column_keeps_the_decimals_that_its_finest_difference_needs() -> None:
    assert columns(task({"a": score(1, half=20), "b": score(2, half=20)}, comparison("a", "b", 0.1, 0.3)))[0].decimals == 2


def test_columns_are_the_metrics_in_the_order_of_scoring(report: Report) -> None:
    shown = columns(report.tasks[0])
    assert [(one.metric, one.unit, one.higher_is_better) for one in shown] == [
        ("rouge1", "points of 100", True),
        ("rouge2", "points of 100", True),
        ("nll", "nats per token", False),
    ]
    assert shown[0].low == min(scores[0].low for scores in report.tasks[0].scores.values())
    assert shown[0].signature == "rouge1|F|stem:none|tok:a-z0-9|case:lower|refs:1|agg:mean"


def test_costs_of_tuned_and_untouched_candidates(report: Report) -> None:
    costs = [[(cost.text, cost.more) for cost in row.costs] for row in rows(report, report.tasks[0])]
    assert costs[0] == [("0", ""), ("–", ""), ("–", ""), ("38 s", "40 prompts"), ("820 MB", "answering")]
    assert costs[2] == [
        ("4.88 M", "3.5 %"),
        ("19.6 MB", ""),
        ("6 min 52 s", "480 steps"),
        ("38 s", "40 prompts"),
        ("1.9 GB", "answering 820 MB"),
    ]
    assert costs[3][0] == ("135 M", "100 %")


def test_costs_of_a_candidate_that_was_not_begun_are_unknown(report: Report) -> None:
    empty = report.candidates[2].model_copy(update={"train": None, "predict": None})
    changed = report.model_copy(update={"candidates": (empty,)})
    assert [cost.text for cost in rows(changed, report.tasks[0])[0].costs] == ["–"] * 5
