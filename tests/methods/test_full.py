from pathlib import Path

import pytest
import torch

from tunesmith.methods import full
from tunesmith.methods.full import Settings
from tunesmith.models.load import load
from tunesmith.models.sizes import parameters_on_disk

BOTH = pytest.mark.parametrize("kind", ["causal", "seq2seq"])
IDS = torch.tensor([[5, 6, 7, 8]])


@BOTH
def test_every_weight_learns_and_a_tied_one_counts_once(kind: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(f"tiny_{kind}")
    loaded = load(folder)
    expected = full.count(Settings(), loaded.model)
    attached = full.attach(Settings(), loaded.model, kind)
    assert all(weight.requires_grad for weight in attached.parameters())
    assert sum(weight.numel() for weight in attached.parameters()) == expected == parameters_on_disk(folder)


def test_weights_that_learn_are_32_bits_wide(tiny_causal: Path) -> None:
    model = full.attach(Settings(), load(tiny_causal, dtype=torch.bfloat16).model, "causal")
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


def test_before_training_the_output_is_exactly_that_of_the_base(tiny_causal: Path) -> None:
    base = load(tiny_causal).model
    attached = full.attach(Settings(), load(tiny_causal).model, "causal")
    with torch.no_grad():
        assert torch.equal(attached(IDS).logits, base(IDS).logits)


def test_saved_it_is_a_model_folder_that_answers_the_same(tiny_causal: Path, tmp_path: Path) -> None:
    loaded = load(tiny_causal)
    model = full.attach(Settings(), loaded.model, "causal")
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.1)
    full.save(model, tmp_path)
    loaded.tokenizer.save_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(load(tmp_path).model(IDS).logits, model(IDS).logits)


def test_it_is_merged_already(tiny_causal: Path) -> None:
    model = load(tiny_causal).model
    assert full.merge(model) is model
