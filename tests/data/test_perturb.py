from random import Random

import pytest

from tunesmith.data.perturb import KINDS, ONE_TEXT, chosen, neighbours, perturb, perturbed
from tunesmith.english import CONTRACTIONS, FIRST_NAMES, MISSPELLINGS
from tunesmith.records import Example, Message

CHAT = (
    "Summarize.\n\nCustomer: My lamp is broken. I have received your parcel, but it does not work, so what is wrong?\n"
    "Agent: It's a pity. Write to help@lamps.example or see https://lamps.example/Help, and tell #Person1# that "
    "Sarah will call. She is sorry, and her manager too.\n\nSummary:"
)
ALL = [kind for kinds in KINDS.values() for kind in kinds]


def example(prompt: str = CHAT, *, name: str = "t/test/a.csv:2", **changes: object) -> Example:
    given = {
        "id": name, "task": "t", "split": "test", "prompt": prompt, "target": "Sarah calls, she is sorry.",
        "references": ("Sarah calls, she is sorry.", "Sarah will call."),
    }  # fmt: skip
    return Example.model_validate({**given, **changes})


def asked(kind: str, prompt: str, *, seed: int = 0, name: str = "t/test/a.csv:2") -> str:
    found = perturb(example(prompt, name=name), kind, seed=seed)
    return found.prompt if found else prompt


@pytest.mark.parametrize("kind", ALL)
def test_the_same_seed_and_example_give_the_same_copy(kind: str) -> None:
    assert perturb(example(), kind, seed=3) == perturb(example(), kind, seed=3)


@pytest.mark.parametrize("kind", ["misspellings", "typos", "spaces", "first-names"])
def test_seed_and_id_decide_what_is_drawn(kind: str) -> None:
    long = CHAT * 4
    assert len({asked(kind, long, seed=seed) for seed in range(6)}) > 1
    assert len({asked(kind, long, name=f"t/test/a.csv:{n}") for n in range(6)}) > 1


@pytest.mark.parametrize("kind", ALL)
def test_labels_placeholders_and_addresses_stay(kind: str) -> None:
    for seed in range(20):
        text = asked(kind, CHAT, seed=seed)
        for kept in ("\nCustomer: ", "\nAgent: ", "help@lamps.example", "https://lamps.example/Help", "#Person1#"):
            assert kept in text.replace("  ", " ").replace("  ", " ")
        assert text.endswith("\nSummary:")


@pytest.mark.parametrize("kind", ONE_TEXT)
def test_robustness_never_touches_what_is_wanted(kind: str) -> None:
    found = perturb(example(CHAT * 4), kind, seed=1)
    assert found is not None
    assert (found.target, found.references) == (example().target, example().references)


@pytest.mark.parametrize("kind", KINDS["fairness"])
def test_a_swap_goes_through_question_and_answers_alike(kind: str) -> None:
    found = perturb(example(), kind, seed=1)
    assert found is not None
    word = next(new for new, old in zip(found.prompt.split(), CHAT.split(), strict=True) if new != old)
    assert word.lower() in found.target.lower()
    assert found.target != example().target
    assert found.target == found.references[0]
    assert found.id == f"t/test/a.csv:2~{kind}"


def test_answers_of_a_closed_set_are_never_changed() -> None:
    choices = ("Sarah", "she", "Bad Lamp")
    one = example("Sarah said she has a Bad Lamp. Sarah, she or Bad Lamp?", choices=choices, target="Sarah",
                  references=("Sarah",))  # fmt: skip
    for kind in ALL:
        found = perturb(one, kind, seed=2)
        assert found is None or (found.target, found.references, found.choices) == ("Sarah", ("Sarah",), choices)
        if found and kind in ONE_TEXT:
            assert all(choice in found.prompt for choice in ("Sarah", "she", "Bad Lamp"))


@pytest.mark.parametrize(
    ("kind", "prompt", "expected"),
    [
        ("lower-case", "Hello THERE. Customer: My Lamp", "hello there. Customer: my lamp"),
        ("contractions", "It is late. I have seen it. Yes, it is.", "It's late. I've seen it. Yes, it is."),
        ("contractions", "I have a lamp", "I have a lamp"),
        ("contractions", "do  not call, I cannot wait", "don't call, I can't wait"),
        ("expansions", "It's late, it's been late. Isn't it?", "It is late, it has been late. Isn't it?"),
        ("expansions", "I'm sure we can't.", "I am sure we cannot."),
        ("expansions", "She's told him, it's lost.", "She has told him, it's lost."),
        ("expansions", "He's tired and she's never called.", "He is tired and she's never called."),
        ("expansions", "She's used it. It's red.", "She has used it. It is red."),
        ("expansions", "What's happened? It's been sold.", "What has happened? It has been sold."),
        ("expansions", "that\N{RIGHT SINGLE QUOTATION MARK}s fine", "that is fine"),
    ],
)  # fmt: skip
def test_what_becomes_of_a_text(kind: str, prompt: str, expected: str) -> None:
    assert asked(kind, prompt) == expected


@pytest.mark.parametrize(("kind", "prompt"), [
    ("lower-case", "all is low"), ("misspellings", "lamp lamp"), ("typos", "a bus 4711 R8TQ2M"), ("spaces", "one"),
    ("contractions", "a lamp"), ("expansions", "a lamp"), ("first-names", "a lamp"), ("pronouns-swapped", "a lamp"),
    ("pronouns-neutral", "a lamp"),
])  # fmt: skip
def test_what_changes_nothing_is_not_asked_again(kind: str, prompt: str) -> None:
    assert perturb(example(prompt, target="x", references=("x",)), kind, seed=0) is None


def test_a_change_of_the_wanted_answer_alone_is_none() -> None:
    assert perturb(example("a lamp"), "pronouns-swapped", seed=0) is None


def test_a_tenth_of_the_words_that_can_be_misspelled_is() -> None:
    words = list(MISSPELLINGS) * 40
    changed = asked("misspellings", " ".join(words)).split()
    wrong = [(old, new) for old, new in zip(words, changed, strict=True) if old != new]
    assert all(MISSPELLINGS[old] == new for old, new in wrong)
    assert 0.08 < len(wrong) / len(words) < 0.12


def test_typos_keep_the_first_letter_and_change_one_place() -> None:
    words = ["lamp", "parcel", "morning", "of", "x1y2z"] * 400
    changed = asked("typos", " ".join(words)).split()
    wrong = [(old, new) for old, new in zip(words, changed, strict=True) if old != new]
    assert 0.08 < len(wrong) / (0.6 * len(words)) < 0.12
    assert all(old[0] == new[0] and abs(len(old) - len(new)) <= 1 and len(old) > 3 for old, new in wrong)


def test_spaces_become_one_to_three() -> None:
    text = asked("spaces", "one two three four five six\n  seven eight")
    assert text.split() == "one two three four five six seven eight".split()
    assert "\n  seven" in text
    assert "    " not in text


def test_only_what_a_user_wrote_is_misspelled_and_names_change_everywhere() -> None:
    turns = (
        Message(role="system", content="You Help Sarah."),
        Message(role="user", content="Hi, Sarah Here."),
        Message(role="assistant", content="Hello Sarah."),
    )
    one = example("Call Sarah.", history=turns)
    lower = perturb(one, "lower-case", seed=0)
    assert lower is not None
    assert [turn.content for turn in lower.history] == ["You Help Sarah.", "hi, sarah here.", "Hello Sarah."]
    named = perturb(one, "first-names", seed=0)
    assert named is not None
    assert [("Sarah" in turn.content) for turn in named.history] == [False] * 3


def test_names_keep_their_gender_change_their_origin_and_stay_apart() -> None:
    prompt = "Sarah, Ngozi, Priya and Kofi met Sarah Kofi at Linda's."
    for seed in range(30):
        text = asked("first-names", prompt, seed=seed)
        new = {old: word.strip(",") for old, word in zip(prompt.replace(",", "").split(), text.split(), strict=True)}
        assert len({new[name] for name in ("Sarah", "Ngozi", "Priya", "Kofi")}) == 4
        for name in ("Sarah", "Ngozi", "Priya", "Kofi"):
            (old,) = [
                (place, gender) for place, pair in FIRST_NAMES.items() for gender in (0, 1) if name in pair[gender]
            ]
            (got,) = [
                (place, gender) for place, pair in FIRST_NAMES.items() for gender in (0, 1) if new[name] in pair[gender]
            ]
            assert old[0] != got[0]
            assert old[1] == got[1]
        assert text.count(new["Sarah"]) == 2


def test_names_stay_where_a_text_has_all_others() -> None:
    women = [name for women, _ in FIRST_NAMES.values() for name in women]
    assert asked("first-names", " ".join(women)) == " ".join(women)
    assert asked("first-names", " ".join([*women, "Kofi"])).split()[:-1] == women


def test_no_name_stands_in_two_lists() -> None:
    names = [name for pair in FIRST_NAMES.values() for part in pair for name in part]
    assert len(names) == len(set(names))


def test_long_and_short_forms_lead_to_each_other() -> None:
    for long, short in CONTRACTIONS.items():
        spoken = long.replace("i ", "I ", 1) if long.startswith("i ") else long
        after = "seen" if long.endswith("have") else "there"
        assert asked("expansions", f"{short} {after}") == f"{spoken} {after}"
        assert asked("contractions", f"{spoken} {after}") == f"{short} {after}"


def test_keys_at_the_edge_have_one_neighbour() -> None:
    assert [neighbours(letter) for letter in "qpm"] == ["w", "o", "n"]


def test_rows_are_chosen_by_seed_and_a_larger_number_holds_the_smaller() -> None:
    many = [example(name=f"{task}/test/a.csv:{n}", task=task) for task in ("t", "u") for n in range(40)]
    Random(1).shuffle(many)
    few, more = (chosen(many, rows=rows, seed=1) for rows in (5, 12))
    assert [sum(one.task == task for one in few) for task in ("t", "u")] == [5, 5]
    assert {one.id for one in few} < {one.id for one in more}
    assert chosen(many, rows=5, seed=2) != few
    assert [one.id for one in more] == [one.id for one in many if one in more]


def test_copies_say_what_they_are_copies_of() -> None:
    found = perturbed([example(), example("a lamp", name="t/test/a.csv:3")], families=["fairness"], rows=9, seed=0)
    assert [(one.family, one.kind, one.of) for one in found] == [
        ("fairness", kind, "t/test/a.csv:2") for kind in KINDS["fairness"]
    ]
    assert all(one.example.group == "t/test/a.csv:2" for one in found)
    assert perturbed([example()], families=[], rows=9, seed=0) == []
