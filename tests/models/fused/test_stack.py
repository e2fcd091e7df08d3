"""Fused layers against transformers' own: losses and the gradient of everything that learns."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from flashing import stand_in
from torch import Tensor
from ways import moved, virtual_of

from tunesmith.data.encode import Encoded
from tunesmith.methods import full, lora, prefix
from tunesmith.models.attention import NAME, attending
from tunesmith.models.fused import packing
from tunesmith.models.fused.packing import fused, keep_fused
from tunesmith.models.fused.ragged import Segments
from tunesmith.models.fused.stack import Stack, read_stack
from tunesmith.models.load import load, plain
from tunesmith.training.batches import make_batch
from tunesmith.training.loss import loss_sum

WAYS: dict[str, Callable[[Any], Any]] = {
    "full": lambda model: full.attach(full.Settings(), model, "causal"),
    "lora": lambda model: lora.attach(lora.Settings(rank=4), model, "causal"),
    "lora of attention": lambda model: lora.attach(lora.Settings(rank=3, targets="attention"), model, "causal"),
    "lora of values": lambda model: lora.attach(lora.Settings(rank=5, targets=("v_proj",)), model, "causal"),
    "the last layer": lambda model: only(model, "model.layers.1."),
    "norms": lambda model: only(model, "norm"),
    "embeddings": lambda model: only(model, "embed_tokens"),
    "prefix": lambda model: prefix.attach(prefix.Settings(tokens=3), model, "causal"),
}
BEGINNING = (5, 6, 7, 8, 9, 10, 11, 12, 13)


def only(model: Any, part: str) -> Any:
    for name, weight in model.named_parameters():
        weight.requires_grad_(part in name)
    return model


def examples(beginning: Sequence[int] = BEGINNING) -> list[Encoded]:
    made = []
    for number, (prompt, target) in enumerate([((20, 21, 22), (30, 31)), ((40,), (50, 51, 52, 2)), ((60, 61), (70,))]):
        ids = (*beginning, *prompt, *target)
        trains = (False,) * (len(ids) - len(target)) + (True,) * len(target)
        made.append(Encoded(f"e/{number}", ids, target, trains))
    return made


def learned(model: Any, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: weight.grad.double().clone() for name, weight in model.named_parameters() if weight.grad is not None}


def both(model: Any, dtype: torch.dtype, *, share: bool) -> tuple[list[float], list[dict[str, Tensor]]]:
    """Loss and gradients by transformers' layers in the model's own format, and by fused ones in ``dtype``."""
    beginning = (*virtual_of(model), *BEGINNING)
    usual = make_batch(examples(beginning), kind="causal", pad_id=0)
    with attending(plain(model), NAME):
        loss = loss_sum(model, usual, "causal")
        expected = learned(model, loss)
    batch = make_batch(examples(beginning), kind="causal", pad_id=0, share=share)
    assert batch.shared == (len(beginning) if share else 0)
    with fused(plain(model), dtype=dtype) as stack:
        assert stack is not None
        stack.refresh()
        again = loss_sum(model, batch, "causal", stack=stack)
        found = learned(model, again)
    return [loss.item(), again.item()], [expected, found]


@pytest.mark.parametrize("share", [False, True], ids=["apart", "sharing"])
@pytest.mark.parametrize("way", WAYS)
def test_loss_and_gradients_are_those_of_transformers(way: str, share: bool, tiny_causal: Path) -> None:
    model = moved(WAYS[way](load(tiny_causal).model))
    losses, (expected, found) = both(model, torch.float32, share=share)
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    assert set(found) == set(expected)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("way", WAYS)
def test_gradients_of_several_batches_add_up(way: str, dtype: torch.dtype, tiny_causal: Path) -> None:
    """In place, layer by layer: what is there already is added to, and a frozen weight stays without a gradient."""
    model = moved(WAYS[way](load(tiny_causal).model))
    beginning = (*virtual_of(model), *BEGINNING)
    batches = [make_batch(part, kind="causal", pad_id=0) for part in (examples(beginning)[:1], examples(beginning)[1:])]
    with fused(plain(model), dtype=dtype) as stack:
        assert stack is not None
        stack.refresh()
        alone = [learned(model, loss_sum(model, batch, "causal", stack=stack)) for batch in batches]
        model.zero_grad(set_to_none=True)
        for batch in batches:
            loss_sum(model, batch, "causal", stack=stack).backward()
    together = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    assert set(together) == set(alone[0])
    for name, gradient in together.items():
        expected = (alone[0][name] + alone[1][name]).to(gradient.dtype)
        torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-6, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("way", WAYS)
def test_with_flash_attention_too(way: str, tiny_causal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = moved(WAYS[way](load(tiny_causal).model))
    calls = stand_in(monkeypatch)
    losses, (expected, found) = both(model, torch.float32, share=False)
    assert set(calls) == {"read", "backward"}
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    assert set(found) == set(expected)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("way", ["full", "lora"])
def test_in_float64_they_are_equal_to_ten_digits(way: str, tiny_causal: Path) -> None:
    model = moved(WAYS[way](load(tiny_causal).model)).double()
    losses, (expected, found) = both(model, torch.float64, share=True)
    assert losses[1] == pytest.approx(losses[0], rel=1e-7)  # the angles of positions are float32
    assert max(float((found[name] - gradient).abs().max()) for name, gradient in expected.items()) < 1e-6


@pytest.mark.parametrize("way", ["full", "lora", "prefix"])
def test_in_bfloat16_the_gradient_points_the_same_way(way: str, tiny_causal: Path) -> None:
    """bfloat16 has three digits: a cosine above 0.999 over all that learns."""
    model = moved(WAYS[way](load(tiny_causal).model))
    losses, (expected, found) = both(model, torch.bfloat16, share=False)
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)
    a, b = (torch.cat([part[name].flatten() for name in expected]) for part in (expected, found))
    assert torch.nn.functional.cosine_similarity(a, b, 0) > 0.999


def test_a_frozen_half_precision_base_learns_its_lora_in_float32(tiny_causal: Path) -> None:
    model = moved(WAYS["lora"](load(tiny_causal, dtype=torch.bfloat16).model))
    batch = make_batch(examples(), kind="causal", pad_id=0)
    with fused(plain(model), dtype=torch.bfloat16) as stack:
        assert stack is not None
        stack.refresh()
        loss = loss_sum(model, batch, "causal", stack=stack)
        loss.backward()
    assert loss.dtype == torch.float32
    grads = {weight.grad.dtype for weight in model.parameters() if weight.grad is not None}
    assert grads == {torch.float32}


def test_without_anything_that_learns_there_is_a_loss_and_nothing_is_kept(tiny_causal: Path) -> None:
    model = load(tiny_causal).model
    batch = make_batch(examples(), kind="causal", pad_id=0)
    with torch.no_grad(), fused(model, dtype=torch.float32) as stack:
        assert stack is not None
        assert loss_sum(model, batch, "causal", stack=stack).grad_fn is None


@pytest.mark.parametrize("way", ["full", "lora"])
def test_inside_and_afterwards_the_model_computes_what_it_did(way: str, tiny_causal: Path) -> None:
    model = moved(WAYS[way](load(tiny_causal).model)).eval()
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        before = model(ids).logits
        weights = {name: weight.clone() for name, weight in model.named_parameters()}
        with fused(plain(model), dtype=torch.float32):
            torch.testing.assert_close(model(ids).logits, before)
        assert torch.equal(model(ids).logits, before)
    assert all(weight.is_contiguous() and torch.equal(weight, weights[n]) for n, weight in model.named_parameters())


def test_what_an_optimizer_changed_counts_after_a_refresh(tiny_causal: Path) -> None:
    for way in ("full", "lora"):
        model = moved(WAYS[way](load(tiny_causal).model))
        batch = make_batch(examples(), kind="causal", pad_id=0)
        with fused(plain(model), dtype=torch.float32) as stack:
            assert stack is not None
            with torch.no_grad():
                for weight in model.parameters():
                    if weight.requires_grad:
                        weight.mul_(1.3)
                stack.refresh()
                found = loss_sum(model, batch, "causal", stack=stack)
        with torch.no_grad(), attending(plain(model), NAME):
            expected = loss_sum(model, make_batch(examples(), kind="causal", pad_id=0), "causal")
        assert found.item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_model_that_is_packed_for_good_is_found_packed(tiny_causal: Path) -> None:
    model = load(tiny_causal).model
    kept = keep_fused(model, dtype=torch.float32)
    assert kept is not None
    with fused(model, dtype=torch.float32) as stack:
        assert stack is kept
    assert keep_fused(model, dtype=torch.float32) is kept


@pytest.mark.parametrize("way", ["full", "lora"])
def test_what_is_let_go_of_is_nothing_that_is_read(
    way: str, tiny_causal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone: list[tuple[int, int]] = []
    monkeypatch.setattr(packing, "releaser", lambda: lambda start, size: gone.append((start, start + size)))
    model = WAYS[way](load(tiny_causal).model)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    with fused(plain(model), dtype=torch.float32) as stack:
        assert stack is not None
        assert gone
        for name, weight in model.named_parameters():
            assert torch.equal(weight, before[name])
            assert not any(first <= weight.data_ptr() < last for first, last in gone)


def test_an_adapter_that_came_after_packing_is_not_overlooked(tiny_causal: Path) -> None:
    model = load(tiny_causal).model
    kept = keep_fused(model, dtype=torch.float32)
    torch.manual_seed(0)
    attached = moved(WAYS["lora"](model))
    with fused(attached, dtype=torch.float32) as stack:
        assert stack is not None
        assert stack is not kept
        batch = make_batch(examples(), kind="causal", pad_id=0)
        found = loss_sum(attached, batch, "causal", stack=stack).item()
    base = load(tiny_causal).model
    torch.manual_seed(0)
    expected = moved(WAYS["lora"](base))
    with torch.no_grad(), attending(plain(expected), NAME):
        again = loss_sum(expected, make_batch(examples(), kind="causal", pad_id=0), "causal").item()
    assert found == pytest.approx(again, rel=1e-6)


@pytest.mark.parametrize("share", [False, True], ids=["apart", "sharing"])
@pytest.mark.parametrize("part", ["model.layers.1.", "model.layers.1.mlp.down_proj", "model.norm."])
def test_what_enters_the_lowest_layer_that_learns_can_be_given(part: str, share: bool, tiny_causal: Path) -> None:
    model = only(load(tiny_causal).model, part)
    batch = make_batch(examples(), kind="causal", pad_id=0, share=share)
    assert batch.position_ids is not None
    with fused(model, dtype=torch.float32) as stack:
        assert isinstance(stack, Stack)
        assert stack.steady == 1
        stack.refresh()
        loss = loss_sum(model, batch, "causal", stack=stack)
        expected = learned(model, loss)
        below = stack.below(batch.input_ids[0], batch.position_ids[0], Segments(batch.lengths, batch.shared))
        again = loss_sum(model, batch, "causal", stack=stack, below=below)
        found = learned(model, again)
    assert torch.equal(loss, again)
    assert expected
    assert expected.keys() == found.keys()
    assert all(torch.equal(gradient, found[name]) for name, gradient in expected.items())


@pytest.mark.parametrize("way", ["full", "lora", "norms", "embeddings"])
def test_no_layer_is_steady_over_something_that_learns(way: str, tiny_causal: Path) -> None:
    with fused(plain(WAYS[way](load(tiny_causal).model)), dtype=torch.float32) as stack:
        assert isinstance(stack, Stack)
        assert stack.steady == 0


class TestWhatIsLeftToTransformers:
    def test_another_family(self, tiny_seq2seq: Path) -> None:
        assert read_stack(load(tiny_seq2seq).model, dtype=torch.float32) is None

    def test_dropout_of_lora(self, tiny_causal: Path) -> None:
        model = lora.attach(lora.Settings(rank=4, dropout=0.1), load(tiny_causal).model, "causal")
        assert read_stack(plain(model), dtype=torch.float32) is None

    @pytest.mark.parametrize(
        ("field", "value"), [("hidden_act", "gelu"), ("attention_dropout", 0.1), ("model_type", "gemma")]
    )
    def test_a_config_that_says_otherwise(self, field: str, value: Any, tiny_causal: Path) -> None:
        model = load(tiny_causal).model
        setattr(model.config, field, value)
        assert read_stack(model, dtype=torch.float32) is None

    def test_a_sliding_window(self, tiny_causal: Path) -> None:
        model = load(tiny_causal).model
        model.config.use_sliding_window, model.config.sliding_window = True, 8
        assert read_stack(model, dtype=torch.float32) is None

    def test_a_hook_on_any_layer(self, tiny_causal: Path) -> None:
        model = load(tiny_causal).model
        model.model.layers[1].mlp.register_forward_hook(lambda *given: None)
        assert read_stack(model, dtype=torch.float32) is None

    def test_a_layer_that_is_something_else(self, tiny_causal: Path) -> None:
        class Other(torch.nn.Linear):
            pass

        model = load(tiny_causal).model
        model.model.layers[0].mlp.down_proj = Other(8, 8, bias=False)
        assert read_stack(model, dtype=torch.float32) is None

    def test_a_layer_with_a_further_part(self, tiny_causal: Path) -> None:
        model = load(tiny_causal).model
        model.model.layers[0].adapter = torch.nn.Linear(64, 64)
        assert read_stack(model, dtype=torch.float32) is None

    def test_an_adapter_that_is_switched_off(self, tiny_causal: Path) -> None:
        model = lora.attach(lora.Settings(rank=4), load(tiny_causal).model, "causal")
        with model.disable_adapter():
            assert read_stack(plain(model), dtype=torch.float32) is None
