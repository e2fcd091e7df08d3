from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tunesmith.models.load import load

LEVELS = torch.tensor(
    [-1.0, -0.6961928, -0.52507305, -0.3949175, -0.28444138, -0.18477343, -0.09105004, 0.0, 0.0795803, 0.1609302,
     0.2461123, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1.0]
)  # fmt: skip
"""The 16 levels of NF4, as the appendix of the paper has them."""


@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_linear_layers_are_in_four_bits_and_all_else_is_not(
    kind: str, dtype: torch.dtype, request: pytest.FixtureRequest
) -> None:
    from bitsandbytes.nn import Linear4bit

    folder = request.getfixturevalue(f"tiny_{kind}")
    plain, model = load(folder).model, load(folder, dtype=dtype, quantize=True).model
    wide = ("lm_head", "wo")  # T5's wo loses too much in few bits; transformers leaves it
    linear = {n for n, one in plain.named_modules() if isinstance(one, nn.Linear) and n.split(".")[-1] not in wide}
    assert {name for name, one in model.named_modules() if isinstance(one, Linear4bit)} == linear
    others = {weight.dtype for name, weight in model.named_parameters() if name.removesuffix(".weight") not in linear}
    assert others == {dtype}
    bits = {name: model.get_submodule(name).weight for name in linear}
    assert all(2 * bits[name].numel() == plain.get_submodule(name).weight.numel() for name in linear)


def rounded(weight: torch.Tensor) -> torch.Tensor:
    """NF4 from its definition: blocks of 64, divided by their largest, the nearest of 16 levels."""
    blocks = weight.flatten().reshape(-1, 64)
    largest = blocks.abs().max(1, keepdim=True).values
    nearest = ((blocks / largest)[..., None] - LEVELS).abs().argmin(-1)
    return (LEVELS[nearest] * largest).reshape(weight.shape)


def test_the_weights_are_those_of_the_definition_but_for_the_second_quantisation(tiny_causal: Path) -> None:
    from bitsandbytes.functional import dequantize_4bit

    plain: Any = load(tiny_causal).model
    model = load(tiny_causal, quantize=True).model
    for layer in ("model.layers.0.self_attn.k_proj", "model.layers.1.mlp.down_proj"):
        weight = model.get_submodule(layer).weight
        assert weight.quant_state.nested, "the divisors are quantised too"
        found = dequantize_4bit(weight.data, weight.quant_state)
        expected = rounded(plain.get_submodule(layer).weight.detach())
        # the divisors are rounded to 8 bits, which is at most a few hundredths of one of them
        assert (found - expected).abs().max() < 0.03 * expected.abs().max()


def test_an_answer_leaves_the_weights_as_they_are_whatever_the_processor_can(
    tiny_causal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: True)
    loaded = load(tiny_causal, quantize=True)
    weight = loaded.model.get_submodule("model.layers.0.self_attn.k_proj").weight
    before, divisors = weight.data.clone(), weight.quant_state.absmax.clone()
    with torch.no_grad():
        loaded.model(input_ids=torch.tensor([[1, 2, 3]]))
    assert torch.equal(weight.data, before)
    assert torch.equal(weight.quant_state.absmax, divisors)
    assert weight.quant_state.nested
