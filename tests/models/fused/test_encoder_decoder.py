"""Fused sub-layers of T5 against transformers' own: losses and the gradient of everything that learns."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tunesmith.data.encode import Encoded
from tunesmith.methods import full, lora
from tunesmith.models.fused.biased import Dropout
from tunesmith.models.fused.encoder_decoder import EncoderDecoder
from tunesmith.models.fused.packing import fused, read_fused
from tunesmith.models.load import load, plain
from tunesmith.training.batches import make_batch
from tunesmith.training.loss import loss_sum

WAYS: dict[str, Callable[[Any], Any]] = {
    "full": lambda model: full.attach(full.Settings(), model, "seq2seq"),
    "lora": lambda model: lora.attach(lora.Settings(rank=4), model, "seq2seq"),
    "lora of attention": lambda model: lora.attach(lora.Settings(rank=3, targets="attention"), model, "seq2seq"),
    "lora of keys": lambda model: lora.attach(lora.Settings(rank=3, targets=("k",)), model, "seq2seq"),
    "the last layer of the decoder": lambda model: only(model, "decoder.block.1."),
    "the last layer of the encoder": lambda model: only(model, "encoder.block.1."),
    "norms": lambda model: only(model, "norm"),
    "embeddings": lambda model: only(model, "shared"),
    "biases of the encoder": lambda model: only(model, "encoder.block.0.layer.0.SelfAttention.relative"),
}


def only(model: Any, part: str) -> Any:
    for name, weight in model.named_parameters():
        weight.requires_grad_(part in name)
    return model


def batch() -> Any:
    """Inputs and targets of unlike lengths; one input is long enough for the wide buckets of distances."""
    long = tuple(5 + n % 50 for n in range(40))
    rows = [((20, 21, 22), (30, 31, 1)), (long, (50, 1)), ((60, 61), (70, 71, 72, 73, 1))]
    return make_batch(
        [Encoded(f"e/{n}", ids, target, ()) for n, (ids, target) in enumerate(rows)], kind="seq2seq", pad_id=0
    )


def learned(model: Any, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: weight.grad.double().clone() for name, weight in model.named_parameters() if weight.grad is not None}


def moved(model: Any) -> Any:
    """Make B of LoRA and the norms something, so that no gradient is that of a layer that does nothing."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name or "norm" in name:
                weight.add_(torch.randn_like(weight), alpha=0.1)
    return model


def both(model: Any, dtype: torch.dtype) -> tuple[list[float], list[dict[str, Tensor]]]:
    """Loss and gradients by transformers' layers in the model's own format, and by fused ones in ``dtype``."""
    loss = loss_sum(model, batch(), "seq2seq")
    expected = learned(model, loss)
    with fused(plain(model), dtype=dtype) as stack:
        assert isinstance(stack, EncoderDecoder)
        stack.refresh()
        again = loss_sum(model, batch(), "seq2seq", stack=stack)
        found = learned(model, again)
    return [loss.item(), again.item()], [expected, found]


def dropping(model: Any) -> Any:
    """Give a model dropout."""
    model.config.dropout_rate = 0.2
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.2
    return model


def other_t5(folder: Path, **config: Any) -> Any:
    """A T5 of another version: without a gate, with tied embeddings and scaled hidden states."""
    from transformers import AutoConfig, T5ForConditionalGeneration

    made = AutoConfig.from_pretrained(folder)
    made.update(config)
    torch.manual_seed(2)
    return T5ForConditionalGeneration(made).eval()


@pytest.mark.parametrize("way", WAYS)
def test_loss_and_gradients_are_those_of_transformers(way: str, tiny_seq2seq: Path) -> None:
    model = moved(WAYS[way](load(tiny_seq2seq).model))
    losses, (expected, found) = both(model, torch.float32)
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    assert set(found) == set(expected)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("way", WAYS)
def test_gradients_of_several_batches_add_up(way: str, dtype: torch.dtype, tiny_seq2seq: Path) -> None:
    """In place, block by block: twice the same batch gives twice its gradient."""
    model = moved(WAYS[way](load(tiny_seq2seq).model))
    with fused(plain(model), dtype=dtype) as stack:
        assert isinstance(stack, EncoderDecoder)
        stack.refresh()
        alone = learned(model, loss_sum(model, batch(), "seq2seq", stack=stack))
        model.zero_grad(set_to_none=True)
        for _ in range(2):
            loss_sum(model, batch(), "seq2seq", stack=stack).backward()
    together = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    assert set(together) == set(alone)
    for name, gradient in together.items():
        expected = (2 * alone[name]).to(gradient.dtype)
        torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-6, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("way", ["full", "lora"])
@pytest.mark.parametrize("version", ["gated", "plain"])
def test_in_float64_they_are_equal_to_nine_digits(way: str, version: str, tiny_seq2seq: Path) -> None:
    model = load(tiny_seq2seq).model
    if version == "plain":
        model = other_t5(
            tiny_seq2seq, feed_forward_proj="relu", dense_act_fn="relu", is_gated_act=False, scale_decoder_outputs=True
        )
    losses, (expected, found) = both(moved(WAYS[way](model)).double(), torch.float64)
    assert losses[1] == pytest.approx(losses[0], rel=1e-9)
    assert max(float((found[name] - gradient).abs().max()) for name, gradient in expected.items()) < 1e-7


@pytest.mark.parametrize("way", ["full", "lora"])
def test_in_bfloat16_the_gradient_points_the_same_way(way: str, tiny_seq2seq: Path) -> None:
    losses, (expected, found) = both(moved(WAYS[way](load(tiny_seq2seq).model)), torch.bfloat16)
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)
    a, b = (torch.cat([part[name].flatten() for name in expected]) for part in (expected, found))
    assert torch.nn.functional.cosine_similarity(a, b, 0) > 0.999


@pytest.mark.parametrize("way", ["full", "lora"])
def test_with_dropout_the_gradient_is_the_slope_of_the_loss(way: str, tiny_seq2seq: Path) -> None:
    """Along a direction, by differences, with the same masks."""
    model = moved(WAYS[way](dropping(load(tiny_seq2seq).model))).double().train()
    with fused(plain(model), dtype=torch.float64) as stack:
        assert stack is not None

        def loss() -> Tensor:
            stack.refresh()
            torch.manual_seed(7)
            return loss_sum(model, batch(), "seq2seq", stack=stack)

        gradients = learned(model, loss())
        weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        torch.manual_seed(3)
        direction = {name: torch.randn_like(weight) for name, weight in weights.items()}
        values = []
        for step in (1e-4, -1e-4):
            with torch.no_grad(), shifted(weights, direction, step):
                values.append(loss().item())
    slope = sum(float((gradients[name] * direction[name]).sum()) for name in weights)
    assert (values[0] - values[1]) / 2e-4 == pytest.approx(slope, rel=1e-4)


@contextmanager
def shifted(weights: dict[str, Tensor], direction: dict[str, Tensor], step: float) -> Iterator[None]:
    for name, weight in weights.items():
        weight.add_(direction[name], alpha=step)
    yield
    for name, weight in weights.items():
        weight.sub_(direction[name], alpha=step)


def test_dropout_depends_on_the_random_state_and_is_off_where_nothing_is_trained(tiny_seq2seq: Path) -> None:
    model = dropping(load(tiny_seq2seq).model)
    with torch.no_grad(), fused(model, dtype=torch.float32) as stack:

        def loss(seed: int) -> float:
            torch.manual_seed(seed)
            return loss_sum(model, batch(), "seq2seq", stack=stack).item()

        still = loss(1)
        assert loss(2) == still
        model.train()
        assert loss(1) == loss(1) != loss(2)
        assert loss(1) != still


def test_a_mask_keeps_the_mean_and_tells_places_apart() -> None:
    whole = torch.ones(3, 200, 200)
    dropout = Dropout(0.25, seed=5).at(3)
    mask = dropout.applied(whole, 1)
    assert bool((whole == 1).all())
    assert mask.unique().tolist() == pytest.approx([0.0, 1 / 0.75])
    assert float(mask.mean()) == pytest.approx(1, abs=0.01)
    assert torch.equal(mask, Dropout(0.25, seed=5).at(3).apply(whole.clone(), 1))
    assert not torch.equal(mask, dropout.applied(whole, 2))
    assert not torch.equal(mask[0], mask[1])
    assert Dropout(0.0).applied(whole, 1) is whole


@pytest.mark.parametrize("way", ["full", "lora"])
def test_inside_and_afterwards_the_model_computes_what_it_did(way: str, tiny_seq2seq: Path) -> None:
    model = moved(WAYS[way](load(tiny_seq2seq).model)).eval()
    given = {"input_ids": torch.tensor([[5, 6, 7, 8]]), "decoder_input_ids": torch.tensor([[0, 9]])}
    with torch.no_grad():
        before = model(**given).logits
        with fused(plain(model), dtype=torch.float32):
            torch.testing.assert_close(model(**given).logits, before)
        assert torch.equal(model(**given).logits, before)
    assert all(weight.is_contiguous() for weight in model.parameters())


class TestWhatIsLeftToTransformers:
    @pytest.mark.parametrize("field", ["dense_act_fn", "dropout_rate"])
    def test_a_config_that_says_otherwise(self, field: str, tiny_seq2seq: Path) -> None:
        model = load(tiny_seq2seq).model
        setattr(model.config, field, {"dense_act_fn": "silu", "dropout_rate": 0.3}[field])
        assert read_fused(model, dtype=torch.float32) is None

    def test_a_hook_on_any_layer(self, tiny_seq2seq: Path) -> None:
        model = load(tiny_seq2seq).model
        model.decoder.block[1].layer[2].register_forward_hook(lambda *given: None)
        assert read_fused(model, dtype=torch.float32) is None

    def test_a_layer_that_is_something_else(self, tiny_seq2seq: Path) -> None:
        model = load(tiny_seq2seq).model
        model.decoder.block[0].layer[1].EncDecAttention.k = torch.nn.Sequential()
        assert read_fused(model, dtype=torch.float32) is None

    def test_a_layer_with_a_further_part(self, tiny_seq2seq: Path) -> None:
        model = load(tiny_seq2seq).model
        model.encoder.block[0].layer[0].adapter = torch.nn.Linear(64, 64)
        assert read_fused(model, dtype=torch.float32) is None

    def test_dropout_of_lora(self, tiny_seq2seq: Path) -> None:
        model = lora.attach(lora.Settings(rank=4, dropout=0.2), load(tiny_seq2seq).model, "seq2seq")
        assert read_fused(plain(model), dtype=torch.float32) is None
