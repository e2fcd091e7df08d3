import time
from pathlib import Path
from typing import Any

import pytest

from tunesmith.errors import RecipeError
from tunesmith.yamlfile import MAX_BYTES, parse_yaml, read_yaml, scalar


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(RecipeError) as caught:
        parse_yaml(text, "r.yaml")
    return caught.value.problems


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12), ("-3", -3), ("+3", 3), ("1_000", 1000), ("010", 10),
        ("1e-4", 1e-4), ("1E5", 1e5), ("-.5", -0.5), ("2.", 2.0), ("3.25", 3.25),
        ("true", True), ("False", False), ("null", None), ("~", None), ("", None),
        # what YAML 1.1 would turn into something else stays text
        ("no", "no"), ("on", "on"), ("off", "off"), ("yes", "yes"), ("12:30", "12:30"), ("2026-11-24", "2026-11-24"),
        ("0x1f", "0x1f"), ("0o17", "0o17"), (".inf", ".inf"), (".nan", ".nan"), ("1e-", "1e-"), ("-", "-"), ("=", "="),
        # numbers that no field could hold
        ("1e999", "1e999"), ("9" * 5000, "9" * 5000),
        ("٣", "٣"),
    ],
)  # fmt: skip
def test_a_plain_word_means_what_it_looks_like(text: str, value: Any) -> None:
    found = scalar(text)
    assert found == value
    assert type(found) is type(value)


def test_quoted_words_are_text_whatever_they_look_like() -> None:
    values = parse_yaml("a: '1'\nb: \"true\"\nc: |\n  12\nd: 1\ne: 'no'\n", "r.yaml").values
    assert values == {"a": "1", "b": "true", "c": "12\n", "d": 1, "e": "no"}


def test_values_keep_the_lines_of_their_keys() -> None:
    text = "name: a\n\ntasks:\n  - source: x.csv\n    metrics: [rouge,\n      bleu]\n"
    document = parse_yaml(text, "r.yaml")
    assert document.values == {"name": "a", "tasks": [{"source": "x.csv", "metrics": ["rouge", "bleu"]}]}
    assert document.place(("name",)) == "r.yaml:1"
    assert document.place(("tasks", 0, "source")) == "r.yaml:4"
    assert document.place(("tasks", 0, "metrics", 1)) == "r.yaml:6"


def test_a_key_that_is_missing_is_placed_at_the_nearest_thing_above_it() -> None:
    document = parse_yaml("name: a\ntasks:\n  - metrics: [rouge]\n", "r.yaml")
    assert document.place(("tasks", 0, "source")) == "r.yaml:3"
    assert document.place(("train", "epochs")) == "r.yaml:1"


def test_all_keys_that_stand_twice_are_named_at_once() -> None:
    assert problems("a: 1\nb:\n  c: 1\n  c: 2\na: 2\n") == (
        'r.yaml:4: "c" stands here twice (first in line 3). Keep one of them.',
        'r.yaml:5: "a" stands here twice (first in line 1). Keep one of them.',
    )


def test_a_quoted_key_is_the_same_key() -> None:
    assert problems("1: a\n'1': b\n") == ('r.yaml:2: "1" stands here twice (first in line 1). Keep one of them.',)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "r.yaml: the file is empty. `tunesmith init TABLE` writes a recipe from a table."),
        ("# only this\n", "r.yaml: the file is empty. `tunesmith init TABLE` writes a recipe from a table."),
        ("- a\n- b\n", "r.yaml:1: expected `key: value` lines at the top level."),
        ("\n42\n", "r.yaml:2: expected `key: value` lines at the top level."),
        (
            "a: &x [1]\nb: *x\n",
            "r.yaml:1: anchors (&) and aliases (*) are not used here. Write the value out.",
        ),
        ("b: *x\n", "r.yaml:1: anchors (&) and aliases (*) are not used here. Write the value out."),
        (
            "a: 1\nb: !!python/object/apply:os.system [ls]\n",
            "r.yaml:2: the tag tag:yaml.org,2002:python/object/apply:os.system is not used here. Write a plain value.",
        ),
        ("a: !mine 3\n", "r.yaml:1: the tag !mine is not used here. Write a plain value."),
        ("a: 1\n---\nb: 2\n", "r.yaml:2: a second document begins here (---). Keep one document in a file."),
        ("? [a, b]\n: 1\n", "r.yaml:1: a key must be a plain word. Write `key: value`."),
        ("a: 1\n? \n: 2\n", "r.yaml:2: a key must be a plain word. Write `key: value`."),
    ],
)
def test_what_recipes_do_not_use_is_refused(text: str, problem: str) -> None:
    assert problems(text) == (problem,)


@pytest.mark.parametrize("text", ["a: [1\nb: 2", "\ta: 1", "a: b: c", "a: 'x", "a:\n - b\n  c: 1\n", "a: @x"])
def test_broken_yaml_is_named_with_its_line_and_a_way_out(text: str) -> None:
    (problem,) = problems(text)
    assert problem.startswith(("r.yaml:1: this is not YAML: ", "r.yaml:2: ", "r.yaml:3: "))
    assert problem.endswith(". Look at indentation and quotes there.")


def test_control_characters_are_refused() -> None:
    (problem,) = problems("a: \x00")
    assert problem.startswith("r.yaml: this is not YAML: unacceptable character #x0000")


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
def test_deep_nesting_is_refused_before_it_costs_anything(opening: str) -> None:
    start = time.perf_counter()
    assert problems(opening * 60_000) == ("r.yaml:1: nested more than 32 deep. Write it flatter.",)
    assert time.perf_counter() - start < 2


def test_an_alias_bomb_is_refused_at_its_first_anchor() -> None:
    bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(f"a{n}: &a{n} [{f'*a{n - 1},' * 9}]\n" for n in range(1, 10))
    assert problems(bomb) == ("r.yaml:1: anchors (&) and aliases (*) are not used here. Write the value out.",)


def test_thirty_two_levels_are_enough_for_a_recipe_and_allowed() -> None:
    assert parse_yaml("a: " + "[" * 31 + "]" * 31, "r.yaml").values["a"]


class TestReadingAFile:
    def refused(self, path: Path) -> str:
        with pytest.raises(RecipeError) as caught:
            read_yaml(path)
        return str(caught.value)

    def test_a_byte_order_mark_is_no_part_of_the_first_key(self, tmp_path: Path) -> None:
        path = tmp_path / "r.yaml"
        path.write_bytes(b"\xef\xbb\xbfname: a\n")
        assert read_yaml(path).values == {"name": "a"}

    def test_a_missing_file_says_how_to_get_one(self, tmp_path: Path) -> None:
        path = tmp_path / "r.yaml"
        assert self.refused(path) == f"{path}: there is no such file. `tunesmith init TABLE` writes one from a table."

    def test_a_folder_is_no_file(self, tmp_path: Path) -> None:
        assert self.refused(tmp_path) == f"{tmp_path}: this is a folder. Name the recipe in it."

    def test_a_huge_file_is_not_read(self, tmp_path: Path) -> None:
        path = tmp_path / "r.yaml"
        path.write_bytes(b"a" * (MAX_BYTES + 1))
        assert self.refused(path) == f"{path}: larger than 200,000 bytes; a recipe is a page of text."

    def test_another_encoding_is_named_with_its_first_strange_byte(self, tmp_path: Path) -> None:
        path = tmp_path / "r.yaml"
        path.write_bytes("name: Köln\n".encode("latin-1"))
        assert self.refused(path) == f"{path}: byte 7 is not UTF-8. Save the file as UTF-8."

    def test_a_table_is_told_from_a_recipe(self, tmp_path: Path) -> None:
        path = tmp_path / "chats.csv"
        path.write_text("dialogue,summary\nA: hi,hi\n")
        assert self.refused(path) == (
            f"{path}: this is a table, not a recipe. `tunesmith init {path}` writes a recipe from it, `tunesmith run "
            f"{path}` does that and runs it."
        )

    def test_a_file_that_may_not_be_read_is_no_traceback(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "r.yaml"
        path.write_text("name: a\n")

        def denied(self: Path, **_: object) -> str:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "read_text", denied)
        assert self.refused(path) == f"{path}: the file cannot be read: Permission denied."


def test_a_problem_that_begins_with_a_key_gets_its_line_and_a_file_is_no_key() -> None:
    document = parse_yaml("name: a\ndata: {folder: x}\ncandidates:\n  a.b: {method: lora}\n", "r.yaml")
    assert (
        document.placed("candidates.a.b.shots: 9 are asked for.") == "r.yaml:4: candidates.a.b.shots: 9 are asked for."
    )
    for other in ("data.csv:3: a bad row.", "split.test: it is not in the file.", "r.yaml:1: name: said already."):
        assert document.placed(other) == other
