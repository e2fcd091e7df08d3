from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_tuning as tiny
import torch

from tunesmith.errors import RecipeError
from tunesmith.methods import p_tuning
from tunesmith.methods.p_tuning import Settings
from tunesmith.models.load import load
from tunesmith.models.skeleton import skeleton

Folder = Callable[[str], Path]


@pytest.fixture
def folder(request: pytest.FixtureRequest) -> Folder:
    return lambda kind: request.getfixturevalue(f"tiny_{kind}")


BOTH = pytest.mark.parametrize("kind", ["causal", "seq2seq"])
NETWORKS = pytest.mark.parametrize("network", ["mlp", "lstm"])


def recipe(network: str = "mlp", **own: Any) -> Any:
    given = {"method": "p-tuning", "tokens": 5, "network": network, "width": 24, "train": {"epochs": 1}}
    return tiny.recipe({**given, **own})


@BOTH
@NETWORKS
def test_as_many_parameters_learn_as_the_formula_says_and_nothing_else(
    kind: str, network: str, folder: Folder, tmp_path: Path
) -> None:
    tiny.only_what_was_declared_learns(recipe(network), folder(kind), tmp_path)


def test_the_number_of_the_default_worked_by_hand(tiny_causal: Path) -> None:
    assert p_tuning.count(Settings(), skeleton(tiny_causal)) == 20 * 64 + 3 * (64 * 64 + 64)


@BOTH
@NETWORKS
def test_what_is_kept_are_the_virtual_tokens_and_they_say_the_same(
    kind: str, network: str, folder: Folder, tmp_path: Path
) -> None:
    found = tiny.loaded_again_it_says_the_same(recipe(network), folder(kind), tmp_path)
    own = [weight for name, weight in found.model.named_parameters() if "rows" in name]
    assert [weight.shape for weight in own] == [(5, 64)], "the network is gone"


@BOTH
def test_plain_peft_loads_it_and_says_the_same(kind: str, folder: Folder, tmp_path: Path) -> None:
    tiny.tuned(recipe(), folder(kind), tmp_path)
    found = tiny.opened(recipe(), folder(kind), tmp_path)
    theirs = tiny.by_plain_peft(load(folder(kind)), tmp_path / "adapter", tiny.prompt(load(folder(kind))))
    torch.testing.assert_close(tiny.logits(found, tiny.prompt(found)), theirs, rtol=0, atol=1e-5)


@BOTH
@NETWORKS
def test_training_twice_with_one_seed_gives_the_same_bytes(
    kind: str, network: str, folder: Folder, tmp_path: Path
) -> None:
    tiny.twice_is_the_same(recipe(network), folder(kind), tmp_path)


@BOTH
def test_a_training_that_was_killed_ends_as_one_that_was_not(kind: str, folder: Folder, tmp_path: Path) -> None:
    tiny.going_on_ends_the_same(recipe(), folder(kind), tmp_path)


@BOTH
@NETWORKS
def test_a_batch_is_as_each_example_alone(kind: str, network: str, folder: Folder) -> None:
    tiny.batches_are_as_each_example_alone(recipe(network), folder(kind))


@BOTH
def test_answers_are_those_of_each_prompt_alone(kind: str, folder: Folder, tmp_path: Path) -> None:
    tiny.tuned(recipe(), folder(kind), tmp_path)
    found = tiny.opened(recipe(), folder(kind), tmp_path)
    tiny.answers_are_those_of_each_alone(found)
    tiny.choices_are_ranked_as_each_alone(found)


def test_more_virtual_tokens_than_the_context_are_refused(tiny_causal: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        p_tuning.count(Settings(tokens=2000), skeleton(tiny_causal))
    assert str(caught.value) == (
        "p-tuning: 2000 virtual tokens leave no room for a prompt, the model's context is 1024 tokens. Lower tokens."
    )
