import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from small_run import chats, write_table

from tunesmith.data.prepare import place
from tunesmith.data.probing import shipped_items, shipped_prose
from tunesmith.data.splits import Placed
from tunesmith.errors import DataError, RecipeError
from tunesmith.forgetting.asked import Rows, leaks_in_words, make_probe, wanted
from tunesmith.probe_records import Probe
from tunesmith.settings import DataSettings, Forgetting, SplitSettings, SuiteSettings, TaskSettings


def made(
    forgetting: Forgetting, base: Path, *, practised: Sequence[Placed] = (), leaks: Literal["move", "keep"] = "move",
    **split: float,
) -> Probe:  # fmt: skip
    rows = Rows(SplitSettings(**split), DataSettings(leaks=leaks), 0, base)
    return make_probe(forgetting, rows, practised=practised)


def sums(**fields: Any) -> TaskSettings:
    given = {"name": "sums", "source": "chats.csv", "template": "dialogue-summary", **fields}
    return TaskSettings.model_validate(given, strict=False)


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
        probe = made((moods, sums(max_new_tokens=5)), tmp_path, test=0.5, train=0.5, validation=0.0)
        assert [(skill.name, skill.metric, skill.own) for skill in probe.skills[-2:]] == [
            ("mood", "accuracy", True), ("sums", "rouge1", True),
        ]  # fmt: skip
        own = [item for item in probe.items if item.task in ("mood", "sums")]
        assert {item.split for item in own} == {"test"}
        assert len(own) > 10
        assert probe.skills[-1].max_new_tokens == 5

    def test_an_own_task_without_test_examples_is_refused(self, tmp_path: Path) -> None:
        write_table(tmp_path / "chats.csv")
        expected = (
            'forgetting: task "sums" has no test examples, so there is nothing to ask. Give split.test a share, or '
            "name a test file."
        )
        with pytest.raises(DataError, match=re.escape(expected)):
            made((sums(),), tmp_path, train=1.0, validation=0.0, test=0.0)

    def test_a_metric_without_a_value_for_each_answer_is_refused_with_those_that_have_one(self, tmp_path: Path) -> None:
        write_table(tmp_path / "chats.csv")
        for metric in ("bleu", "length-ratio", "accuracy-norm"):  # the last one reads likelihoods of choices
            with pytest.raises(RecipeError) as found:
                made((sums(metrics=(metric, "rouge1")),), tmp_path)
            (problem,) = found.value.problems
            assert problem.startswith(
                f"forgetting.0.metrics: {metric} gives no value to a single answer here, and answers are compared one "
                "by one. Name one of these first: rouge1, rouge2, "
            )
            named = problem.partition(" first: ")[2].removesuffix(".").split(", ")
            assert {"accuracy", "quasi-exact-match"} <= set(named)
            assert not {"bleu", "macro-f1", "length-ratio", "accuracy-norm"} & set(named)
        assert made((sums(metrics=("rouge1", "bleu")),), tmp_path).skills[-1].metric == "rouge1"

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

    def test_benchmark_suites_beside_tasks_change_nothing_of_what_is_asked(self, tmp_path: Path) -> None:
        suite, task = SuiteSettings(suite="mmlu"), TaskSettings(name="facts", source="chats.csv")
        assert wanted((suite,)) == wanted("default")
        assert wanted((suite, task)) == wanted((task,))
        with pytest.raises(RecipeError, match=r"^forgetting\.1\.name: "):
            made((suite, task), tmp_path)


class TestItemsThatTrainingHas:
    @pytest.fixture
    def practised(self, tmp_path: Path) -> tuple[Placed, ...]:
        """Three of the chats, one of them with another end, as rows that are trained on."""
        rows = chats()
        longer = rows[1][0] + " Thank you."
        write_table(tmp_path / "chats.csv")
        write_table(
            tmp_path / "trained.csv", rows=[rows[0], (longer, *rows[1][1:]), ("Else: what is this?", "a", "bad")]
        )
        task = TaskSettings(name="sums", source="trained.csv", template="dialogue-summary")
        settings = SplitSettings(train=1.0, validation=0.0, test=0.0)
        return place((task,), split=settings, data=DataSettings(), seed=0, base=tmp_path)

    def asked(self, base: Path, practised: Sequence[Placed], **more: Any) -> Probe:
        write_table(base / "other.csv", rows=[("Nothing of it is asked.", "Nothing.", "bad")])
        kept = sums(source={"train": "other.csv", "test": "chats.csv"})
        return made((kept,), base, practised=practised, train=1.0, validation=0.0, test=0.0, **more)

    def test_they_are_named_and_left_out(self, tmp_path: Path, practised: tuple[Placed, ...]) -> None:
        probe = self.asked(tmp_path, practised)
        assert [(leak.moved_id, leak.kept_id) for leak in probe.leaks] == [
            ("sums/test/chats.csv:2", "sums/train/trained.csv:2"),
            ("sums/test/chats.csv:3", "sums/train/trained.csv:3"),
        ]  # fmt: skip
        assert [leak.similarity == 1 for leak in probe.leaks] == [True, False]
        own = [item.id for item in probe.items if item.task == "sums"]
        assert len(own) == len(chats()) - 2
        assert not {leak.moved_id for leak in probe.leaks} & set(own)
        assert leaks_in_words(probe) == (
            "2 items of own tasks are like rows that candidates are trained or chosen by, and left out. "
            "data/probe.json names them."
        )

    def test_or_only_named_where_leaks_are_kept(self, tmp_path: Path, practised: tuple[Placed, ...]) -> None:
        probe = self.asked(tmp_path, practised[:1], leaks="keep")
        assert len([item for item in probe.items if item.task == "sums"]) == len(chats())
        assert leaks_in_words(probe) == (
            "1 item of own tasks is like rows that candidates are trained or chosen by, and asked all the same. "
            "data/probe.json names them."
        )

    def test_a_task_that_training_has_altogether_is_refused(self, tmp_path: Path) -> None:
        write_table(tmp_path / "chats.csv")
        settings = SplitSettings(train=1.0, validation=0.0, test=0.0)
        practised = place((sums(),), split=settings, data=DataSettings(), seed=0, base=tmp_path)
        expected = (
            'forgetting: task "sums" has no test examples but those that training has in rows of its own, so there is '
            "nothing to ask. Name another file, or say `data: {leaks: keep}`."
        )
        with pytest.raises(DataError, match=re.escape(expected)):
            self.asked(tmp_path, practised)
