import json
from typing import Any

import pytest

from tunesmith.data.rendering import Target, render_prompts, render_targets
from tunesmith.data.rows import Row
from tunesmith.data.sandbox import run_jobs
from tunesmith.data.support import SUPPORT
from tunesmith.data.syntax import read_syntax
from tunesmith.data.templates import (
    AS_IT_IS,
    CatalogTemplate,
    Template,
    count_forms,
    draw_form,
    draw_phrasings,
    instruction,
    list_templates,
    load_template,
    missing_columns,
)
from tunesmith.errors import DataError, RecipeError
from tunesmith.forms import Form, final_answer
from tunesmith.settings import Phrasing, TaskSettings, TemplateSettings

CATALOG = list_templates()


def load(template: Any, *forms: Form) -> Template:
    return load_template(TaskSettings(name="t", source="a.csv", template=template, forms=forms or ("zero-shot",)))


def load_whole(entry: CatalogTemplate) -> Template:
    return load(entry.name, *count_forms(entry.phrasings))


def problems(**inline: Any) -> tuple[str, ...]:
    with pytest.raises(DataError) as error:
        load(TemplateSettings(**inline))
    return error.value.problems


def test_the_catalog_is_sorted_and_has_the_tasks_of_the_shipped_chats():
    names = [entry.name for entry in CATALOG]
    assert names == sorted(names)
    shipped = {"dialogue-summary", "support-intent", "support-sentiment", "support-stars", "support-entities"}
    assert shipped | {"prompt-completion", "text-label", "text-summary", "question-answer"} <= set(names)


def test_the_catalog_has_every_family():
    families = {
        *("dialogue-summary", "review-sentiment", "review-stars", "review-writing", "review-title"),
        *("natural-language-inference", "yes-no-question", "multiple-choice", "translation", "named-entities"),
        *("paraphrase", "intent", "title", "topic", "arithmetic", "passage-question", "grammar"),
    }
    assert families <= {entry.name for entry in CATALOG}


FAMILIES = [entry for entry in CATALOG if entry.name != AS_IT_IS]  # whose rows bring their own words
REASONED = {
    *("arithmetic", "multiple-choice", "natural-language-inference", "passage-question", "question-answer"),
    "yes-no-question",
}


@pytest.mark.parametrize("entry", FAMILIES, ids=lambda entry: entry.name)
def test_each_family_has_ten_phrasings_in_all_its_forms(entry: CatalogTemplate):
    counts = count_forms(entry.phrasings)
    assert sum(counts.values()) == len(entry.phrasings) >= 10
    assert counts["zero-shot"] >= 4
    assert counts["inverted"] >= 2
    assert counts["few-shot"] >= 2
    assert counts.get("chain-of-thought", 0) >= 2 * (entry.name in REASONED)
    assert ("rationale" in entry.needs) == (entry.name in REASONED) == ("chain-of-thought" in counts)
    words = [" ".join(f"{one.intro} {one.prompt} {one.join} {one.target}".split()) for one in entry.phrasings]
    assert len(set(words)) == len(words)


@pytest.mark.parametrize("entry", CATALOG, ids=lambda entry: entry.name)
def test_each_template_needs_what_it_says(entry: CatalogTemplate):
    template = load_whole(entry)
    assert set(template.columns) == set(entry.needs)
    assert all(entry.needs.values())
    assert set(entry.sample) - {"choices"} == set(entry.needs)
    assert entry.about.endswith(".")
    assert template.trusted


@pytest.mark.parametrize("entry", CATALOG, ids=lambda entry: entry.name)
def test_each_phrasing_renders_its_sample_and_only_a_chain_of_thought_needs_reasons(entry: CatalogTemplate):
    template = load_whole(entry)
    choices = entry.choices or entry.sample.get("choices", ())
    for number, phrasing in enumerate(entry.phrasings):
        drawn = [(number, Row(entry.sample, "sample", 0))]
        (prompt,) = render_prompts(template, drawn, choices=entry.choices)
        (target,) = render_targets(template, drawn)
        assert isinstance(prompt, str)
        assert isinstance(target, Target)
        assert prompt.strip() == prompt
        if phrasing.form == "chain-of-thought":
            answer = entry.sample["answer" if "answer" in entry.needs else "label"]
            assert target.text == f"{entry.sample['rationale']}\nThe answer is {answer}."
            assert final_answer(target.text) == answer
        elif phrasing.form != "inverted" and choices:
            assert target.text in choices
        columns = read_syntax(phrasing.prompt).columns | read_syntax(phrasing.target).columns
        assert ("rationale" in columns) == (phrasing.form == "chain-of-thought")


@pytest.mark.parametrize("entry", CATALOG, ids=lambda entry: entry.name)
def test_each_phrasing_says_what_it_asks_and_shows_the_whole_input(entry: CatalogTemplate):
    shown = {"dialogue": "Customer: {{ x }}\nAgent: <b>", "choices": ["one", "two", "three"], "answer": "A"}
    several = {"options": ["the first", "the second"], "entities": [{"text": "Ana", "type": "person"}]}
    row = {name: (shown | several).get(name, f"the {name}") for name in (*entry.needs, "choices")}
    plain = read_syntax(entry.phrasings[0].prompt).columns
    for phrasing in entry.phrasings:
        (prompt,) = run_jobs([phrasing.prompt], [(0, row)], trusted=True)
        assert isinstance(prompt, str)
        (intro,) = run_jobs([phrasing.intro], [(0, row)], trusted=True)
        named = [text for name in plain for text in (row[name] if isinstance(row[name], list) else [row[name]])]
        assert phrasing.form == "inverted" or all(text in f"{intro}{prompt}" for text in named)
        assert "  " not in prompt
        assert "\n\n\n" not in prompt
        choices = read_syntax(phrasing.prompt).uses_choices
        assert all(choice in prompt for choice in row["choices"]) or not choices


@pytest.mark.parametrize("entry", FAMILIES, ids=lambda entry: entry.name)
def test_no_choice_of_forms_changes_what_rows_are_split_by(entry: CatalogTemplate):
    inputs = load(entry.name).inputs
    assert inputs
    for form in count_forms(entry.phrasings):
        assert load(entry.name, form).inputs == inputs


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
        "statement'. A column is written {{ name }}, a tag {% if name %}.",
        'template of task "t", phrasing 2, prompt, line 1: it names no column; write a column as {{ name }}.',
        'template of task "t", phrasing 2, target, line 1: there is no filter "uper". Did you mean "upper"?',
        'template of task "t", phrasing 2, target, line 2: there is no filter "lowr". Did you mean "lower"?',
        'template of task "t", phrasing 3, prompt, line 1: it names no column; write a column as {{ name }}.',
        'template of task "t", phrasing 3, target, line 1: it names no column; write a column as {{ name }}.',
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


@pytest.mark.parametrize("entry", CATALOG, ids=lambda entry: entry.name)
def test_what_stands_once_before_worked_examples_holds_for_all_of_them(entry: CatalogTemplate):
    for phrasing in entry.phrasings:
        assert read_syntax(phrasing.intro).columns == frozenset(), (
            "a column of the last row, which others may not share"
        )


def test_phrasings_are_drawn_evenly_by_seed_and_id():
    template = load("dialogue-summary")
    ids = [f"t/train/a.csv:{line}" for line in range(600)]
    drawn = [draw_phrasings(template, name, form="zero-shot", seed=0)[0] for name in ids]
    assert drawn == [draw_phrasings(template, name, form="zero-shot", seed=0)[0] for name in ids]
    assert drawn != [draw_phrasings(template, name, form="zero-shot", seed=1)[0] for name in ids]
    assert all(70 <= drawn.count(phrasing) <= 130 for phrasing in range(6))
    assert draw_phrasings(template, "t/train/a.csv:7", form="zero-shot", seed=0)[0] == 4
    assert {draw_phrasings(template, name, form="inverted", seed=0)[0] for name in ids} == {6, 7}


def test_the_phrasings_behind_the_drawn_one_are_the_others_in_an_order_of_its_own():
    template = load("dialogue-summary")
    orders = [draw_phrasings(template, f"t/train/a.csv:{line}", form="zero-shot", seed=0) for line in range(600)]
    assert {tuple(sorted(order)) for order in orders} == {(0, 1, 2, 3, 4, 5)}
    behind_first = [order[1] for order in orders if order[0] == 0]
    assert all(behind_first.count(number) >= 5 for number in range(1, 6))


def test_forms_are_drawn_evenly_and_apart_from_the_phrasings():
    template = load("dialogue-summary", "zero-shot", "inverted", "few-shot")
    row = {"dialogue": "a", "summary": "b"}
    ids = [f"t/train/a.csv:{line}" for line in range(600)]
    drawn = [draw_form(template, name, row, seed=0) for name in ids]
    assert drawn == [draw_form(template, name, row, seed=0) for name in ids]
    assert drawn != [draw_form(template, name, row, seed=1) for name in ids]
    assert all(160 <= drawn.count(form) <= 240 for form in template.forms)
    of_one = [name for name, form in zip(ids, drawn, strict=True) if form == "inverted"]
    numbers = [draw_phrasings(template, name, form="inverted", seed=0)[0] for name in of_one]
    assert 0.4 < numbers.count(6) / len(numbers) < 0.6


def test_a_row_draws_only_forms_for_which_it_has_the_columns():
    template = load("arithmetic", "zero-shot", "chain-of-thought")
    ids = [f"t/train/a.csv:{line}" for line in range(50)]
    row = {"question": "1 + 1?", "answer": "2", "rationale": ""}
    assert {draw_form(template, name, row, seed=0) for name in ids} == {"zero-shot"}
    full = {**row, "rationale": "One and one."}
    assert {draw_form(template, name, full, seed=0) for name in ids} == {"zero-shot", "chain-of-thought"}
    assert template.optional == {"rationale"}
    alone = load("arithmetic", "chain-of-thought")
    assert alone.asked == "chain-of-thought"
    assert alone.optional == set()
    reasons = load("arithmetic", "inverted", "chain-of-thought", "zero-shot")
    assert (reasons.asked, reasons.columns) == ("chain-of-thought", ("answer", "question", "rationale"))


def test_columns_of_other_forms_are_not_asked_for():
    assert load("arithmetic").columns == ("answer", "question")
    assert load("arithmetic", "inverted").columns == ("answer", "question")


def test_a_form_that_a_template_lacks_is_a_recipe_error():
    with pytest.raises(RecipeError) as error:
        load("dialogue-summary", "chain-of-thought")
    assert str(error.value) == (
        'template "dialogue-summary" has no phrasing of the form chain-of-thought; it has zero-shot, inverted, '
        "few-shot. Name its forms in `forms`, or write such a phrasing. Validation and test rows are asked in the form "
        "chain-of-thought."
    )
    with pytest.raises(RecipeError, match="has no phrasing of the form zero-shot; it has inverted"):
        load(TemplateSettings(phrasings=(Phrasing(form="inverted", prompt="Hello.", target="{{ a }}"),)), "inverted")


def test_an_inverted_prompt_may_name_nothing_and_an_intro_too():
    turned = Phrasing(form="inverted", prompt="Ask a question.", target="{{ text }}", intro="Hello.")
    inline = TemplateSettings(phrasings=(Phrasing(prompt="{{ text }}", target="{{ label }}"), turned))
    assert load(inline, "zero-shot", "inverted").columns == ("label", "text")


def test_the_input_can_be_named_and_must_be_a_column_of_the_template():
    inline = TemplateSettings(prompt="{{ a }} {{ b }}", target="{{ c }}", inputs=("c",))
    assert load(inline).inputs == ("c",)
    assert problems(prompt="{{ text }}", target="{{ c }}", inputs=("texts", "c")) == (
        'template of task "t", inputs: no text of it names "texts". Did you mean "text"?',
    )
    assert load("review-writing").inputs == ("review",)


def test_an_instruction_is_the_words_of_the_first_prompt_without_what_a_row_fills_in():
    prompt = "Sum up{# not said #}:\n{% if polite %}Please.{% endif %}\n{{ dialogue | upper }}\n\nIn  short:"
    written = TemplateSettings(prompt=prompt, target="{{ summary }}")
    assert instruction(load(written)) == "Sum up : Please. In short:"
    assert instruction(load("dialogue-summary")) == "Summarize the following conversation. Summary:"
    assert instruction(load("prompt-completion")) == ""
