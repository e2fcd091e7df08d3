from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tunesmith import environment
from tunesmith.environment import quiet_peft
from tunesmith.errors import RecipeError
from tunesmith.inference.answer import load_tuned
from tunesmith.inference.generate import generate
from tunesmith.methods import lora, qlora
from tunesmith.methods.qlora import Settings
from tunesmith.models.load import load
from tunesmith.models.skeleton import skeleton
from tunesmith.settings import GenerateSettings

BOTH = pytest.mark.parametrize("kind", ["causal", "seq2seq"])
IDS = torch.tensor([[5, 6, 7, 8, 9, 10, 11, 12]])


def attached(kind: str, folder: Path, **settings: Any) -> Any:
    """An adapter that does something, on a base in four bits."""
    model = qlora.attach(Settings(rank=4, **settings), load(folder, quantize=True).model, kind)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
    return model.eval()


def logits(model: Any, kind: str) -> Tensor:
    given = {"input_ids": IDS} if kind == "causal" else {"input_ids": IDS, "decoder_input_ids": IDS[:, :5]}
    with torch.no_grad():
        found: Tensor = model(**given).logits
    return found


@BOTH
def test_the_corrections_are_those_of_lora_and_the_base_is_in_four_bits(
    kind: str, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(f"tiny_{kind}")
    model = attached(kind, folder)
    frozen = {weight.dtype for weight in model.parameters() if not weight.requires_grad}
    assert frozen == {torch.uint8, torch.float32}
    expected = lora.count(lora.Settings(rank=4), load(folder).model)
    assert sum(weight.numel() for weight in model.parameters() if weight.requires_grad) == expected
    assert qlora.count(Settings(rank=4), load(folder, quantize=True).model) == expected
    assert load(folder, quantize=True).model.num_parameters() == load(folder).model.num_parameters()


def test_a_layer_is_the_rounded_matrix_and_its_correction(tiny_causal: Path) -> None:
    from bitsandbytes.functional import dequantize_4bit

    layer = attached("causal", tiny_causal, alpha=6.0).base_model.model.model.layers[0].self_attn.q_proj
    rounded = dequantize_4bit(layer.base_layer.weight.data, layer.base_layer.weight.quant_state)
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    x = torch.randn(3, 64)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), x @ (rounded + 6.0 / 4 * b @ a).T, rtol=0, atol=1e-5)


@BOTH
@pytest.mark.parametrize("switches", [{}, {"rslora": True}, {"dora": True}])
def test_merging_adds_to_the_rounded_weights_and_not_to_those_before(
    kind: str, switches: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(f"tiny_{kind}")
    model = attached(kind, folder, **switches)
    expected = logits(model, kind)
    merged = qlora.merge(model)
    plain = load(folder).model
    assert type(merged) is type(plain)
    assert {name: weight.dtype for name, weight in merged.named_parameters()} == dict.fromkeys(
        dict(plain.named_parameters()), torch.float32
    )
    torch.testing.assert_close(logits(merged, kind), expected, rtol=0, atol=1e-5)


@BOTH
def test_to_answer_the_base_stays_in_four_bits_with_the_adapter_beside_it(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder = request.getfixturevalue(f"tiny_{kind}")
    model = attached(kind, folder)
    qlora.save(model, tmp_path)
    loaded = load_tuned("qlora", folder, tmp_path, dtype=torch.float32)
    assert torch.uint8 in {weight.dtype for weight in loaded.model.parameters()}
    assert torch.equal(logits(loaded.model, kind), logits(model, kind))
    prompts = [[5, 6, 7, 8], [9, 10, 11], [40, 41, 42, 43, 44]]
    found = generate(loaded, prompts, settings=GenerateSettings(), max_new_tokens=6)
    with quiet_peft():
        merged = qlora.merge(model).eval()
    for prompt, answer in zip(prompts, found, strict=True):
        ids = merged.generate(input_ids=torch.tensor([prompt]), max_new_tokens=6, do_sample=False, pad_token_id=0)
        new = ids[0, len(prompt) if kind == "causal" else 1 :].tolist()
        assert list(answer.ids) == new[: len(answer.ids)]
        assert answer.finish == "stop" or len(answer.ids) == 6


def test_without_bitsandbytes_it_is_refused_on_the_skeleton_together_with_all_else(
    tiny_causal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "find_spec", lambda name: None)
    with pytest.raises(RecipeError) as caught:
        qlora.count(Settings(rank=33), skeleton(tiny_causal))
    assert caught.value.problems == (
        "qlora: a base in four bits needs bitsandbytes, which is not installed: pip install 'bitsandbytes>=0.46.1'",
        "qlora: rank 33 is larger than the layer model.layers.0.self_attn.k_proj (32 x 64), and 3 more. "
        "Take a rank of at most 32.",
    )


def test_without_bitsandbytes_a_saved_adapter_is_refused_and_not_a_traceback(
    tiny_causal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    qlora.save(attached("causal", tiny_causal), tmp_path)
    monkeypatch.setattr(environment, "find_spec", lambda name: None)
    with pytest.raises(RecipeError) as caught:
        load_tuned("qlora", tiny_causal, tmp_path, dtype=torch.float32)
    assert caught.value.problems == (
        "qlora: a base in four bits needs bitsandbytes, which is not installed: pip install 'bitsandbytes>=0.46.1'",
    )


def test_a_bitsandbytes_that_cannot_be_imported_is_refused_in_the_same_way(
    tiny_causal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(name: str) -> None:
        raise ImportError(f"lib{name}_cpu.so: cannot open shared object file\nand more")

    monkeypatch.setattr(environment, "import_module", broken)
    with pytest.raises(RecipeError) as caught:
        qlora.count(Settings(rank=4), skeleton(tiny_causal))
    assert caught.value.problems == (
        "qlora: a base in four bits needs bitsandbytes, which is installed and cannot be imported "
        "(libbitsandbytes_cpu.so: cannot open shared object file): pip install --force-reinstall "
        "'bitsandbytes>=0.46.1'",
    )
