import json
from pathlib import Path

import pytest

from tunesmith.data.patterns import read_patterns
from tunesmith.errors import DataError
from tunesmith.settings import Phrasing

PAIRS = [["{text}\nIs it good?\n{options_}", "{label}"], ["Say: {text}", "It is {label}"], ["Write {label}.", "{text}"],
         ["Write something.", "{text}"]]  # fmt: skip
PYTHON = f"""
import os
VERSION = 3
PATTERNS: dict = {{"mood": {[tuple(pair) for pair in PAIRS]!r}, "other": [("{{a}}", "{{b}}")]}}
MADE = [tuple(line.split()) for line in os.environ]
"""


def problems(text: str, name: str = "p.json", wanted: str = "") -> tuple[str, ...]:
    with pytest.raises(DataError) as error:
        read_patterns(text, name, wanted=wanted)
    return error.value.problems


def test_pairs_become_phrasings_and_those_the_other_way_round_are_inverted() -> None:
    assert read_patterns(json.dumps(PAIRS), "p.json", wanted="") == (
        Phrasing(prompt='{{ text }}\nIs it good?\nOPTIONS:\n- {{ choices | join("\\n- ") }}', target="{{ label }}"),
        Phrasing(prompt="Say: {{ text }}", target="It is {{ label }}"),
        Phrasing(form="inverted", prompt="Write {{ label }}.", target="{{ text }}"),
        Phrasing(form="inverted", prompt="Write something.", target="{{ text }}"),
    )


def test_both_names_for_the_answer_set_are_the_choices_and_no_column() -> None:
    short, long = (read_patterns(json.dumps([[f"{{a}}\n{{{name}}}", "{b}"]]), "p.json", wanted="")
                   for name in ("options_", "options_str"))  # fmt: skip
    assert long == short
    assert "options" not in long[0].prompt


def test_a_python_file_is_read_and_not_run(tmp_path: Path) -> None:
    hostile = PYTHON + f"\nopen({str(tmp_path / 'made')!r}, 'w')\nraise SystemExit\n"
    assert read_patterns(hostile, "p.py", wanted="mood") == read_patterns(json.dumps(PAIRS), "p.json", wanted="")
    assert read_patterns(PYTHON, "p.py", wanted="other") == (Phrasing(prompt="{{ a }}", target="{{ b }}"),)
    assert not (tmp_path / "made").exists()


def test_braces_that_are_meant_stay_braces_and_template_marks_stay_text() -> None:
    from tunesmith.data.sandbox import run_jobs

    (found,) = read_patterns(json.dumps([["{{ {a} }} {{% {{# \\d", "{a}"]]), "p.json", wanted="")
    assert run_jobs([found.prompt], [(0, {"a": "x"})], trusted=True) == ["{ x } {% {# \\d"]


def test_a_file_with_several_lists_must_be_told_which() -> None:
    both = json.dumps({"one": PAIRS, "two": PAIRS})
    assert problems(both) == ("p.json: it holds 2 lists of pairs. Name one, as in p.json#one: one, two.",)
    assert problems(both, wanted="three") == ('p.json: there is no "three" in it. Choose another.',)
    assert problems(both, wanted="tow") == ('p.json: there is no "tow" in it. Did you mean "two"? Choose another.',)


def test_what_is_no_list_of_pairs_is_refused() -> None:
    shape = 'Write a list of pairs, ["input with {column}", "target"], or names with such lists.'
    for text in ("3", "[]", "{}", '{"a": "b"}'):
        assert problems(text) == (f"p.json: there are no pairs in it. {shape}",)
    assert problems("x = f(1)", "p.py") == (f"p.py: there are no pairs in it. {shape}",)
    assert problems("[[1,") == (
        "p.json:1: this is not JSON: Expecting value: line 1 column 5 (char 4). Mend the file.",
    )
    assert problems("a = (", "p.py")[0].startswith("p.py:1: this is not Python: '(' was never closed")
    assert problems("[" * 100_000)[0].startswith("p.json: this is not JSON: ")
    assert problems("a = " + "(" * 5000, "p.py")[0].startswith("p.py:1: this is not Python: ")


def test_every_pair_that_cannot_be_used_is_named() -> None:
    pairs = [["{a}", "{b}"], ["{a}"], ["{a.b}", "{b}"], ["{a", "{b}"], ["{a!r}", "{b}"], "{a}", ["{0}", "{b}"]]
    assert problems(json.dumps({"t": pairs}), wanted="t") == (
        "p.json#t, pair 2: expected two texts, the input and the target. Write the pair so, or take it out.",
        'p.json#t, pair 3: "{a.b}" is no plain name of a column. Write {name}.',
        "p.json#t, pair 4: expected '}' before end of string. Write {{ for a brace that is meant.",
        'p.json#t, pair 5: "{a}" is no plain name of a column. Write {name}.',
        "p.json#t, pair 6: expected two texts, the input and the target. Write the pair so, or take it out.",
        'p.json#t, pair 7: "{0}" is no plain name of a column. Write {name}.',
    )
