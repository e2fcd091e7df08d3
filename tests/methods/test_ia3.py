from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_tuning as tiny
import torch

from tunesmith.errors import RecipeError
from tunesmith.methods import ia3
from tunesmith.methods.ia3 import Settings
from tunesmith.models.load import load
from tunesmith.models.skeleton import skeleton

Folder = Callable[[str], Path]


@pytest.fixture
def folder(request: pytest.FixtureRequest) -> Folder:
    return lambda kind: request.getfixturevalue(f"tiny_{kind}")


BOTH = pytest.mark.parametrize("kind", ["causal", "seq2seq"])


def recipe(**own: Any) -> Any:
    return tiny.recipe({"method": "ia3", "train": {"epochs": 1}, **own})


@BOTH
def test_before_training_the_output_is_exactly_that_of_the_base(kind: str, folder: Folder) -> None:
    tiny.before_training_it_is_the_base(recipe(), folder(kind))


@BOTH
def test_as_many_parameters_learn_as_the_formula_says_and_nothing_else(
    kind: str, folder: Folder, tmp_path: Path
) -> None:
    tiny.only_what_was_declared_learns(recipe(), folder(kind), tmp_path)


def test_the_numbers_worked_by_hand(tiny_causal: Path, tiny_seq2seq: Path) -> None:
    # two layers: keys and values are 32 wide with grouped queries, the inner activation is 128 wide
    assert ia3.count(Settings(), skeleton(tiny_causal)) == 2 * (32 + 32 + 128)
    # two layers of the encoder with one attention, two of the decoder with two
    assert ia3.count(Settings(), skeleton(tiny_seq2seq)) == 2 * (2 * 64 + 128) + 2 * (4 * 64 + 128)
    assert ia3.count(Settings(outputs=("q_proj",), inputs=()), skeleton(tiny_causal)) == 2 * 64


def test_a_scale_multiplies_an_output_or_an_input(tiny_causal: Path) -> None:
    model = ia3.attach(Settings(), load(tiny_causal).model, "causal").eval()
    layer = model.get_base_model().model.layers[0]
    with torch.no_grad():
        for weight in tiny.learning(model).values():
            weight.normal_()
        k, down = layer.self_attn.k_proj, layer.mlp.down_proj
        x, y = torch.randn(3, 64), torch.randn(3, 128)
        torch.testing.assert_close(k(x), k.base_layer(x) * k.ia3_l["default"].flatten(), rtol=0, atol=1e-5)
        torch.testing.assert_close(down(y), down.base_layer(y * down.ia3_l["default"].flatten()), rtol=0, atol=1e-5)


@BOTH
def test_loaded_again_and_merged_it_says_the_same_and_is_a_plain_model(
    kind: str, folder: Folder, tmp_path: Path
) -> None:
    found = tiny.loaded_again_it_says_the_same(recipe(), folder(kind), tmp_path)
    assert type(found.model) is type(load(folder(kind)).model)
    names = {name for name, _ in found.model.named_parameters()}
    assert names == {name for name, _ in load(folder(kind)).model.named_parameters()}


@BOTH
def test_plain_peft_loads_it_and_says_the_same(kind: str, folder: Folder, tmp_path: Path) -> None:
    tiny.tuned(recipe(), folder(kind), tmp_path)
    found = tiny.opened(recipe(), folder(kind), tmp_path)
    theirs = tiny.by_plain_peft(load(folder(kind)), tmp_path / "adapter", tiny.prompt(found))
    torch.testing.assert_close(tiny.logits(found, tiny.prompt(found)), theirs, rtol=0, atol=1e-5)


@BOTH
def test_training_twice_with_one_seed_gives_the_same_bytes(kind: str, folder: Folder, tmp_path: Path) -> None:
    tiny.twice_is_the_same(recipe(), folder(kind), tmp_path)


@BOTH
def test_a_training_that_was_killed_ends_as_one_that_was_not(kind: str, folder: Folder, tmp_path: Path) -> None:
    tiny.going_on_ends_the_same(recipe(), folder(kind), tmp_path)


@BOTH
def test_answers_are_those_of_each_prompt_alone(kind: str, folder: Folder) -> None:
    loaded = load(folder(kind))
    model = ia3.attach(Settings(), loaded.model, kind)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in tiny.learning(model).values():
            weight.uniform_(-1, 2)
    loaded = type(loaded)(model.eval(), loaded.tokenizer, loaded.kind, loaded.folder, loaded.context)
    tiny.answers_are_those_of_each_alone(loaded)
    tiny.choices_are_ranked_as_each_alone(loaded)


class TestWhatIsWrong:
    def refused(self, settings: Settings, model: Any) -> tuple[str, ...]:
        with pytest.raises(RecipeError) as caught:
            ia3.count(settings, model)
        return caught.value.problems

    def test_names_that_no_layer_has(self, tiny_causal: Path) -> None:
        ends = "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj"
        assert self.refused(Settings(outputs=("k_prj", "v_proj"), inputs=("wo",)), skeleton(tiny_causal)) == (
            f'ia3: outputs: no linear layer is called "k_prj"; this model has {ends}.',
            f'ia3: inputs: no linear layer is called "wo"; this model has {ends}.',
        )

    def test_one_name_in_both_lists(self, tiny_causal: Path) -> None:
        settings = Settings(outputs=("up_proj", "k_proj"), inputs=("up_proj",))
        assert self.refused(settings, skeleton(tiny_causal)) == (
            "ia3: up_proj cannot be in outputs and in inputs. Delete one of the two.",
        )

    def test_a_model_whose_linear_layers_are_of_another_kind(self) -> None:
        from transformers import GPT2Config, GPT2LMHeadModel

        with torch.device("meta"):
            model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=16, n_head=2, vocab_size=50))
        assert self.refused(Settings(), model) == (
            "ia3: this model (GPT2LMHeadModel) has no linear layers to scale. Take lora.",
        )

    def test_queries_keys_and_values_in_one_are_scaled_together(self) -> None:
        from transformers import Phi3Config, Phi3ForCausalLM

        with torch.device("meta"):
            config = Phi3Config(num_hidden_layers=1, hidden_size=16, num_attention_heads=2, intermediate_size=32,
                                vocab_size=50, pad_token_id=0)  # fmt: skip
            model = Phi3ForCausalLM(config)
        outputs, inputs = ia3.scaled_layers(Settings(), model)
        assert [name.split(".")[-1] for name in (*outputs, *inputs)] == ["qkv_proj", "down_proj"]

    def test_nothing_to_learn(self, tiny_causal: Path) -> None:
        assert self.refused(Settings(outputs=(), inputs=()), skeleton(tiny_causal)) == (
            "ia3: outputs and inputs are empty, nothing would learn. Name a layer, or delete them.",
        )

    def test_a_model_whose_layers_have_other_names(self, tiny_causal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ia3, "INPUTS", ("nothing",))
        assert self.refused(Settings(), skeleton(tiny_causal)) == (
            "ia3: inputs: auto finds no layer; name some of down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, "
            "v_proj.",
        )
