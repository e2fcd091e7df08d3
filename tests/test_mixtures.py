"""The mixture of a recipe, from what is written to what is trained and shown."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from small_run import Command, chats, write_table

from tunesmith.data.prepare import Prepared, prepare
from tunesmith.errors import DataError, RecipeError
from tunesmith.mixtures import epoch_draw, mixture_settings, mixtures, of_tuned_tasks, tuned_tasks
from tunesmith.recipe import recipe_from_text
from tunesmith.records import Example, Mixture, MixtureShare
from tunesmith.reporting.lines import print_mixtures
from tunesmith.settings import Recipe

TASKS = """\
name: mixed
tasks:
  - {name: sums, source: a.csv, template: dialogue-summary}
  - {name: moods, source: a.csv, template: review-sentiment}
  - {name: tones, source: a.csv, template: review-sentiment}
"""
COUNTS = {"sums": 40, "moods": 20, "tones": 10}


def made(*lines: str) -> Recipe:
    return recipe_from_text(TASKS + "\n".join(lines))


def problems(*lines: str) -> tuple[str, ...]:
    with pytest.raises(RecipeError) as error:
        recipe_from_text(TASKS + "\n".join(lines), name="r.yaml")
    return error.value.problems


def shares(recipe: Recipe) -> dict[tuple[str, ...], list[int]]:
    return {one.candidates: [share.per_epoch for share in one.shares] for one in mixtures(recipe, COUNTS)}


class TestCandidates:
    def test_each_has_the_words_of_the_recipe_and_its_own_over_them(self) -> None:
        recipe = made(
            "mixture: {cap: 30, examples: 90}",
            "candidates:",
            "  all: {method: lora}",
            "  two: {method: lora, mixture: {tasks: 2}}",
            "  again: {method: full, mixture: {tasks: 2}}",
            "  few: {method: none, shots: 1}",
        )
        assert shares(recipe) == {("all",): [45, 30, 15], ("two", "again"): [54, 36, 0]}
        assert tuned_tasks(recipe, "two") == ("sums", "moods")

    def test_without_a_mixture_there_is_none_and_every_task_is_tuned_on(self) -> None:
        recipe = made("candidates: {all: {method: lora}}")
        assert mixtures(recipe, COUNTS) == ()
        assert mixture_settings(recipe, "all") is None
        assert tuned_tasks(recipe, "all") == ("sums", "moods", "tones")

    def test_a_candidate_may_have_one_where_the_recipe_has_none(self) -> None:
        recipe = made("candidates: {all: {method: lora}, one: {method: lora, mixture: {held_out: [review-sentiment]}}}")
        assert shares(recipe) == {("one",): [40, 0, 0]}

    def test_a_mixture_without_candidates_is_shown_all_the_same(self) -> None:
        assert shares(made("mixture: {}")) == {(): [40, 20, 10]}


class TestWhatIsWrong:
    def test_names_that_are_not_there_get_the_nearest_one(self) -> None:
        assert problems("mixture:", "  weights: {sms: 1}", "  limits: {mods: 5}", "  held_out: [review-sentimnt]") == (
            'r.yaml:7: mixture.weights: there is no task "sms". Did you mean "sums"? Known here: sums, moods, tones.',
            'r.yaml:8: mixture.limits: there is no task "mods". Did you mean "moods"? Known here: sums, moods, tones.',
            'r.yaml:9: mixture.held_out: there is no task or family "review-sentimnt". Did you mean '
            '"review-sentiment"? Known here: sums, moods, tones, dialogue-summary, review-sentiment.',
        )

    def test_something_must_be_left_to_tune_on_and_to_score(self) -> None:
        assert problems("mixture: {held_out: [dialogue-summary, review-sentiment]}") == (
            "r.yaml:6: mixture: no task is left to tune on. Hold out fewer.",
        )
        assert problems("mixture: {scored: held-out}") == (
            "r.yaml:6: mixture.scored: only held-out tasks are to be scored, and none is. Name them in held_out.",
        )
        assert problems("mixture: {held_out: [sums], weights: {sums: 1, moods: 2}}") == (
            'r.yaml:6: mixture: task "sums" has a weight and is held out. Keep one of the two.',
        )

    def test_more_tasks_to_tune_on_than_can_be(self) -> None:
        assert problems("mixture: {tasks: 3, held_out: [sums]}") == (
            "r.yaml:6: mixture.tasks: 3 tasks are to be tuned on, and 2 can be: moods, tones. Ask for no more, or "
            "leave it out to tune on all of them.",
        )
        assert problems("candidates: {one: {method: lora, mixture: {weights: {sums: 1}, tasks: 2}}}") == (
            "r.yaml:6: candidates.one.mixture.tasks: 2 tasks are to be tuned on, and 1 can be: sums. Ask for no more, "
            "or leave it out to tune on all of them.",
        )
        assert tuned_tasks(made("mixture: {tasks: 3}", "candidates: {one: {method: lora}}"), "one") == tuple(COUNTS)

    def test_numbers_out_of_bounds(self) -> None:
        found = problems("mixture: {cap: 0, temperature: 0, weights: {sums: 0}, limits: {sums: 0}, forms: {odd: 1}}")
        assert [line.partition(": ")[2].partition(":")[0] for line in found] == [
            "mixture.cap", "mixture.temperature", "mixture.weights.sums", "mixture.limits.sums", "mixture.forms.odd",
        ]  # fmt: skip

    def test_what_shapes_the_rows_belongs_to_the_recipe(self) -> None:
        assert problems(
            "candidates:", "  one: {method: lora, mixture: {limit: 5, cpa: 3}}", "  base: {mixture: {}}"
        ) == (
            'r.yaml:7: candidates.one.mixture.cpa: there is no such key. Did you mean "cap"? Known here: cap, '
            "temperature, weights, examples, limit, limits, forms, held_out, tasks, scored.",
            "r.yaml:7: candidates.one.mixture.limit: this shapes the rows of all candidates alike. Write it into the "
            "mixture of the recipe.",
        )
        assert problems("candidates: {base: {mixture: {cap: 3}}}") == (
            "r.yaml:6: candidates.base.mixture: the base is not tuned (method: none) and takes no mixture. Name a "
            "method or delete it.",
        )

    def test_a_prompt_for_each_task_needs_every_task(self) -> None:
        assert problems(
            "mixture: {tasks: 1}", "candidates:", "  p: {method: soft-prompt, per_task: true}"
        ) == (
            "r.yaml:8: candidates.p.per_task: no prompt of its own would be learned for moods, tones, which it is not "
            "tuned on. Take one prompt for all tasks.",
        )  # fmt: skip

    def test_a_sequence_of_what_is_held_out(self) -> None:
        assert problems(
            "sequence: [moods, sums]",
            "candidates:",
            "  base: {shots: 1}",
            "  one: {method: lora, mixture: {held_out: [sums]}}",
            "  all: {method: lora}",
        ) == (
            "r.yaml:6: sequence: the mixture of candidates.one leaves sums out. Take it out of the sequence too, or "
            "change held_out, weights or tasks of the mixture.",
        )

    def test_a_candidate_that_is_tuned_on_what_the_recipe_holds_out(self) -> None:
        assert problems(
            "mixture: {held_out: [sums]}",
            "candidates:",
            "  one: {method: lora, mixture: {held_out: [sums, tones]}}",
            "  all: {method: lora, mixture: {held_out: []}}",
        ) == (
            'r.yaml:9: candidates.all.mixture.held_out: task "sums" is held out by the recipe, and its rows are there '
            "to be asked. Hold it out here too, or only in the candidates that are not to see it.",
        )


def example(task: str, number: int) -> Example:
    name = f"{task}/train/a.csv:{number}"
    return Example(id=name, task=task, split="train", prompt="p", target="t", references=("t",))


TRAINING = tuple(example(task, number) for task, count in COUNTS.items() for number in range(count))


class TestTraining:
    RECIPE = made("mixture: {held_out: [sums], examples: 6}", "candidates: {one: {method: lora}, base: {shots: 1}}")

    def test_nothing_of_a_held_out_task_is_trained_on(self) -> None:
        used = of_tuned_tasks(self.RECIPE, "one", TRAINING)
        assert {one.task for one in used} == {"moods", "tones"}
        draw = epoch_draw(self.RECIPE, "one", TRAINING, [one.id for one in used])
        assert draw is not None
        assert [used[place].task for place in draw.epoch(0)] == ["moods"] * 4 + ["tones"] * 2

    def test_examples_that_have_no_room_leave_the_shares_as_they_were_said(self) -> None:
        used = [one.id for one in of_tuned_tasks(self.RECIPE, "one", TRAINING)][:21]
        draw = epoch_draw(self.RECIPE, "one", TRAINING, used)
        assert draw is not None
        assert draw.epoch(3)[4:] == [20, 20]

    def test_a_task_of_which_nothing_has_room_is_an_error(self) -> None:
        with pytest.raises(DataError) as error:
            epoch_draw(self.RECIPE, "one", TRAINING, ["moods/train/a.csv:0"])
        assert error.value.problems == (
            'one: mixture: task "tones" is to give 2 examples to an epoch, and none of its 10 fits into '
            "train.max_tokens. Raise it, or hold the task out.",
        )


RUN = """\
name: mixed
model: MODEL
tasks:
  - {name: sums, source: chats.csv, template: dialogue-summary, max_new_tokens: 4, metrics: [rouge1]}
  - {name: moods, source: chats.csv, template: text-label, columns: {text: dialogue, label: mood}, choices: [bad, good]}
  - name: back
    source: chats.csv
    template: {prompt: "{{ summary }}", target: "{{ mood }}", inputs: [summary]}
    family: moods-of-summaries
    max_new_tokens: 4
split: {train: 0.6, validation: 0.2, test: 0.2}
mixture:
  held_out: [moods-of-summaries]
  scored: held-out
  examples: 10
  forms: {zero-shot: 0.5, few-shot: 0.5}
train: {epochs: 2, max_tokens: 256, tokens_per_step: 600, validations: 1}
candidates:
  one: {method: lora, rank: 2, mixture: {tasks: 1}}
  both: {method: lora, rank: 2}
forgetting: off
"""


@pytest.fixture
def mixed(tmp_path: Path, tiny_causal: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path / "chats.csv")
    (tmp_path / "mixed.yaml").write_text(RUN.replace("MODEL", str(tiny_causal)), encoding="utf-8")
    return Path("mixed.yaml")


def test_check_and_show_say_the_shares(mixed: Path, tunesmith: Command) -> None:
    lines = tunesmith("check", mixed).out.splitlines()
    said = [line for line in lines if "epoch" in line or "held out" in line]
    assert said[0] == "mixture of one: 10 examples in an epoch"
    assert said[3] == "  back   held out (moods-of-summaries)"
    assert said[4] == "mixture of both: 10 examples in an epoch"
    assert tunesmith("show", mixed, "-n", "2").out.startswith("mixture of one: 10 examples in an epoch\n")
    as_json = json.loads(tunesmith("check", mixed, "--json").out)["mixtures"]
    assert [one["candidates"] for one in as_json] == [["one"], ["both"]]
    assert sum(share["per_epoch"] for share in as_json[1]["shares"]) == 10
    assert as_json[0]["shares"][1]["per_epoch"] == 0


def test_a_run_tunes_on_the_shares_and_scores_what_is_held_out(
    mixed: Path, tunesmith: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tunesmith.training import loop

    trained: dict[str, list[str]] = {}
    real = loop.load_batch

    def noted(job: Any, examples: Any, indices: Any) -> Any:
        if examples is job.train:
            trained.setdefault(job.name, []).extend(examples[index].example_id for index in indices)
        else:
            assert all(one.example_id.partition("/")[0] != "back" for one in examples)
        return real(job, examples, indices)

    monkeypatch.setattr(loop, "load_batch", noted)
    ended = tunesmith("run", mixed, "--quiet")
    assert (ended.code, ended.err) == (0, "")
    tasks = {name: [one.partition("/")[0] for one in ids] for name, ids in trained.items()}
    assert tasks["one"] == ["sums"] * 20
    assert len(tasks["both"]) == 20
    report = json.loads(Path("runs/mixed/report.json").read_text(encoding="utf-8"))
    assert [task["task"] for task in report["tasks"]] == ["back"]
    for name in ("one", "both"):
        shares = next(one["shares"] for one in report["mixtures"] if name in one["candidates"])
        for share in shares:
            assert tasks[name].count(share["task"]) == 2 * share["per_epoch"]
    page = Path("runs/mixed/report.html").read_text(encoding="utf-8")
    assert "How tasks share the training of one" in page
    assert "held out: nothing is tuned on it" in page


def test_the_plan_counts_the_steps_of_the_mixture(mixed: Path, tunesmith: Command) -> None:
    tunesmith("run", mixed, "--quiet")
    plans = json.loads(Path("runs/mixed/plan.json").read_text(encoding="utf-8"))["candidates"]
    for plan in plans:
        if plan["train"]:
            done = json.loads(Path(f"runs/mixed/candidates/{plan['name']}/train.json").read_text(encoding="utf-8"))
            assert plan["train"]["steps"] == done["steps"]


def result_of(name: str, *stage: str) -> dict[str, Any]:
    folder = Path("runs/mixed/candidates", name, *stage)
    found: dict[str, Any] = json.loads((folder / "train.json").read_text(encoding="utf-8"))
    return found


def test_general_instructions_are_a_share_of_the_mixture_and_of_the_plan(mixed: Path, tunesmith: Command) -> None:
    assert tunesmith("run", mixed, "--quiet", "--set", "train.replay=0.5").code == 0
    plans = {
        one["name"]: one for one in json.loads(Path("runs/mixed/plan.json").read_text(encoding="utf-8"))["candidates"]
    }
    for name in ("one", "both"):
        assert result_of(name)["replayed"] == 10, "as many as the examples of an epoch"
        assert plans[name]["train"]["steps"] == result_of(name)["steps"]


def test_every_task_of_a_sequence_fills_the_epochs_of_the_mixture(
    mixed: Path, tunesmith: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tunesmith.training import loop

    trained: list[str] = []
    real = loop.load_batch

    def noted(job: Any, examples: Any, indices: Any) -> Any:
        if examples is job.train:
            trained.extend(examples[index].example_id.partition("/")[0] for index in indices)
        return real(job, examples, indices)

    monkeypatch.setattr(loop, "load_batch", noted)
    changes = (
        "--set",
        "sequence=[moods, sums]",
        "--set",
        "mixture.scored=all",
        "--set",
        "candidates={both: {method: lora, rank: 2}}",
    )
    assert tunesmith("train", mixed, "--quiet", *changes).code == 0
    assert trained == ["moods"] * 20 + ["sums"] * 20, "two epochs of ten, whatever the rows"


def test_a_form_is_left_out_where_a_table_has_no_column_for_it(tmp_path: Path) -> None:
    table = ("dialogue", "summary", "mood", "why")
    rows = [(*row, "Because of it." if number % 2 else "") for number, row in enumerate(chats())]
    write_table(tmp_path / "with.csv", header=table, rows=rows)
    write_table(tmp_path / "without.csv")
    recipe = recipe_from_text("""\
name: mixed
tasks:
  - {name: with, source: with.csv, template: question-answer,
     columns: {question: dialogue, answer: mood, rationale: why}}
  - {name: without, source: without.csv, template: question-answer, columns: {question: dialogue, answer: mood}}
mixture: {forms: {zero-shot: 1, chain-of-thought: 1e9}}
""")
    made = prepare(
        recipe.tasks, split=recipe.split, data=recipe.data, seed=0, base=tmp_path, mixture=recipe.mixture
    )  # fmt: skip
    forms = {task: {one.form for one in made.examples["train"] if one.task == task} for task in ("with", "without")}
    assert forms == {"with": {"zero-shot", "chain-of-thought"}, "without": {"zero-shot"}}
    named = recipe.tasks[1].model_copy(update={"forms": ("zero-shot", "chain-of-thought")})
    with pytest.raises(DataError, match='there is no column "rationale"'):
        prepare([named], split=recipe.split, data=recipe.data, seed=0, base=tmp_path, mixture=recipe.mixture)


def reworded() -> list[tuple[str, str, str]]:
    """Chats of which none has five words in a row with those of the others."""
    return [
        (" ".join(f"{word}{place}{letter}" for word in chat.split()), summary, mood)
        for letter in "abcd"
        for place, (chat, summary, mood) in enumerate(chats())
    ]


class TestRowsOfHeldOutTasks:
    TEXT = """\
name: mixed
tasks:
  - {name: sums, source: a.csv, template: dialogue-summary}
  - {name: moods, source: b.csv, template: text-label, columns: {text: dialogue, label: mood}, choices: targets}
mixture: {held_out: [moods], forms: {zero-shot: 1, few-shot: 1, inverted: 1}}
"""

    def prepared(self, folder: Path, *overrides: str) -> Prepared:
        write_table(folder / "a.csv")
        write_table(folder / "b.csv", rows=reworded())
        recipe = recipe_from_text(self.TEXT, overrides)
        return prepare(
            recipe.tasks, split=recipe.split, data=recipe.data, seed=0, base=folder, mixture=recipe.mixture
        )  # fmt: skip

    def counted(self, made: Prepared) -> dict[str, int]:
        return {side: sum(one.task == "moods" for one in made.examples[side]) for side in made.examples}

    def test_they_are_test_rows_but_for_a_tenth_that_worked_examples_come_from(self, tmp_path: Path) -> None:
        counts = self.counted(
            self.prepared(
                tmp_path,
            )
        )
        assert counts["train"] + counts["test"] == 128
        assert 4 <= counts["train"] <= 25
        assert counts["validation"] == 0

    def test_limits_hold_all_the_same(self, tmp_path: Path) -> None:
        limits = ("split.limit.test=20", "mixture.limits={moods: 3}")
        assert self.counted(self.prepared(tmp_path, *limits)) == {"train": 3, "validation": 0, "test": 20}

    def test_sides_that_are_given_stay_but_for_rows_that_nothing_is_made_from(self, tmp_path: Path) -> None:
        rows = reworded()
        for name, given in (("train", rows), ("validation", rows[:9]), ("test", rows[:7])):
            write_table(tmp_path / f"{name}.csv", rows=given)
        files = "tasks.1.source={train: train.csv, validation: validation.csv, test: test.csv}"
        made = self.prepared(tmp_path, "data.leaks=keep", files)
        assert self.counted(made) == {"train": 50, "validation": 0, "test": 7}

    def test_none_of_them_is_put_as_a_training_prompt(self, tmp_path: Path) -> None:
        made = self.prepared(tmp_path)
        own = [one for side in made.examples.values() for one in side if one.task == "moods"]
        assert {one.form for one in own} == {"zero-shot"}
        assert {one.form for one in made.examples["train"] if one.task == "sums"} > {"zero-shot"}
        assert not [note for note in made.health.notes if '"moods": training prompts' in note]

    def test_their_answers_are_those_of_all_their_rows(self, tmp_path: Path) -> None:
        made = self.prepared(tmp_path, "mixture.limits={moods: 1}")
        assert made.tasks[1].choices == ("bad", "good")
        assert not made.health.set_aside

    def test_a_table_that_is_tuned_on_as_well_is_divided_as_ever(self, tmp_path: Path) -> None:
        made = self.prepared(tmp_path, "tasks.0.source=[b.csv]")
        assert 90 <= sum(one.task == "sums" for one in made.examples["train"]) <= 115
        assert self.counted(made)["test"] == sum(one.task == "sums" for one in made.examples["test"])
        assert not made.health.leaks


def test_one_example_is_called_so() -> None:
    share = MixtureShare(task="sums", family="sums", rows=1, per_epoch=1, held_out=False)
    out = StringIO()
    print_mixtures([Mixture(candidates=(), shares=(share,))], Console(file=out, width=200))
    assert out.getvalue() == "mixture: 1 example in an epoch\n  sums  1 of 1 example in an epoch, 100.0 %\n"


def test_worked_examples_of_a_held_out_task_are_there_or_asked_for(mixed: Path, tunesmith: Command) -> None:
    assert tunesmith("check", mixed, "--set", "candidates.few={shots: 1}").code == 0
    ended = tunesmith("check", mixed, "--set", "candidates.few={shots: 25}")
    assert 'candidates.few.shots: 25 worked examples are asked for, and task "back" has ' in ended.err
    assert "It is held out: lower it, or give it rows, `source: {train: FILE, test: FILE}`." in ended.err


def test_show_shows_nothing_of_a_held_out_task(mixed: Path, tunesmith: Command) -> None:
    shown = tunesmith("show", mixed, "-n", "50").out
    assert "sums/train/" in shown
    assert "back/train/" not in shown
