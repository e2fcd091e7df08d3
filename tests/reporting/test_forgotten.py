import re
from html import unescape

import pytest
from run_folder import HOSTILE, RECIPE, write_recipe

from tunesmith.forgetting.compared import Forgotten, SkillChange
from tunesmith.probe_records import Probe, ProbeResult
from tunesmith.recipe import recipe_from_text
from tunesmith.reporting.contents import Report
from tunesmith.reporting.forgotten import gain_of, in_words
from tunesmith.reporting.forgotten_view import forgetting_view
from tunesmith.reporting.gather import NOT_PROBED, gather
from tunesmith.reporting.html import render
from tunesmith.reporting.pairs import compare_pairs, tuned_pairs
from tunesmith.reporting.pairs import in_words as pair_in_words
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
            "(2 lost, 0 won, p = 0.500). Its largest loss in one skill, 2 of 40 items of entities, cannot be relied on "
            "(p = 0.500 by itself, p = 1.000 among 2 skills)."
        )

    def test_a_loss_over_all_skills_may_be_sure_where_no_single_one_is(self, report: Report) -> None:
        full = changed(report, "full")
        weak = tuple(one.model_copy(update={"p_holm": 0.2}) for one in full.shipped)
        assert in_words(full.model_copy(update={"skills": weak}), None, None) == (
            "full lost some of the 80 probe items (9 lost, 0 won, p = 0.004), though in no skill by itself that can be "
            "shown. Its largest loss in one skill, 9 of 40 items of entities, cannot be relied on (p = 0.004 by "
            "itself, p = 0.200 among 2 skills)."
        )

    def test_own_tasks_are_told_apart_and_in_their_own_unit(self, report: Report) -> None:
        full = changed(report, "full")
        assert in_words(full, None, None).endswith(
            "corrected for 2 skills). In tasks of your own it lost 9.0 ROUGE-1 points in own-sums (p < 0.001)."
        )
        task = skill(full, "own-sums")
        kept = task.model_copy(update={"p_value": 0.3, "p_holm": 0.6, "skill": "moods"})
        lacked = task.model_copy(update={"had": False, "skill": "sums"})
        own = full.model_copy(update={"skills": (*full.shipped, kept, lacked)})
        assert in_words(own, None, None).endswith(
            "In tasks of your own it lost nothing that the 40 items of moods can show (p = 0.600, corrected for 2 "
            "tasks); it had nothing to lose in sums, which the base does no better than a blind guess."
        )

    def test_what_the_base_cannot_do_is_no_part_of_the_claim(self, report: Report) -> None:
        lora = changed(report, "lora")
        entities, facts = (one.model_copy(update={"had": False}) for one in lora.shipped)
        fewer = lora.all.model_copy(update={"n": 40})
        some = lora.model_copy(update={"skills": (entities, lora.shipped[1]), "all": fewer})
        assert in_words(some, None, None) == (
            "lora lost nothing that the 40 probe items of the 1 skill that the base has can show (2 lost, 0 won, "
            "p = 0.500)."
        )
        untold = lora.all.model_copy(update={"had": False})
        none = lora.model_copy(update={"skills": (entities, facts), "all": untold})
        gain, score = gain_of(report.tasks, "lora")
        assert gain
        assert in_words(none, gain, score) == (
            f"lora gained {gain.difference:.1f} ROUGE-1 points. What lora forgot cannot be told: the base does no "
            "skill of the probe better than a blind guess."
        )

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
        assert marks == {"lora": [False, False], "full": [True, False]}
        assert [row.forgotten for one in view.candidates for row in one.own] == [True, True]

    def test_the_plot_names_every_candidate_and_says_in_words_what_it_shows(self, report: Report) -> None:
        view = forgetting_view(report)
        assert view
        (name, shipped), (own_name, own) = view.plots
        assert (name, own_name) == ("probe items", "own-sums")
        assert "full: gain" in shipped
        assert "forgotten +11.2." in shipped
        assert "own-sums: before, less after, ROUGE-1, points of 100" in own
        assert "forgotten +9.0." in own
        assert [one.count('class="mark') for one in (shipped, own)] == [2, 2]

    def test_without_a_comparison_there_is_no_plot(self, report: Report) -> None:
        alone = tuple(task.model_copy(update={"comparisons": ()}) for task in report.tasks)
        view = forgetting_view(report.model_copy(update={"tasks": alone}))
        assert view
        assert view.plots == ()
        assert "Gain against forgetting" not in section(render(report.model_copy(update={"tasks": alone})))

    def test_own_tasks_stand_open_in_a_table_of_their_own(self, page: str) -> None:
        table, *_ = section(page).partition("Your own tasks to keep</h3>")[2].partition("</table>")
        assert table.count("own-sums<small>40 items; ROUGE-1, points of 100</small>") == 2
        assert "the tasks that\nyou want kept have a table of their own" in section(page)

    def test_what_the_base_cannot_do_is_named(self, run: RunDir) -> None:
        path = run.candidate("zero-shot").probe_result
        result = read_record(path, ProbeResult)
        for lacked, said in (("facts", "and a loss cannot show: facts."), ("", "The prose can.")):
            answers = tuple(
                one.model_copy(update={"value": 100.0 * (int(one.item[-2:]) % 4 == 0)})
                if one.item.startswith(lacked) and not one.item.startswith("own")
                else one
                for one in result.answers
            )
            write_record(path, result.model_copy(update={"answers": answers}))
            found = gather(run)
            shown = section(render(found))
            assert said in shown
            assert "the base cannot do this, so a loss cannot show" in shown
            assert changed(found, "full").all.n == (40 if lacked else 80)


class TestTunedCandidatesBesideEachOther:
    def test_each_pair_is_compared_on_the_same_items_and_prose(self, report: Report) -> None:
        assert report.forgetting
        (pair,) = report.forgetting.pairs
        assert (pair.candidate, pair.than) == ("lora", "full"), "full tuning is what others stand beside"
        assert (pair.items.won, pair.items.lost, pair.items.n) == (7, 0, 80)
        assert pair.items.p_value == pair.items.p_holm == pytest.approx(2 * 0.5**7)
        full, lora = changed(report, "full").prose, changed(report, "lora").prose
        assert pair.prose.change == pytest.approx(lora.after - full.after)
        assert pair.prose.high < 0
        assert pair.gain
        assert (pair.gain.better, pair.gain.than) == ("lora", "full")
        assert pair_in_words(pair).startswith(
            "lora gets 7 of 80 probe items right that full gets wrong, and 0 the other way round (p = 0.016); prose "
        )

    def test_the_page_has_them_in_a_table(self, page: str) -> None:
        table, *_ = section(page).partition("Tuned candidates beside each other</h3>")[2].partition("</table>")
        assert "<td>full</td>" in table

    def test_all_pairs_of_a_few_and_of_many_each_beside_one(self, report: Report) -> None:
        names = [f"lora-{n}" for n in range(7)]
        text = RECIPE + "".join(f"  {name}: {{method: lora, rank: {n + 1}}}\n" for n, name in enumerate(names))
        recipe = recipe_from_text(text)
        few = tuned_pairs(recipe, ["lora", "lora-0", "full"], report.tasks, cured=(), known=[{"full", "lora-0"}])
        assert few == [("lora", "full"), ("lora-0", "lora")], "what is known is left out"
        many = tuned_pairs(recipe, [*names, "full"], report.tasks, cured=(), known=())
        assert many == [(name, "full") for name in names]
        without = tuned_pairs(recipe, [*names, "lora"], report.tasks, cured=(), known=())
        assert without == [(name, "lora") for name in names], "without full tuning, that which gained most"
        assert tuned_pairs(recipe, [], report.tasks, cured=(), known=()) == []

    def test_the_tests_are_corrected_for_the_number_of_pairs(self, run: RunDir) -> None:
        probe, names = read_record(run.probe, Probe), ("zero-shot", "lora", "full")
        results = {name: read_record(run.candidate(name).probe_result, ProbeResult) for name in names}
        found = compare_pairs(probe, results, (), [("lora", "full"), ("full", "lora")], seed=0)
        assert [one.items.p_holm for one in found] == pytest.approx([4 * 0.5**7] * 2)
        assert [one.gain for one in found] == [None, None]
