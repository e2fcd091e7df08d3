import re
from pathlib import Path

import pytest
from small_run import write_table

from tunesmith.data.probing import shipped_items, shipped_prose
from tunesmith.errors import DataError, RecipeError
from tunesmith.forgetting.asked import make_probe, wanted
from tunesmith.probe_records import Probe
from tunesmith.settings import DataSettings, Forgetting, SplitSettings, TaskSettings


def made(forgetting: Forgetting, base: Path, **split: float) -> Probe:
    return make_probe(forgetting, split=SplitSettings(**split), data=DataSettings(), seed=0, base=base)


class TestWhatIsAsked:
    def test_by_default_the_shipped_items_and_prose(self, tmp_path: Path) -> None:
        probe = made("default", tmp_path)
        assert [skill.name for skill in probe.skills] == list(dict.fromkeys(item.skill for item in shipped_items()))
        assert [item.id for item in probe.items] == [item.id for item in shipped_items()]
        assert probe.prose == shipped_prose()
        assert {skill.metric for skill in probe.skills} == {"accuracy", "quasi-exact-match"}

    def test_other_right_answers_count_as_references(self, tmp_path: Path) -> None:
        (cat,) = [item for item in made("default", tmp_path).items if item.id == "plurals-01"]
        assert cat.references == ("The plural of cat is cats.", "cats")

    def test_own_tasks_come_beside_them_with_their_test_examples(self, tmp_path: Path) -> None:
        write_table(tmp_path / "chats.csv")
        moods = TaskSettings(
            name="mood", source="chats.csv", template="text-label", columns={"text": "dialogue", "label": "mood"},
            choices=("bad", "good"),
        )  # fmt: skip
        sums = TaskSettings(name="sums", source="chats.csv", template="dialogue-summary", max_new_tokens=5)
        probe = made((moods, sums), tmp_path, test=0.5, train=0.5, validation=0.0)
        assert [(skill.name, skill.metric, skill.own) for skill in probe.skills[-2:]] == [
            ("mood", "accuracy", True), ("sums", "rouge1", True),
        ]  # fmt: skip
        own = [item for item in probe.items if item.task in ("mood", "sums")]
        assert {item.split for item in own} == {"test"}
        assert len(own) > 10
        assert probe.skills[-1].max_new_tokens == 5

    def test_an_own_task_without_test_examples_is_refused(self, tmp_path: Path) -> None:
        write_table(tmp_path / "chats.csv")
        task = TaskSettings(name="sums", source="chats.csv", template="dialogue-summary")
        expected = (
            'forgetting: task "sums" has no test examples, so there is nothing to ask. Give split.test a share, or '
            "name a test file."
        )
        with pytest.raises(DataError, match=re.escape(expected)):
            made((task,), tmp_path, train=1.0, validation=0.0, test=0.0)

    def test_names_that_are_taken_are_refused_together(self, tmp_path: Path) -> None:
        tasks = tuple(TaskSettings(name=name, source="chats.csv") for name in ("facts", "own", "own"))
        with pytest.raises(RecipeError) as found:
            made(tasks, tmp_path)
        assert list(found.value.problems) == [
            'forgetting.0.name: "facts" is also the name of a skill of the shipped probe. Give it another.',
            'forgetting.2.name: "own" is also the name of task 1 there (counting from 0). Give it another.',
        ]

    def test_what_was_wanted_tells_recipes_apart(self) -> None:
        one, other = (TaskSettings(name=name, source="chats.csv") for name in ("one", "other"))
        assert len({wanted("default"), wanted("off"), wanted((one,)), wanted((other,)), wanted((one, other))}) == 5
        assert wanted((one,)) == wanted((one.model_copy(),))
