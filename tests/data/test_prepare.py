import json
from pathlib import Path
from typing import Any

import pytest

from tunesmith.data.prepare import Prepared, prepare
from tunesmith.errors import DataError
from tunesmith.records import Example
from tunesmith.settings import DataSettings, Phrasing, SourceSettings, SplitSettings, TaskSettings, TemplateSettings

TEMPLATE = TemplateSettings(prompt="Label: {{ text }}", target="{{ label }}", system="Be brief.")


def run(base: Path, *tasks: TaskSettings, seed: int = 0, data: dict[str, Any] | None = None, **split: Any) -> Prepared:
    settings = DataSettings(**(data or {}))
    return prepare(tasks, split=SplitSettings(**split), data=settings, seed=seed, base=base)


def task(source: Any, **fields: Any) -> TaskSettings:
    return TaskSettings(**{"name": "t", "source": source, "template": TEMPLATE, **fields})


def write(path: Path, *rows: dict[str, Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def sentences(count: int, start: int = 0) -> list[dict[str, Any]]:
    """Rows that share no five words in a row."""
    return [
        {"text": " ".join(f"{word}{n}" for word in ("we", "came", "to", "the", "old", "house")), "label": "ab"[n % 2]}
        for n in range(start, start + count)
    ]


def given(tmp_path: Path, train: list[Any], validation: list[Any], test: list[Any]) -> SourceSettings:
    for name, rows in (("train", train), ("validation", validation), ("test", test)):
        write(tmp_path / f"{name}.jsonl", *rows)
    return SourceSettings(train="train.jsonl", validation="validation.jsonl", test="test.jsonl")


def problems(base: Path, *tasks: TaskSettings, **settings: Any) -> tuple[str, ...]:
    with pytest.raises(DataError) as error:
        run(base, *tasks, **settings)
    return error.value.problems


def test_an_example_holds_all_that_later_steps_need(tmp_path: Path):
    source = given(
        tmp_path,
        [{"text": "good day", "label": "a", "label2": "b", "who": "c1"}, {"text": "x", "label": "b", "label2": ""}],
        [{"text": "y", "label": "a", "label2": None}],
        [{"text": "z", "label": "b", "label2": ["a", "b"], "who": 7}],
    )
    made = run(tmp_path, task(source, references=("label2",), choices=("a", "b")), group="who")
    assert made.examples["train"][0] == Example(
        id="t/train/train.jsonl:1",
        task="t",
        split="train",
        prompt="Label: good day",
        target="a",
        references=("a", "b"),
        choices=("a", "b"),
        history=({"role": "system", "content": "Be brief."},),
        group="c1",
        phrasing=0,
    )
    assert made.examples["test"][0].references == ("b", "a")
    assert made.examples["test"][0].group == "7"
    assert [example.references for example in made.examples["validation"]] == [("a",)]
    assert made.health.rows_read == 4
    assert made.health.rows_per_split == {"train": 2, "validation": 1, "test": 1}
    assert made.health.groups == 4
    assert set(made.health.files) == {"train.jsonl", "validation.jsonl", "test.jsonl"}


def test_what_a_template_or_a_guess_brings_is_written_into_the_task(tmp_path: Path):
    write(tmp_path / "a.jsonl", *({**row, "text": row["text"]} for row in sentences(80)))
    made = run(tmp_path, task("a.jsonl", template=None))
    assert (made.tasks[0].template, made.tasks[0].choices) == ("text-label", ("a", "b"))
    assert made.health.notes == (
        'task "t": guessed template text-label with text as prompt and label as answer, one of a, b',
    )
    chats = run(
        tmp_path, TaskSettings(name="stars", source="support", template="support-stars"), data={"allow_bad": 0.0}
    )
    assert chats.tasks[0].choices == ("1", "2", "3", "4", "5")
    assert {example.target for example in chats.examples["train"]} == {"1", "2", "3", "4", "5"}


def test_choices_may_be_the_targets_of_training(tmp_path: Path):
    train = [{"text": "good day", "label": " yes "}, {"text": "bad day", "label": "no"}]
    source = given(tmp_path, train, [{"text": "x", "label": "no"}], [{"text": "y", "label": "yes"}] * 2)
    made = run(tmp_path, task(source, choices="targets"))
    assert made.tasks[0].choices == ("no", "yes")
    assert {example.choices for example in made.examples["test"]} == {("no", "yes")}
    assert made.examples["train"][0].target == "yes"


def test_targets_outside_the_choices_are_set_aside(tmp_path: Path):
    tests = [{"text": "y", "label": "no"}, {"text": "w", "label": "maybe"}]
    source = given(tmp_path, [{"text": "d", "label": "no"}], [{"text": "x", "label": "no"}], tests)
    made = run(tmp_path, task(source, choices=(*(f"c{n}" for n in range(10)), "no")), data={"allow_bad": 0.5})
    assert [(row.file, row.line, row.reason) for row in made.health.set_aside] == [
        (
            "test.jsonl",
            2,
            'target "maybe" is not among the choices: c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, ...',
        )
    ]
    assert made.health.rows_per_split["test"] == 1
    assert problems(tmp_path, task(source, choices="targets"))[0] == (
        'task "t": 1 of 4 rows (25.0%) cannot be used; 1.0% may be set aside.'
    )


def test_rows_whose_rendering_fails_or_is_empty_are_set_aside(tmp_path: Path):
    rows = [{"text": "a", "label": " ", "deep": {"x": 1}}, {"text": "b", "label": "l", "deep": {}}]
    template = TemplateSettings(prompt="{{ text }}{{ deep.x }}", target="{% if label %}{{ label | trim }}{% endif %}")
    write(tmp_path / "a.jsonl", *rows, *({**row, "deep": {"x": 2}} for row in sentences(60)))
    made = run(tmp_path, task("a.jsonl", template=template), data={"allow_bad": 0.1})
    assert [(row.line, row.reason) for row in made.health.set_aside] == [
        (1, "the target is empty"),
        (2, "prompt, line 1: 'dict object' has no attribute 'x'"),
    ]
    assert made.health.rows_read == 62
    assert sum(made.health.rows_per_split.values()) == 60


def test_leaks_leave_the_earlier_side_and_are_named(tmp_path: Path):
    rows = sentences(9)
    source = given(tmp_path, [*rows[:4], rows[8], rows[5]], [rows[4], rows[5], rows[6]], [rows[7], rows[8], rows[6]])
    made = run(tmp_path, task(source))
    assert [(leak.moved_id, leak.kept_id) for leak in made.health.leaks] == [
        ("t/train/train.jsonl:5", "t/test/test.jsonl:2"),
        ("t/train/train.jsonl:6", "t/validation/validation.jsonl:2"),
        ("t/validation/validation.jsonl:3", "t/test/test.jsonl:3"),
    ]
    assert made.health.rows_per_split == {"train": 4, "validation": 2, "test": 3}
    kept = run(tmp_path, task(source), data={"leaks": "keep"})
    assert kept.health.leaks == made.health.leaks
    assert kept.health.rows_per_split == {"train": 6, "validation": 3, "test": 3}
    assert run(tmp_path, task(source), data={"leak_similarity": 1.0}).health.leaks == made.health.leaks


def test_every_row_is_accounted_for(tmp_path: Path):
    rows: list[Any] = [*sentences(200), {"text": "", "label": "a"}]
    write(tmp_path / "a.jsonl", *rows)
    made = run(tmp_path, task("a.jsonl"), limit={"train": 50})
    (note,) = made.health.notes
    assert note.startswith('task "t": the limit keeps 50 of ')
    dropped = int(note.split(" of ")[1].split(" ")[0]) - 50
    in_use = sum(made.health.rows_per_split.values())
    assert made.health.rows_read == in_use + len(made.health.set_aside) + len(made.health.leaks) + dropped == 201


def test_answers_that_stand_for_none_are_counted_and_kept(tmp_path: Path):
    answers = ["NaN", "nan", " None", "null", "N/A", "a", "nanny"]
    rows = [{**row, "label": answers[n % 7]} for n, row in enumerate(sentences(70))]
    source = given(tmp_path, rows, sentences(2, 100), [{"text": "z", "label": "null"}])
    made = run(tmp_path, task(source))
    assert made.health.rows_per_split == {"train": 70, "validation": 2, "test": 1}
    assert made.health.notes == (
        'task "t": 51 rows with the answer "N/A", "NaN", "None", "nan", "null", the first t/train/train.jsonl:1. It is '
        "learned as it stands; where it means that there is no answer, empty the field or delete the row.",
    )
    listed = run(tmp_path, task(source, choices=(*answers, "b")))
    assert not listed.health.notes
    write(tmp_path / "a.jsonl", *({**row, "label": ("none", "b")[n % 2]} for n, row in enumerate(sentences(80))))
    guessed = run(tmp_path, task("a.jsonl", template=None))  # what is guessed nobody meant
    assert [note[:36] for note in guessed.health.notes] == [
        'task "t": guessed template text-labe',
        'task "t": 40 rows with the answer "n',
    ]


def test_a_name_of_a_column_that_nobody_asks_for_is_noted(tmp_path: Path):
    source = given(tmp_path, sentences(9), sentences(2, 100), sentences(2, 200))
    assert run(tmp_path, task(source, columns={"txt": "text", "who": "label"}), group="who").health.notes[:-1] == (
        'task "t": `columns` gives "text" the name "txt", and template of task "t" asks for no {{ txt }}. Did you mean '
        '"text"?',
    )


def test_exact_repeats_within_a_side_are_kept_and_counted(tmp_path: Path):
    rows = sentences(4)
    loud = {**rows[0], "text": rows[0]["text"].upper()}
    other = {**rows[0], "label": "b"}
    made = run(tmp_path, task(given(tmp_path, [rows[0], rows[0], loud, other], [rows[1]], [rows[2], rows[3]])))
    assert made.health.repeated_in_split == 2
    assert made.health.rows_per_split["train"] == 4


def test_a_side_that_leaks_empty_is_an_error(tmp_path: Path):
    rows = sentences(3)
    assert problems(tmp_path, task(given(tmp_path, rows[2:], rows[1:2], rows))) == tuple(
        f'task "t": no row is left for {side} without leaks and rows set aside: 3 rows in 3 groups, and a share of '
        f"{share}. Add rows, raise `split.{side}`, choose another seed, or give a file for it: "
        f"`source: {{{side}: FILE}}`."
        for side, share in (("train", 0.8), ("validation", 0.1))
    )


def test_the_problems_of_all_tasks_come_at_once(tmp_path: Path):
    write(tmp_path / "a.jsonl", *sentences(60))
    one = task("b.jsonl", name="one")
    two = task("a.jsonl", name="two", columns={"text": "txt"})
    three = task("a.jsonl", name="three", template=TemplateSettings(prompt="{{ text }", target="{{ label }}"))
    assert problems(tmp_path, one, two, three) == (
        f'b.jsonl: there is no such file in {tmp_path}. Did you mean "a.jsonl"?',
        'a.jsonl: `columns` of task "two" names "txt", and there is no such column; it has label, text. '
        'Did you mean "text"?',
        "template of task \"three\", prompt, line 1: unexpected '}'. A column is written {{ name }}, a tag "
        "{% if name %}.",
    )


def test_tasks_on_the_same_rows_put_them_on_the_same_sides(tmp_path: Path):
    names = ("summary", "intent", "sentiment", "stars", "entities")
    templates = ("dialogue-summary", *(f"support-{name}" for name in names[1:]))
    tasks = [
        TaskSettings(name=name, source="support", template=template)
        for name, template in zip(names, templates, strict=True)
    ]
    made = run(tmp_path, *tasks, data={"allow_bad": 0.0}, group="customer", limit={"train": 100})
    lines: dict[tuple[str, str], set[str]] = {}
    for side, examples in made.examples.items():
        for example in examples:
            lines.setdefault((example.task, side), set()).add(example.id.rpartition(":")[2])
    for side in ("train", "validation", "test"):
        assert len({frozenset(lines[name, side]) for name in names}) == 1
    assert len(lines["stars", "train"]) == 100
    assert made.health.leaks == ()
    assert list(made.health.files) == ["support"]


def test_the_same_recipe_gives_the_same_examples_and_another_seed_others(tmp_path: Path):
    chats = TaskSettings(name="t", source="support", template="dialogue-summary")
    first, second, third = run(tmp_path, chats), run(tmp_path, chats), run(tmp_path, chats, seed=1)
    assert first == second
    assert first.examples != third.examples
    assert {example.phrasing for example in first.examples["train"]} == set(range(6))


FORMS = TemplateSettings(
    phrasings=(
        Phrasing(prompt="Label: {{ text }}", target="{{ label }}"),
        Phrasing(form="inverted", prompt="Write for {{ label }}.", target="{{ text }}"),
        Phrasing(
            form="few-shot", intro="One of {{ choices | join('/') }}.", prompt="T: {{ text }}", target="{{ label }}",
            join=" => ", separator=" || ",
        ),
        Phrasing(form="chain-of-thought", prompt="Why {{ text }}?", target="{{ why }}\nThe answer is {{ label }}."),
    )
)  # fmt: skip
ALL = ("zero-shot", "inverted", "few-shot", "chain-of-thought")


def reasoned(count: int) -> list[dict[str, Any]]:
    return [{**row, "why": f"Since {n}." if n % 3 else ""} for n, row in enumerate(sentences(count))]


def test_training_rows_are_put_in_all_forms_and_the_others_in_the_plain_one(tmp_path: Path):
    write(tmp_path / "a.jsonl", *reasoned(200))
    plain = run(tmp_path, task("a.jsonl", template=FORMS, choices=("a", "b")))
    made = run(tmp_path, task("a.jsonl", template=FORMS, choices=("a", "b"), forms=ALL))
    assert {example.form for example in made.examples["train"]} == set(ALL)
    assert made.examples["validation"] == plain.examples["validation"]
    assert made.examples["test"] == plain.examples["test"]
    assert {example.form for example in made.examples["test"]} == {"zero-shot"}
    assert [example.id for example in made.examples["train"]] == [example.id for example in plain.examples["train"]]
    for example in made.examples["train"]:
        row = reasoned(200)[int(example.id.rpartition(":")[2]) - 1]
        assert example.form == ALL[example.phrasing]
        if example.form == "inverted":
            assert (example.prompt, example.target, example.choices) == (f"Write for {row['label']}.", row["text"], ())
        elif example.form == "chain-of-thought":
            assert (example.target, example.choices) == (f"{row['why']}\nThe answer is {row['label']}.", ())
            assert row["why"]
        else:
            assert (example.target, example.choices) == (row["label"], ("a", "b"))
    (note,) = made.health.notes
    counted = [sum(example.form == form for example in made.examples["train"]) for form in ALL]
    said = ", ".join(f"{count} {form}" for count, form in zip(counted, ALL, strict=True))
    assert note == f'task "t": training prompts by form: {said}'


def test_worked_examples_come_from_other_training_rows(tmp_path: Path):
    write(tmp_path / "a.jsonl", *sentences(100))
    made = run(tmp_path, task("a.jsonl", template=FORMS, choices=("a", "b"), forms=("few-shot",), shots=3))
    answers = {row["text"]: row["label"] for row in sentences(100)}
    training = {example.id for example in made.examples["train"]}
    texts = {row["text"]: f"t/train/a.jsonl:{line}" for line, row in enumerate(sentences(100), 1)}
    seen = set()
    for example in made.examples["train"]:
        intro, *worked, question = example.prompt.split(" || ")
        assert intro == "One of a/b."
        assert len(worked) == 3
        pairs = [part.removeprefix("T: ").split(" => ") for part in worked]
        assert all(answers[text] == answer for text, answer in pairs)
        own = question.removeprefix("T: ").removesuffix(" =>")
        assert texts[own] == example.id
        assert len({own, *(text for text, _ in pairs)}) == 4
        assert {texts[text] for text, _ in pairs} <= training
        seen |= {text for text, _ in pairs}
    assert len(seen) == len(training)
    assert all("||" not in example.prompt for side in ("validation", "test") for example in made.examples[side])


def test_with_reasons_asked_for_first_the_test_rows_are_asked_for_them_too(tmp_path: Path):
    rows = [{**row, "why": "So."} for row in sentences(100)]
    write(tmp_path / "a.jsonl", *rows, {"text": "x", "label": "c", "why": "So."})
    forms = ("chain-of-thought", "zero-shot")
    made = run(tmp_path, task("a.jsonl", template=FORMS, choices=("a", "b"), forms=forms), data={"allow_bad": 0.1})
    assert {example.form for example in made.examples["test"]} == {"chain-of-thought"}
    assert {example.choices for example in made.examples["test"]} == {()}
    assert {example.form for example in made.examples["train"]} == set(forms)
    assert made.tasks[0].choices == ("a", "b")
    (row,) = made.health.set_aside
    assert row.line == 101
    assert row.reason.endswith("is not among the choices: a, b")


def test_choices_of_reasoned_targets_are_their_final_answers(tmp_path: Path):
    write(tmp_path / "a.jsonl", *({**row, "why": "So."} for row in sentences(100)))
    alone = task("a.jsonl", template=FORMS, choices="targets", forms=("chain-of-thought",))
    assert run(tmp_path, alone).tasks[0].choices == ("a", "b")


def test_choices_cannot_be_read_from_inverted_rows_alone(tmp_path: Path):
    write(tmp_path / "a.jsonl", *sentences(60))
    inverted = task("a.jsonl", template=FORMS, choices="targets", forms=("inverted",))
    assert problems(tmp_path, inverted) == (
        'task "t": `choices: targets` takes the answers of the training rows, and none of them is asked in the plain '
        "direction. List the choices, or add a form to `forms`.",
    )


def test_conversations_keep_their_earlier_turns(tmp_path: Path):
    talk = [
        [{"role": role, "content": f"{role} {n} {turn}"} for turn in range(2) for role in ("user", "assistant")]
        for n in range(60)
    ]
    write(tmp_path / "a.jsonl", *({"messages": messages} for messages in talk))
    made = run(tmp_path, task("a.jsonl", template=None))
    example = next(e for examples in made.examples.values() for e in examples if e.id.endswith("a.jsonl:1"))
    assert (example.prompt, example.target) == ("user 0 1", "assistant 0 1")
    assert [message.content for message in example.history] == ["user 0 0", "assistant 0 0"]


def test_different_files_of_one_name_are_both_in_the_record(tmp_path: Path):
    for folder, start in (("one", 0), ("two", 500)):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "a.jsonl", *sentences(60, start))
    tasks = [task(str(tmp_path / folder / "a.jsonl"), name=folder) for folder in ("one", "two")]
    files = run(tmp_path, *tasks).health.files
    assert list(files) == ["one: a.jsonl", "two: a.jsonl"]
    assert files["one: a.jsonl"] != files["two: a.jsonl"]


CAUSES = Phrasing(prompt="{% if kind == 'cause' %}Why? {{ text }}{% endif %}", target="{{ label }}")
EFFECTS = Phrasing(prompt="{{ text }} So?", target="{% if kind == 'effect' %}{{ label }}{% endif %}")
TURNED = Phrasing(form="inverted", prompt="{% if kind == 'effect' %}{{ label }}?{% endif %}", target="{{ text }}")


class TestPhrasingsThatAreForSomeRows:
    def made(self, folder: Path, *kinds: str, forms: tuple[Any, ...] = ("zero-shot",), **fields: Any) -> Prepared:
        rows = [{**row, "kind": kinds[number % len(kinds)]} for number, row in enumerate(sentences(60))]
        write(folder / "a.jsonl", *rows)
        both = TemplateSettings(phrasings=(CAUSES, EFFECTS, TURNED), inputs=("text",))
        return run(folder, task("a.jsonl", template=both, forms=forms, **fields))

    def test_a_row_takes_one_that_is_not_empty_for_it(self, tmp_path: Path):
        made = self.made(tmp_path, "cause", "effect")
        everything = [one for side in made.examples.values() for one in side]
        assert len(everything) == 60
        assert {(one.phrasing, one.prompt.startswith("Why?")) for one in everything} == {(0, True), (1, False)}
        (note,) = made.health.notes
        assert note.startswith('task "t": the phrasing that was drawn is empty for ')
        assert note.endswith(" rows; another is taken")
        assert self.made(tmp_path, "cause", "effect") == made

    def test_a_training_row_takes_one_of_another_form_before_it_is_set_aside(self, tmp_path: Path):
        made = self.made(tmp_path, "cause", "effect", forms=("zero-shot", "inverted"))
        assert {one.form for one in made.examples["train"]} == {"zero-shot", "inverted"}
        assert not made.health.set_aside

    def test_its_answers_are_those_of_the_phrasing_that_it_takes(self, tmp_path: Path):
        assert self.made(tmp_path, "cause", "effect", choices="targets").tasks[0].choices == ("a", "b")

    def test_it_is_set_aside_where_all_are_empty(self, tmp_path: Path):
        rows = [{**row, "kind": "cause"} for row in sentences(199)] + [{**sentences(1, 199)[0], "kind": "other"}]
        write(tmp_path / "a.jsonl", *rows)
        made = run(tmp_path, task("a.jsonl", template=TemplateSettings(phrasings=(CAUSES, EFFECTS), inputs=("text",))))
        (bad,) = made.health.set_aside
        assert bad.line == 200
        assert bad.reason in ("the prompt is empty", "the target is empty")


def test_an_array_on_one_line_is_as_good_as_a_row_a_line(tmp_path: Path):
    rows = sentences(40)
    (tmp_path / "a.json").write_text(json.dumps(rows))
    write(tmp_path / "a.jsonl", *rows)
    one, many = (run(tmp_path, task(name)) for name in ("a.json", "a.jsonl"))
    assert {side: len(found) for side, found in one.examples.items()} == {
        side: len(found) for side, found in many.examples.items()
    }
    ids = [example.id for found in one.examples.values() for example in found]
    assert len(set(ids)) == 40
    assert one.examples["train"][0].id.startswith("t/train/a.json[")
    assert one.health.leaks == ()
