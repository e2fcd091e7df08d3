from pathlib import Path
from typing import Any

import pytest

from tunesmith.errors import RecipeError
from tunesmith.methods import last_layers
from tunesmith.methods.last_layers import Settings
from tunesmith.methods.parts import layers
from tunesmith.models.load import load
from tunesmith.models.skeleton import skeleton


def names(settings: Settings, folder: Path) -> set[str]:
    """The layers and other modules that learn."""
    found = {name.split(".self_attn")[0].split(".mlp")[0] for name in last_layers.chosen(settings, skeleton(folder))}
    return {name.split(".layer.")[0].removesuffix(".weight") for name in found}


def test_layers_are_counted_from_the_answer(tiny_causal: Path) -> None:
    found = last_layers.chosen(Settings(layers=1, norm=False), skeleton(tiny_causal))
    assert {".".join(name.split(".")[:3]) for name in found} == {"model.layers.1"}
    assert len(found) == 9, "four matrices of attention, three after it, two norms"


def test_in_t5_the_last_are_those_of_the_decoder_and_then_those_of_the_encoder(tiny_seq2seq: Path) -> None:
    model = skeleton(tiny_seq2seq)
    assert list(layers(model)) == ["encoder.block.0", "encoder.block.1", "decoder.block.0", "decoder.block.1"]
    assert names(Settings(layers=1), tiny_seq2seq) == {"decoder.block.1", "decoder.final_layer_norm"}
    assert names(Settings(layers=3, norm=False), tiny_seq2seq) == {
        "encoder.block.1", "decoder.block.0", "decoder.block.1",
    }  # fmt: skip


def test_norm_and_head_are_switches(tiny_causal: Path) -> None:
    alone = last_layers.count(Settings(layers=1, norm=False), skeleton(tiny_causal))
    vocabulary = load(tiny_causal).model.config.vocab_size
    assert last_layers.count(Settings(layers=1), skeleton(tiny_causal)) == alone + 64
    assert last_layers.count(Settings(layers=1, head=True), skeleton(tiny_causal)) == alone + 64 + 64 * vocabulary


def test_the_number_worked_by_hand(tiny_causal: Path) -> None:
    # q and o are 64 x 64, k and v are 32 x 64, gate, up and down 128 x 64, and two norms
    layer = 2 * 64 * 64 + 2 * 32 * 64 + 3 * 128 * 64 + 2 * 64
    assert last_layers.count(Settings(layers=2, norm=False), skeleton(tiny_causal)) == 2 * layer


def test_a_tied_head_is_said(tiny_causal: Path, tiny_seq2seq: Path, capsys: pytest.CaptureFixture[str]) -> None:
    last_layers.attach(Settings(layers=1, head=True), load(tiny_seq2seq).model, "seq2seq")
    last_layers.attach(Settings(layers=1), load(tiny_causal).model, "causal")
    assert capsys.readouterr().err == ""
    last_layers.attach(Settings(layers=1, head=True), load(tiny_causal).model, "causal")
    assert capsys.readouterr().err == (
        "last-layers: input embedding and output head of this model are one matrix (tied). Both change with it, and "
        "it is counted and saved once.\n"
    )


@pytest.mark.parametrize(
    ("kind", "most", "there"),
    [("causal", 2, "model.layers.0 to model.layers.1"), ("seq2seq", 4, "encoder.block.0 to decoder.block.1")],
)
def test_more_layers_than_there_are_and_a_head_that_is_not_are_refused_together(
    kind: str, most: int, there: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Any = skeleton(request.getfixturevalue(f"tiny_{kind}"))
    monkeypatch.setattr(model, "get_output_embeddings", lambda: None)
    with pytest.raises(RecipeError) as caught:
        last_layers.count(Settings(layers=9, head=True), model)
    assert caught.value.problems == (
        f"last-layers: layers is 9, and this model has {most}, {there}. Take at most {most}.",
        "last-layers: head is asked for, and this model has no output head. Leave it out.",
    )
    last_layers.count(Settings(layers=most), model)
