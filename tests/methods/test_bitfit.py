from pathlib import Path
from typing import Any

import pytest
import torch

from tunesmith.errors import RecipeError
from tunesmith.methods import bitfit
from tunesmith.methods.bitfit import Settings
from tunesmith.models.skeleton import skeleton

IDS = torch.tensor([[5, 6, 7, 8]])


def with_biases() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(**sizes, num_attention_heads=2, num_key_value_heads=1, attention_bias=True, mlp_bias=True)
    )


def test_all_biases_learn_and_nothing_else() -> None:
    model = with_biases()
    # q and o have 32 rows, k and v 16, gate and up 48, down 32
    expected = 2 * (32 + 16 + 16 + 32 + 48 + 48 + 32)
    assert bitfit.count(Settings(), model) == expected
    attached = bitfit.attach(Settings(), model, "causal")
    learning = {name: weight for name, weight in attached.named_parameters() if weight.requires_grad}
    assert sum(weight.numel() for weight in learning.values()) == expected
    assert all("bias" in name.split(".") for name in learning)


def learned(folder: Path) -> Any:
    """Return a model whose biases have changed; they are saved."""
    attached = bitfit.attach(Settings(), with_biases(), "causal")
    with torch.no_grad():
        for weight in attached.parameters():
            if weight.requires_grad:
                weight.normal_()
    bitfit.save(attached, folder)
    return attached


def test_saved_biases_fit_the_base(tmp_path: Path) -> None:
    attached = learned(tmp_path)
    again = bitfit.load(with_biases(), tmp_path)
    assert torch.equal(again(IDS).logits, attached(IDS).logits)
    assert not torch.equal(again(IDS).logits, with_biases()(IDS).logits)


def test_merged_it_says_the_same_and_is_a_plain_model(tmp_path: Path) -> None:
    attached = learned(tmp_path)
    merged, plain = bitfit.merge(bitfit.load(with_biases(), tmp_path)), with_biases()
    assert type(merged) is type(plain)
    assert merged.state_dict().keys() == plain.state_dict().keys()
    torch.testing.assert_close(merged(IDS).logits, attached(IDS).logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("kind", "name"), [("causal", "LlamaForCausalLM"), ("seq2seq", "T5ForConditionalGeneration")])
def test_a_model_without_biases_is_refused_with_what_to_take_instead(
    kind: str, name: str, request: pytest.FixtureRequest
) -> None:
    with pytest.raises(RecipeError) as caught:
        bitfit.count(Settings(), skeleton(request.getfixturevalue(f"tiny_{kind}")))
    assert str(caught.value) == (
        f"bitfit: this model ({name}) has no biases that could learn. Take norms, which trains about as few weights, "
        "or lora."
    )
