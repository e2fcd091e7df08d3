from pathlib import Path

import pytest
import torch
from transformers import AutoConfig

from tunesmith.models.attention import takes_ragged
from tunesmith.models.load import load
from tunesmith.models.skeleton import skeleton
from tunesmith.planning.calibration import depths_of, shortened
from tunesmith.planning.practice import short_model
from tunesmith.planning.shapes import Shape, Stack, shape_of, shorten


def test_the_shape_of_a_causal_model(tiny_causal: Path) -> None:
    found, model = shape_of(skeleton(tiny_causal)), load(tiny_causal).model
    layers = sum(parameter.numel() for parameter in model.model.layers.parameters())
    assert found == Shape(
        "causal", (Stack(2, layers),), 64, model.config.vocab_size, 64, 32, model.num_parameters(), 1024,
        takes_ragged(model), True,
    )  # fmt: skip
    assert found.ragged


def test_the_shape_of_an_encoder_decoder(tiny_seq2seq: Path) -> None:
    found, model = shape_of(skeleton(tiny_seq2seq)), load(tiny_seq2seq).model
    stacks = tuple(
        Stack(2, sum(parameter.numel() for parameter in part.block.parameters()))
        for part in (model.encoder, model.decoder)
    )
    assert (found.kind, found.stacks, found.attention, found.keys) == ("seq2seq", stacks, 64, 64)
    assert stacks[1].parameters > stacks[0].parameters, "the decoder also attends to the encoder"
    assert not found.ragged
    assert found.own


@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
def test_a_short_model_has_the_counted_shape(kind: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(f"tiny_{kind}")
    whole = shape_of(skeleton(folder))
    short = shape_of(short_model(folder, 1, torch.float32))
    counted = shortened(whole, 1)
    assert [stack.layers for stack in short.stacks] == [1] * len(whole.stacks)
    assert short_model(folder, 2, torch.float32).num_parameters() == whole.total, "with a head of its own if it has one"
    # the first layer of a T5 stack holds the positions of all, a few hundred values
    for real, guessed in zip(short.stacks, counted.stacks, strict=True):
        assert guessed.parameters == pytest.approx(real.parameters, rel=0.02)


def test_a_config_with_a_kind_for_each_layer_is_cut_with_its_layers() -> None:
    config = AutoConfig.for_model("qwen3", num_hidden_layers=6)
    shorten(config, 2)
    assert config.num_hidden_layers == len(config.layer_types) == 2
    shorten(config, 9)
    assert config.num_hidden_layers == 2, "no layer is added"


@pytest.mark.parametrize(
    ("layers", "each", "depths"), [(30, 3_000_000, (2, 6)), (30, 50_000_000, (1, 3)), (4, 100, (2, 4)), (1, 100, (1,))]
)
def test_how_deep_the_short_models_are(layers: int, each: int, depths: tuple[int, ...]) -> None:
    shape = Shape("causal", (Stack(layers, layers * each),), 8, 50, 6, 3, 2000, 100, True)
    assert depths_of(shape) == depths
