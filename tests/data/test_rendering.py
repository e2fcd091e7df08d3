from dataclasses import replace
from typing import Any

import pytest

from tunesmith.data import sandbox
from tunesmith.data.rendering import Target, render_prompts, render_targets
from tunesmith.data.rows import Row
from tunesmith.data.sandbox import Failure
from tunesmith.data.templates import Template, load_template
from tunesmith.errors import DataError, RefusedError
from tunesmith.settings import Phrasing, TaskSettings, TemplateSettings


def template(prompt: str = "{{ text }}", target: str = "{{ label }}") -> Template:
    inline = TemplateSettings(prompt=prompt, target=target)
    made = load_template(TaskSettings(name="t", source="a.csv", template=inline))
    return replace(made, trusted=True)  # rendered in this process, which is quicker


def rows(*values: dict[str, Any]) -> list[tuple[str, Row]]:
    return [(f"t/train/a.csv:{line}", Row(value, "a.csv", line)) for line, value in enumerate(values, 2)]


def targets(made: Template, *values: dict[str, Any], references: tuple[str, ...] = ()) -> list[Target | Failure]:
    return render_targets(made, rows(*values), seed=0, references=references)


def test_values_that_are_no_text_reach_the_template_as_they_are():
    made = template("{{ n + 1 }} {{ list[1] }} {{ deep.a }}", "{{ 'yes' if flag else 'no' }} {{ n * 1.5 }}")
    values = {"n": 3, "list": ["a", "b"], "deep": {"a": None}, "flag": True}
    assert render_prompts(made, rows(values), seed=0) == ["4 b None"]
    assert targets(made, values) == [Target(0, "yes 4.5", ("yes 4.5",))]


def test_a_row_that_looks_like_a_template_stays_text():
    assert render_prompts(template(), rows({"text": "{{ 7 * 7 }} {% if %}"}), seed=0) == ["{{ 7 * 7 }} {% if %}"]


def test_line_breaks_at_both_ends_are_cut_and_other_space_is_kept():
    made = template("\n\n{{ text }}\n\n", "{{ label }}\n")
    assert render_prompts(made, rows({"text": "  a \n b  "}), seed=0) == ["  a \n b  "]
    assert targets(made, {"label": "    return x\n"}) == [Target(0, "    return x", ("    return x",))]


def test_choices_are_given_to_prompts_unless_the_row_has_its_own():
    made = template("{{ text }}: {{ choices | join('/') }}")
    found = render_prompts(made, rows({"text": "a"}, {"text": "b", "choices": ["x"]}), seed=0, choices=("p", "q"))
    assert found == ["a: p/q", "b: x"]


def test_further_answers_come_from_reference_columns_and_from_lists():
    made = template(target="Answer: {{ label | trim }}")
    assert targets(made, {"label": ["a ", "b", "", "a"]}) == [Target(0, "Answer: a", ("Answer: a", "Answer: b"))]
    assert targets(
        made, {"label": "a", "two": "b", "more": ["c", "a"]}, {"label": "a", "two": None}, references=("two", "more")
    ) == [
        Target(0, "Answer: a", ("Answer: a", "Answer: b", "Answer: c")),
        Target(0, "Answer: a", ("Answer: a",)),
    ]


def test_references_of_a_target_that_does_more_than_print_are_taken_as_they_are():
    made = template(target="{{ label | upper }}")
    assert targets(made, {"label": "a", "two": ["B", "C"]}, references=("two",)) == [Target(0, "A", ("A", "B", "C"))]


def test_a_failing_row_says_part_and_line_and_does_not_touch_the_others():
    made = template("{{ text }}\n{{ deep.a.b }}", "{{ label }}")
    assert render_prompts(made, rows({"text": "x", "deep": {}}, {"text": "y", "deep": {"a": {"b": 1}}}), seed=0) == [
        Failure("row", 0, "prompt, line 2: 'dict object' has no attribute 'a'"),
        "y\n1",
    ]
    assert targets(made, {"label": "\n"}, {"label": "ok"}, {"label": []}) == [
        Failure("row", 0, "the target is empty"),
        Target(0, "ok", ("ok",)),
        Target(0, "[]", ("[]",)),
    ]
    assert render_prompts(template("{% if text %}{{ text }}{% endif %}"), rows({"text": ""}), seed=0) == [
        Failure("row", 0, "the prompt is empty")
    ]


def test_forbidden_access_is_refused_with_its_place():
    made = template("{{ text }}\n{{ text.__class__ }}")
    with pytest.raises(RefusedError) as error:
        render_prompts(made, rows({"text": "x"}), seed=0)
    assert str(error.value) == (
        "template of task \"t\", prompt, line 2: access to attribute '__class__' of 'str' object is unsafe. "
        "Templates may use the columns of a row, filters, if and for."
    )


def test_an_endless_template_stops_with_its_place_and_row(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sandbox, "SECONDS", 0.2)
    loop = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    inline = TemplateSettings(
        phrasings=(Phrasing(prompt="{{ text }}", target="{{ label }}" + loop),) * 2,
    )
    made = load_template(TaskSettings(name="t", source="a.csv", template=inline))
    with pytest.raises(DataError) as error:
        targets(made, {"label": "x"})
    assert str(error.value) == (
        'template of task "t", phrasing 1, target, took longer than 0.2 seconds, or all of 512 MB of memory '
        "(row a.csv:2). Write it with fewer and shorter loops."
    )


def test_rows_go_with_their_own_phrasing():
    inline = TemplateSettings(
        phrasings=tuple(Phrasing(prompt=f"{n} {{{{ text }}}}", target=f"{n} {{{{ label }}}}") for n in range(3))
    )
    made = load_template(TaskSettings(name="t", source="a.csv", template=inline))
    many = rows(*({"text": str(n), "label": str(n)} for n in range(30)))
    prompts = render_prompts(made, many, seed=5)
    answers = render_targets(made, many, seed=5)
    drawn = [answer.phrasing for answer in answers if isinstance(answer, Target)]
    assert set(drawn) == {0, 1, 2}
    assert prompts == [f"{phrasing} {n}" for n, phrasing in enumerate(drawn)]
    assert [answer.text for answer in answers if isinstance(answer, Target)] == prompts
