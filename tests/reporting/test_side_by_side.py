from tunesmith.records import Comparison, Score
from tunesmith.reporting.contents import Report, TaskReport
from tunesmith.reporting.side_by_side import columns, compared, difference_text, rows
from tunesmith.wording import MINUS, NONE


def score(value: float, *, higher: bool = True, half: float = 1.0) -> Score:
    return Score(
        task="t", metric="m", value=value, unit="points of 100", higher_is_better=higher, n=10, n_empty=0,
        low=value - half, high=value + half, signature="m|1",
    )  # fmt: skip


def comparison(better: str, than: str, low: float, high: float) -> Comparison:
    return Comparison(
        task="t", metric="m", better=better, than=than, difference=(low + high) / 2, low=low, high=high,
        p_value=0.01 if low > 0 else 0.5, test="paired bootstrap", n=10, sentence="",
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
    assert list(marks(report, task({"zero-shot": score(5), "lora": score(5)})).values()) == [
        "best",
        "none",
        "best",
        "none",
    ]


def test_counts_are_whole_where_they_are(report: Report) -> None:
    def counted(value: float) -> TaskReport:
        return task({"lora": score(value).model_copy(update={"unit": "words"})})

    assert [cell.value for row in rows(report, counted(4)) for cell in row.cells if cell] == ["4"]
    assert [cell.value for row in rows(report, counted(4.25)) for cell in row.cells if cell] == ["4.2"]
    assert [cell.value for row in rows(report, task({"lora": score(4)})) for cell in row.cells if cell] == ["4.0"]


def test_a_single_candidate_is_not_called_best(report: Report) -> None:
    assert marks(report, task({"lora": score(5)}))["lora"] == ""


def test_a_comparison_is_turned_when_asked_the_other_way_round() -> None:
    shown = task({}, comparison("full", "lora", -1, 3))
    turned = compared(shown, "m", candidate="lora", baseline="full")
    assert turned is not None
    assert (turned.better, turned.than, turned.difference, turned.low, turned.high) == ("lora", "full", -1, -3, 1)
    assert compared(shown, "m", candidate="full", baseline="lora") == shown.comparisons[0]
    assert compared(shown, "other", candidate="full", baseline="lora") is None


def test_a_metric_without_a_better_side_has_no_best(report: Report) -> None:
    (place,) = [place for place, one in enumerate(columns(report.tasks[0])) if one.metric == "length-ratio"]
    assert columns(report.tasks[0])[place].better == "neither"
    assert {row.cells[place].mark for row in rows(report, report.tasks[0]) if row.cells[place]} == {""}


def test_a_sure_difference_is_never_rounded_to_nothing() -> None:
    assert difference_text(comparison("a", "b", 0.5, 0.9), 1) == ("+0.7", "0.5 to 0.9")
    assert difference_text(comparison("a", "b", 0.003, 0.9), 1) == ("+0.452", "0.003 to 0.900")
    assert difference_text(comparison("a", "b", -0.003, 0.9), 1) == ("+0.4", "0.0 to 0.9")


def test_a_difference_can_be_written_the_other_way_round() -> None:
    assert difference_text(comparison("a", "b", 1, 3), 1, sign=-1) == (f"{MINUS}2.0", f"{MINUS}3.0 to {MINUS}1.0")


def test_columns_are_the_metrics_in_the_order_of_scoring(report: Report) -> None:
    shown = columns(report.tasks[0])
    assert [(one.title, one.unit, one.better) for one in shown] == [
        ("ROUGE-1", "points of 100", "higher"),
        ("ROUGE-2", "points of 100", "higher"),
        ("BLEU", "points of 100", "higher"),
        ("length ratio", "words per reference word", "neither"),
        ("TER", "points of 100", "lower"),
    ]
    assert shown[0].low == min(scores[0].low for scores in report.tasks[0].scores.values())
    assert shown[0].signature.startswith("rouge1|")


def test_differences_of_shares_are_percentage_points(report: Report) -> None:
    shown = task({"a": score(50).model_copy(update={"unit": "%"})})
    assert columns(shown)[0].unit_of_difference == "percentage points"
    assert columns(report.tasks[0])[0].unit_of_difference == "points of 100"


def test_costs_of_tuned_and_untouched_candidates(report: Report) -> None:
    costs = [[(cost.text, cost.more) for cost in row.costs] for row in rows(report, report.tasks[0])]
    assert costs[0] == [
        ("0", ""),
        (NONE, ""),
        (NONE, ""),
        ("38 s", "40 prompts"),
        ("0.96 s", "9.1 GFLOP"),
        ("820 MB", "answering"),
    ]
    assert costs[2] == [
        ("4.88 M", "3.5 %"),
        ("19.6 MB", ""),
        ("6 min 52 s", "480 steps"),
        ("38 s", "40 prompts"),
        ("0.96 s", "9.1 GFLOP"),
        ("1.9 GB", "answering 820 MB"),
    ]
    assert costs[3][0] == ("135 M", "100 %")


def test_costs_of_a_candidate_that_was_not_begun_are_unknown(report: Report) -> None:
    empty = report.candidates[2].model_copy(update={"train": None, "predict": None, "seconds_per_answer": None})
    changed = report.model_copy(update={"candidates": (empty,)})
    assert [cost.text for cost in rows(changed, report.tasks[0])[0].costs] == [NONE] * 6


def test_an_older_run_has_no_operations_and_no_more_than_its_seconds(report: Report) -> None:
    older = report.candidates[0].model_copy(update={"flops_per_answer": None})
    (row,) = rows(report.model_copy(update={"candidates": (older,)}), report.tasks[0])
    assert (row.costs[4].text, row.costs[4].more) == ("0.96 s", "")
