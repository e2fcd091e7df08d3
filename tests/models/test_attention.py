from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from tunesmith.models.attention import NAME, attending, ragged_attention, takes_ragged
from tunesmith.models.load import load

EXAMPLES = ([5, 6, 7, 8, 9, 10, 11], [200], [30, 31, 32], [5, 6, 7, 8, 9, 10, 12])


def ragged_logits(model: Any, examples: tuple[list[int], ...] = EXAMPLES) -> list[Tensor]:
    """The logits of each example, all computed in one row."""
    lengths = [len(example) for example in examples]
    row = torch.tensor([[token for example in examples for token in example]])
    positions = torch.tensor([[place for length in lengths for place in range(length)]])
    with torch.no_grad(), attending(model, NAME):
        logits = model(input_ids=row, position_ids=positions, segment_lengths=lengths, use_cache=False).logits
    return list(logits[0].split(lengths))


def alone(model: Any, example: list[int]) -> Tensor:
    with torch.no_grad():
        return model(input_ids=torch.tensor([example])).logits[0]


def test_an_example_in_a_ragged_row_is_answered_as_if_it_were_alone(tiny_causal: Path) -> None:
    model = load(tiny_causal, dtype=torch.float64).model
    for example, logits in zip(EXAMPLES, ragged_logits(model), strict=True):
        torch.testing.assert_close(logits, alone(model, example), rtol=0, atol=1e-10)


def test_what_stands_beside_an_example_makes_no_difference_at_all(tiny_causal: Path) -> None:
    model = load(tiny_causal).model
    others = ([77] * 7, [78], [79] * 3, EXAMPLES[3])
    assert torch.equal(ragged_logits(model)[3], ragged_logits(model, others)[3])


def test_gradients_are_those_of_each_example_alone(tiny_causal: Path) -> None:
    model = load(tiny_causal, dtype=torch.float64).model

    def gradients() -> dict[str, Tensor]:
        found = {name: weight.grad.clone() for name, weight in model.named_parameters()}
        model.zero_grad()
        return found

    lengths = [len(example) for example in EXAMPLES]
    row = torch.tensor([[token for example in EXAMPLES for token in example]])
    positions = torch.tensor([[place for length in lengths for place in range(length)]])
    with attending(model, NAME):
        model(input_ids=row, position_ids=positions, segment_lengths=lengths).logits.square().sum().backward()
    together = gradients()
    for example in EXAMPLES:
        model(input_ids=torch.tensor([example])).logits.square().sum().backward()
    for name, gradient in gradients().items():
        torch.testing.assert_close(together[name], gradient, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("window", [1, 2, 4, 7, 50])
def test_a_sliding_window_ends_where_the_models_own_does(
    window: int, texts: tuple[str, ...], tiny_causal: Path
) -> None:
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=256, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, sliding_window=window, initializer_range=0.2,
    )  # fmt: skip
    model = MistralForCausalLM(config).eval()
    with_window = ragged_logits(model)
    for example, logits in zip(EXAMPLES, with_window, strict=True):
        torch.testing.assert_close(logits, alone(model, example), rtol=0, atol=1e-5)
    config.sliding_window = None
    for layer in model.model.layers:
        layer.self_attn.sliding_window = None
    moved = (ragged_logits(model)[0] - with_window[0]).abs().max().item()
    assert (moved > 1e-3) is (window < 7), "a window shorter than the example must show"


def test_attention_is_softmax_of_qk_times_v_worked_by_hand() -> None:
    # One head of width 1, two examples of two tokens; all keys are zero, so each token takes the mean of what it sees.
    query, key = torch.ones(1, 1, 4, 1), torch.zeros(1, 1, 4, 1)
    value = torch.tensor([1.0, 3.0, 10.0, 20.0]).view(1, 1, 4, 1)
    answer, weights = ragged_attention(None, query, key, value, None, segment_lengths=[2, 2])
    assert answer.shape == (1, 4, 1, 1)
    assert answer.flatten().tolist() == pytest.approx([1.0, 2.0, 10.0, 15.0])
    assert weights is None


def test_lengths_that_do_not_add_up_are_an_error() -> None:
    tensor = torch.ones(1, 1, 4, 1)
    with pytest.raises(RuntimeError):
        ragged_attention(None, tensor, tensor, tensor, None, segment_lengths=[2, 3])


def test_afterwards_the_model_attends_as_before_even_after_an_error(tiny_causal: Path) -> None:
    model = load(tiny_causal).model
    before = model.config._attn_implementation
    seen = []

    def fail() -> None:
        with attending(model, NAME):
            seen.append(model.config._attn_implementation)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (seen, model.config._attn_implementation) == ([NAME], before)


def test_a_plain_model_takes_ragged_rows(tiny_causal: Path) -> None:
    assert takes_ragged(load(tiny_causal).model)


@pytest.mark.parametrize(
    "different",
    [
        {"attn_logit_softcapping": 50.0},
        {"layer_types": ["full_attention", "linear_attention"]},
        {"layer_types": ["chunked_attention"]},
        {"model_type": "gpt_oss"},
    ],
)
def test_a_model_that_attends_in_a_way_of_its_own_does_not(different: dict[str, Any]) -> None:
    def model(**settings: Any) -> SimpleNamespace:
        config = SimpleNamespace(**{"model_type": "any", **settings})
        config.get_text_config = lambda: config
        return SimpleNamespace(config=config, _supports_attention_backend=True)

    assert takes_ragged(model(layer_types=["full_attention", "sliding_attention"]))
    assert not takes_ragged(model(**different))


def test_a_model_that_does_not_know_the_common_interface_does_not() -> None:
    config = SimpleNamespace(model_type="old")
    config.get_text_config = lambda: config
    assert not takes_ragged(SimpleNamespace(config=config))
