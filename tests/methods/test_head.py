from pathlib import Path
from typing import Any

import pytest

from tunesmith.errors import RecipeError
from tunesmith.methods import head
from tunesmith.methods.head import Settings
from tunesmith.models.load import load
from tunesmith.models.skeleton import skeleton


def test_the_head_is_words_times_width(tiny_causal: Path, tiny_seq2seq: Path) -> None:
    for folder in (tiny_causal, tiny_seq2seq):
        model = load(folder).model
        assert list(head.chosen(Settings(), model)) == ["lm_head.weight"]
        assert head.count(Settings(), model) == 64 * model.config.vocab_size


def test_a_tied_one_is_said(tiny_causal: Path, tiny_seq2seq: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head.attach(Settings(), load(tiny_seq2seq).model, "seq2seq")
    assert capsys.readouterr().err == ""
    head.attach(Settings(), load(tiny_causal).model, "causal")
    assert capsys.readouterr().err == (
        "head: input embedding and output head of this model are one matrix (tied). Both change with it, and it is "
        "counted and saved once.\n"
    )


def test_a_model_without_one_is_refused(tiny_causal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = skeleton(tiny_causal)
    monkeypatch.setattr(model, "get_output_embeddings", lambda: None)
    with pytest.raises(RecipeError) as caught:
        head.count(Settings(), model)
    assert str(caught.value) == "head: this model (LlamaForCausalLM) has no output head. Take last-layers or lora."
