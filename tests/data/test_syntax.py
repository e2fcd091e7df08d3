import time

import pytest

from tunesmith.data.syntax import read_syntax

WRITTEN = "A column is written {{ name }}, a tag {% if name %}."


def test_columns_are_the_names_that_a_text_does_not_make_itself():
    text = (
        "{% set total = a + 1 %}{% macro shout(word) %}{{ word }}{{ b }}{% endmacro %}"
        "{% for turn in turns %}{{ loop.index }} {{ turn.text }} {{ shout(c) }}{% endfor %}{{ total }} {{ range(3) }}"
        "{{ choices | join }}"
    )
    found = read_syntax(text)
    assert found.columns == {"a", "b", "c", "turns"}
    assert found.uses_choices
    assert found.problems == ()


def test_columns_that_are_tested_may_be_empty():
    text = "{% if a and b is defined %}{{ c if d else e }}{% elif f %}x{% endif %}{{ g | default('?') }}{{ h }}"
    assert read_syntax(text).tested == {"a", "b", "d", "f", "g"}


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("{{ a }}", "a"),
        ("{{ a | trim }}", "a"),
        ("Answer: {{ a }}.", "a"),
        ("{{ a }} {{ a }}", "a"),
        ("{{ a }} {{ b }}", None),
        ("{{ a | upper }}", None),
        ("{{ a.text }}", None),
        ("{% for e in a %}{{ e }}{% endfor %}", None),
        ("plain", None),
    ],
)
def test_a_text_that_only_prints_one_column_is_known(text: str, printed: str | None):
    assert read_syntax(text).printed == printed


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("a\n{{ b", (f"line 2: unexpected end of template, expected 'end of print statement'. {WRITTEN}",)),
        ("{% if %}", (f"line 1: Expected an expression, got 'end of statement block'. {WRITTEN}",)),
        ("a\n\n{% iff a %}", (f"line 3: Encountered unknown tag 'iff'. {WRITTEN}",)),
        (
            "{{ a | uper }}\n{{ b is strin }}",
            (
                'line 1: there is no filter "uper". Did you mean "upper"?',
                'line 2: there is no test "strin". Did you mean "string"?',
            ),
        ),
        ("{% include 'x' %}", ("line 1: include, import and extends are not possible here; write the text out.",)),
        ("{{ " + "(" * 100_000, ("line 1: nested too deep.",)),
    ],
)
def test_what_does_not_parse_is_named_with_its_line(text: str, problems: tuple[str, ...]):
    assert read_syntax(text).problems == problems


def test_reading_a_text_runs_none_of_it():
    began = time.monotonic()
    assert read_syntax("{{ 'a' * 10**10 }}{{ 9 ** (9 ** 9) }}{{ a }}").columns == {"a"}
    assert time.monotonic() - began < 1
