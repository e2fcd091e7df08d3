from pathlib import Path

import pytest
from torch import nn

from tunesmith.errors import RecipeError
from tunesmith.methods import norms
from tunesmith.methods.norms import Settings
from tunesmith.models.skeleton import skeleton


def test_two_norms_for_each_layer_and_one_at_the_end(tiny_causal: Path) -> None:
    assert norms.count(Settings(), skeleton(tiny_causal)) == (2 * 2 + 1) * 64


def test_in_t5_two_for_each_layer_of_the_encoder_three_for_the_decoder_and_one_at_the_end_of_both(
    tiny_seq2seq: Path,
) -> None:
    assert norms.count(Settings(), skeleton(tiny_seq2seq)) == (2 * 2 + 2 * 3 + 2) * 64


def test_a_layer_norm_has_a_bias_as_well() -> None:
    assert set(norms.chosen(Settings(), nn.ModuleDict({"a": nn.LayerNorm(3), "b": nn.Linear(3, 3)}))) == {
        "a.weight", "a.bias",
    }  # fmt: skip


def test_a_model_without_norms_is_refused() -> None:
    with pytest.raises(RecipeError) as caught:
        norms.count(Settings(), nn.Sequential(nn.Linear(3, 3)))
    assert str(caught.value) == "norms: this model (Sequential) has no norms with weights. Take lora."
