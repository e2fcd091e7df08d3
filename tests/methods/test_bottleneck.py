from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_tuning as tiny
import torch

from tunesmith.errors import RecipeError
from tunesmith.methods import bottleneck
from tunesmith.methods.bottleneck import Settings
from tunesmith.models.load import load
from tunesmith.models.skeleton import skeleton

Folder = Callable[[str], Path]


@pytest.fixture
def folder(request: pytest.FixtureRequest) -> Folder:
    return lambda kind: request.getfixturevalue(f"tiny_{kind}")


BOTH = pytest.mark.parametrize("kind", ["causal", "seq2seq"])
PLACES = pytest.mark.parametrize("place", ["serial", "parallel"])


def recipe(**own: Any) -> Any:
    return tiny.recipe({"method": "bottleneck", "width": 8, "train": {"epochs": 1}, **own})


@BOTH
@PLACES
def test_before_training_the_output_is_exactly_that_of_the_base(kind: str, place: str, folder: Folder) -> None:
    tiny.before_training_it_is_the_base(recipe(place=place), folder(kind))


@BOTH
@PLACES
def test_as_many_parameters_learn_as_the_formula_says_and_nothing_else(
    kind: str, place: str, folder: Folder, tmp_path: Path
) -> None:
    tiny.only_what_was_declared_learns(recipe(place=place), folder(kind), tmp_path)


def test_the_numbers_worked_by_hand(tiny_causal: Path, tiny_seq2seq: Path) -> None:
    one = 64 * 8 + 8 + 8 * 64 + 64
    assert bottleneck.count(Settings(width=8), skeleton(tiny_causal)) == 2 * 2 * one
    assert bottleneck.count(Settings(width=8), skeleton(tiny_seq2seq)) == 4 * 2 * one
    assert bottleneck.count(Settings(width=8, blocks="attention"), skeleton(tiny_causal)) == 2 * one


def noisy(folder: Path, **settings: Any) -> Any:
    """Adapters that do something."""
    loaded = load(folder)
    torch.manual_seed(0)
    bottleneck.attach(Settings(width=8, **settings), loaded.model, loaded.kind)
    with torch.no_grad():
        for weight in tiny.learning(loaded.model).values():
            weight.normal_(std=0.3)
    return loaded


@PLACES
@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "tanh"])
def test_a_block_writes_what_the_formula_says(place: str, activation: str, tiny_causal: Path) -> None:
    mlp = noisy(tiny_causal, place=place, activation=activation).model.model.layers[1].mlp
    before = load(tiny_causal).model.model.layers[1].mlp
    x = torch.randn(1, 5, 64)
    down, up = mlp.bottleneck.down, mlp.bottleneck.up
    f = getattr(torch.nn.functional, activation)
    with torch.no_grad():
        written = before(x)
        read = written if place == "serial" else x
        expected = written + f(read @ down.weight.T + down.bias) @ up.weight.T + up.bias
        torch.testing.assert_close(mlp(x), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("blocks", ["attention", "feed-forward"])
def test_only_the_chosen_blocks_get_one(blocks: Any, tiny_seq2seq: Path) -> None:
    names = tiny.learning(noisy(tiny_seq2seq, blocks=blocks).model)
    part = "SelfAttention" if blocks == "attention" else "DenseReluDense"
    assert len(names) == 4 * 4
    assert all(f"{part}.bottleneck" in name for name in names)


@BOTH
@PLACES
def test_loaded_again_it_says_the_same(kind: str, place: str, folder: Folder, tmp_path: Path) -> None:
    given = recipe(place=place, blocks="feed-forward", activation="gelu")
    tiny.loaded_again_it_says_the_same(given, folder(kind), tmp_path)


@pytest.mark.slow
def test_a_fresh_process_gets_the_same(tiny_causal: Path, tmp_path: Path) -> None:
    tiny.tuned(recipe(), tiny_causal, tmp_path)
    found = tiny.opened(recipe(), tiny_causal, tmp_path)
    ids = tiny.prompt(found)
    theirs = tiny.in_a_fresh_process(recipe(), tiny_causal, tmp_path, ids)
    torch.testing.assert_close(tiny.logits(found, ids), theirs, rtol=0, atol=1e-5)


@BOTH
def test_training_twice_with_one_seed_gives_the_same_bytes(kind: str, folder: Folder, tmp_path: Path) -> None:
    tiny.twice_is_the_same(recipe(), folder(kind), tmp_path)


@BOTH
def test_a_training_that_was_killed_ends_as_one_that_was_not(kind: str, folder: Folder, tmp_path: Path) -> None:
    tiny.going_on_ends_the_same(recipe(), folder(kind), tmp_path)


@BOTH
@PLACES
def test_a_batch_is_as_each_example_alone(kind: str, place: str, folder: Folder) -> None:
    tiny.batches_are_as_each_example_alone(recipe(place=place), folder(kind))


@BOTH
@PLACES
@pytest.mark.parametrize("beams", [1, 3])
def test_answers_are_those_of_each_prompt_alone(kind: str, place: Any, beams: int, folder: Folder) -> None:
    loaded = noisy(folder(kind), place=place)
    found = tiny.answers_are_those_of_each_alone(loaded, beams=beams)
    tiny.choices_are_ranked_as_each_alone(loaded)
    base = load(folder(kind))
    assert found != [tiny.alone(base, tiny.prompt(base, n), 8, num_beams=beams) for n in range(6)]


class TestWhatIsWrong:
    def refused(self, settings: Settings, model: Any) -> tuple[str, ...]:
        with pytest.raises(RecipeError) as caught:
            bottleneck.count(settings, model)
        return caught.value.problems

    def test_a_width_that_is_not_narrow(self, tiny_causal: Path) -> None:
        assert self.refused(Settings(width=64), skeleton(tiny_causal)) == (
            "bottleneck: width 64 is not narrower than the model, which is 64 wide. Lower it.",
        )

    def test_a_model_with_blocks_of_other_names(self) -> None:
        from transformers import OPTConfig, OPTForCausalLM

        with torch.device("meta"):
            model = OPTForCausalLM(
                OPTConfig(num_hidden_layers=1, hidden_size=16, num_attention_heads=2, ffn_dim=32, vocab_size=50)
            )
        assert self.refused(Settings(width=8), model) == (
            "bottleneck: this model has no feed-forward block that is called mlp or DenseReluDense. Take lora.",
        )

    def test_adapters_of_another_base(self, tiny_causal: Path, tmp_path: Path) -> None:
        from tunesmith.models.tiny import write_tiny

        tiny.tuned(recipe(), tiny_causal, tmp_path)
        other = write_tiny(tmp_path / "other", kind="causal", texts=["a lamp"], layers=1)
        with pytest.raises(RecipeError, match="this adapter does not fit the base model in"):
            tiny.opened(recipe(), other, tmp_path)
