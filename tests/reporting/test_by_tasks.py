"""The number of tuning tasks against the mean score over held-out tasks."""

import pytest

from tunesmith.recipe import recipe_from_text
from tunesmith.records import Score, ScoreSheet
from tunesmith.reporting.by_tasks import by_tasks
from tunesmith.reporting.contents import Report
from tunesmith.reporting.html import render

RECIPE = """name: flan
model: m
tasks:
  - {name: a, source: a.csv}
  - {name: b, source: b.csv}
  - {name: c, source: c.csv}
  - {name: out-1, source: d.csv}
  - {name: out-2, source: e.csv}
mixture: {held_out: [out-1, out-2], scored: held-out}
candidates:
  three: {method: lora}
  one: {method: lora, mixture: {tasks: 1}}
  one-full: {method: full, mixture: {tasks: 1}}
  two-slow: {method: lora, train: {learning_rate: 1e-5}, mixture: {tasks: 2}}
"""
RIGHT = {"zero-shot": (20, 10), "one": (24, 10), "three": (36, 18), "one-full": (30, 10), "two-slow": (22, 10)}


def sheet(candidate: str, task: str, right: int, n: int) -> ScoreSheet:
    values = tuple(100.0 * (place < right) for place in range(n))
    value = sum(values) / n
    score = Score(
        task=task, metric="accuracy", value=value, unit="%", higher_is_better=True, n=n, n_empty=0, low=value,
        high=value, signature="",
    )  # fmt: skip
    ids = tuple(map(str, range(n)))
    return ScoreSheet(
        candidate=candidate, task=task, example_ids=ids, groups=ids, scores=(score,), per_example={"accuracy": values}
    )


SHEETS = [
    sheet(name, task, right, n)
    for name, both in RIGHT.items()
    for task, right, n in zip(("out-1", "out-2"), both, (40, 20), strict=True)
]


def test_candidates_that_differ_only_in_their_number_of_tasks_stand_under_the_base() -> None:
    (found,) = by_tasks(recipe_from_text(RECIPE), SHEETS)
    assert found.held_out == ("out-1", "out-2")
    assert [(row.tasks, row.candidate) for row in found.rows] == [(0, "zero-shot"), (1, "one"), (3, "three")]
    assert [row.mean for row in found.rows] == pytest.approx([50.0, 55.0, 90.0]), "each task weighs the same"
    base, one, three = found.rows
    assert base.gain is None
    assert one.gain
    assert three.gain
    assert one.gain[0] == pytest.approx(5.0)
    assert three.gain[0] == pytest.approx(40.0)
    assert three.gain[1] < three.gain[0] < three.gain[2]
    assert one.gain[2] - one.gain[1] < one.high - one.low, "paired: most rows did not change"


def test_the_interval_is_that_of_the_mean_of_two_tasks() -> None:
    (found,) = by_tasks(recipe_from_text(RECIPE), SHEETS)
    spread = 100 * (0.25 / 40 + 0.25 / 20) ** 0.5 / 2
    assert found.rows[0].low == pytest.approx(50 - 1.96 * spread, abs=1)
    assert found.rows[0].high == pytest.approx(50 + 1.96 * spread, abs=1)


def test_there_is_none_where_all_tasks_are_scored_or_scores_are_missing() -> None:
    recipe = recipe_from_text(RECIPE)
    assert by_tasks(recipe_from_text(RECIPE.replace(", scored: held-out", "")), SHEETS) == ()
    assert by_tasks(recipe, [one for one in SHEETS if (one.candidate, one.task) != ("one", "out-2")]) == ()
    alone = by_tasks(recipe, [one for one in SHEETS if one.candidate != "zero-shot"])
    assert [row.gain for table in alone for row in table.rows] == [None, None]


def test_the_page_has_the_table_beside_the_scores(report: Report) -> None:
    assert "Number of tuning tasks" not in render(report)
    page = render(report.model_copy(update={"by_tasks": by_tasks(recipe_from_text(RECIPE), SHEETS)}))
    assert "Mean score over 2 held-out tasks, none of them tuned on (out-1, out-2)" in page
    assert '<td>three</td><td class="number">90.0</td>' in page
