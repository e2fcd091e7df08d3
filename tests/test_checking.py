import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tunesmith import environment
from tunesmith.checking import check_methods, check_rows, check_settings
from tunesmith.errors import DataError, RecipeError
from tunesmith.models.skeleton import skeleton
from tunesmith.recipe import recipe_from_text
from tunesmith.records import Example
from tunesmith.settings import Recipe

FORMS = ("zero-shot", "inverted", "inverted", "chain-of-thought", "chain-of-thought", "chain-of-thought")
TRAINING = [
    Example(id=str(n), task="task", split="train", prompt="p", target="t", references=("t",), form=form)
    for n, form in enumerate(FORMS)
]

TEST = [TRAINING[0].model_copy(update={"id": "test", "split": "test"})]


def problems(forms: str, more: str = "", **candidate: Any) -> tuple[str, ...]:
    recipe = recipe_from_text(
        f"name: a\ntasks: [{{source: a.csv, forms: {forms}{more}}}]\ncandidates: {{few: {candidate}}}\n"
    )
    with pytest.raises(DataError) as error:
        check_rows(recipe, {"train": TRAINING, "validation": [], "test": TEST})
    return error.value.problems


def test_only_rows_in_the_form_of_the_test_rows_are_counted_as_shots() -> None:
    asked = 'worked examples are asked for, and task "task" has'
    assert problems("[zero-shot, inverted]", method="none", shots=2) == (
        f"candidates.few.shots: 2 {asked} 1 training rows of the form zero-shot. Lower it or add rows.",
    )
    assert problems("[chain-of-thought, zero-shot]", method="none", shots=4) == (
        f"candidates.few.shots: 4 {asked} 3 training rows of the form chain-of-thought. Lower it or add rows.",
    )
    assert problems("[zero-shot]", method="none", shots=2) == (
        f"candidates.few.shots: 2 {asked} 1 training rows. Lower it or add rows.",
    )


def test_answers_that_are_written_after_their_reasons_have_no_likelihoods_of_choices() -> None:
    more = ", choices: [a, b], metrics: [accuracy-norm]"
    assert problems("[chain-of-thought]", more, method="none", shots=1) == (
        'tasks.0.metrics: accuracy-norm is read from the likelihood of choices, and task "task" writes its answers '
        "after their reasons. Begin `forms` with zero-shot, or take another metric.",
    )


def recipe(**candidates: dict[str, Any]) -> Recipe:
    body = {"name": "r", "tasks": [{"name": "t", "source": "rows.csv"}], "candidates": candidates}
    return recipe_from_text(json.dumps(body))


def test_what_all_methods_refuse_is_said_at_once_and_by_candidate(
    tiny_causal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "find_spec", lambda name: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    asked = recipe(
        biases={"method": "bitfit"},
        low={"method": "qlora", "train": {"optimizer": "paged-adamw-8bit"}},
        few={"method": "sparse", "share": 1e-12},
        deep={"method": "last-layers", "layers": 3},
        fine={"method": "norms"},
    )
    with pytest.raises(RecipeError) as caught:
        check_methods(asked, tiny_causal)
    assert [problem[:60] for problem in caught.value.problems] == [
        "candidates.biases: bitfit: this model (LlamaForCausalLM) has",
        "candidates.low: train.optimizer: paged-adamw-8bit needs bits",
        "candidates.low: qlora: a base in four bits needs bitsandbyte",
        "candidates.few: sparse: share is 1e-12, which is less than o",
        "candidates.deep: last-layers: layers is 3, and this model ha",
    ]


def test_every_method_that_can_be_had_passes(tiny_causal: Path, tiny_seq2seq: Path) -> None:
    asked = recipe(
        a={"method": "last-layers"}, b={"method": "norms"}, c={"method": "embeddings"}, d={"method": "head"},
        e={"method": "sparse"}, f={"method": "qlora"}, g={"method": "modules", "patterns": ["*norm*"]},
        h={"method": "lora", "dora": True, "train": {"optimizer": "adamw-8bit"}},
    )  # fmt: skip
    check_methods(asked, tiny_causal)
    check_methods(asked, tiny_seq2seq)


def refused(candidate: str) -> tuple[str, ...]:
    with pytest.raises(RecipeError) as error:
        check_settings(recipe_from_text(f"name: a\ntasks: [{{source: a.csv}}]\ncandidates: {{x: {candidate}}}\n"))
    return error.value.problems


def test_settings_against_forgetting_that_a_method_cannot_have_are_refused() -> None:
    assert refused("{method: bottleneck, width: 8, train: {average: 0.5}}") == (
        "candidates.x: train.average: what bottleneck learns is no change of the base's weights, so there is no "
        "average with them. Delete it, or take lora, full, ia3 or a part of the base.",
    )
    assert refused("{method: lora, rank: 2, dora: true, train: {average: auto}}") == (
        "candidates.x: train.average: lora with dora or init: pissa does not learn a change that can be scaled down. "
        "Delete one of the two.",
    )
    assert refused("{method: soft-prompt, per_task: true, train: {replay: 0.1, kl: 1}}") == (
        "candidates.x: train.replay and train.kl: general instructions belong to no task, and per_task has a prompt "
        "for tasks only. Delete one of the two.",
    )


def test_settings_that_go_by_validations_need_some() -> None:
    assert refused("{method: lora, train: {validations: 0, patience: 2, keep_best: rouge1}}") == (
        "candidates.x: train.patience: 2 goes by validations, and train.validations is 0. Raise that, or delete "
        "patience.",
        "candidates.x: train.keep_best: rouge1 goes by validations, and train.validations is 0. Raise that, or delete "
        "keep_best.",
    )


def test_a_choice_that_stands_twice_is_refused() -> None:
    with pytest.raises(RecipeError) as error:
        check_settings(recipe_from_text("name: a\ntasks: [{source: a.csv, choices: [a, b, ' a']}]\n"))
    assert error.value.problems == ('tasks.0.choices: "a" stands there 2 times. Write it once.',)


def test_top_p_without_sampling_is_remarked(capsys: pytest.CaptureFixture[str]) -> None:
    for more, said in (("top_p: 0.5", True), ("top_p: 0.5, temperature: 1", False)):
        check_settings(recipe_from_text(f"name: a\ntasks: [{{source: a.csv}}]\ngenerate: {{{more}}}\n"))
        assert ("generate.top_p: it changes nothing at temperature 0" in capsys.readouterr().err) is said


def test_a_share_is_searched_on_validation_rows_or_not_at_all() -> None:
    recipe = recipe_from_text(
        "name: a\ntasks: [{source: a.csv}]\ncandidates: {x: {method: lora, train: {average: auto}}}\n"
    )
    with pytest.raises(DataError) as error:
        check_rows(recipe, {"train": TRAINING, "validation": [], "test": TEST})
    assert error.value.problems == (
        "candidates.x: train.average: auto is searched on validation rows, and there are none. Give split.validation a "
        "share, or name a share such as 0.5.",
    )


@pytest.mark.parametrize("share", ["0.0", "1.5", "half"])
def test_a_share_is_above_0_and_at_most_1(share: str) -> None:
    with pytest.raises(RecipeError, match=r"train\.average"):
        recipe_from_text(f"name: a\ntasks: [{{source: a.csv}}]\ntrain: {{average: {share}}}\n")


@pytest.mark.parametrize(
    ("split", "train", "test", "says"),
    [
        (
            "{limit: {train: 0}}", [], TEST,
            "split.limit.train: there are no training examples, as it is 0. Raise it, or delete the candidates that "
            "are tuned.",
        ),
        (
            "{train: 1, validation: 0, test: 0}", TRAINING, [],
            "split.test: there are no test examples for task. Give it a share of rows.",
        ),
        ("{limit: {test: 0}}", TRAINING, [], "split.limit.test: there are no test examples for task. Raise it."),
    ],
)  # fmt: skip
def test_what_is_tuned_needs_training_rows_and_all_need_test_rows(
    split: str, train: list[Example], test: list[Example], says: str
) -> None:
    text = f"name: a\ntasks: [{{source: a.csv}}]\nsplit: {split}\ncandidates: {{x: {{method: lora}}}}\n"
    with pytest.raises(DataError) as error:
        check_rows(recipe_from_text(text), {"train": train, "validation": [], "test": test})
    assert error.value.problems == (says,)


def test_virtual_tokens_that_leave_room_for_the_answer_alone_are_refused_before_anything_is_answered(
    tiny_causal: Path, tiny_seq2seq: Path
) -> None:
    def asked(tokens: int) -> Recipe:
        return recipe(soft={"method": "soft-prompt", "tokens": tokens}, light={"method": "prefix", "tokens": tokens})

    context, longest = skeleton(tiny_causal).config.max_position_embeddings, recipe().tasks[0].max_new_tokens
    check_methods(asked(context - longest - 1), tiny_causal)
    check_methods(asked(context - longest), tiny_seq2seq)
    with pytest.raises(RecipeError) as caught:
        check_methods(asked(context - longest), tiny_causal)
    assert caught.value.problems == tuple(
        f"candidates.{name}: {method}: {context - longest} virtual tokens and an answer of {longest} (max_new_tokens) "
        f"leave no room for a prompt, the model's context is {context} tokens. Lower tokens."
        for name, method in (("soft", "soft-prompt"), ("light", "prefix"))
    )
