"""General instructions: which are mixed in, and that none of them gives away what the probe asks."""

import re
from collections import Counter
from importlib.resources import files

import pytest

from tunesmith.data.leakage import gram_sets, nearest
from tunesmith.data.probing import shipped_items, shipped_prose
from tunesmith.data.replay import Instruction, general_examples, general_instructions, per_epoch, replayed
from tunesmith.data.wording import normalised

KNOWN = general_instructions()


def opening(text: str) -> str:
    return " ".join(normalised(text).split()[:3])


class TestTheInstructions:
    def test_ids_say_the_kind_and_are_not_used_twice(self) -> None:
        seen: Counter[str] = Counter()
        for one in KNOWN:
            seen[one.kind] += 1
            assert one.id == f"{one.kind}-{seen[one.kind]:02d}"
        assert len(seen) >= 10
        assert len(KNOWN) >= 120

    def test_no_two_are_alike_and_none_is_empty(self) -> None:
        assert all(one.prompt.strip() and one.target.strip() for one in KNOWN)
        assert len({normalised(one.prompt) for one in KNOWN}) == len(KNOWN)
        texts = [normalised(f"{one.prompt} {one.target}") for one in KNOWN]
        everything = range(len(texts))
        assert nearest(gram_sets(texts), probes=everything, indexed=everything, similarity=0.2) == {}

    def test_none_is_an_item_of_the_probe_or_begins_like_one(self) -> None:
        items = shipped_items()
        asked = {normalised(item.prompt) for item in items}
        openings = {opening(item.prompt) for item in items}
        assert [one.id for one in KNOWN if normalised(one.prompt) in asked] == []
        assert [one.id for one in KNOWN if opening(one.prompt) in openings] == []
        answers = {normalised(item.target) for item in items if len(item.target.split()) > 2}
        assert [one.id for one in KNOWN if normalised(one.target) in answers] == []

    def test_none_shares_wording_with_an_item_or_a_paragraph_of_the_probe(self) -> None:
        own = [normalised(f"{one.prompt} {one.target}") for one in KNOWN]
        probe = [normalised(f"{item.prompt} {item.target}") for item in shipped_items()]
        probe += [normalised(paragraph.text) for paragraph in shipped_prose()]
        texts = [*own, *probe]
        found = nearest(gram_sets(texts), probes=range(len(own)), indexed=range(len(own), len(texts)), similarity=0.01)
        assert found == {}, "word 5-grams"

    def test_the_data_card_says_what_the_file_holds(self) -> None:
        card = (files("tunesmith.data.general") / "README.md").read_text("utf-8")
        assert card.startswith(f"# General instructions\n\n{len(KNOWN)} short instructions of twelve kinds")
        assert f"| `kind` | {', '.join(sorted({one.kind for one in KNOWN}))} |" in card
        assert [name for name in Instruction.model_fields if f"| `{name}` |" not in card] == []


class TestHowMany:
    @pytest.mark.parametrize(("examples", "share"), [(540, 0.1), (90, 0.25), (9, 0.1), (30, 0.5), (30, 0.9)])
    def test_the_share_is_that_of_an_epoch(self, examples: int, share: float) -> None:
        found = per_epoch(examples, share)
        assert found / (found + examples) == pytest.approx(share, abs=0.5 / examples)

    def test_none_without_a_share_or_without_examples(self) -> None:
        assert per_epoch(50, 0.0) == per_epoch(0, 0.5) == 0

    def test_a_small_share_is_at_least_one(self) -> None:
        assert per_epoch(10, 0.001) == 1


class TestWhich:
    def test_so_many_that_each_epoch_has_others(self) -> None:
        found = replayed(11, known=146, epochs=3, seed=0)
        assert len(found) == len(set(found)) == 33
        assert len(replayed(11, known=146, epochs=2.5, seed=0)) == 33, "a part of an epoch has as many"

    def test_no_more_than_there_are(self) -> None:
        assert sorted(replayed(11, known=146, epochs=20, seed=0)) == list(range(146))

    def test_another_seed_takes_others(self) -> None:
        assert replayed(10, known=146, epochs=1, seed=1) != replayed(10, known=146, epochs=1, seed=2)

    def test_none_are_none(self) -> None:
        assert replayed(0, known=0, epochs=3, seed=0) == []

    def test_they_are_training_examples_of_a_task_that_no_recipe_can_name(self) -> None:
        found = general_examples()
        assert {(one.split, one.task) for one in found} == {("train", "general instructions")}
        assert not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", found[0].task)
