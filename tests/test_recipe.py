from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from tunesmith.errors import RecipeError
from tunesmith.methods import lora
from tunesmith.recipe import (
    changes,
    kept_text,
    load_recipe,
    recipe_from_text,
    resolved,
    train_settings,
)
from tunesmith.registry import METHODS
from tunesmith.settings import Phrasing, Settings, SourceSettings, TemplateSettings

SMALL = "name: a\ntasks:\n  - source: x.csv\n"  # what follows it begins in line 4
TRAIN_KEYS = (
    "epochs, max_steps, learning_rate, tokens_per_step, tokens_per_batch, max_tokens, warmup, schedule, final_rate, "
    "optimizer, weight_decay, clip, beta1, beta2, precision, replay, kl, average, validations, keep_best, patience, "
    "checkpoint_minutes, keep_checkpoints"
)


def problems(text: str, *overrides: str) -> tuple[str, ...]:
    with pytest.raises(RecipeError) as caught:
        recipe_from_text(text, overrides, name="r.yaml")
    return caught.value.problems


# Every field of every part of a recipe, each set to something that is not its default.
EVERYTHING = """\
name: everything
seed: 7
model: flan-t5-small
tasks:
  - name: summarize
    family: chats
    source: {train: [a.csv, b.csv], validation: c.csv, test: [d.csv]}
    columns: {dialogue: text}
    template:
      prompt: "{{ dialogue }}"
      target: "{{ summary }}"
      system: Be brief.
      inputs: [dialogue]
      phrasings:
        - {prompt: "Summarise: {{ dialogue }}", target: "{{ summary }}", form: few-shot, intro: Sums, join: " ",
           separator: "-"}
    forms: [few-shot, zero-shot]
    shots: 3
    references: [second, third]
    choices: [good, bad]
    metrics: [rouge, bleu]
    max_new_tokens: 64
  - {name: label, source: [a.csv, b.csv], template: dialogue-summary, choices: targets}
  - {name: unseen, family: other, source: a.csv, template: dialogue-summary}
split: {train: 0.7, validation: 0.2, test: 0.15, group: who, column: part, limit: {train: 5, validation: 2, test: 3}}
data: {folder: tables, allow_bad: 0.5, max_row_bytes: 2000, leak_similarity: 0.9, leaks: keep}
train:
  epochs: 1.5
  max_steps: 12
  learning_rate: 3e-4
  tokens_per_step: 999
  tokens_per_batch: 888
  max_tokens: 77
  warmup: 0.2
  schedule: linear
  final_rate: 0.3
  optimizer: adamw-8bit
  weight_decay: 0.01
  clip: 2
  beta1: 0.8
  beta2: 0.95
  precision: float32
  replay: 0.1
  kl: 0.2
  average: 0.5
  validations: 9
  keep_best: rouge1
  patience: 3
  checkpoint_minutes: 1
  keep_checkpoints: 5
mixture:
  cap: 50
  temperature: 2
  weights: {summarize: 3, label: 1}
  examples: 40
  limit: 70
  limits: {summarize: 60}
  forms: {few-shot: 0.5, zero-shot: 0.5}
  held_out: [unseen]
  tasks: 2
  scored: held-out
generate: {beams: 4, temperature: 0.7, top_p: 0.9, tokens_per_batch: 512}
measures: {robustness: true, fairness: true, rows: 20}
candidates:
  few: {shots: 3}
  lora:
    method: lora
    shots: 1
    rank: 4
    alpha: 9.0
    dropout: 0.1
    targets: [q, v]
    rslora: true
    dora: true
    init: pissa
    train: {epochs: 2}
    mixture: {examples: 20}
sequence: [label, summarize]
forgetting:
  - {name: kept, source: k.csv}
  - {suite: mmlu, data: d, limit: 50, shots: 0, chat_template: true}
"""


def parts(value: Any) -> Iterator[Settings]:
    """All settings inside a value, itself first."""
    if isinstance(value, Settings):
        yield value
        for field in type(value).model_fields:
            yield from parts(getattr(value, field))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from parts(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from parts(item)


def test_every_field_of_every_settings_class_takes_a_value_that_is_not_its_default() -> None:
    touched: dict[type[BaseModel], set[str]] = {}
    for part in parts(recipe_from_text(EVERYTHING)):
        different = touched.setdefault(type(part), set())
        for name, field in type(part).model_fields.items():
            default = field.get_default(call_default_factory=True)
            if default is PydanticUndefined or getattr(part, name) != default:
                different.add(name)
    untouched = {kind.__name__: set(kind.model_fields) - names for kind, names in touched.items()}
    assert {kind: names for kind, names in untouched.items() if names} == {}
    seen = set(touched)
    assert {SourceSettings, TemplateSettings, Phrasing, lora.Settings} <= seen
    homes = ("tunesmith.settings", "tunesmith.task_settings")
    ours = [kind for kind in Settings.__subclasses__() if kind.__module__ in homes]
    assert len(ours) >= 10
    assert set(ours) <= seen


def test_what_was_written_is_what_is_held() -> None:
    recipe = recipe_from_text(EVERYTHING)
    assert recipe.tasks[0].source == SourceSettings(train=("a.csv", "b.csv"), validation="c.csv", test=("d.csv",))
    assert recipe.tasks[1].choices == "targets"
    assert recipe.train.learning_rate == 3e-4
    switches = {"rslora": True, "dora": True, "init": "pissa"}
    expected = lora.Settings(rank=4, alpha=9.0, dropout=0.1, targets=("q", "v"), **switches)
    assert recipe.candidates["lora"].settings == expected
    assert recipe.split.limit == {"train": 5, "validation": 2, "test": 3}


def test_the_base_without_shots_is_always_the_first_candidate() -> None:
    assert list(recipe_from_text(SMALL).candidates) == ["zero-shot"]
    assert list(recipe_from_text(EVERYTHING).candidates) == ["zero-shot", "few", "lora"]


def test_a_candidate_trains_by_the_recipe_but_for_its_own_words() -> None:
    recipe = recipe_from_text(EVERYTHING)
    assert train_settings(recipe, "lora").epochs == 2
    assert train_settings(recipe, "lora") == recipe.train.model_copy(update={"epochs": 2.0})
    assert train_settings(recipe, "few") == recipe.train


class TestWhatIsWrong:
    def test_an_unknown_key_gets_the_nearest_one(self) -> None:
        assert problems(SMALL + "train:\n  lerning_rate: 1e-4\n") == (
            'r.yaml:5: train.lerning_rate: there is no such key. Did you mean "learning_rate"? '
            f"Known here: {TRAIN_KEYS}.",
        )

    def test_an_unknown_key_at_the_top_and_in_a_list(self) -> None:
        assert problems("name: a\ntsks: 3\ntasks:\n  - source: x.csv\n    metric: [rouge]\n") == (
            'r.yaml:2: tsks: there is no such key. Did you mean "tasks"? Known here: name, seed, model, tasks, split, '
            "data, mixture, train, generate, measures, sequence, candidates, forgetting.",
            'r.yaml:5: tasks.0.metric: there is no such key. Did you mean "metrics"? Known here: name, family, '
            "source, columns, template, forms, shots, references, choices, metrics, max_new_tokens.",
        )

    def test_a_wrong_type(self) -> None:
        assert problems(SMALL + "seed: soon\ntrain: 3\nmodel: [a]\n") == (
            'r.yaml:4: seed: "soon" does not fit; it should be a whole number.',
            "r.yaml:5: train: 3 does not fit; it should be `key: value` lines.",
            'r.yaml:6: model: ["a"] does not fit; it should be text.',
        )

    def test_a_word_that_is_neither_true_nor_false(self) -> None:
        assert problems(SMALL + "measures: {robustness: 'yes'}\n") == (
            'r.yaml:4: measures.robustness: "yes" does not fit; it should be true or false.',
        )

    def test_a_quoted_number(self) -> None:
        assert problems(SMALL + "train: {epochs: '3'}\n") == (
            'r.yaml:4: train.epochs: "3" does not fit; it should be a number. Write it without quotes.',
        )

    def test_a_number_that_is_out_of_bounds(self) -> None:
        assert problems(SMALL + "train: {epochs: 1e300}\n") == (
            "r.yaml:4: train.epochs: 1e+300 does not fit; it should be less than or equal to 10000.",
        )
        assert problems(SMALL + f"seed: {2**63}\n") == (
            f"r.yaml:4: seed: {2**63} does not fit; it should be less than {2**63}.",
        )
        assert problems(SMALL + "train: {epochs: 0}\nsplit: {train: 1.5}\nseed: 1.5\n") == (
            "r.yaml:4: train.epochs: 0 does not fit; it should be greater than 0.",
            "r.yaml:5: split.train: 1.5 does not fit; it should be less than or equal to 1.",
            "r.yaml:6: seed: 1.5 does not fit; it should be a whole number.",
        )

    def test_a_choice_that_does_not_exist(self) -> None:
        assert problems(SMALL + "train: {schedule: cosin}\n") == (
            "r.yaml:4: train.schedule: \"cosin\" does not fit; it should be 'linear', 'cosine' or 'constant'.",
        )

    def test_a_value_that_may_be_of_two_types_names_both_in_one_line(self) -> None:
        assert problems(SMALL + "train: {learning_rate: fast}\n") == (
            "r.yaml:4: train.learning_rate: \"fast\" does not fit; it should be a number or 'auto'.",
        )

    def test_in_a_value_of_several_types_the_deepest_finding_is_told(self) -> None:
        assert problems("name: a\ntasks:\n  - source: {trian: a}\n  - source: [1]\n    template: {promt: x}\n") == (
            "r.yaml:3: tasks.0.source.train: this key is missing. Add it.",
            'r.yaml:3: tasks.0.source.trian: there is no such key. Did you mean "train"? '
            "Known here: train, validation, test.",
            "r.yaml:4: tasks.1.source.0: 1 does not fit; it should be text. Write it in quotes.",
            'r.yaml:5: tasks.1.template.promt: there is no such key. Did you mean "prompt"? '
            "Known here: prompt, target, phrasings, system, inputs.",
        )

    def test_a_missing_key(self) -> None:
        assert problems("seed: 1\n") == (
            "r.yaml:1: name: this key is missing. Add it.",
            "r.yaml:1: tasks: this key is missing. Add it.",
        )

    def test_tasks_and_suites_to_keep_are_told_apart_and_what_is_wrong_with_each(self) -> None:
        kept = "forgetting:\n  - mmlu\n  - {sorce: a.csv}\n  - {suite: glue/rte, limt: 50}\n  - default\n"
        mmlu, *tasks, glue, default = problems(SMALL + kept + "  - {suite: mmlu, shots: -1}\n")[:-1]
        assert mmlu == (
            'r.yaml:5: forgetting.0: "mmlu" is not `key: value` lines. A benchmark suite is written as '
            "{suite: mmlu, data: FOLDER}, and a task as under tasks."
        )
        assert [one.split(": ")[:2] for one in tasks] == [
            ["r.yaml:6", "forgetting.1.source"],
            ["r.yaml:6", "forgetting.1.sorce"],
        ]
        assert glue == (
            'r.yaml:7: forgetting.2.limt: there is no such key. Did you mean "limit"? '
            "Known here: suite, data, limit, shots, chat_template."
        )
        assert default == (
            'r.yaml:8: forgetting.3: "default" is not `key: value` lines. The shipped probe is asked beside every '
            "list: delete the entry."
        )
        assert problems(SMALL + "forgetting: [{suite: mmlu, shots: -1}]\n") == (
            "r.yaml:4: forgetting.0.shots: -1 does not fit; it should be greater than or equal to 0.",
        )

    def test_a_suite_in_place_of_the_list_of_tasks_is_told_too(self) -> None:
        (said,) = problems(SMALL + "forgetting: mmlu\n")
        assert said == (
            'r.yaml:4: forgetting: "mmlu" is neither default nor off, nor a list of tasks and benchmark '
            "suites, such as [{suite: mmlu, data: FOLDER}]."
        )

    def test_a_key_without_a_value(self) -> None:
        assert problems(SMALL + "train:\nseed:\n") == (
            "r.yaml:4: train: null does not fit; it should be `key: value` lines. Write a value, or delete the line.",
            "r.yaml:5: seed: null does not fit; it should be a whole number. Write a value, or delete the line.",
        )

    def test_no_tasks(self) -> None:
        assert problems("name: a\ntasks: []\n") == (
            "r.yaml:2: tasks: [] does not fit; it should be a list of at least 1.",
        )

    def test_a_list_whose_only_entry_is_wrong_is_not_called_empty(self) -> None:
        assert problems("name: a\ntasks: [3]\n") == (
            "r.yaml:2: tasks.0: 3 does not fit; it should be `key: value` lines.",
        )

    def test_a_key_that_stands_twice(self) -> None:
        assert problems(SMALL + "name: b\n") == (
            'r.yaml:4: "name" stands here twice (first in line 1). Keep one of them.',
        )

    def test_a_name_that_cannot_be_a_folder(self) -> None:
        rule = 'lower-case letters, digits, ".", "_" and "-", at most 64, the first a letter or digit'
        assert problems(
            "name: My Run\ntasks:\n  - {source: x.csv, name: ../up}\ncandidates: {../x: {method: full}}"
        ) == (
            f'r.yaml:1: name: "My Run" does not fit; it should be {rule}.',
            f'r.yaml:3: tasks.0.name: "../up" does not fit; it should be {rule}.',
            f'r.yaml:4: candidates: "../x" cannot be the name of a folder; use {rule}.',
        )

    def test_two_tasks_of_one_name(self) -> None:
        assert problems("name: a\ntasks:\n  - source: x.csv\n  - source: y.csv\n") == (
            'r.yaml:4: tasks.1.name: "task" is also the name of task 0 (counting from 0). Give each its own.',
        )

    def test_a_long_value_is_shortened(self) -> None:
        (problem,) = problems(SMALL + f"seed: {'x' * 100}\n")
        assert problem == f'r.yaml:4: seed: "{"x" * 56}... does not fit; it should be a whole number.'

    def test_a_number_that_no_computer_holds(self) -> None:
        (problem,) = problems(SMALL + f"seed: {'9' * 5000}\n")
        assert problem == f'r.yaml:4: seed: "{"9" * 56}... does not fit; it should be a whole number.'

    def test_everything_that_is_wrong_is_told_at_once(self) -> None:
        text = "name: a\nseed: -1\ntasks:\n  - {}\ncandidates:\n  x: {method: lora, rank: 0}\n  y: {method: lorra}\n"
        assert problems(text, "train.epochs=0", "nonsense") == (
            '--set nonsense: write it as key=value, for example "train.epochs=1".',
            "--set: train.epochs: 0 does not fit; it should be greater than 0.",
            "r.yaml:2: seed: -1 does not fit; it should be greater than or equal to 0.",
            "r.yaml:4: tasks.0.source: this key is missing. Add it.",
            "r.yaml:6: candidates.x.rank: 0 does not fit; it should be greater than or equal to 1.",
            'r.yaml:7: candidates.y: method "lorra" is not known. Did you mean "lora"? '
            f"Known: {', '.join(sorted(METHODS))}.",
        )


class TestCandidates:
    def test_an_unknown_setting_of_a_method(self) -> None:
        assert problems(SMALL + "candidates:\n  x:\n    method: lora\n    rnak: 3\n") == (
            'r.yaml:7: candidates.x.rnak: there is no such key. Did you mean "rank"? '
            "Known here: method, shots, train, mixture, rank, alpha, dropout, targets, rslora, dora, init.",
        )

    def test_a_setting_out_of_bounds_or_of_the_wrong_type(self) -> None:
        assert problems(SMALL + "candidates:\n  x: {method: lora, rank: 2000, targets: linear}\n") == (
            "r.yaml:5: candidates.x.rank: 2000 does not fit; it should be less than or equal to 1024.",
            "r.yaml:5: candidates.x.targets: \"linear\" does not fit; it should be a list or 'all-linear' or "
            "'attention'.",
        )

    def test_an_override_of_training_is_checked_like_training(self) -> None:
        assert problems(SMALL + "candidates:\n  x: {method: full, train: {epohcs: 2, clip: 0}}\n") == (
            "r.yaml:5: candidates.x.train.clip: 0 does not fit; it should be greater than 0.",
            'r.yaml:5: candidates.x.train.epohcs: there is no such key. Did you mean "epochs"? '
            f"Known here: {TRAIN_KEYS}.",
        )

    def test_common_words_of_the_wrong_type(self) -> None:
        assert problems(SMALL + "candidates:\n  x: {method: 3, shots: many, train: 1}\n") == (
            "r.yaml:5: candidates.x.method: 3 does not fit; it should be text. Write it in quotes.",
            'r.yaml:5: candidates.x.shots: "many" does not fit; it should be a whole number.',
            "r.yaml:5: candidates.x.train: 1 does not fit; it should be `key: value` lines.",
        )

    def test_the_base_takes_no_settings_and_is_not_trained(self) -> None:
        assert problems(SMALL + "candidates:\n  x: {rank: 3, train: {epochs: 1}}\n") == (
            "r.yaml:5: candidates.x.rank: the base is not tuned (method: none) and takes no rank. "
            "Name a method or delete it.",
            "r.yaml:5: candidates.x.train: the base is not tuned (method: none) and takes no train. "
            "Name a method or delete it.",
        )

    def test_the_name_of_the_base_is_taken(self) -> None:
        assert problems(SMALL + "candidates:\n  zero-shot: {shots: 1}\n") == (
            'r.yaml:5: candidates: "zero-shot" is always there; choose another name.',
        )

    @pytest.mark.parametrize("value", ["[lora]", "no", "false", "0"])
    def test_candidates_that_are_no_mapping(self, value: str) -> None:
        assert problems(SMALL + f"candidates: {value}\n") == (
            "r.yaml:4: candidates: expected `name: {method: ...}` lines.",
        )

    def test_a_candidate_that_is_no_mapping(self) -> None:
        assert problems(SMALL + "candidates:\n  x: lora\n  y:\n") == (
            "r.yaml:5: candidates.x: expected {method: ...}.",
            "r.yaml:6: candidates.y: expected {method: ...}.",
        )

    def test_no_candidates_are_allowed(self) -> None:
        assert list(recipe_from_text(SMALL + "candidates:\n").candidates) == ["zero-shot"]


class TestOverrides:
    def changed(self, override: str, text: str = SMALL) -> dict[str, Any]:
        return resolved(recipe_from_text(text, [override]))

    def test_a_key_that_the_file_has_not(self) -> None:
        assert self.changed("train.epochs=1")["train"]["epochs"] == 1

    def test_a_key_that_the_file_has(self) -> None:
        assert self.changed("name=b")["name"] == "b"

    def test_a_key_below_one_without_a_value(self) -> None:
        assert self.changed("train.epochs=1", SMALL + "train:\n")["train"]["epochs"] == 1

    def test_an_entry_of_a_list(self) -> None:
        assert self.changed("tasks.0.source=y.csv")["tasks"][0]["source"] == "y.csv"
        assert self.changed("tasks.0={source: z.csv}")["tasks"][0]["source"] == "z.csv"

    def test_a_list_and_a_mapping_are_written_as_in_yaml(self) -> None:
        assert self.changed("tasks.0.metrics=[rouge, bleu]")["tasks"][0]["metrics"] == ["rouge", "bleu"]
        assert self.changed("split={group: customer}")["split"]["group"] == "customer"

    def test_a_method_and_its_settings(self) -> None:
        recipe = recipe_from_text(SMALL, ["candidates.x.method=lora", "candidates.x.rank=4"])
        assert recipe.candidates["x"].settings == lora.Settings(rank=4)

    def test_only_the_first_equals_sign_divides(self) -> None:
        assert self.changed("model=a=b")["model"] == "a=b"

    def test_text_with_colons_and_hashes_is_taken_as_it_is(self) -> None:
        assert self.changed("model=C: #1")["model"] == "C: #1"

    def test_a_later_one_wins(self) -> None:
        assert recipe_from_text(SMALL, ["seed=1", "seed=2"]).seed == 2

    @pytest.mark.parametrize(
        ("override", "problem"),
        [
            ("seed", '--set seed: write it as key=value, for example "train.epochs=1".'),
            ("=3", '--set =3: write it as key=value, for example "train.epochs=1".'),
            ("seed.x=3", '--set seed.x=3: "seed" holds no further keys.'),
            ("tasks.5.source=y", '--set tasks.5.source=y: there is no entry "5"; there are 1, counted from 0.'),
            ("tasks.1={}", '--set tasks.1={}: there is no entry "1"; there are 1, counted from 0.'),
            ("tasks.first=3", '--set tasks.first=3: there is no entry "first"; there are 1, counted from 0.'),
            ("tasks.²=3", '--set tasks.²=3: there is no entry "²"; there are 1, counted from 0.'),
            ("seed=x", '--set: seed: "x" does not fit; it should be a whole number.'),
            ("sed=1", '--set: sed: there is no such key. Did you mean "seed"? Known here: name, seed, model, tasks, '
             "split, data, mixture, train, generate, measures, sequence, candidates, forgetting."),
            ("split={a: 1, a: 2}", '--set split={a: 1, a: 2}:1: "a" stands here twice (first in line 1). Keep one of '
             "them."),
        ],
    )  # fmt: skip
    def test_what_can_be_wrong_with_one(self, override: str, problem: str) -> None:
        assert problems(SMALL + "seed: 1\n", override) == (problem,)

    def test_a_key_beside_an_overridden_one_keeps_its_line(self) -> None:
        assert problems(SMALL + "train: {clip: 0, epochs: 1}\n", "train.epochs=0") == (
            "--set: train.epochs: 0 does not fit; it should be greater than 0.",
            "r.yaml:4: train.clip: 0 does not fit; it should be greater than 0.",
        )

    def test_what_an_override_made_on_its_way_is_its_own(self) -> None:
        (problem,) = problems(SMALL, "candidates.x.shots=many")
        assert problem == '--set: candidates.x.shots: "many" does not fit; it should be a whole number.'
        assert problems(SMALL, "candidates.Big.method=full")[0].startswith(
            '--set: candidates: "Big" cannot be the name'
        )


class TestTheFile:
    def test_a_file_is_read_and_its_text_kept(self, tmp_path: Path) -> None:
        path = tmp_path / "r.yaml"
        path.write_text(SMALL + "# a remark\n", encoding="utf-8")
        recipe, text = load_recipe(path, ["seed=5"])
        assert recipe.seed == 5
        assert text == SMALL + "# a remark\n# --set seed=5\n"

    def test_problems_name_the_file_as_it_was_given(self, tmp_path: Path) -> None:
        path = tmp_path / "r.yaml"
        path.write_text("name: a\n")
        with pytest.raises(RecipeError) as caught:
            load_recipe(path)
        assert str(caught.value) == f"{path}:1: tasks: this key is missing. Add it."

    def test_text_without_a_last_line_end_gets_one(self) -> None:
        assert kept_text("name: a", []) == "name: a\n"


class TestComparing:
    def test_a_resolved_recipe_names_every_default_and_the_methods_settings(self) -> None:
        plain = resolved(recipe_from_text(SMALL + "candidates: {x: {method: lora}}\n"))
        assert plain["train"]["tokens_per_step"] > 0
        assert plain["candidates"]["x"]["settings"]["targets"] == "all-linear"

    def test_the_same_recipe_in_other_words_resolves_to_the_same(self) -> None:
        one = recipe_from_text(SMALL + "seed: 3\ntrain: {epochs: 2}\n")
        other = recipe_from_text("train:\n  epochs: 2.0\nseed: 3\n" + SMALL)
        assert resolved(one) == resolved(other)

    def test_changes_are_named_by_their_keys(self) -> None:
        old = resolved(recipe_from_text(SMALL + "candidates: {x: {method: lora}}\n"))
        new = resolved(recipe_from_text(SMALL, ["seed=1", "tasks.0.max_new_tokens=9", "candidates.x.method=lora",
                                                "candidates.x.rank=4"]))  # fmt: skip
        found = changes(old, new)
        assert found[0] == "candidates.x.settings.rank was 16, is now 4"
        assert found[1] == "seed was 0, is now 1"
        assert found[2].startswith('tasks was [{"name": "task", ')
        assert len(found) == 3

    def test_what_came_and_what_went(self) -> None:
        assert changes({"a": 1, "b": {"c": 2}}, {"b": {}, "d": "x"}) == [
            "a was 1, is now null",
            "b.c was 2, is now null",
            'd was null, is now "x"',
        ]

    def test_equal_recipes_have_no_changes(self) -> None:
        plain = resolved(recipe_from_text(EVERYTHING))
        assert changes(plain, plain) == []


def test_a_learning_rate_is_above_zero() -> None:
    with pytest.raises(RecipeError) as caught:
        recipe_from_text(SMALL + "train: {learning_rate: 0.0}\n", name="r.yaml")
    assert "train.learning_rate: 0.0 does not fit; it should be greater than 0." in str(caught.value)


def test_a_method_may_want_other_defaults_of_train_and_the_recipe_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    from tunesmith.methods import lora

    monkeypatch.setattr(lora, "TRAIN", {"epochs": 7.0, "warmup": 0.2}, raising=False)
    names = "{lora: {method: lora}, short: {method: lora, train: {epochs: 1}}}"
    body = f"name: a\ntasks: [{{source: t.csv}}]\ncandidates: {names}\n"
    recipe = recipe_from_text(body + "train: {warmup: 0.1}\n")
    assert (train_settings(recipe, "lora").epochs, train_settings(recipe, "lora").warmup) == (7.0, 0.1)
    assert train_settings(recipe, "short").epochs == 1.0


def test_a_method_that_learns_something_for_each_task_is_told_their_names() -> None:
    text = (
        "name: a\ntasks:\n  - {name: one, source: x.csv}\n  - {name: two, source: y.csv}\ncandidates:\n"
        "  shared: {method: soft-prompt}\n  own: {method: soft-prompt, per_task: true}\n"
    )
    found = recipe_from_text(text).candidates
    assert found["own"].settings.tasks == ("one", "two")
    assert found["shared"].settings.tasks == ("",)
    assert resolved(recipe_from_text(text))["candidates"]["own"]["settings"]["per_task"] is True
