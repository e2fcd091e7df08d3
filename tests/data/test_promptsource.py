import pytest

from tunesmith.data.promptsource import TAGS, Prompt, cut, read_prompts
from tunesmith.data.rendering import Target, render_prompts, render_targets
from tunesmith.data.rows import Row
from tunesmith.data.sandbox import Failure
from tunesmith.data.templates import CatalogTemplate, ready
from tunesmith.errors import DataError, RecipeError
from tunesmith.yamlfile import parse_yaml

HEAD = "dataset: made\nsubset: up\ntemplates:\n"


def entry(name: str, jinja: str, more: str = "") -> str:
    lines = "\n".join(f"      {line}" for line in jinja.splitlines())
    return (
        f"  {name}-id: !Template\n    name: {name}\n    jinja: |\n{lines}\n    id: {name}-id\n    reference: ''\n{more}"
    )


def read(*entries: str) -> list[Prompt]:
    return read_prompts(parse_yaml(HEAD + "".join(entries), "t.yaml", tags=TAGS))


def problems(*entries: str) -> tuple[str, ...]:
    with pytest.raises(DataError) as error:
        read(*entries)
    return error.value.problems


def rendered(jinja: str, row: dict[str, object], more: str = "") -> tuple[object, object]:
    """What our own halves of a prompt render to."""
    (prompt,) = read(entry("p", jinja, more))
    made = ready("t", CatalogTemplate(name="t", phrasings=(prompt.phrasing,)), forms=("zero-shot",), trusted=True)
    drawn = [(0, Row({**dict.fromkeys(made.optional), **row}, "f", 1))]
    (asked,), (answer,) = render_prompts(made, drawn), render_targets(made, drawn)
    return asked, answer.text if isinstance(answer, Target) else answer


def whole(jinja: str, row: dict[str, object]) -> tuple[str, ...]:
    """What the format means: render, then cut."""
    from jinja2.sandbox import SandboxedEnvironment

    return tuple(part.strip() for part in SandboxedEnvironment().from_string(jinja).render(row).split("|||"))


@pytest.mark.parametrize(
    "jinja",
    [
        "Is it {{ a }}?\n|||\n{{ b }}",
        "{% if n == 1 %}\n1: {{ a }}\n|||\nyes\n{% elif n == 2 %}\n2: {{ b }}\n|||\nno\n{% else %}x|||y\n{% endif %}",
        "{% if n == 1 %}First\n{% endif %}\n{{ a }}\n\n|||\n{% if n == 2 %}two{% else %}{{ b }}{% endif %}",
        "{% set words = a.split() %}{{ words[0] }} and\n{{ b }} ||| {{ words | length }}",
        "{% if n == 1 %}{% set w = 'one' %}{% else %}{% set w = 'other' %}{% endif %}{{ a }} ||| {{ w }}",
        "{% for w in a.split() %}\n  - {{ w }}\n{% endfor %}\n|||{% for w in b.split() %}{{ w }};{% endfor %}",
        "{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m(a) }} ||| {{ m(b) }}",
        "{% set t %}{{ a }}!{% endset %}{{ t }} ||| {{ t }}{{ b }}",
        "{# a remark ||| #}{{ a }} {%- if n %} n {%- endif %} ||| {{ b }}",
        "{% raw %}{{ not a }}{% endraw %}{{ a }} ||| {{ b }}",
    ],
)
def test_the_halves_render_to_what_cutting_the_whole_gives(jinja: str) -> None:
    for n in (1, 2, 3):
        row: dict[str, object] = {"a": "some {{ more }}  words", "b": "else here", "n": n}
        assert rendered(jinja, row) == whole(jinja, row)


def test_a_prompt_needs_no_answer_to_be_rendered() -> None:
    prompt, target = cut("{% if hint %}Hint: {{ hint }} {% endif %}{{ text }} ||| {{ label }}")
    assert "label" not in prompt
    assert target == "{{ label }}"


def test_a_row_that_no_branch_is_for_gives_no_prompt() -> None:
    asked, answer = rendered("{% if n == 1 %}a|||b{{ a }}{% endif %}", {"a": "x", "n": 2})
    assert (asked, answer) == (Failure("row", 0, "the prompt is empty"), Failure("row", 0, "the target is empty"))


def test_choices_are_a_list_or_one_text() -> None:
    jinja = "{{ answer_choices | join('/') }} {{ a }}? ||| {{ answer_choices[n] }}"
    for more in ('    answer_choices: Yes ||| it\'s "no"\n', "    answer_choices: ['Yes', 'it''s \"no\"']\n"):
        assert rendered(jinja, {"a": "x", "n": 1}, more) == ('Yes/it\'s "no" x?', 'it\'s "no"')
        assert read(entry("p", jinja, more))[0].choices == ("Yes", 'it\'s "no"')


BY_LABEL, NO_YES = "{{ a }}? ||| {{ answer_choices[n] }}", "    answer_choices: no ||| yes\n"


@pytest.mark.parametrize("label", [1, "1", " 1"])
def test_a_label_may_be_the_text_of_a_number_as_a_csv_file_has_it(label: object) -> None:
    assert rendered(BY_LABEL, {"a": "x", "n": label}, NO_YES) == ("x?", "yes")


def test_a_label_that_is_no_place_in_the_choices_is_a_bad_row() -> None:
    for label in ("2", "-1", "yes"):
        asked, answer = rendered(BY_LABEL, {"a": "x", "n": label}, NO_YES)
        assert isinstance(answer, Failure)
        assert asked == "x?"


def test_choices_may_come_from_the_row() -> None:
    more = '    answer_choices: "{{ one }} ||| {{ two }}"\n'
    jinja = "{{ a }}? ||| {{ answer_choices[n] }}"
    assert rendered(jinja, {"a": "x", "n": 1, "one": "p", "two": "q"}, more) == ("x?", "q")
    assert read(entry("p", jinja, more))[0].choices == ()


def test_a_prompt_that_is_not_the_task_itself_is_inverted() -> None:
    more = "    metadata: !TemplateMetadata\n      original_task: {}\n      languages: [en]\n"
    found = read(
        entry("p", "{{ a }}|||{{ b }}", more.format("true")), entry("q", "{{ b }}|||{{ a }}", more.format("false"))
    )
    assert [(one.name, one.phrasing.form) for one in found] == [("p", "zero-shot"), ("q", "inverted")]


def test_tags_build_nothing_and_others_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"the tag tag:yaml.org,2002:python/object/apply:os.system is not used here"):
        parse_yaml(HEAD + "  a: !!python/object/apply:os.system [ls]\n", "t.yaml", tags=TAGS)


def test_every_prompt_that_cannot_be_used_is_named() -> None:
    assert problems(
        entry("good", "{{ a }}|||{{ b }}"),
        entry("no-bar", "{{ a }}"),
        entry("in-loop", "{% for a in b %}\n{{ a }}|||\n{% endfor %}"),
        entry("twice", "a\n|||b|||c"),
        entry("open", "{% if a %}b|||c"),
        entry("broken", "a\n{{ b"),
        "  bare-id: !Template\n    jinja: 7\n",
    ) == (
        't.yaml:10: prompt "no-bar": there is no ||| between prompt and answer. Add it, or take the prompt out.',
        't.yaml:16: prompt "in-loop": line 2: the ||| stands inside {% for %}. Put it outside.',
        't.yaml:24: prompt "twice": line 2: a second ||| stands here. Keep one of them.',
        't.yaml:31: prompt "open": a tag {% if %} is not closed. Close it.',
        't.yaml:37: prompt "broken": there is no ||| between prompt and answer. Add it, or take the prompt out.',
        't.yaml:44: prompt "bare-id": expected name and jinja. Add what is missing.',
    )
    assert problems("  {}\n") == ("t.yaml: `templates` holds no prompts. Name a templates.yaml of promptsource.",)
