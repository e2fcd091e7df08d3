import json
import re
from base64 import b64encode
from collections import Counter
from hashlib import sha256
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from run_folder import HOSTILE, RECIPE, SCRIPT

from tunesmith.records import Leak, Score
from tunesmith.reporting.browser import browser_json
from tunesmith.reporting.contents import ExampleRow, Report
from tunesmith.reporting.gather import gather
from tunesmith.reporting.html import LIST_LIMIT, TEMPLATES, render, write_html
from tunesmith.rundir import RunDir

VOID = {"meta", "input", "br", "hr", "img", "link"}


class Outline(HTMLParser):
    """Elements, attributes and visible text of a page; fails where elements are not nested."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("script", "style"):
            self.scripts.append((self.elements[-1][1] | {"tag": self.open[-1]}, data))
        else:
            self.text += data


@pytest.fixture(scope="module")
def outline(page: str) -> Outline:
    return Outline(page)


def embedded(page: str) -> dict[str, list[object]]:
    found = re.search(r'<script type="application/json" id="report-data">(.*?)</script>', page, re.DOTALL)
    assert found
    data: dict[str, list[object]] = json.loads(found[1])
    return data


def test_elements_are_nested_and_closed(outline: Outline) -> None:
    assert outline.open == []


def test_every_id_is_used_once_and_every_link_leads_to_one(outline: Outline) -> None:
    ids = Counter(attributes["id"] for _, attributes in outline.elements if "id" in attributes)
    assert [name for name, times in ids.items() if times > 1] == []
    for _, attributes in outline.elements:
        for key in ("aria-labelledby", "for"):
            assert attributes.get(key) in {None, *ids}
        if "href" in attributes:
            assert str(attributes["href"]).removeprefix("#") in ids


def test_nothing_is_loaded_from_anywhere(outline: Outline) -> None:
    tags = {tag for tag, _ in outline.elements}
    assert not tags & {"link", "img", "iframe", "object", "embed", "base", "audio", "video", "image", "use"}
    for _, attributes in outline.elements:
        assert not {"src", "srcset", "srcdoc", "action", "xlink:href", "data", "poster"} & set(attributes)
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    assert "url(" not in style
    assert "@import" not in style


def test_no_address_of_the_network_is_in_the_page(page: str) -> None:
    assert "http://" not in page
    assert "https://" not in page


def test_the_policy_allows_one_style_and_one_script_by_their_hashes(outline: Outline) -> None:
    policies = [a["content"] for tag, a in outline.elements if a.get("http-equiv") == "Content-Security-Policy"]
    style = next(text for attributes, text in outline.scripts if attributes["tag"] == "style")
    (script,) = [text for a, text in outline.scripts if a["tag"] == "script" and a.get("type") != "application/json"]
    hashes = [b64encode(sha256(text.encode()).digest()).decode() for text in (script, style)]
    assert policies == [
        f"default-src 'none'; script-src 'sha256-{hashes[0]}'; style-src 'sha256-{hashes[1]}'; "
        "base-uri 'none'; form-action 'none'"
    ]


def test_the_policy_stands_before_all_that_it_governs(page: str) -> None:
    assert page.index("Content-Security-Policy") < page.index("<style>") < page.index("<script")


def test_there_are_no_handlers_and_no_styles_in_attributes(outline: Outline) -> None:
    for _, attributes in outline.elements:
        assert [name for name in attributes if name.startswith("on") or name == "style"] == []


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_in_the_page_only_escaped(page: str, text: str) -> None:
    raw = text if "<" in text else None
    assert raw is None or raw not in page
    assert any(text in str(one) for one in embedded(page)["texts"])


def test_hostile_names_of_files_columns_and_recipes_are_shown_as_text(outline: Outline) -> None:
    assert f"# {SCRIPT}" in outline.text
    assert f"chats{HOSTILE[3]}.csv:41" in outline.text
    assert f'The column "summary{HOSTILE[3]}" was taken' in outline.text


def test_hostile_names_of_candidates_tasks_and_metrics_are_shown_as_text(report: Report) -> None:
    bad = '"><img src=x onerror=alert(1)>'
    text = report.model_dump_json().replace('"lora"', json.dumps(bad)).replace('"rouge1', '"' + json.dumps(bad)[1:-1])
    page = render(Report.model_validate_json(text.replace('"summarize"', json.dumps(bad))))
    outline = Outline(page)
    assert "<img" not in page
    assert outline.text.count(bad) > 10
    assert embedded(page)["candidates"][2] == bad


def test_the_words_that_a_virtual_token_is_near_to_are_shown_as_text(outline: Outline, page: str) -> None:
    text = " ".join(outline.text.split())
    assert "lora: what its virtual tokens are near to Each virtual token" in text
    shown = HOSTILE[3].replace(" ", "␣")
    assert f"decoder 1␣the⏎ 0.92 · {shown} 0.50" in text
    assert page.count("what its virtual tokens are near to") == 1


def test_no_text_of_the_data_can_end_its_element(page: str) -> None:
    start = page.index('id="report-data">')
    block = page[start : page.index("</script>", start)]
    assert "<" not in block.removeprefix('id="report-data">')


def test_prompts_and_answers_are_in_the_page_once(page: str, report: Report) -> None:
    texts = embedded(page)["texts"]
    assert len(texts) == len(set(map(str, texts)))
    assert page.count(json.dumps(report.tasks[0].examples[20].prompt)) == 1


def test_the_data_of_the_browser_is_what_the_report_holds(page: str, report: Report) -> None:
    data = embedded(page)
    (task,) = data["tasks"]
    assert isinstance(task, dict)
    assert [(metric["name"], metric["better"]) for metric in task["metrics"]] == [
        ("ROUGE-1", "higher"),
        ("ROUGE-2", "higher"),
    ]
    row, example = task["rows"][7], report.tasks[0].examples[7]
    assert row[0] == example.id
    assert data["texts"][row[2]] == example.prompt
    assert [data["texts"][place] for place in row[3]] == list(example.references)
    place, finish, tokens, words, shots, scores = row[4][1]
    answer = example.answers["two-shot"]
    assert (data["texts"][place], finish, tokens, words, shots) == (
        answer.text,
        "stop",
        answer.new_tokens,
        answer.words,
        2,
    )
    assert scores == [round(value, 2) for value in answer.scores.values()]


def test_counts_of_single_answers_are_whole_in_the_browser(report: Report) -> None:
    def counting(score: Score) -> Score:
        return score.model_copy(update={"unit": "words"}) if score.metric == "rouge1" else score

    task = report.tasks[0]
    scores = {name: tuple(map(counting, own)) for name, own in task.scores.items()}
    shown = report.model_copy(update={"tasks": (task.model_copy(update={"scores": scores}),)})
    metrics = json.loads(browser_json(shown))["tasks"][0]["metrics"]
    assert {one["name"]: one["decimals"] for one in metrics} == {"ROUGE-1": 0, "ROUGE-2": 1}


def test_the_browser_opens_with_the_best_candidate(page: str, report: Report) -> None:
    (task,) = embedded(page)["tasks"]
    assert isinstance(task, dict)
    values = {name: scores[0].value for name, scores in report.tasks[0].scores.items()}
    assert list(values)[task["best"]] == max(values, key=lambda name: values[name])


def test_everything_promised_is_on_the_page(outline: Outline, report: Report) -> None:
    text = " ".join(outline.text.split())
    expected = [
        *report.headline,
        *(one.sentence for one in report.tasks[0].comparisons),
        *(score.signature for score in report.tasks[0].scores["lora"]),
        "4.88 M", "3.5 %", "19.6 MB", "6 min 52 s", "1.9 GB",  # costs of lora
        "37 of 40 prompts had room for 2; 3 of 40 prompts had room for 1.",
        "summarize/train/chats.csv:51", "5 cells where the header has 4", "1180",  # leaks, set aside, cut prompts
        "not used: the target alone is too long",
        "step 10: batch halved, out of memory",
        "torch 2.13.0", report.run.model_hash, report.run.recipe_hash, "CPU, 2 cores, bfloat16, 2 threads",
        "2026-11-20 09:35:00+00:00",
        " ".join(RECIPE.split()),
    ]  # fmt: skip
    assert [one for one in expected if one not in text] == []


def test_numbers_have_one_minus_sign_and_no_file_of_ours_is_named(outline: Outline) -> None:
    shown = outline.text.partition("What exactly was run")[0]
    assert re.findall(r"(?:\(|CI |to |, )-\d[\d.]*", shown) == []
    assert "docs/" not in shown


def test_wide_tables_can_be_reached_and_scrolled_by_keyboard(outline: Outline) -> None:
    boxes = [a for tag, a in outline.elements if tag == "div" and "scroll" in (a.get("class") or "").split()]
    assert len(boxes) >= 8
    assert all(box.get("tabindex") == "0" and box.get("aria-label") for box in boxes)


def test_a_run_that_is_not_finished_says_so(run: RunDir) -> None:
    run.candidate("full").train_result.unlink()
    run.candidate("full").scores("summarize").unlink()
    text = " ".join(Outline(render(gather(run))).text.split())
    expected = 'This run is not finished. full : training is not finished; there are no scores for task "summarize"'
    assert expected.replace("full :", "full:") in text
    assert "no score" in text


def test_a_run_that_has_only_begun_has_a_page(run: RunDir) -> None:
    run.examples("test").unlink()
    run.health.unlink()
    outline = Outline(render(gather(run)))
    assert "Nothing is compared yet." in outline.text
    assert "There are no test examples yet, so nothing is compared." in outline.text


def test_long_lists_are_cut_on_the_page_and_say_so(report: Report) -> None:
    assert report.health
    leaks = tuple(Leak(kept_id=f"kept-{n}", moved_id=f"moved-{n}", similarity=0.9) for n in range(LIST_LIMIT + 50))
    health = report.health.model_copy(update={"leaks": leaks})
    page = render(report.model_copy(update={"health": health}))
    assert f"moved-{LIST_LIMIT - 1}<" in page
    assert f"moved-{LIST_LIMIT}<" not in page
    assert f"The first {LIST_LIMIT} of {LIST_LIMIT + 50}; report.json has them all." in page


def test_two_tasks_stand_under_their_names(report: Report) -> None:
    (task,) = report.tasks
    other = task.model_copy(update={"task": "classify", "lengths": (), "length_edges": ()})
    page = render(report.model_copy(update={"tasks": (task, other)}))
    assert page.count("<h3>classify</h3>") == 5
    assert Outline(page).open == []


def test_of_many_pairs_those_without_zero_shot_are_folded(report: Report) -> None:
    (task,) = report.tasks
    names = [f"lora-{number}" for number in range(4)]
    more = [one.model_copy(update={"better": a, "than": b}) for one in task.comparisons[:1] for a, b in pairwise(names)]
    more += [one.model_copy(update={"than": name}) for one in task.comparisons[:1] for name in names]
    changed = task.model_copy(update={"comparisons": (*task.comparisons, *more)})
    text = " ".join(Outline(render(report.model_copy(update={"tasks": (changed,)}))).text.split())
    assert "pairs without zero-shot" in text
    assert "pairs without zero-shot" not in " ".join(Outline(render(report)).text.split())


def _again(row: ExampleRow, number: int) -> ExampleRow:
    """Return a row of the same size with other texts."""
    answers = {name: one.model_copy(update={"text": f"{number} {one.text}"}) for name, one in row.answers.items()}
    references = tuple(f"{number} {text}" for text in row.references)
    new = {"id": f"{row.id}{number}", "prompt": f"{number} {row.prompt}", "references": references, "answers": answers}
    return row.model_copy(update=new)


def test_five_hundred_examples_and_four_candidates_stay_below_a_megabyte(report: Report, tmp_path: Path) -> None:
    (task,) = report.tasks
    rows = [_again(task.examples[10 + number % 30], number) for number in range(500)]
    changed = report.model_copy(update={"tasks": (task.model_copy(update={"examples": tuple(rows)}),)})
    write_html(changed, tmp_path / "report.html")
    assert 500_000 < (tmp_path / "report.html").stat().st_size < 1_000_000


def test_the_page_is_the_same_every_time(report: Report, page: str) -> None:
    assert render(report) == page


def test_the_script_cannot_end_its_own_element() -> None:
    assert "</script" not in (TEMPLATES / "page.js").read_text(encoding="utf-8")
    assert "<!--" not in (TEMPLATES / "page.js").read_text(encoding="utf-8")
    assert "</style" not in (TEMPLATES / "style.css").read_text(encoding="utf-8")


def test_the_script_writes_text_only_as_text() -> None:
    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "fetch("):
        assert word not in script


def test_templates_never_switch_escaping_off() -> None:
    for path in TEMPLATES.glob("*.j2"):
        text = path.read_text(encoding="utf-8")
        assert "|safe" not in text.replace(" ", "")
        assert "autoescape" not in text
