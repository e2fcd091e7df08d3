import json
import re
from xml.etree import ElementTree

import pytest
from run_folder import SKILL

from tunesmith.metrics.measures import Measures, measure_sheet
from tunesmith.records import Example, Prediction
from tunesmith.reporting.beyond import beyond_average, reliability
from tunesmith.reporting.beyond_view import beyond_view, diagram
from tunesmith.reporting.contents import Beyond, Report
from tunesmith.reporting.gather import gather
from tunesmith.reporting.html import render
from tunesmith.reporting.task import Answers, task_report
from tunesmith.rundir import RunDir, read_record


def text_of(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page[page.index('id="beyond"') : page.index('id="cost"')]).split())


def ranked(report: Report) -> tuple[Report, Beyond]:
    """The report of a task with choices: two candidates, one of them far too sure of itself."""
    examples, answers, measures = [], [], []
    for n in range(40):
        right = ("yes", "no")[n % 2]
        examples.append(
            Example(
                id=str(n), task="t", split="test", prompt="?", target=right, references=(right,), choices=("yes", "no")
            )
        )
    for name, sure in (("zero-shot", -0.7), ("lora", -0.01)):
        found = [
            Prediction(example_id=str(n), text="yes", prompt_tokens=1, new_tokens=0, finish="choice",
                       choice_logprobs={"yes": sure - n / 1000, "no": -5.0 if sure > -0.1 else -0.7}) for n in range(40)
        ]  # fmt: skip
        answers.append(Answers(name, "t", {one.example_id: one for one in found}))
        sheet = measure_sheet(examples, found, candidate=name, task="t")
        measures.append(Measures(candidate=name, task="t", sheet=sheet))
    beyond = beyond_average(examples, answers, measures, seed=0)
    task = task_report("t", examples, answers=answers, sheets=[], comparisons=[])
    both = tuple(one for one in report.candidates if one.name in ("zero-shot", "lora"))
    changed = {"candidates": both, "tasks": (task.model_copy(update={"beyond": beyond}),), "forgetting": None}
    return report.model_copy(update=changed), beyond


def test_everything_measured_is_in_the_report(report: Report, run: RunDir) -> None:
    found = report.tasks[0].beyond
    assert found is not None
    assert list(found.scores) == list(found.worst) == list(SKILL)
    assert found.reliability == {}
    for name in SKILL:
        kept = read_record(run.candidate(name).measures("summarize"), Measures)
        assert kept.sheet is not None
        assert (found.scores[name], found.worst[name]) == (kept.sheet.scores, kept.worst)
    assert {one.metric for one in found.comparisons} == {score.metric for score in found.scores["lora"]}


def test_every_invention_stands_with_its_example(report: Report) -> None:
    found = report.tasks[0].beyond
    assert found is not None
    share = {score.metric: score.value for score in found.scores["lora"]}
    own = [one for one in found.inventions if one.candidate == "lora"]
    assert share["invented-numbers"] == pytest.approx(100 * sum(bool(one.numbers) for one in own) / 40)
    assert share["invented-entities"] == pytest.approx(100 * sum(bool(one.names) for one in own) / 40)
    assert {one.example_id for one in own} <= {row.id for row in report.tasks[0].examples}


def test_costs_of_an_answer_are_in_the_report(report: Report) -> None:
    (first, *_) = report.candidates
    assert first.predict is not None
    assert first.seconds_per_answer == pytest.approx(first.predict.seconds / 40)
    assert first.flops_per_answer == pytest.approx(9.1e9)
    assert json.loads(report.model_dump_json())["candidates"][0]["flops_per_answer"] == pytest.approx(9.1e9)


def test_bins_hold_confidence_accuracy_and_interval() -> None:
    bins = reliability([(0.5 + n / 100, float(n >= 10)) for n in range(20)])
    assert [one.n for one in bins] == [2] * 10
    assert bins[0].confidence == pytest.approx(50.5)
    assert [one.accuracy for one in bins] == [0] * 5 + [100] * 5
    assert (bins[0].low, bins[-1].high) == (0, 100)
    assert 0 < bins[0].high < 100
    assert [one.n for one in reliability([(0.7, 1.0)] * 5)] == [5]


def test_the_page_shows_originals_worst_cases_and_their_interval(page: str, report: Report) -> None:
    text = text_of(page)
    beyond = report.tasks[0].beyond
    assert beyond is not None
    case = beyond.worst["lora"][0]
    assert case.metric == "rouge1"
    for value in (case.original, case.worst, case.worst_low, case.worst_high):
        assert f"{value:.1f}" in text
    assert f"n = 12, of which {case.changed} were changed by at least one kind" in text
    expected = [
        "Robustness",
        "Fairness",
        "lower-case",
        "typos",
        "first-names",
        "The other metrics: 1",
        "The largest losses, with both answers",
        "answers with invented numbers",
        "longest repeat",
    ]
    assert [words for words in expected if words not in text] == []


def test_the_losses_are_those_of_the_first_metric(report: Report) -> None:
    view = beyond_view(report, report.tasks[0])
    beyond = report.tasks[0].beyond
    assert view is not None
    assert beyond is not None
    shown = [loss for _, loss in view.families[0].losses]
    assert shown == [loss for name in SKILL for loss in beyond.worst[name][0].losses]
    assert [family.name for family in view.families] == ["robustness", "fairness"]


def test_a_run_of_an_older_version_has_a_page_without_this_part(run: RunDir) -> None:
    for name in SKILL:
        run.candidate(name).measures("summarize").unlink()
        path = run.candidate(name).predict_result
        old = json.loads(path.read_text(encoding="utf-8"))
        del old["answers"], old["flops"]
        path.write_text(json.dumps(old), encoding="utf-8")
    found = gather(run)
    assert [one.missing for one in found.candidates] == [()] * 4
    assert [one.flops_per_answer for one in found.candidates] == [None] * 4
    page = render(found)
    assert 'id="beyond"' not in page
    assert "#beyond" not in page


def test_damaged_measures_are_named(run: RunDir) -> None:
    path = run.candidate("lora").measures("summarize")
    path.write_text("{}", encoding="utf-8")
    (problem,) = gather(run).candidates[2].missing
    assert problem.startswith(f"{path}: not a Measures as this version writes it (")


def test_choices_have_reliability_diagrams(report: Report) -> None:
    changed, beyond = ranked(report)
    assert list(beyond.reliability) == ["zero-shot", "lora"]
    assert beyond.inventions == ()
    text = text_of(render(changed))
    for words in ("Accuracy against confidence", "ECE", "selective accuracy", "Brier score"):
        assert words in text, words
    ece = {name: scores[0].value for name, scores in beyond.scores.items()}
    assert ece["lora"] > 40 > ece["zero-shot"]
    assert any(one.metric == "ece" and one.better == "zero-shot" for one in beyond.comparisons)


def test_a_diagram_has_a_marker_for_each_bin_and_the_line_of_equality(report: Report) -> None:
    bins = reliability([(0.3 + n / 60, float(n % 3 == 0)) for n in range(40)])
    root = ElementTree.fromstring(str(diagram("lora", bins, 1)))
    assert len([one for one in root.iter("polygon") if "mark" in one.attrib["class"]]) == len(bins) == 10
    assert len([one for one in root.iter("path") if one.attrib["class"] == "outline"]) == 1
    assert root.attrib["aria-label"].startswith("lora: accuracy against confidence in %. ")
    ticks = ["".join(one.itertext()) for one in root.iter("text")]
    assert "confidence, %" in ticks
    assert {"40", "100"} <= set(ticks)


def test_names_of_candidates_stay_text(report: Report) -> None:
    changed, _ = ranked(report)
    bad = "<b>x</b>"
    page = render(Report.model_validate_json(changed.model_dump_json().replace('"lora"', json.dumps(bad))))
    assert bad not in page[page.index('id="beyond"') : page.index('id="cost"')]
