import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tunesmith.errors import RecipeError
from tunesmith.inference.answer import load_tuned
from tunesmith.methods import delta
from tunesmith.models.load import load

V = "model.layers.1.self_attn.v_proj.weight"
NORM = "model.norm.weight"
IDS = torch.tensor([[5, 6, 7, 8]])
EITHER = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)


def moved(model: Any) -> Any:
    """The model with a change in all that learns, too small for bfloat16 to see at first."""
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(1.0)
    return model


@EITHER
def test_what_learns_is_in_32_bits_whatever_the_base_is_in(tiny_causal: Path, dtype: torch.dtype) -> None:
    base = load(tiny_causal, dtype=dtype).model
    expected = base(IDS).logits
    model = delta.attach(base, {V: None, NORM: torch.tensor([3, 5])})
    learning = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    assert {weight.dtype for weight in learning.values()} == {torch.float32}
    assert [weight.numel() for weight in learning.values()] == [32 * 64, 2]
    assert torch.equal(model(IDS).logits, expected)
    assert model.get_submodule("model.layers.1.self_attn.v_proj").weight.dtype == dtype


@EITHER
def test_steps_that_the_base_is_too_coarse_for_add_up(tiny_causal: Path, dtype: torch.dtype) -> None:
    model = delta.attach(load(tiny_causal, dtype=dtype).model, {NORM: None})
    with torch.no_grad():
        for weight in model.parameters():
            for _ in range(1000 if weight.requires_grad else 0):
                weight.add_(1e-3)  # one and a thousandth is one in bfloat16
    torch.testing.assert_close(model.model.norm.weight.float(), torch.full((64,), 2.0), rtol=0, atol=1e-2)


@EITHER
def test_only_the_chosen_entries_get_a_gradient_and_move(tiny_causal: Path, dtype: torch.dtype) -> None:
    base = load(tiny_causal, dtype=dtype).model
    was = base.get_parameter(V).detach().clone()
    model = delta.attach(base, {V: torch.tensor([0, 70, 2047])})
    # momentum and decay, which would move all of a tensor that they are given
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1, weight_decay=0.5)
    for _ in range(2):
        model(input_ids=IDS, labels=IDS).loss.backward()
        optimizer.step()
    now = delta.merge(model).get_parameter(V)
    assert (now != was).flatten().nonzero().flatten().tolist() == [0, 70, 2047]
    assert now.dtype == dtype


def test_a_matrix_that_is_embedding_and_head_learns_once_and_in_both_places(tiny_causal: Path, tmp_path: Path) -> None:
    base = load(tiny_causal).model
    model = delta.attach(base, {"lm_head.weight": None})
    learning = [weight for weight in model.parameters() if weight.requires_grad]
    assert [weight.shape for weight in learning] == [base.get_input_embeddings().weight.shape]
    moved(model)
    assert torch.equal(model.lm_head.weight, model.model.embed_tokens.weight)
    answer = model(IDS).logits
    delta.save(model, tmp_path)
    assert list(load_file(tmp_path / "adapter_model.safetensors")) == ["model.embed_tokens.weight"]
    again = delta.load(load(tiny_causal).model, tmp_path)
    assert torch.equal(again(IDS).logits, answer)
    merged = delta.merge(model)
    assert merged.lm_head.weight is merged.model.embed_tokens.weight
    assert torch.equal(merged(IDS).logits, answer)


def test_what_is_written_is_what_learned_and_names_to_find_it_by(tiny_causal: Path, tmp_path: Path) -> None:
    model = moved(delta.attach(load(tiny_causal).model, {V: torch.tensor([0, 70]), NORM: None}))
    delta.save(model, tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text()) == {
        "tunesmith_type": "delta", "weights": [NORM, V],
    }  # fmt: skip
    written = load_file(tmp_path / "adapter_model.safetensors")
    assert {name: (value.dtype, value.numel()) for name, value in written.items()} == {
        f"{V}.index": (torch.int32, 2), f"{V}.values": (torch.float32, 2), NORM: (torch.float32, 64),
    }  # fmt: skip
    base = load(tiny_causal).model.get_parameter(V).detach()
    torch.testing.assert_close(written[f"{V}.values"], base.flatten()[[0, 70]] + 1)


@pytest.mark.parametrize(
    ("chosen", "change", "problem"),
    [
        ({V: None}, {"tunesmith_type": "other"}, "its adapter_config.json is not that of a selective method."),
        ({V: None}, {"weights": ["model.gone.weight"]}, "the base has no weight model.gone.weight."),
        ({V: None}, {}, f"{V} is 32 x 64 in the adapter, and 16 x 32 in the base."),
        ({V: torch.tensor([2047])}, {}, f"{V}: the adapter names entries that the base does not have."),
    ],
)
def test_an_adapter_of_another_base_is_refused(
    chosen: dict[str, Any], change: dict[str, Any], problem: str, tiny_causal: Path, tmp_path: Path,
    texts: tuple[str, ...],
) -> None:  # fmt: skip
    from tunesmith.models.tiny import write_tiny

    delta.save(delta.attach(load(tiny_causal).model, chosen), tmp_path)
    config = tmp_path / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **change}))
    other = write_tiny(tmp_path / "other", kind="causal", texts=texts, hidden=32)
    with pytest.raises(RecipeError) as caught:
        load_tuned("modules", other, tmp_path, dtype=torch.float32)
    assert str(caught.value) == (
        f"{tmp_path}: this adapter does not fit the base model in {other}: {problem} Name the base that it was trained "
        "on, or train it again."
    )
