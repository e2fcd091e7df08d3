from dataclasses import replace
from typing import Any

import pytest

from tunesmith.data import sandbox
from tunesmith.data.rendering import Target, put_rows, render_prompts, render_targets
from tunesmith.data.rows import Row
from tunesmith.data.sandbox import Failure
from tunesmith.data.templates import Template, load_template
from tunesmith.errors import DataError, RefusedError
from tunesmith.settings import Phrasing, TaskSettings, TemplateSettings


def template(prompt: str = "{{ text }}", target: str = "{{ label }}") -> Template:
    inline = TemplateSettings(prompt=prompt, target=target)
    made = load_template(TaskSettings(name="t", source="a.csv", template=inline))
    return replace(made, trusted=True)  # rendered in this process, which is quicker


def rows(*values: dict[str, Any], phrasing: int = 0) -> list[tuple[int, Row]]:
    return [(phrasing, Row(value, "a.csv", line)) for line, value in enumerate(values, 2)]


def targets(made: Template, *values: dict[str, Any], references: tuple[str, ...] = ()) -> list[Target | Failure]:
    return render_targets(made, rows(*values), references=references)


def test_values_that_are_no_text_reach_the_template_as_they_are():
    made = template("{{ n + 1 }} {{ list[1] }} {{ deep.a }}", "{{ 'yes' if flag else 'no' }} {{ n * 1.5 }}")
    values = {"n": 3, "list": ["a", "b"], "deep": {"a": None}, "flag": True}
    assert render_prompts(made, rows(values)) == ["4 b None"]
    assert targets(made, values) == [Target(0, "yes 4.5", ("yes 4.5",))]


def test_a_row_that_looks_like_a_template_stays_text():
    assert render_prompts(template(), rows({"text": "{{ 7 * 7 }} {% if %}"})) == ["{{ 7 * 7 }} {% if %}"]


def test_line_breaks_at_both_ends_are_cut_and_other_space_is_kept():
    made = template("\n\n{{ text }}\n\n", "{{ label }}\n")
    assert render_prompts(made, rows({"text": "  a \n b  "})) == ["  a \n b  "]
    assert targets(made, {"label": "    return x\n"}) == [Target(0, "    return x", ("    return x",))]


def test_choices_are_given_to_prompts_unless_the_row_has_its_own():
    made = template("{{ text }}: {{ choices | join('/') }}")
    found = render_prompts(made, rows({"text": "a"}, {"text": "b", "choices": ["x"]}), choices=("p", "q"))
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
    assert render_prompts(made, rows({"text": "x", "deep": {}}, {"text": "y", "deep": {"a": {"b": 1}}})) == [
        Failure("row", 0, "prompt, line 2: 'dict object' has no attribute 'a'"),
        "y\n1",
    ]
    assert targets(made, {"label": "\n"}, {"label": "ok"}, {"label": []}) == [
        Failure("row", 0, "the target is empty"),
        Target(0, "ok", ("ok",)),
        Target(0, "[]", ("[]",)),
    ]
    assert render_prompts(template("{% if text %}{{ text }}{% endif %}"), rows({"text": ""})) == [
        Failure("row", 0, "the prompt is empty")
    ]


def test_what_fails_alike_for_all_rows_is_told_of_the_template():
    made = template("{{ text }}{% for i in range(999999999) %}{% endfor %}")
    with pytest.raises(DataError) as error:
        put_rows(made, [row for _, row in rows({"text": "x", "label": "a"}, {"text": "y", "label": "b"})], [(0,), (0,)])
    (problem,) = error.value.problems
    assert problem.startswith('template of task "t", prompt, line 1: Range too big.')
    assert problem.endswith("; so it is for all 2 rows. Mend the template.")


def test_forbidden_access_is_refused_with_its_place():
    made = template("{{ text }}\n{{ text.__class__ }}")
    with pytest.raises(RefusedError) as error:
        render_prompts(made, rows({"text": "x"}))
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
    many = [(n % 3, Row({"text": str(n), "label": str(n)}, "a.csv", n)) for n in range(30)]
    prompts = render_prompts(made, many)
    answers = render_targets(made, many)
    assert prompts == [f"{n % 3} {n}" for n in range(30)]
    assert answers == [Target(n % 3, f"{n % 3} {n}", (f"{n % 3} {n}",)) for n in range(30)]


def directions() -> Template:
    inline = TemplateSettings(
        phrasings=(
            Phrasing(prompt="{{ text }}", target="{{ label }}"),
            Phrasing(form="inverted", prompt="Label: {{ label }}", target="{{ text }}"),
            Phrasing(form="chain-of-thought", prompt="{{ text }}", target="{{ why }} The answer is {{ label }}."),
        )
    )
    forms = ("zero-shot", "inverted", "chain-of-thought")
    return replace(load_template(TaskSettings(source="a.csv", template=inline, forms=forms)), trusted=True)


def test_an_inverted_phrasing_shows_one_answer_and_has_no_references():
    values = {"text": "a", "label": ["b", "c"], "two": "d", "why": "So."}
    turned = rows(values, phrasing=1)
    assert render_prompts(directions(), turned) == ["Label: b"]
    assert render_targets(directions(), turned, references=("two",)) == [Target(1, "a", ("a",))]
    assert render_targets(directions(), rows(values), references=("two",)) == [Target(0, "b", ("b", "c", "d"))]


def test_a_chain_of_thought_ends_with_one_answer_and_keeps_further_ones():
    values = {"text": "a", "label": ["b", "c"], "two": "d", "why": "So."}
    assert render_targets(directions(), rows(values, phrasing=2), references=("two",)) == [
        Target(2, "So. The answer is b.", ("So. The answer is b.", "d"))
    ]
