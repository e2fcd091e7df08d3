import re
from html import unescape

import pytest
from run_folder import HOSTILE, RECIPE, write_recipe

from tunesmith.forgetting.compared import Forgotten, SkillChange
from tunesmith.probe_records import ProbeResult
from tunesmith.reporting.contents import Report
from tunesmith.reporting.forgotten import gain_of, in_words
from tunesmith.reporting.forgotten_view import forgetting_view
from tunesmith.reporting.gather import NOT_PROBED, gather
from tunesmith.reporting.html import render
from tunesmith.rundir import RunDir, read_record, write_record


def changed(report: Report, name: str) -> Forgotten:
    assert report.forgetting is not None
    return next(one for one in report.forgetting.changes if one.candidate == name)


def section(page: str) -> str:
    found = re.search(r'<section id="forgetting".*?</section>', page, re.DOTALL)
    assert found
    return found[0]


def skill(change: Forgotten, name: str) -> SkillChange:
    return next(one for one in change.skills if one.skill == name)


class TestWhatIsCompared:
    def test_every_tuned_candidate_with_the_base(self, report: Report) -> None:
        assert report.forgetting
        assert [one.candidate for one in report.forgetting.changes] == ["lora", "full"]

    def test_the_counts_are_those_of_the_files(self, report: Report) -> None:
        full = changed(report, "full")
        assert (full.all.n, full.all.lost, full.all.won) == (80, 9, 0)
        assert [(one.skill, one.lost) for one in full.skills] == [("entities", 9), ("facts", 0), ("own-sums", None)]
        assert [item.id for item in full.lost] == [f"entities-{n:02d}" for n in range(1, 10)]
        assert skill(full, "own-sums").change == pytest.approx(-9.0)

    def test_a_run_from_before_the_probe_is_reported_and_says_what_is_missing(self, run: RunDir) -> None:
        run.probe.unlink()
        for path in run.root.glob("candidates/*/probe.json"):
            path.unlink()
        found = gather(run)
        assert found.forgetting
        assert found.forgetting.changes == ()
        assert [one.missing for one in found.candidates] == [
            (NOT_PROBED,), (), (NOT_PROBED,), (NOT_PROBED,),
        ]  # fmt: skip
        assert "Nothing can be compared yet" in section(render(found))

    def test_a_recipe_may_do_without(self, run: RunDir) -> None:
        write_recipe(run, RECIPE + "forgetting: off\n")
        (run.candidate("full").probe_result).unlink()
        found = gather(run)
        assert found.forgetting is None
        assert [one.missing for one in found.candidates] == [()] * 4
        assert "forgetting: off" in section(render(found))
        assert not any("probe" in sentence for sentence in found.headline)

    def test_a_result_of_another_probe_is_left_out_and_named(self, run: RunDir) -> None:
        path = run.candidate("lora").probe_result
        write_record(path, read_record(path, ProbeResult).model_copy(update={"probe": "00"}))
        found = gather(run)
        assert found.forgetting
        assert ([one.candidate for one in found.forgetting.changes], found.forgetting.stale) == (["full"], ("lora",))
        assert "asked something else than the base was: lora." in section(render(found))


class TestTheWords:
    def test_a_sure_loss_is_named_with_its_skill(self, report: Report) -> None:
        found = changed(report, "full")
        gain, score = gain_of(report.tasks, "full")
        assert gain
        assert in_words(found.model_copy(update={"skills": found.skills[:2]}), gain, score) == (
            f"full gained {gain.difference:.1f} ROUGE-1 points and lost 9 of 40 items of entities (p = 0.008, "
            "corrected for 2 skills)."
        )

    def test_further_skills_are_counted(self, report: Report) -> None:
        entities = skill(changed(report, "full"), "entities")
        both = entities.model_copy(update={"skill": "facts", "change": entities.change - 1, "lost": 10, "won": 1})
        found = changed(report, "full").model_copy(update={"skills": (entities, both)})
        assert in_words(found, None, None) == (
            "full lost 10 and won 1 of 40 items of facts (p = 0.008, corrected for 2 skills), and some in 1 more skill."
        ).replace("p = 0.008", f"p = {both.p_holm:.3f}")

    def test_no_loss_is_claimed_that_is_not_shown(self, report: Report) -> None:
        lora = changed(report, "lora")
        found = lora.model_copy(update={"skills": lora.skills[:2]})
        gain, score = gain_of(report.tasks, "lora")
        assert gain
        assert in_words(found, gain, score) == (
            f"lora gained {gain.difference:.1f} ROUGE-1 points and lost nothing that the 80 probe items can show "
            "(2 lost, 0 won, p = 0.500)."
        )

    def test_a_loss_over_all_skills_may_be_sure_where_no_single_one_is(self, report: Report) -> None:
        full = changed(report, "full")
        weak = tuple(one.model_copy(update={"p_holm": 0.2}) for one in full.skills)
        assert in_words(full.model_copy(update={"skills": weak}), None, None) == (
            "full lost some of the 80 probe items (9 lost, 0 won, p = 0.004), though in no skill by itself that can be "
            "shown."
        )

    def test_a_task_without_right_and_wrong_is_told_in_its_own_unit(self, report: Report) -> None:
        full = changed(report, "full")
        own = full.model_copy(update={"skills": (skill(full, "own-sums"),)})
        assert in_words(own, None, None).startswith("full lost 9.0 ROUGE-1 points in own-sums (p < 0.001")

    def test_a_gain_that_is_not_shown_or_is_a_loss_is_called_so(self, report: Report) -> None:
        full = changed(report, "full")
        gain, score = gain_of(report.tasks, "full")
        assert gain
        unsure = gain.model_copy(update={"low": -1.0, "p_value": 0.3})
        worse = gain.model_copy(update={"difference": -3.0, "low": -5.0, "high": -1.0, "p_value": 0.001})
        assert in_words(full, unsure, score).startswith("full gained nothing that can be shown in ROUGE-1 and lost ")
        assert in_words(full, worse, score).startswith("full lost 3.0 ROUGE-1 points and lost ")

    def test_the_headline_ends_with_the_tuned_candidate_that_gained_most(self, report: Report) -> None:
        assert report.forgetting
        gains = {name: gain_of(report.tasks, name)[0] for name in ("lora", "full")}
        best = max(gains, key=lambda name: gains[name].difference if gains[name] else 0)  # type: ignore[union-attr]
        assert report.headline[-1] == report.forgetting.sentences[["lora", "full"].index(best)]


class TestThePage:
    def test_each_candidate_has_its_row_its_skills_and_its_lost_items(self, report: Report, page: str) -> None:
        shown = section(page)
        assert report.forgetting
        for change, said in zip(report.forgetting.changes, report.forgetting.sentences, strict=True):
            assert said in unescape(shown)
            for one in change.skills:
                assert f"{one.skill}<small>{one.n} items" in shown
            for item in change.lost:
                assert f"<td>{item.id}</td>" in shown
        assert shown.count("a blind guess: 25 %") >= 3
        assert 'href="#forgetting"' in page

    def test_hostile_questions_and_answers_are_text(self, page: str) -> None:
        shown = section(page)
        assert "<script" not in shown
        assert "<img" not in shown
        assert "<iframe" not in shown
        assert HOSTILE[0].replace("<", "&lt;").replace(">", "&gt;").replace("'", "&#39;") in shown

    def test_only_losses_that_can_be_relied_on_are_coloured(self, report: Report) -> None:
        view = forgetting_view(report)
        assert view
        marks = {one.report.candidate: [row.forgotten for row in one.skills] for one in view.candidates}
        assert marks["full"] == [True, False, True]
        assert marks["lora"][:2] == [False, False]

    def test_the_plot_names_every_candidate_and_says_in_words_what_it_shows(self, report: Report) -> None:
        view = forgetting_view(report)
        assert view
        assert "full: gain" in view.plot
        assert "forgotten +11.2 %" in view.plot
        assert view.plot.count('class="mark') == 2

    def test_without_a_comparison_there_is_no_plot(self, report: Report) -> None:
        alone = tuple(task.model_copy(update={"comparisons": ()}) for task in report.tasks)
        view = forgetting_view(report.model_copy(update={"tasks": alone}))
        assert view
        assert view.plot == ""
        assert "Gain against forgetting" not in section(render(report.model_copy(update={"tasks": alone})))
