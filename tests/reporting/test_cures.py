"""What the report says of settings against forgetting, and of tasks in turn."""

import json
import re
from pathlib import Path

import pytest
import run_folder
from run_folder import RECIPE, write_candidate, write_recipe, write_run

from tunesmith.forgetting.in_turn import in_turn, row_metric
from tunesmith.recipe import recipe_from_text
from tunesmith.records import Averaged, Example, Score, ScoreSheet, TrainResult
from tunesmith.reporting.contents import Report
from tunesmith.reporting.cures import cures_of, effect_sentence, twin_of
from tunesmith.reporting.forgotten_view import forgetting_view
from tunesmith.reporting.gather import gather
from tunesmith.reporting.html import render
from tunesmith.reporting.in_turn_view import in_turn_view
from tunesmith.rundir import RunDir, read_record, read_records, write_record

CURED = """\
  full-replay: {method: full, train: {replay: 0.1}}
  full-between: {method: full, train: {average: auto}}
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    """The made-up run with two cures of full tuning: one that keeps all items, and one that keeps hardly any."""
    found = write_run(tmp_path)
    write_recipe(found, RECIPE + CURED)
    test = list(read_records(found.examples("test"), Example))
    for name, lost, skill in (("full-replay", 0, 0.55), ("full-between", 8, 0.64)):
        monkeypatch.setitem(run_folder.SKILL, name, skill)
        monkeypatch.setitem(run_folder.LENGTH, name, 1.2)
        monkeypatch.setitem(run_folder.TUNED, name, run_folder.TUNED["full"])
        monkeypatch.setitem(run_folder.LOST, name, lost)
        write_candidate(found, name, test)
        write_record(found.candidate(name).probe_result, run_folder._probe_result(name, True))
    path = found.candidate("full-between").train_result
    averaged = Averaged(share=0.6, measure="loss", tried=tuple((n / 10, 2.0 - n / 20) for n in range(11)))
    write_record(path, read_record(path, TrainResult).model_copy(update={"averaged": averaged}))
    return found


@pytest.fixture
def report(run: RunDir) -> Report:
    return gather(run)


class TestWhatTheCuresAre:
    def test_they_are_said_in_words_and_a_searched_share_as_it_was_found(self, report: Report) -> None:
        said = {one.name: one.cures for one in report.candidates}
        assert said["full-replay"] == ("replay 0.1",)
        assert said["full-between"] == ("average 0.6, searched",)
        assert said["full"] == said["lora"] == said["zero-shot"] == ()

    def test_a_twin_is_the_same_without_them(self) -> None:
        text = RECIPE + CURED + "  slow-replay: {method: full, train: {replay: 0.1, learning_rate: 1e-5}}\n"
        recipe = recipe_from_text(text)
        assert twin_of(recipe, "full-replay") == twin_of(recipe, "full-between") == "full"
        assert twin_of(recipe, "slow-replay") is None
        assert twin_of(recipe, "full") is None
        assert cures_of(recipe, "two-shot") == ()

    def test_a_twin_learns_from_the_same_mixture_of_tasks(self) -> None:
        several = RECIPE.partition("tasks:")[0] + (
            "tasks:\n  - {name: a, source: chats.csv}\n  - {name: b, source: chats.csv}\n"
            "  - {name: c, source: chats.csv}\ncandidates:\n"
            "  one: {method: lora, mixture: {tasks: 1}}\n"
            "  two: {method: lora, mixture: {tasks: 2}}\n"
            "  two-replay: {method: lora, mixture: {tasks: 2}, train: {replay: 0.1}}\n"
            "  three-replay: {method: lora, mixture: {tasks: 3}, train: {replay: 0.1}}\n"
        )
        recipe = recipe_from_text(several)
        assert (twin_of(recipe, "two-replay"), twin_of(recipe, "three-replay")) == ("two", None)

    def test_settings_of_the_whole_recipe_count_for_each_candidate(self) -> None:
        recipe = recipe_from_text(RECIPE + "train: {kl: 0.5}\n")
        assert cures_of(recipe, "lora") == ("kl 0.5",)
        assert cures_of(recipe, "two-shot") == ()


class TestWhatTheyBrought:
    def test_each_is_compared_with_its_twin_on_the_same_items(self, report: Report) -> None:
        assert report.forgetting
        replay, between = report.forgetting.effects
        assert (replay.candidate, replay.than, replay.items.won, replay.items.lost) == ("full-replay", "full", 9, 0)
        assert (between.items.won, between.items.lost) == (1, 0)
        assert replay.items.p_value == pytest.approx(2 * 0.5**9)
        assert replay.items.p_holm == pytest.approx(2 * replay.items.p_value), "two comparisons"
        assert replay.prose.change < 0
        assert replay.gain
        assert replay.gain.difference < 0

    def test_the_sentence_says_what_was_kept_and_what_it_cost(self, report: Report) -> None:
        assert report.forgetting
        replay, between = report.forgetting.effects
        assert replay.sentence.startswith(
            "With replay 0.1, full-replay gets 9 of 80 probe items right that full gets wrong, and 0 the other way "
            "round (p = 0.008); prose costs "
        )
        assert re.search(r"; it gains \d+\.\d ROUGE-1 points less\.$", replay.sentence)
        assert between.sentence.endswith("; a difference in ROUGE-1 cannot be shown.")

    def test_the_headline_ends_with_the_one_that_kept_most(self, report: Report) -> None:
        assert report.forgetting
        assert report.headline[-1] == report.forgetting.effects[0].sentence

    def test_where_none_is_sure_the_headline_says_so(self, report: Report) -> None:
        assert report.forgetting
        assert effect_sentence(report.forgetting.effects[1:]) == (
            "No cure can be shown to keep more of the 80 probe items than the same candidate without it (tried: "
            "average 0.6, searched).",
        )
        assert effect_sentence(()) == ()

    def test_table_and_plot_show_them(self, report: Report) -> None:
        view = forgetting_view(report)
        assert view
        assert [one.cures for one in view.candidates] == ["", "", "replay 0.1", "average 0.6, searched"]
        assert all(re.fullmatch(r"\+\d+\.\d", one.gain[0]) and " to " in one.gain[1] for one in view.candidates)
        assert view.plots[0][1].count('class="thin') == 2, "from full to each of its cured twins"
        page = render(report)
        assert "What settings against forgetting brought" in page
        assert "A thin line leads from a candidate to the same one" in page
        assert "Gain<small>ROUGE-1, points of 100</small>" in page
        assert "full-between: 0.60 of what was tuned, 0.40 of the base" in page
        assert "0.6 (taken)" in page

    def test_without_cures_there_is_no_such_table(self, tmp_path: Path) -> None:
        page = render(gather(write_run(tmp_path / "plain")))
        assert "What settings against forgetting brought" not in page
        assert "A thin line" not in page
        assert 'id="in-turn"' not in page

    def test_the_report_can_be_read_again(self, report: Report) -> None:
        text = report.model_dump_json()
        assert Report.model_validate_json(text) == report
        assert len(json.loads(text)["forgetting"]["effects"]) == 2


def sheet(task: str, value: float, metric: str = "accuracy") -> ScoreSheet:
    score = Score(
        task=task, metric=metric, value=value, unit="%", higher_is_better=True, n=10, n_empty=0, low=value - 9,
        high=value + 9, signature="",
    )  # fmt: skip
    other = score.model_copy(update={"metric": "brier", "unit": "squared error", "higher_is_better": False})
    return ScoreSheet(
        candidate="lora", task=task, example_ids=(), groups=(), scores=(other, score), per_example={}
    )  # fmt: skip


class TestTasksInTurn:
    ROWS = ((20.0, 30.0), (90.0, 35.0), (70.0, 80.0))

    def sheets(self) -> list[dict[str, ScoreSheet]]:
        return [{"a": sheet("a", a), "b": sheet("b", b)} for a, b in self.ROWS]

    def test_the_measures_are_those_of_the_formulas(self) -> None:
        found = in_turn("lora", ("a", "b"), self.sheets())
        assert found
        assert [[score.value for score in row] for row in found.rows] == [list(row) for row in self.ROWS]
        assert (found.average, found.backward, found.forward, found.forgetting) == (75.0, -20.0, 5.0, 20.0)

    def test_it_ends_with_the_first_row_that_is_not_whole(self) -> None:
        sheets = self.sheets()
        del sheets[1]["b"]
        found = in_turn("lora", ("a", "b"), sheets)
        assert found
        assert (len(found.rows), found.average, found.backward) == (1, None, None)
        assert in_turn("lora", ("a", "b"), [{}, *sheets]) is None

    def test_a_row_takes_the_first_metric_that_counts_to_100(self) -> None:
        assert row_metric(["brier", "mcc", "macro-f1", "accuracy"]) == "macro-f1"
        assert row_metric(["bleu", "rouge1"]) == "bleu"
        assert row_metric(["ter", "length-ratio", "perplexity"]) is None

    def test_the_page_shows_rows_with_intervals_and_measures(self, report: Report) -> None:
        found = in_turn("lora", ("a", "b"), self.sheets())
        assert found
        whole = report.model_copy(update={"in_turn": (found,)})
        (view,) = in_turn_view(whole)
        assert [row.after for row in view.rows] == ["base, before any", "1. a", "2. b"]
        assert [[cell.learned for cell in row.cells] for row in view.rows] == [
            [False, False], [True, False], [False, True],
        ]  # fmt: skip
        assert view.rows[1].cells[0].interval == "81.0 to 99.0"
        assert dict(view.measures) == {
            "mean after all tasks": "75.0", "backward transfer": "\N{MINUS SIGN}20.0", "forgetting (Chaudhry)": "+20.0",
            "forward transfer": "+5.0",
        }  # fmt: skip
        page = render(whole)
        assert '<section id="in-turn"' in page
        assert "<b>90.0</b>" in page
