import json
from pathlib import Path
from typing import Any

import pytest

from tunesmith.data.templates import load_template
from tunesmith.errors import RecipeError, RefusedError
from tunesmith.opening import open_run
from tunesmith.recipe import recipe_from_text
from tunesmith.settings import Phrasing, Recipe, TaskSettings, TemplateSettings
from tunesmith.templatefiles import is_file, with_template_files

OWN = """\
name: moods
system: Be brief.
choices: [bad, good]
metrics: [accuracy]
inputs: [text]
phrasings:
  - {prompt: "{{ text }}", target: "{{ label }}"}
  - {form: inverted, prompt: "Write something {{ label }}.", target: "{{ text }}"}
"""
SOURCE = """\
dataset: made
templates:
  1: !Template
    name: is it
    answer_choices: bad ||| good
    jinja: "Is it {{ text }}? ||| {{ answer_choices[label] }}"
    metadata: !TemplateMetadata {original_task: true}
  2: !Template
    name: how
    answer_choices: bad ||| good
    jinja: "{{ text }} How? ||| {{ answer_choices[label] }}"
  3: !Template
    name: turned
    answer_choices: BAD ||| GOOD
    jinja: "Write {{ answer_choices[label] }}. ||| {{ text }}"
    metadata: !TemplateMetadata {original_task: false}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of template files."""
    (tmp_path / "own.yaml").write_text(OWN, encoding="utf-8")
    (tmp_path / "templates.yaml").write_text(SOURCE, encoding="utf-8")
    pairs = {"mood": [["{text}?", "{label}"], ["{label}.", "{text}"]]}
    (tmp_path / "pairs.json").write_text(json.dumps(pairs), encoding="utf-8")
    (tmp_path / "flan.py").write_text(f"PATTERNS = {pairs}\n", encoding="utf-8")
    return tmp_path


def recipe(*templates: str, **fields: Any) -> Recipe:
    tasks = [{"name": f"t{n}", "source": "a.csv", "template": name, **fields} for n, name in enumerate(templates)]
    return recipe_from_text(json.dumps({"name": "r", "tasks": tasks}))


def task(folder: Path, template: str, **fields: Any) -> TaskSettings:
    return with_template_files(recipe(template, **fields), folder).tasks[0]


def problems(folder: Path, *templates: str) -> tuple[str, ...]:
    with pytest.raises(RecipeError) as error:
        with_template_files(recipe(*templates), folder)
    return error.value.problems


def test_a_file_is_told_by_its_ending() -> None:
    assert all(map(is_file, ("a.yaml", "x/b.YML#some name", "c.json", "../d.py#rte")))
    assert not any(map(is_file, ("dialogue-summary", "yaml", "a.txt", "a#b.yaml")))


def test_a_template_of_our_own_form_is_written_into_the_task(folder: Path) -> None:
    made = task(folder, "own.yaml", forms=["zero-shot", "inverted"])
    assert made.template == TemplateSettings(
        system="Be brief.",
        inputs=("text",),
        phrasings=(
            Phrasing(prompt="{{ text }}", target="{{ label }}"),
            Phrasing(form="inverted", prompt="Write something {{ label }}.", target="{{ text }}"),
        ),
    )
    assert (made.choices, made.metrics) == (("bad", "good"), ("accuracy",))
    assert not load_template(made).trusted
    own = task(folder, "own.yaml", choices=["good", "bad", "so"], metrics=["macro-f1"])
    assert (own.choices, own.metrics) == (("good", "bad", "so"), ("macro-f1",))


def test_all_prompts_of_promptsource_are_phrasings_and_one_can_be_named(folder: Path) -> None:
    every = task(folder, "templates.yaml")
    assert isinstance(every.template, TemplateSettings)
    assert [one.form for one in every.template.phrasings] == ["zero-shot", "zero-shot", "inverted"]
    assert every.choices == ("bad", "good")
    assert load_template(every).columns == ("label", "text")
    one = task(folder, "templates.yaml#turned")
    assert isinstance(one.template, TemplateSettings)
    assert [phrasing.form for phrasing in one.template.phrasings] == ["zero-shot"]
    assert one.choices == ("BAD", "GOOD")


def test_what_is_wrong_with_other_prompts_does_not_stand_in_the_way_of_the_named_one(folder: Path) -> None:
    (folder / "bad.yaml").write_text(SOURCE.replace("{{ text }} How? |||", "{{ text }} How?"), encoding="utf-8")
    assert task(folder, "bad.yaml#is it").template == task(folder, "templates.yaml#is it").template
    wrong = 'bad.yaml:8: prompt "how": there is no ||| between prompt and answer. Add it, or take the prompt out.'
    assert problems(folder, "bad.yaml", "bad.yaml#how", "bad.yaml#who") == (
        f"tasks.0.template: {wrong}",
        f"tasks.1.template: {wrong}",
        'tasks.2.template: bad.yaml: there is no prompt "who". Did you mean "how"? It has is it, how, turned.',
    )


def test_prompts_with_different_choices_have_none_in_common(folder: Path) -> None:
    path = folder / "templates.yaml"
    path.write_text(SOURCE.replace("bad ||| good", "no ||| yes", 1), encoding="utf-8")
    assert task(folder, "templates.yaml").choices == ()


def test_pairs_of_flan_come_from_json_and_from_python(folder: Path) -> None:
    from_json, from_python = task(folder, "pairs.json"), task(folder, "flan.py#mood")
    assert (
        from_json.template
        == from_python.template
        == TemplateSettings(
            phrasings=(
                Phrasing(prompt="{{ text }}?", target="{{ label }}"),
                Phrasing(form="inverted", prompt="{{ label }}.", target="{{ text }}"),
            )
        )
    )


def test_other_templates_stay_as_they_are(folder: Path) -> None:
    given = recipe("dialogue-summary")
    assert with_template_files(given, folder) == given


def test_tasks_to_keep_an_eye_on_have_their_templates_from_files_too(folder: Path) -> None:
    def asked(template: str) -> Recipe:
        task = {"name": "kept", "source": "a.csv", "template": template}
        body = {"name": "r", "tasks": [{"source": "a.csv", "template": "dialogue-summary"}], "forgetting": [task]}
        return recipe_from_text(json.dumps(body))

    (kept,) = with_template_files(asked("own.yaml"), folder).forgetting
    assert isinstance(kept, TaskSettings)
    assert isinstance(kept.template, TemplateSettings)
    assert (kept.choices, kept.metrics) == (("bad", "good"), ("accuracy",))
    with pytest.raises(RecipeError, match=r"^forgetting\.0\.template: owl\.yaml: there is no such file"):
        with_template_files(asked("owl.yaml"), folder)


def test_the_run_folder_has_the_template_and_a_change_of_the_file_is_a_change_of_the_recipe(folder: Path) -> None:
    (folder / "r.yaml").write_text(
        "name: r\ntasks: [{source: support, template: own.yaml, columns: {text: dialogue, label: sentiment}}]\n",
        encoding="utf-8",
    )
    with open_run(folder / "r.yaml", out=folder / "out") as job:
        assert isinstance(job.recipe.tasks[0].template, TemplateSettings)
    assert "Write something" in (folder / "out" / "recipe.json").read_text(encoding="utf-8")
    (folder / "out" / "candidates" / "zero-shot" / "x").mkdir(parents=True)
    (folder / "own.yaml").write_text(OWN.replace("Write something", "Say something"), encoding="utf-8")
    with (
        pytest.raises(RecipeError, match="this run folder was made by another recipe"),
        open_run(folder / "r.yaml", out=folder / "out"),
    ):
        pass


def test_text_from_a_file_is_rendered_in_the_sandbox(folder: Path) -> None:
    from tunesmith.data.rendering import render_prompts
    from tunesmith.data.rows import Row

    for name, text in (
        ("a.yaml", 'name: a\nphrasings: [{prompt: "{{ x.__class__ }}", target: "{{ x }}"}]\n'),
        ("b.yaml", 'templates: {a: !Template {name: a, jinja: "{{ x.__class__ }} ||| {{ x }}"}}\n'),
    ):
        (folder / name).write_text(text, encoding="utf-8")
        with pytest.raises(RefusedError, match="access to attribute '__class__' of 'str' object is unsafe"):
            render_prompts(load_template(task(folder, name)), [(0, Row({"x": "y"}, "f", 1))])


def test_what_is_wrong_with_files_is_said_for_all_tasks_at_once(folder: Path) -> None:
    (folder / "wide.yaml").write_text("name: a\nphrasing: []\n", encoding="utf-8")
    (folder / "list.yaml").write_text("- a\n", encoding="utf-8")
    (folder / "filter.yaml").write_text(OWN.replace('{{ label }}"', '{{ label | uper }}"', 1), encoding="utf-8")
    drawn = SOURCE.replace("{{ text }} How?", "{{ [text, 1] | choice }}")
    (folder / "filters.yaml").write_text(drawn, encoding="utf-8")
    (folder / "nothing.json").write_text('[["Hello.", "{a}"], ["{b}", "{c}"]]', encoding="utf-8")
    (folder / "latin.yaml").write_bytes(b"name: \xe9\n")
    (folder / "large.json").write_text(" " * 2_000_001, encoding="utf-8")
    names = (
        *("owl.yaml", "own.yaml#one", "wide.yaml", "list.yaml", "filter.yaml", "templates.yaml#were", "filters.yaml"),
        *("nothing.json", "latin.yaml", "large.json", "flan.py#modd"),
    )
    assert problems(folder, *names) == (
        f'tasks.0.template: owl.yaml: there is no such file in {folder}. Did you mean "own.yaml"? Paths start at the '
        "recipe's folder.",
        "tasks.1.template: own.yaml: it holds one template; leave out #one.",
        "tasks.2.template: wide.yaml:1: phrasings: this key is missing. Add it.",
        'tasks.2.template: wide.yaml:2: phrasing: there is no such key. Did you mean "phrasings"? Known here: name, '
        "about, needs, system, inputs, choices, metrics, sample, phrasings.",
        "tasks.3.template: list.yaml:1: expected `key: value` lines at the top level.",
        'tasks.4.template: filter.yaml, phrasing 1, target, line 1: there is no filter "uper". Did you mean "upper"?',
        'tasks.5.template: templates.yaml: there is no prompt "were". It has is it, how, turned.',
        'tasks.6.template: filters.yaml, prompt "how", prompt, line 1: there is no filter "choice".',
        "tasks.7.template: nothing.json, pair 1, prompt, line 1: it names no column; write a column as {{ name }}.",
        "tasks.8.template: latin.yaml: byte 6 is not UTF-8. Save the file as UTF-8.",
        "tasks.9.template: large.json: larger than 2,000,000 bytes. Keep the templates that you need.",
        'tasks.10.template: flan.py: there is no "modd" in it. Did you mean "mood"? Choose another.',
    )
