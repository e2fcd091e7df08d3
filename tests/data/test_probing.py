import re
from collections import Counter
from functools import cache
from importlib.resources import files

from tunesmith.data.leakage import gram_sets, nearest
from tunesmith.data.probing import Item, shipped_items, shipped_prose
from tunesmith.data.wording import normalised


@cache
def items() -> dict[str, list[Item]]:
    found: dict[str, list[Item]] = {}
    for item in shipped_items():
        found.setdefault(item.skill, []).append(item)
    return found


class TestTheItems:
    def test_there_are_at_least_200_of_8_skills_and_24_of_each(self) -> None:
        assert sum(map(len, items().values())) >= 200
        assert len(items()) >= 8
        assert [skill for skill, own in items().items() if len(own) < 24] == []

    def test_ids_say_the_skill_and_are_not_used_twice(self) -> None:
        for skill, own in items().items():
            assert [item.id for item in own] == [f"{skill}-{number:02d}" for number in range(1, len(own) + 1)]

    def test_at_least_two_skills_are_written_and_a_skill_is_all_chosen_or_all_written(self) -> None:
        kinds = {skill: {bool(item.choices) for item in own} for skill, own in items().items()}
        assert all(len(kind) == 1 for kind in kinds.values())
        assert sum(kind == {False} for kind in kinds.values()) >= 2

    def test_the_target_is_one_of_two_or_four_different_choices(self) -> None:
        for item in shipped_items():
            if item.choices:
                assert item.target in item.choices
                assert len(set(item.choices)) == len(item.choices)
                assert not item.accepted
        assert {len(item.choices) for item in shipped_items()} == {0, 2, 4}

    def test_the_place_of_the_target_goes_round(self) -> None:
        for skill, own in items().items():
            places = Counter(item.choices.index(item.target) for item in own if item.choices)
            assert not places or max(places.values()) - min(places.values()) <= 1, skill

    def test_an_answer_that_is_always_the_same_gets_no_more_than_a_blind_guess(self) -> None:
        yes = Counter(item.target.partition(",")[0] for item in items()["yes-no"])
        assert yes["Yes"] == yes["No"] == len(items()["yes-no"]) / 2
        moods = Counter(item.target for item in items()["sentiment"])
        assert len(moods) == 2
        assert len(set(moods.values())) == 1
        for skill in items().keys() - {"yes-no", "sentiment"}:
            ((_, most),) = Counter(normalised(item.target) for item in items()[skill]).most_common(1)
            assert most <= 2, skill

    def test_the_right_choice_is_not_the_longest_nor_the_shortest_more_often_than_by_chance(self) -> None:
        for skill, own in items().items():
            if skill == "yes-no":  # "cannot" is longer than "can"; half of the targets say no
                continue
            for pick in (max, min):
                hits = sum(
                    len(item.target) == pick(map(len, item.choices)) and
                    sum(len(choice) == len(item.target) for choice in item.choices) == 1
                    for item in own if item.choices
                )  # fmt: skip
                assert hits <= 0.5 * len(own), (skill, pick)

    def test_no_two_items_are_alike(self) -> None:
        prompts = [" ".join(item.prompt.lower().split()) for item in shipped_items()]
        assert len(set(prompts)) == len(prompts)
        own = [normalised(item.target) for item in items()["copying"]]
        everything = range(len(own))
        assert nearest(gram_sets(own), probes=everything, indexed=everything, similarity=0.2) == {}

    def test_the_lecture_s_cat_is_among_them(self) -> None:
        assert items()["entities"][0].prompt == "What is the name of the cat in: Charlie the cat sat on the mat?"

    def test_nothing_is_about_customer_support(self) -> None:
        texts = [f"{item.prompt} {item.target}" for item in shipped_items()]
        texts += [paragraph.text for paragraph in shipped_prose()]
        words = re.compile(r"\b(customer service|support agent|refund|help ?desk|call cent(re|er)|complaint)", re.I)
        assert [text for text in texts if words.search(text)] == []


class TestTheProse:
    def test_there_are_at_least_60_paragraphs_of_70_to_140_words_from_many_fields(self) -> None:
        assert len(shipped_prose()) >= 60
        assert len({paragraph.field for paragraph in shipped_prose()}) >= 16
        lengths = {paragraph.id: len(paragraph.text.split()) for paragraph in shipped_prose()}
        assert {name: words for name, words in lengths.items() if not 70 <= words <= 140} == {}

    def test_ids_say_the_field_and_are_not_used_twice(self) -> None:
        seen: Counter[str] = Counter()
        for paragraph in shipped_prose():
            seen[paragraph.field] += 1
            assert paragraph.id == f"{paragraph.field}-{seen[paragraph.field]}"

    def test_no_two_paragraphs_are_alike(self) -> None:
        texts = [normalised(paragraph.text) for paragraph in shipped_prose()]
        everything = range(len(texts))
        assert len(set(texts)) == len(texts)
        assert nearest(gram_sets(texts), probes=everything, indexed=everything, similarity=0.05) == {}


def test_the_data_card_says_what_the_files_hold() -> None:
    card = " ".join((files("tunesmith.data.probe") / "README.md").read_text("utf-8").split())
    fields = sorted({paragraph.field for paragraph in shipped_prose()})
    assert f"{len(shipped_items())} short items over {len(items())} skills" in card
    assert f"{len(shipped_prose())} paragraphs of general prose" in card
    assert f"The fields are {', '.join(fields)}." in card
    assert f"| {', '.join(items())} |" in card
    for skill, own in items().items():
        blind = 100 / len(own[0].choices) if own[0].choices else 0
        assert re.search(rf"\| {skill} \| {len(own)} \| [^|]+ \| {blind:.0f} % \|", card), skill
    for name in Item.model_fields:
        assert f"| `{name}` |" in card
