import json
from typing import Any

import pytest

from tunesmith.data.sandbox import run_jobs
from tunesmith.data.support import SUPPORT
from tunesmith.data.syntax import read_syntax
from tunesmith.data.templates import (
    CatalogTemplate,
    draw_phrasing,
    instruction,
    list_templates,
    load_template,
    missing_columns,
)
from tunesmith.errors import DataError, RecipeError
from tunesmith.settings import Phrasing, TaskSettings, TemplateSettings

CATALOG = list_templates()


def load(template: Any) -> Any:
    return load_template(TaskSettings(name="t", source="a.csv", template=template))


def problems(**inline: Any) -> tuple[str, ...]:
    with pytest.raises(DataError) as error:
        load(TemplateSettings(**inline))
    return error.value.problems


def test_the_catalog_is_sorted_and_has_the_tasks_of_the_shipped_chats():
    names = [entry.name for entry in CATALOG]
    assert names == sorted(names)
    shipped = {"dialogue-summary", "support-intent", "support-sentiment", "support-stars", "support-entities"}
    assert shipped | {"prompt-completion", "text-label", "text-summary", "question-answer"} <= set(names)


@pytest.mark.parametrize("entry", CATALOG, ids=lambda entry: entry.name)
def test_each_template_needs_what_it_says_and_has_several_phrasings(entry: CatalogTemplate):
    template = load(entry.name)
    assert set(template.columns) == set(entry.needs)
    assert all(entry.needs.values())
    assert entry.about.endswith(".")
    assert len(entry.phrasings) >= (1 if entry.name == "prompt-completion" else 4)
    assert len({phrasing.prompt for phrasing in entry.phrasings}) == len(entry.phrasings)
    assert template.trusted


@pytest.mark.parametrize("entry", CATALOG, ids=lambda entry: entry.name)
def test_each_phrasing_says_what_it_asks_and_shows_the_whole_input(entry: CatalogTemplate):
    template = load(entry.name)
    shown = {"dialogue": "Customer: {{ x }}\nAgent: <b>", "choices": ["one", "two", "three"]}
    row = {name: shown.get(name, f"the {name}") for name in (*entry.needs, "choices")}
    for phrasing in entry.phrasings:
        (prompt,) = run_jobs([phrasing.prompt], [(0, row)], trusted=True)
        assert isinstance(prompt, str)
        assert all(row[name] in prompt for name in template.inputs)
        assert "  " not in prompt
        assert "\n\n\n" not in prompt
        choices = read_syntax(phrasing.prompt).uses_choices
        assert all(choice in prompt for choice in row["choices"]) or not choices


def test_the_choices_of_the_support_templates_are_the_labels_of_the_shipped_chats():
    chats = [json.loads(line) for line in SUPPORT.read_text("utf-8").splitlines()]
    for name, column in (("support-intent", "intent"), ("support-sentiment", "sentiment"), ("support-stars", "stars")):
        assert set(load(name).choices) == {str(chat[column]) for chat in chats}


def test_entities_are_written_one_a_line_and_none_as_none():
    target = load("support-entities").phrasings[0].target
    some = [{"text": "Ana", "type": "person"}, {"text": "$3", "type": "money"}]
    texts = run_jobs([target], [(0, {"entities": some}), (0, {"entities": []})], trusted=True)
    assert texts == ["person: Ana\nmoney: $3\n", "none\n"]


def test_an_inline_template_is_not_trusted_and_keeps_its_system_message():
    template = load(TemplateSettings(prompt="{{ text }}?", target="{{ label }}", system="Be brief."))
    assert (template.label, template.trusted, template.system) == ('template of task "t"', False, "Be brief.")
    assert template.columns == ("label", "text")
    assert template.inputs == ("text",)
    assert template.answers == ("label",)


def test_without_a_template_rows_are_taken_as_they_are():
    assert load(None) == load("prompt-completion")


def test_the_input_is_what_the_first_prompt_shows_and_its_target_does_not():
    assert load(TemplateSettings(prompt="{{ a }} {{ b }}", target="{{ b }} {{ c }}")).inputs == ("a",)
    assert load(TemplateSettings(prompt="{{ b }}", target="{{ b }} {{ c }}")).inputs == ("b",)


def test_an_unknown_name_is_a_recipe_error_with_the_nearest():
    with pytest.raises(RecipeError) as error:
        load("support-intents")
    assert str(error.value) == (
        'template "support-intents" is not known. Did you mean "support-intent"? Known: '
        + ", ".join(entry.name for entry in CATALOG)
        + "."
    )


def test_every_problem_of_a_template_is_named_with_phrasing_part_and_line():
    assert problems(
        phrasings=(
            Phrasing(prompt="{{ text", target="{{ label }}"),
            Phrasing(prompt="Say something.", target="{{ label | uper }}\n{{ x | lowr }}"),
            Phrasing(prompt="{{ choices }}", target="yes"),
        )
    ) == (
        'template of task "t", phrasing 1, prompt, line 1: unexpected end of template, expected \'end of print '
        "statement'.",
        'template of task "t", phrasing 2, prompt, it names no column; write a column as {{ name }}.',
        'template of task "t", phrasing 2, target, line 1: there is no filter "uper". Did you mean "upper"?',
        'template of task "t", phrasing 2, target, line 2: there is no filter "lowr". Did you mean "lower"?',
        'template of task "t", phrasing 3, prompt, it names no column; write a column as {{ name }}.',
        'template of task "t", phrasing 3, target, it names no column; write a column as {{ name }}.',
    )


def test_half_a_template_and_two_templates_in_one_are_refused():
    assert problems() == (
        'template of task "t": prompt and target missing. Write prompt and target, or a list of phrasings.',
    )
    assert problems(prompt="{{ a }}") == (
        'template of task "t": target missing. Write prompt and target, or a list of phrasings.',
    )
    assert problems(target="{{ a }}", phrasings=(Phrasing(prompt="{{ a }}", target="{{ b }}"),)) == (
        'template of task "t": it has prompt or target beside phrasings. Keep one of the two.',
    )


def test_columns_that_a_table_lacks_are_named():
    template = load("text-label")
    assert missing_columns(template, {"text", "label"}, file="a.csv", has_choices=True) == []
    assert missing_columns(template, {"text", "label", "choices"}, file="a.csv", has_choices=False) == []
    assert missing_columns(template, {"text", "labels"}, file="a.csv", has_choices=False) == [
        'a.csv: template "text-label" names {{ choices }}, and the task has none. Write `choices: [...]` or '
        "`choices: targets` in the recipe.",
        'a.csv: template "text-label" names {{ label }}, and there is no column "label"; it has labels, text. '
        'Did you mean "labels"? Write `columns: {label: COLUMN}` in the recipe, or change the template.',
    ]


def test_phrasings_are_drawn_evenly_by_seed_and_id():
    template = load("dialogue-summary")
    ids = [f"t/train/a.csv:{line}" for line in range(600)]
    drawn = [draw_phrasing(template, name, seed=0) for name in ids]
    assert drawn == [draw_phrasing(template, name, seed=0) for name in ids]
    assert drawn != [draw_phrasing(template, name, seed=1) for name in ids]
    assert all(70 <= drawn.count(phrasing) <= 130 for phrasing in range(6))
    assert draw_phrasing(template, "t/train/a.csv:7", seed=0) == 4


def test_an_instruction_is_the_words_of_the_first_prompt_without_what_a_row_fills_in():
    prompt = "Sum up{# not said #}:\n{% if polite %}Please.{% endif %}\n{{ dialogue | upper }}\n\nIn  short:"
    written = TemplateSettings(prompt=prompt, target="{{ summary }}")
    assert instruction(load(written)) == "Sum up : Please. In short:"
    assert instruction(load("dialogue-summary")) == "Summarize the following conversation. Summary:"
    assert instruction(load("prompt-completion")) == ""
