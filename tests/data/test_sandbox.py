import os
import subprocess
import sys
import time

import pytest

from tunesmith.data import sandbox
from tunesmith.data.sandbox import Failure, run_jobs

WALKS = [
    "{{ x.__class__ }}",
    "{{ x['__class__'] }}",
    "{{ x.__class__.__mro__[1].__subclasses__() }}",
    "{{ ''.__class__.__base__ }}",
    "{{ x | attr('__class__') }}",
    "{{ x | attr('_' ~ '_class__') }}",
    "{{ [x] | map(attribute='__class__') | list }}",
    "{{ '{0.__class__}'.format(x) }}",
    "{{ '{0.__class__.__mro__}'.format(1) }}",
    "{{ '%s' | format(x.__class__) }}",
    "{{ '{a.__class__}'.format_map({'a': 1}) }}",
    "{{ ('{0.__cl' ~ 'ass__}').format(x) }}",
    "{% set f = '{0.__class__}'.format %}{{ f(x) }}",
    "{{ x.upper.__globals__ }}",
    "{{ x.join.__self__.__class__ }}",
    "{{ range.__call__.__self__ }}",
    "{% macro m() %}{% endmacro %}{{ m.__globals__ }}",
    "{% macro m() %}{% endmacro %}{{ m._func }}",
    "{% macro m() %}{% endmacro %}{{ m | attr('__init__') }}",
    "{{ self.__init__ }}",
    "{{ self._TemplateReference__context }}",
    "{{ items.append(1) }}",
    "{{ items.pop() }}",
    "{{ thing.update({'a': 1}) }}",
    "{{ thing.__setitem__('a', 1) }}",
    "{% set _ = items.extend([1]) %}x",
    "{{ (1).__class__ }}",
    "{{ (x for x in y) }}",
]
UNKNOWN = [
    "{{ cycler('a').next() }}",
    "{{ lipsum.__globals__ }}",
    "{{ lipsum() }}",
    "{{ namespace(a=1).a }}",
    "{{ joiner() }}",
    "{{ dict(a=1) }}",
    "{{ config }}",
    "{{ request }}",
    "{{ open('/etc/passwd').read() }}",
    "{{ __import__('os') }}",
    "{{ get_flashed_messages.__globals__ }}",
    "{{ caller() }}",
    "{{ super() }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}{{ os }}",
    "{% extends 'base' %}",
    "{% from 'os' import path %}",
]
LARGE = [
    "{{ 'a' * 10**9 }}",
    "{{ x * 10**9 }}",
    "{{ ['a'] * 10**9 }}",
    "{{ 'a' | center(10**10) }}",
    "{{ '%10000000000d' % 1 }}",
    "{{ '{:>10000000000}'.format(x) }}",
    "{{ range(10**9) | list }}",
    "{% for i in range(10**6) %}x{% endfor %}",
    "{% for i in range(99999) %}{{ x * 1000 }}{% endfor %}",
    "{{ x | indent(10**9) }}",
    "{{ x | replace('h', 'h' * 10**9) }}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{% set a = 'a' * 1000 %}{% set b = a * 1000 %}{% set c = b * 1000 %}{{ c }}",
    "{{ (x ~ ' ') * 999999 }}",
    "{{ 10 ** 5000 }}",
]
ENDLESS = [
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{{ 9 ** (9 ** 9) }}",
    "{{ ('a' * 99999) | replace('a', 'aa') | length }}{% for i in range(99999) %}"
    "{% for j in range(99999) if j > 99999 %}{% endfor %}{% endfor %}",
]
ROW = {"x": "hi", "items": [1], "thing": {}}


def test_hostile_templates_reach_nothing_and_the_next_row_is_rendered():
    payloads = [*WALKS, *UNKNOWN, *LARGE]
    sources = [*payloads, "{{ x }} there"]
    results = run_jobs(sources, [(number, ROW) for number in range(len(sources))], trusted=False)
    assert results[-1] == "hi there"
    texts = {payload: result for payload, result in zip(payloads, results, strict=False) if isinstance(result, str)}
    assert texts == {"{{ [x] | map(attribute='__class__') | list }}": "[Undefined]"}
    refused = {payloads[n] for n, result in enumerate(results[:-1]) if getattr(result, "kind", "") == "refused"}
    assert {"{{ x.__class__ }}", "{{ '{0.__class__}'.format(x) }}", "{{ items.append(1) }}"} <= refused


@pytest.mark.parametrize("source", ENDLESS)
def test_endless_templates_are_ended_and_nothing_after_them_is_rendered(source: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sandbox, "SECONDS", 0.3)
    began = time.monotonic()
    results = run_jobs(["{{ x }}", source], [(0, ROW), (1, ROW), (0, ROW)], trusted=False)
    assert results == ["hi", Failure("template", 0, "took longer than 0.3 seconds, or all of 512 MB of memory")]
    assert time.monotonic() - began < 20


def test_the_limit_is_two_seconds_and_a_million_characters():
    assert (sandbox.SECONDS, sandbox.CHARACTERS) == (2.0, 1_000_000)
    source = "{% for i in range(n) %}{{ x }}{% endfor %}"
    results = run_jobs([source], [(0, {"x": "ab" * 10, "n": n}) for n in (50_000, 50_001)], trusted=True)
    assert len(str(results[0])) == 1_000_000
    assert results[1] == Failure("row", 0, "more than 1,000,000 characters")


@pytest.mark.parametrize("trusted", [True, False])
def test_both_ways_of_rendering_give_the_same(trusted: bool):
    sources = ["{{ a }} {{ b.c }} {{ d | length }}", "{% if a %}\nyes\n{% endif %}\nend\n", "\n\n{{ b.missing }}"]
    row = {"a": "é😀\n{{ b }}", "b": {"c": 1.5}, "d": [1, None, True]}
    assert run_jobs(sources, [(0, row), (1, row), (2, row), (0, {})], trusted=trusted) == [
        "é😀\n{{ b }} 1.5 3",
        "yes\nend",
        Failure("row", 3, "'dict object' has no attribute 'missing'"),
        Failure("row", 1, "'a' is undefined"),
    ]


def test_what_a_template_makes_must_be_text_too():
    sources = ['{{ "\\ud800" }}', '{{ "a\\x00b" }}']
    assert run_jobs(sources, [(0, {}), (1, {})], trusted=False) == [
        Failure("row", 0, "lone surrogate U+D800"),
        Failure("row", 0, "NUL character"),
    ]


def test_the_child_sees_none_of_the_environment(monkeypatch: pytest.MonkeyPatch):
    seen: dict[str, str] = {}
    real = subprocess.run

    def spy(*args: object, **options: object) -> object:
        seen.update(options["env"])  # type: ignore[call-overload]
        return real(*args, **options)  # type: ignore[call-overload]

    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setattr(subprocess, "run", spy)
    assert run_jobs(["{{ x }}"], [(0, ROW)], trusted=False) == ["hi"]
    assert set(seen) <= {"PYTHONPATH", "SYSTEMROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"}


def test_the_child_starts_without_pydantic_and_torch():
    code = "import sys, tunesmith.data.sandbox; print([m for m in ('pydantic', 'torch', 'numpy') if m in sys.modules])"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True).stdout == b"[]\n"


def test_rows_over_several_children_stay_in_order(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sandbox, "JOBS_PER_CHILD", 2)
    rows = [(0, {"x": str(number)}) for number in range(5)]
    assert run_jobs(["<{{ x }}>"], rows, trusted=False) == [f"<{number}>" for number in range(5)]
