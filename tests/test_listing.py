import io
import re
from pathlib import Path

import pytest
from rich.console import Console
from small_run import Command

from tunesmith import __version__
from tunesmith.data.templates import catalog, list_templates
from tunesmith.errors import UsageError
from tunesmith.listing import diagnose, listing, show_template
from tunesmith.models.catalog import CATALOG
from tunesmith.registry import METHODS, METRICS


def names(what: str) -> list[str]:
    return [row["name"] for row in listing(what)]


def test_everything_that_a_recipe_can_name_is_listed() -> None:
    assert names("models") == list(CATALOG)
    assert names("methods") == ["none", *METHODS]
    assert names("metrics") == list(METRICS)
    assert names("templates") == [template.name for template in list_templates()]


def test_models_say_how_large_they_are_and_under_which_licence() -> None:
    about = {row["name"]: row["about"] for row in listing("models")}
    assert about["flan-t5-base"] == "248 million parameters, Apache-2.0: encoder-decoder, the lecture's model"


def test_templates_say_how_many_phrasings_they_have_of_each_form() -> None:
    found = {row["name"]: row for row in listing("templates")}
    assert found["dialogue-summary"] == {
        "name": "dialogue-summary",
        "about": "6 zero-shot, 2 inverted, 2 few-shot: Tell in a few sentences what a conversation was about and how "
        "it ended.",
        "phrasings": {"zero-shot": 6, "inverted": 2, "few-shot": 2},
    }
    assert found["arithmetic"]["phrasings"]["chain-of-thought"] == 4


@pytest.mark.parametrize("name", [template.name for template in list_templates()])
def test_every_template_can_be_shown(name: str) -> None:
    text = io.StringIO()
    show_template(catalog()[name], Console(file=text, width=1000))
    assert text.getvalue().count("⟦") == len(catalog()[name].phrasings)
    assert f"\n{len(catalog()[name].phrasings)}: " in text.getvalue()


def test_a_terminal_gets_the_answer_in_colour_and_as_many_phrasings_as_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, color_system="standard", width=99)
    show_template(catalog()["grammar"], console, count=2)
    assert text.getvalue().count("\x1b[30;42mno\x1b[0m") == 2


def test_show_takes_a_template_and_a_recipe_of_that_name_goes_first(small: Path, tunesmith: Command) -> None:
    found = tunesmith("show", "review-title", "-n", "1")
    assert (found.code, found.err) == (0, "")
    assert found.out.splitlines() == [
        "review-title: Put a review into one short line.",
        "  review: The text of the review.",
        "  title: A few words that say what the review says.",
        "",
        "1: zero-shot",
        "Write a short title for this review.",
        "",
        "I have had this tent for three summers. It has stood through hail and one goat, and the poles are as straight "
        "as on the first day.",
        "",
        "Title:",
        "⟦Stands through everything⟧",
    ]
    refused = tunesmith("show", "review-title", "--set", "seed=1")
    assert (refused.code, refused.out) == (2, "")
    assert (
        refused.err == "tunesmith: show: review-title is a template, and takes no --set and no --out. Leave them out.\n"
    )
    small.rename("review-title")
    assert tunesmith("show", "review-title", "-n", "1", "--quiet").out.startswith("summarize/train/chats.csv:")


def test_a_name_that_is_neither_a_recipe_nor_a_template_gets_the_nearest_template(
    tunesmith: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused = tunesmith("show", "natural-language-inferenc")
    assert (refused.code, refused.err) == (
        2,
        "tunesmith: show: natural-language-inferenc is no recipe that is there, and no template. Did you mean "
        '"natural-language-inference"? `tunesmith ls templates` names those.\n',
    )
    assert "there is no such file" in tunesmith("show", "recipe.yaml").err


def test_metrics_say_their_unit_and_which_end_is_better() -> None:
    about = {row["name"]: row["about"] for row in listing("metrics")}
    assert about["rouge1"] == "points of 100; higher is better"
    assert about["perplexity"] == "per answer; lower is better"
    assert about["length-ratio"] == "words per reference word; neither end is better"


def test_runs_are_those_of_this_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert listing("runs") == []
    for name in ("b", "a", "not-a-run"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    for name in ("b", "a"):
        (tmp_path / "runs" / name / "run.json").write_text("{}", encoding="utf-8")
    assert listing("runs") == [{"name": "a", "about": "runs/a"}, {"name": "b", "about": "runs/b"}]


def test_what_cannot_be_listed_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError) as error:
        listing("metrik")
    assert str(error.value) == (
        'ls: "metrik" cannot be listed. Did you mean "metrics"? Known: models, methods, templates, metrics, suites, '
        "runs."
    )


def test_the_diagnosis_names_machine_and_versions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TUNESMITH_HOME", str(tmp_path))
    monkeypatch.setattr("tunesmith.machine.main_memory", lambda: 12_340_000_000)
    found = diagnose()
    assert found["memory free"] == "12.3 GB"
    assert found["models in"] == str(tmp_path)
    assert found["tunesmith"] == __version__
    assert found["fastest number format"] in ("float32", "bfloat16")
    assert re.search(r", \d+ cores?$", found["processor"])
    assert found["models compute on"] == f"cpu: {found['processor']}"


def test_the_suites_are_listed_without_the_harness() -> None:
    assert [row["name"] for row in listing("suites")] == ["glue", "superglue", "mmlu", "bbh", "bbh-direct"]
