"""The page in a real browser: that its script runs, that hostile text does not, that it fits a phone."""

import re
from pathlib import Path

import pytest
from chromium import Chromium

from tunesmith.reporting.contents import Report
from tunesmith.reporting.gather import gather
from tunesmith.reporting.html import write_html
from tunesmith.rundir import RunDir

pytestmark = pytest.mark.browser

CHANGES = (
    "[...document.querySelectorAll('#list .change')].map((one) => Number(one.textContent.replace('\\u2212', '-')))"
)
CURRENT = "document.querySelector('#list [aria-current]').dataset.place"


@pytest.fixture(scope="module")
def written(page: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


@pytest.fixture
def opened(chromium: Chromium, written: Path) -> Chromium:
    chromium.open(written)
    return chromium


def test_the_script_runs_and_the_browser_complains_of_nothing(opened: Chromium) -> None:
    assert opened.run("document.documentElement.dataset.script") == "ready"
    assert opened.problems == []


def test_nothing_but_the_file_itself_is_asked_for(opened: Chromium, written: Path) -> None:
    assert opened.requests == [written.as_uri()]


def test_the_list_fills_and_the_first_example_is_shown(opened: Chromium) -> None:
    assert opened.run("document.querySelectorAll('#list li').length") == 40
    assert opened.run("document.querySelectorAll('#example .block').length") >= 5
    assert opened.run("document.querySelector('#found').textContent") == "40 examples"


def test_no_hostile_text_runs_in_any_example(opened: Chromium) -> None:
    opened.run("document.querySelectorAll('#list button').forEach((one) => one.click())")
    assert opened.run("document.documentElement.dataset.pwned ?? 'no'") == "no"
    assert opened.run("document.querySelectorAll('#examples :is(script, img, iframe, link, a)').length") == 0
    assert opened.problems == []


def test_the_policy_stops_a_script_that_gets_into_the_page(opened: Chromium) -> None:
    opened.run(
        "const late = document.createElement('div');"
        'late.innerHTML = \'<img src="x:" onerror="document.documentElement.dataset.pwned=1">\';'
        "document.body.append(late); const two = document.createElement('script');"
        "two.textContent = 'document.documentElement.dataset.pwned=2'; document.body.append(two)"
    )
    assert opened.run("document.documentElement.dataset.pwned ?? 'no'") == "no"


def test_order_runs_from_the_largest_loss_to_the_largest_gain(opened: Chromium) -> None:
    changes = opened.run(CHANGES)
    assert changes == sorted(changes)
    opened.run("order.value = 'gain'; order.dispatchEvent(new Event('change'))")
    assert opened.run(CHANGES) == changes[::-1]


def test_where_lower_is_better_a_rise_is_a_loss(report: Report, tmp_path: Path, chromium: Chromium) -> None:
    # no metric of today has both a value per example and less as its better side
    text = report.model_dump_json().replace('"rouge1"', '"errors"')
    turned = re.sub(r'("metric":"errors".{0,80}?"higher_is_better":)true', r"\1false", text)
    write_html(Report.model_validate_json(turned), tmp_path / "report.html")
    chromium.open(tmp_path / "report.html")
    sides = chromium.run("[...document.querySelectorAll('#list .change')].map((one) => one.className)")
    changes = chromium.run(CHANGES)
    assert changes == sorted(changes, reverse=True)
    assert (sides[0], sides[-1]) == ("change down", "change up") if changes[-1] < 0 else sides[0] == "change down"


def test_finding_text_narrows_the_list(opened: Chromium) -> None:
    opened.run("filter.value = 'CHATS.CSV:17'; filter.dispatchEvent(new Event('input'))")
    assert opened.run("document.querySelector('#found').textContent") == "1 of 40 examples"
    assert opened.run("document.querySelector('#example h3').textContent") == "summarize/test/chats.csv:17"
    opened.run("filter.value = 'nowhere'; filter.dispatchEvent(new Event('input'))")
    assert opened.run("document.querySelector('#example').textContent") == "No example has this text."


def test_keys_go_to_the_next_and_the_previous_example(opened: Chromium) -> None:
    opened.run("document.querySelector('#examples').scrollIntoView({behavior: 'instant'})")
    for key, place in (("j", "1"), ("ArrowRight", "2"), ("k", "1"), ("ArrowLeft", "0"), ("ArrowLeft", "0")):
        opened.press(key)
        assert opened.run(CURRENT) == place
    opened.run("filter.focus()")
    opened.press("j")
    assert opened.run(CURRENT) == "0"


def test_shared_words_are_marked_in_two_strengths(opened: Chromium) -> None:
    marked = opened.run(
        "[...document.querySelectorAll('#example mark')].every((one) => "
        "one.className === 'n2' ? one.textContent.trim().length > 0 : !one.textContent.includes(' '))"
    )
    assert marked
    assert opened.run("document.querySelectorAll('#example mark.n1').length") > 0
    assert opened.run("document.querySelectorAll('#example mark.n2').length") > 0


def test_words_are_marked_as_often_as_the_reference_has_them(run: RunDir, chromium: Chromium) -> None:
    report = gather(run)
    (task,) = report.tasks
    answer = task.examples[0].answers["lora"].model_copy(update={"text": "Cold cold, it IS cold — weit"})
    example = task.examples[0].model_copy(update={"references": ("It is cold outside.",), "answers": {"lora": answer}})
    changed = task.model_copy(update={"examples": (example,)})
    write_html(report.model_copy(update={"tasks": (changed,)}), run.report_html)
    chromium.open(run.report_html)
    marks = "[...document.querySelectorAll('#example mark')].map((one) => one.className + ' ' + one.textContent)"
    assert chromium.run(marks) == ["n2 it IS cold"]


def test_the_theme_button_goes_from_the_system_to_light_to_dark(opened: Chromium) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    light = opened.run(paper)
    seen = []
    for _ in range(3):
        opened.run("theme.click()")
        seen.append((opened.run("theme.textContent"), opened.run(paper) == light))
    assert seen == [("Colours: light", True), ("Colours: dark", False), ("Colours: auto", True)]


@pytest.mark.parametrize("width", [360, 800, 1280])
def test_the_page_is_never_wider_than_the_window(chromium: Chromium, written: Path, width: int) -> None:
    chromium.open(written, width=width)
    chromium.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert chromium.run("innerWidth") == width
    assert chromium.run("document.documentElement.scrollWidth") <= width


def test_dark_is_dark_when_the_system_says_so(chromium: Chromium, written: Path) -> None:
    chromium.open(written, dark=True)
    red, green, blue = eval(chromium.run("getComputedStyle(document.body).backgroundColor").removeprefix("rgb"))
    assert max(red, green, blue) < 60


def test_on_paper_everything_is_unfolded(opened: Chromium) -> None:
    opened.run("dispatchEvent(new Event('beforeprint'))")
    assert opened.run("document.querySelectorAll('details:not([open])').length") == 0
    opened.run("dispatchEvent(new Event('afterprint'))")
    assert opened.run("document.querySelectorAll('details[open]').length") == 0


def test_a_run_that_has_only_begun_opens_without_an_error(run: RunDir, chromium: Chromium) -> None:
    run.examples("test").unlink()
    write_html(gather(run), run.report_html)
    chromium.open(run.report_html)
    assert chromium.run("document.documentElement.dataset.script") == "ready"
    assert chromium.problems == []
